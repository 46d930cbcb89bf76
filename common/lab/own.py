"""The objects of one experiment: what the kernel shows of them, and clearing them away.

In an IPC namespace of its own every object is the experiment's. Elsewhere one is proved its own when it was not there
before, a user that the experiment runs as made it, and it has one of the experiment's keys (ftok of its directory, or
of a file "key..." in it) or was made by its process, or by a program that this has started.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from pathlib import Path
from typing import NamedTuple

from common.errors import CallFailed
from common.ipc.calls import Calls, key_text
from common.ipc.machine import read_table
from common.ipc.sysv_calls import SHM_DEST, Semaphore, SysvCalls
from common.lab.calls import NOBODY, libc

CLONE_NEWIPC = 0x08000000  # <linux/sched.h>
_KINDS = {"shm": "shmid", "sem": "semid"}
_STARTED = "started"
_FORM = "{:<10} {:>6} {:>8} {:>5} {:>10} {:>6} {}"
_HEAD = ("key", "shmid", "owner", "perms", "bytes", "nattch", "status")


def keys_of(path: Path) -> frozenset[int]:
    """Every key that ftok makes of a path."""
    return frozenset(Calls().make_key(str(path), number) for number in range(1, 256))


def note_started(scratch: Path, pid: int) -> None:
    """Remember a program that the experiment in this directory has started: what it makes is the experiment's."""
    with contextlib.suppress(PermissionError), open(scratch / _STARTED, "a") as file:  # one that we became may not
        file.write(f"{pid}\n")


def started(scratch: Path) -> list[int]:
    """The pids that were remembered."""
    with contextlib.suppress(FileNotFoundError):
        return [*map(int, (scratch / _STARTED).read_text().split())]
    return []


class Own(NamedTuple):
    """What proves an object to be the experiment's; `alone`: it has an IPC namespace of its own."""

    scratch: Path
    before: frozenset[tuple[str, int]]
    keys: frozenset[int]
    alone: bool = False

    @classmethod
    def at(cls, scratch: Path) -> Own | None:
        """For an experiment in this directory; None when somebody has one of its keys."""
        keys = keys_of(scratch)
        there = [(kind, row) for kind in _KINDS for row in read_table(kind)]
        if any(row["key"] in keys for _, row in there):
            return None
        return cls(scratch, frozenset((kind, row[_KINDS[kind]]) for kind, row in there), keys)

    def rows(self, kind: str, pid: int) -> list[dict[str, int]]:
        """The rows of the experiment's objects; `pid` is its process."""
        keys = self.keys.union(*map(keys_of, self.scratch.glob("key*")))
        makers = {pid, *started(self.scratch)}
        return [
            row
            for row in read_table(kind)
            if self.alone or (self._new(kind, row) and (row["key"] in keys or row.get("cpid") in makers))
        ]

    def _new(self, kind: str, row: dict[str, int]) -> bool:
        us = {os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}
        return (kind, row[_KINDS[kind]]) not in self.before and row["cuid"] in us

    def unproved(self) -> list[str]:
        """What is new, may be ours, and was not cleared: the command that removes each. Whose maker lives is not."""
        return [
            f"ipcrm -{kind.replace('shm', 'm')[0]} {row[_KINDS[kind]]}"
            for kind in _KINDS
            for row in read_table(kind)
            if self._new(kind, row) and not row["perms"] & SHM_DEST and not Path(f"/proc/{row.get('cpid')}").exists()
        ]

    def names(self) -> list[Path]:
        """The experiment's files in /dev/shm."""
        there = Path("/dev/shm").glob("*")
        return sorted(path for path in there if path.name.removeprefix("sem.").startswith(self.scratch.name))

    def clear(self, pid: int) -> None:
        """Remove what is proved the experiment's: its objects, its names in /dev/shm, its directory."""
        calls = SysvCalls()
        for row in self.rows("shm", pid):
            with contextlib.suppress(CallFailed):  # it went with its last detach
                calls.remove_segment(row["shmid"])
        for row in self.rows("sem", pid):
            with contextlib.suppress(CallFailed):
                calls.remove_semaphore(Semaphore(row["semid"]))
        for path in self.names():
            with contextlib.suppress(OSError):  # an answer's may be a directory
                path.unlink(missing_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)


def leave_namespace() -> bool:
    """Go into an IPC namespace of our own (unshare(2)); False where that is not allowed."""
    return bool(libc.unshare(CLONE_NEWIPC) == 0)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def as_ipcs(found: list[dict[str, int]]) -> list[str]:
    """Rows of /proc/sysvipc/shm in the form of `ipcs -m`; the owner by name, if there is one."""
    if not found:
        return ["nothing of ours"]
    lines = [_FORM.format(*_HEAD)]
    for row in found:
        status = "dest" if row["perms"] & SHM_DEST else ""
        perms, key = f"{row['perms'] & 0o777:o}", key_text(row["key"])
        lines.append(
            _FORM.format(key, row["shmid"], _user(row["uid"]), perms, row["size"], row["nattch"], status).rstrip()
        )
    return lines
