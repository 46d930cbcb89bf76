"""Exercises about a segment: its key, its making, who has it, whose it is, and its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.ipc.calls import key_text
from common.ipc.sysv_calls import IPC_CREAT, SHM_DEST, SHM_RDONLY, ShmidDs
from common.lab.calls import Child, Lab
from common.lab.exercise import Answer, exercise, key_of
from common.lab.experiment import Observed, Unobserved

MESSAGE = "shared, not sent"


def pids_in(said: str) -> list[int]:
    """The numbers in it, in their order."""
    return [int(word) for word in said.split() if word.isdecimal()]


def made(lab: Lab) -> int:
    """The id of the segment that the answer should have made. Raises Unobserved."""
    found: int | str = lab.shmget(lab.key, 0, 0)
    if isinstance(found, str):
        raise Unobserved(f"looked for a segment with the key $KEY; shmget finds none: {found}")
    return found


def status_of(lab: Lab, shmid: int) -> ShmidDs:
    """Its struct shmid_ds. Raises Unobserved where its mode keeps us from it, or it is gone."""
    status: ShmidDs | str = lab.stat(shmid)
    if isinstance(status, str):
        raise Unobserved(f"looked at the segment with IPC_STAT; that fails: {status}")
    return status


def content(lab: Lab, shmid: int) -> str:
    """The text at its beginning, up to a zero. Raises Unobserved."""
    address = lab.shmat(shmid, None, SHM_RDONLY)
    if isinstance(address, str):
        raise Unobserved(f"looked for the message; shmat fails: {address}")
    said = lab.load(address, len(MESSAGE) + 1).split(b"\0")[0].decode(errors="replace")
    lab.shmdt(address)
    return said


@contextmanager
def attached(lab: Lab, shmid: int, number: int = 1) -> Iterator[list[Child]]:
    """Processes that have it attached meanwhile."""
    ready, say_ready = os.pipe()

    def attach_and_wait() -> None:
        lab.shmat(shmid)
        os.write(say_ready, b".")
        signal.pause()

    children = [lab.child(attach_and_wait) for _ in range(number)]
    for _ in children:
        os.read(ready, 1)
    yield children
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
        child.result()


@exercise("it prints the key of $FILE")
def key(lab: Lab, answer: Answer) -> Observed:
    """Print the key that ftok makes of the file $FILE and the id 1, as 0x and eight digits, without ftok:
    `stat` knows the device and the inode, and the shell can calculate."""
    file = lab.scratch / "key-file"
    file.touch()
    return (answer.run(FILE=file) == key_text(lab.make_key(str(file), 1)),)


@exercise("5000 bytes", "mode 0640", "nobody has it attached", "it begins with the message")
def make(lab: Lab, answer: Answer) -> Observed:
    """Make a segment with the key $KEY, of 5000 bytes, which you may read and write and your group may read, put
    $MESSAGE at its beginning, and leave it to whoever comes next."""
    answer.run(KEY=key_of(lab), MESSAGE=MESSAGE)
    shmid = made(lab)
    stat, begins = status_of(lab, shmid), content(lab, shmid).startswith(MESSAGE)
    return stat.size == 5000, stat.perm.mode == 0o640, stat.attached == 0, begins


@exercise("its name is that of a file in /dev/shm", "4096 bytes", "mode 0600", "it begins with the message")
def posix(lab: Lab, answer: Answer) -> Observed:
    """The same over POSIX: an object with the name $NAME, of 4096 bytes, which you alone may read and write, with
    $MESSAGE at its beginning. What kind of thing is its name?"""
    answer.run(NAME=lab.name, MESSAGE=MESSAGE)
    file = Path(f"/dev/shm{lab.name}")
    try:
        status, begins = file.stat(), file.read_bytes().startswith(MESSAGE.encode())
    except OSError as error:
        raise Unobserved(f"looked for the object $NAME, which is the file {file}: {error.strerror}") from None
    return file.is_file(), status.st_size == 4096, status.st_mode & 0o777 == 0o600, begins


@exercise("it prints those that have it, and no other")
def who(lab: Lab, answer: Answer) -> Observed:
    """nattch of the segment $SHMID, whose key is $KEY, is 2. Find out who still has it attached: print their pids."""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    with attached(lab, shmid, 2) as children:
        said = answer.run(SHMID=shmid, KEY=key_of(lab))
        return (sorted(pids_in(said)) == sorted(child.pid for child in children),)


@exercise("it prints its maker", "and who had it last")
def maker(lab: Lab, answer: Answer) -> Observed:
    """Nobody has the segment $SHMID attached. Print the pid of the process that made it, and then of the one that
    attached or detached it last; both may have ended long ago."""
    first = lab.child(lambda: lab.shmget(lab.key, 4096, IPC_CREAT | 0o600))
    shmid = first.result()
    last = lab.child(lambda: lab.shmdt(lab.shmat(shmid)))
    last.result()
    one, other = [*pids_in(answer.run(SHMID=shmid)), 0, 0][:2]
    return one == first.pid, other == last.pid


@exercise("its key is free", "it is marked (dest)", "who has it attached still finds the message")
def remove(lab: Lab, answer: Answer) -> Observed:
    """A process has the segment with the key $KEY attached, and must not be disturbed. See to it that no other one
    finds the segment, and that it goes when that process does."""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    address = lab.shmat(shmid)
    lab.store(address, MESSAGE.encode())
    answer.run(KEY=key_of(lab))
    marked = bool(status_of(lab, shmid).perm.mode & SHM_DEST)
    return lab.shmget(lab.key, 0, 0) == "ENOENT", marked, lab.load(address, len(MESSAGE)) == MESSAGE.encode()


@exercise("it is the same segment", "mode 0644", "with the same message")
def mode(lab: Lab, answer: Answer) -> Observed:
    """Let all others read the segment with the key $KEY, of mode 0600, and let none of them write; its message must
    stay, so do not make it anew."""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    address = lab.shmat(shmid)
    lab.store(address, MESSAGE.encode())
    lab.shmdt(address)
    answer.run(KEY=key_of(lab))
    found = made(lab)
    return found == shmid, status_of(lab, found).perm.mode == 0o644, content(lab, found) == MESSAGE
