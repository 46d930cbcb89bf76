"""What a process is doing, told from outside: the kernel's tables and the IPC objects, never the programs' words."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import sysv_ipc

from common.layout import SEMAPHORES
from tests.helpers import Pair, ipc_table

SHM_DEST = 0o1000  # <sys/shm.h>: marked for removal, and going away with the last detach


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


def semaphore(pair: Pair, name: str) -> sysv_ipc.Semaphore | None:
    """A semaphore of channel 0 by its name in DESIGN, None while there is none."""
    try:
        return sysv_ipc.Semaphore(key_of(pair, 2 + SEMAPHORES.index(name)))
    except sysv_ipc.ExistentialError:
        return None


def sleeps_on(pair: Pair, name: str) -> bool:
    """Whether some process sleeps until this semaphore has a token (GETNCNT)."""
    found = semaphore(pair, name)
    return bool(found and found.waiting_for_nonzero)


def value_of(pair: Pair, name: str) -> int | None:
    """How many tokens this semaphore holds (GETVAL), None while there is none."""
    found = semaphore(pair, name)
    return found.value if found else None


def is_taken(pair: Pair, name: str) -> bool:
    """Whether this turn is taken."""
    return value_of(pair, name) == 0


def segments(key: int) -> list[dict[str, int]]:
    """The rows of /proc/sysvipc/shm with this key, by column; `perms` holds SHM_DEST too."""
    return [row for row in ipc_table("shm") if row["key"] == key]


def segment(shmid: int) -> dict[str, int] | None:
    """The row of one segment, None once the kernel has destroyed it."""
    return next((row for row in ipc_table("shm") if row["shmid"] == shmid), None)


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
