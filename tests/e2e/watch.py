"""What a process is doing, told from outside: the kernel's tables and the IPC objects, never the programs' words."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import posix_ipc  # type: ignore[import-not-found, unused-ignore]
import sysv_ipc

from common.ipc.family import Names
from common.ipc.posix_roles import ATTACHED, READER_TURN, WRITER_TURN, WRITERS
from common.layout import PAGE, SEMAPHORES, Header
from tests.helpers import Pair, ipc_table, keys_of, left_behind, left_in_dev_shm, locks_on
from tests.in_process import FAMILIES, objects, place_of

SHM_DEST = 0o1000  # <sys/shm.h>: marked for removal, and going away with the last detach

# A semaphore of POSIX is not what excludes or counts the living, but a lock on this byte of the object.
_LOCKS = {"writer_turn": WRITER_TURN, "reader_turn": READER_TURN, "writers": WRITERS}


def state_of(pid: int) -> str:
    """The letter of proc_pid_stat(5): R runs, S sleeps, T is stopped, Z is dead."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_full(pipe: IO[bytes] | None) -> bool:
    """Whether the pipe that we read from takes no more (FIONREAD, F_GETPIPE_SZ)."""
    assert pipe
    waiting = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    return waiting == fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def key_of(pair: Pair, project_id: int) -> int:
    """The key that ftok gives for an object of channel 0."""
    key: int = sysv_ipc.ftok(str(pair.key_path), project_id, silence_warning=True)
    return key


def names_of(pair: Pair) -> Names:
    """The calls that a narration names."""
    return FAMILIES[pair.ipc].names


def segment_file(pair: Pair, project_id: int = 1) -> Path:
    """Where a POSIX object is a file."""
    return Path(f"/dev/shm/shmpair-{key_of(pair, project_id) & 0xFFFFFFFF:08x}")


def semaphore_file(pair: Pair, name: str) -> Path:
    """Where a POSIX semaphore of channel 0 is one; the nonce in its name is in the header."""
    page = segment_file(pair).read_bytes()[:PAGE]
    if len(page) < PAGE:
        raise FileNotFoundError("it is being made")
    with memoryview(page) as memory, Header(memory) as header:
        return Path(f"/dev/shm/sem.{segment_file(pair).name}-{header.nonce:016x}-{name}")


class Facts(NamedTuple):
    """What the kernel says of a semaphore or of a segment, of either family."""

    id: int | str
    mode: int
    uid: int
    gid: int
    size: int  # of a segment, in bytes
    attached: int  # how many processes have it


def _of_file(path: Path, name: str, attached: int = 0) -> Facts | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Facts(name, status.st_mode & 0o777, status.st_uid, status.st_gid, status.st_size, attached)


def semaphore(pair: Pair, name: str) -> Facts | None:
    """A semaphore of channel 0 by its name in DESIGN, None while there is none."""
    if pair.ipc == "posix":
        try:
            path = semaphore_file(pair, name)
        except FileNotFoundError:
            return None
        return _of_file(path, "/" + path.name.removeprefix("sem."))
    found = _sysv_semaphore(pair, name)
    return Facts(found.id, found.mode, found.uid, found.gid, 0, 0) if found else None


def _sysv_semaphore(pair: Pair, name: str) -> sysv_ipc.Semaphore | None:
    try:
        return sysv_ipc.Semaphore(key_of(pair, 2 + SEMAPHORES.index(name)))
    except sysv_ipc.ExistentialError:
        return None


def sleeps_on(pair: Pair, name: str) -> bool:
    """Whether some process sleeps until this semaphore has a token.

    System V counts them (GETNCNT). Over POSIX, who sleeps does so in futex(2), at a word of the mapped semaphore.
    """
    if pair.ipc == "posix":
        try:
            inode = semaphore_file(pair, name).stat().st_ino
        except FileNotFoundError:
            return False
        return any(_sleeps_at(pid, inode) for pid in os.listdir("/proc") if pid.isdigit())
    found = _sysv_semaphore(pair, name)
    return bool(found and found.waiting_for_nonzero)


def _sleeps_at(pid: str, inode: int) -> bool:
    """Whether the first argument of the system call it sleeps in is an address of this file (proc_pid_syscall(5)).

    Its maker has mapped it under a name that sem_open took away again, so the inode tells which it is.
    """
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        address = int(words[1], 16) if len(words) > 1 else 0
        if address < PAGE or state_of(int(pid)) != "S":
            return False
        maps = (line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/shm/sem." in line)
        spans = ([int(end, 16) for end in words[0].split("-")] for words in maps if int(words[4]) == inode)
        return any(start <= address < end for start, end in spans)
    except OSError:  # it ended while we looked
        return False


def value_of(pair: Pair, name: str) -> int | None:
    """How many tokens this semaphore holds (GETVAL), None while there is none.

    Over POSIX a turn that is locked has none, and of the writers there are as many as have a lock.
    """
    if pair.ipc == "posix":
        try:
            path = semaphore_file(pair, name)
            if name in _LOCKS:
                held = locks_on(segment_file(pair), _LOCKS[name])
                return held if name == "writers" else 1 - held
            opened = posix_ipc.Semaphore("/" + path.name.removeprefix("sem."))
        except (FileNotFoundError, posix_ipc.ExistentialError):
            return None
        value = int(opened.value)
        opened.close()
        return value
    found = _sysv_semaphore(pair, name)
    return int(found.value) if found else None


def is_taken(pair: Pair, name: str) -> bool:
    """Whether this turn is taken."""
    return value_of(pair, name) == 0


def segments(pair: Pair, project_id: int = 1) -> list[Facts]:
    """The segments with this key, of channel 0 if nothing else is said: one or none."""
    if pair.ipc == "posix":
        path = segment_file(pair, project_id)
        try:
            found = _of_file(path, f"/{path.name}", locks_on(path, ATTACHED))
        except FileNotFoundError:
            found = None
        return [found] if found else []
    return [
        Facts(row["shmid"], row["perms"] & 0o777, row["uid"], row["gid"], row["size"], row["nattch"])
        for row in ipc_table("shm")
        if row["key"] == key_of(pair, project_id)
    ]


def attached(pair: Pair) -> int:
    """How many processes have the segment attached (nattch); over POSIX, have a lock that says so."""
    return sum(row.attached for row in segments(pair))


def segment(shmid: int | str) -> dict[str, int] | None:
    """The row of one segment of System V, None once the kernel has destroyed it; `perms` holds SHM_DEST too."""
    return next((row for row in ipc_table("shm") if row["shmid"] == shmid), None)


def objects_of(pair: Pair) -> list[str]:
    """Which of the objects of channel 0 exist: "segment" and the names of the semaphores."""
    return objects(place_of(pair.key_path), FAMILIES[pair.ipc])


def left_of(pair: Pair) -> list[object]:
    """All IPC objects of either family on any channel of this key path."""
    keys = keys_of(pair.key_path)
    return [*left_behind(keys), *left_in_dev_shm(keys)]


@contextmanager
def shut_doorway(pair: Pair) -> Iterator[None]:
    """Hold the lock on the key path, so that every program waits outside."""
    with open(pair.key_path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stands_at_doorway(pair: Pair, pid: int) -> bool:
    """Whether the process has the key path open and sleeps: it then waits to get in, or for a channel."""
    try:
        held = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    except FileNotFoundError:  # a descriptor that was closed while we looked
        return False
    return str(pair.key_path) in held and state_of(pid) == "S"
