"""The objects of one experiment: what the kernel shows of them, and clearing them away.

In an IPC namespace of its own every object is the experiment's. Elsewhere one is proved its own when it was not there
before, a user that the experiment runs as made it, and it has one of the experiment's keys (ftok of its directory, or
of a file "key..." in it) or was made by its process.
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
from common.ipc.sysv_calls import SHM_DEST, Semaphore, SysvCalls
from common.lab.calls import NOBODY, libc

CLONE_NEWIPC = 0x08000000  # <linux/sched.h>
_KINDS = {"shm": "shmid", "sem": "semid"}
_FORM = "{:<10} {:>6} {:>8} {:>5} {:>10} {:>6} {}"
_HEAD = ("key", "shmid", "owner", "perms", "bytes", "nattch", "status")


def rows(kind: str) -> list[dict[str, int]]:
    """The rows of /proc/sysvipc/shm or /proc/sysvipc/sem by the names of their columns; see sysvipc(5)."""
    names, *lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
    return [
        {
            name: int(value, 8 if name == "perms" else 10)
            for name, value in zip(names.split(), line.split(), strict=True)
        }
        for line in lines
    ]


def keys_of(path: Path) -> frozenset[int]:
    """Every key that ftok makes of a path."""
    return frozenset(Calls().make_key(str(path), number) for number in range(1, 256))


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
        there = [(kind, row) for kind in _KINDS for row in rows(kind)]
        if any(row["key"] in keys for _, row in there):
            return None
        return cls(scratch, frozenset((kind, row[_KINDS[kind]]) for kind, row in there), keys)

    def rows(self, kind: str, pid: int) -> list[dict[str, int]]:
        """The rows of the experiment's objects; `pid` is its process."""
        keys = self.keys.union(*map(keys_of, self.scratch.glob("key*")))
        return [row for row in rows(kind) if self.alone or self._proved(kind, row, pid, keys)]

    def _proved(self, kind: str, row: dict[str, int], pid: int, keys: frozenset[int]) -> bool:
        us = {os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}
        new = (kind, row[_KINDS[kind]]) not in self.before and row["cuid"] in us
        return new and (row["key"] in keys or row.get("cpid") == pid)

    def clear(self, pid: int) -> None:
        """Remove what is proved the experiment's: its objects, its names in /dev/shm, its directory."""
        calls = SysvCalls()
        for row in self.rows("shm", pid):
            with contextlib.suppress(CallFailed):  # it went with its last detach
                calls.remove_segment(row["shmid"])
        for row in self.rows("sem", pid):
            with contextlib.suppress(CallFailed):
                calls.remove_semaphore(Semaphore(row["semid"]))
        for path in Path("/dev/shm").glob("*"):
            if path.name.removeprefix("sem.").startswith(self.scratch.name):
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
