"""The five POSIX semaphores of one channel: made, opened, told from those of others, and removed.

Ours is what bears the nonce that the header notes, which is random and is stored before the first one is made: so a
name is provably ours, noted or not. Whoever made the object may have forged its header: only what has the same owner is
ours.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from common.errors import CallFailed, NotOurs
from common.ipc.posix_calls import PosixCalls, Semaphore, ShmStat, semaphore_path, semaphores_like
from common.ipc.removal import Left, Removal
from common.layout import NOT_CREATED, PAGE, SEMAPHORES, Header
from common.typed import NamedTuple

MADE = 1  # what the header notes in the place of an id


class _Sorted(NamedTuple):
    """The semaphores that a removal takes, the names of those that are gone, and what it leaves alone."""

    ours: tuple[tuple[str, str, ShmStat], ...]  # which of SEMAPHORES, and its name for the kernel
    gone: tuple[str, ...]
    left: tuple[Left, ...]


class Semaphores:
    """The semaphores of the object `segment` (its name), whose `memory` notes them and whose owner is `owner()`."""

    def __init__(self, calls: PosixCalls, segment: str, memory: memoryview, owner: Callable[[], int]) -> None:
        self.opened: list[Semaphore] = []  # all five, in the order of SEMAPHORES, or none
        self.removal = Removal()  # what remove() has done
        self._calls = calls
        self._segment = segment
        self._memory = memory
        self._owner = owner
        self._sorted: _Sorted | None = None  # what check_removable() has found, in the same doorway

    def name(self, index: int) -> str:
        """The name of SEMAPHORES[index] for the kernel."""
        with Header(self._memory) as header:
            return f"{self._segment}-{header.nonce:016x}-{SEMAPHORES[index]}"

    def noted(self, index: int) -> int:
        """What the header notes: MADE, or NOT_CREATED."""
        with Header(self._memory) as header:
            return header.semaphore_id(index)

    def open_all(self) -> None:
        """Open all five. Raises CallFailed, ENOENT for one that is gone."""
        owner = self._owner()
        for index in range(len(SEMAPHORES)):
            self.opened.append(self.open(index, owner))

    def open(self, index: int, owner: int) -> Semaphore:
        """Open SEMAPHORES[index]. Raises CallFailed, ENOENT when it is gone, was never made, or is not `owner`'s."""
        name = self.name(index)
        if self.noted(index) != MADE:
            raise CallFailed("sem_open", (name, 0), errno.ENOENT)
        semaphore = self._calls.open_semaphore(name)
        if semaphore.seen is None or semaphore.seen.uid != owner:
            self._calls.close_semaphore(semaphore)
            raise CallFailed("sem_open", (name, 0), errno.ENOENT)
        return semaphore

    def close(self) -> None:
        """Give back all that is open."""
        while self.opened:
            self._calls.close_semaphore(self.opened.pop())

    def create_all(self, values: tuple[int, ...], like: ShmStat) -> None:
        """Make all five with their first `values` and with the mode and group of `like`; note each at once."""
        self.close()
        with Header(self._memory) as header:
            header.nonce = header.nonce or int.from_bytes(os.urandom(8), "little") or 1
            for index, value in enumerate(values):
                self.opened.append(self._create(self.name(index), like, value))
                header.set_semaphore_id(index, MADE)
        self.removal = Removal()

    def _create(self, name: str, like: ShmStat, value: int) -> Semaphore:
        try:
            semaphore = self._calls.create_semaphore(name, like.mode, value)
        except CallFailed as error:
            if error.errno != errno.EEXIST:
                raise
            raise NotOurs(
                f"semaphore {name} has the name that ours is to have, and is not provably ours. It was left untouched;"
                f" choose another --channel, or if nobody needs it: rm {semaphore_path(name)}"
            ) from None
        if semaphore.seen and semaphore.seen.gid != like.gid:
            self._calls.set_semaphore_owner(name, gid=like.gid)
        return semaphore

    def missing(self) -> str | None:
        """The first of the five whose name is gone, or leads to another one by now; else None."""
        for name, semaphore in zip(SEMAPHORES, self.opened, strict=True):
            try:
                now = self._calls.stat_semaphore(semaphore.name)
            except CallFailed as error:
                if error.errno != errno.ENOENT:
                    raise
                return name
            if semaphore.seen and now.ino != semaphore.seen.ino:
                return name
        return None

    def left(self) -> tuple[Left, ...]:
        """What else is named after the object, which a removal leaves alone. Raises CallFailed."""
        return self._sort().left

    def check_removable(self) -> None:
        """Ask the kernel for the right to remove what is ours. Raises CallFailed (EPERM)."""
        self._sorted = self._sort()
        for _, name, there in self._sorted.ours:
            try:
                self._calls.set_semaphore_mode(name, there.mode)
            except CallFailed as error:
                if error.errno != errno.ENOENT:
                    raise

    def remove(self) -> None:
        """Remove what is ours, and what is gone already is passed over; `removal` adds up, however often."""
        found, self._sorted = self._sorted or self._sort(), None
        removed = list(self.removal.removed)
        gone = [role for role in found.gone if role not in removed]
        for role, name, _ in found.ours:
            (removed if remove_if_there(self._calls, name) else gone).append(role)
        self.removal = Removal(tuple(removed), tuple(gone), found.left)

    def _sort(self) -> _Sorted:
        """What is ours by its nonce and its owner, and what else is named after the object."""
        ours, gone, left = [], [], []
        uid, nonce = self._owner(), 0
        if len(self._memory) >= PAGE:
            with Header(self._memory) as header:
                nonce = header.nonce
        for index, role in enumerate(SEMAPHORES if nonce else ()):
            name = self.name(index)
            there = stat_or_none(self._calls, name)
            if there is None:
                gone += [role] if self.noted(index) != NOT_CREATED else []
            elif there.uid == uid:
                ours.append((role, name, there))
        mine = {name for _, name, _ in ours}
        try:
            named = named_after(self._segment)
        except OSError:  # EMFILE: what bears our nonce is found without a look around
            named = []
        for role, name in named:
            there = None if name in mine else stat_or_none(self._calls, name)
            if there:
                of_others = whose(there)
                left.append(Left(role, name, of_others or "the channel does not note it", not of_others))
        return _Sorted(tuple(ours), tuple(gone), tuple(left))


def remove_orphans(calls: PosixCalls, segment: str) -> Removal:
    """The user's word on this name: remove the semaphores named after an object that is no more. In the doorway.

    All of it or nothing: raises NotOurs when one of them is not of our uid.
    """
    found = [(role, name, there) for role, name in named_after(segment) if (there := stat_or_none(calls, name))]
    kept = [f"semaphore {name} ({whose(there)})" for _, name, there in found if whose(there)]
    if kept:
        raise NotOurs(
            f"no object has our name, and nothing proves what is named after it to be ours: {', '.join(kept)}. Nothing"
            " was touched; choose another --channel, or if nobody needs any of them:"
            f" rm {' '.join(semaphore_path(name) for _, name, _ in found)}"
        )
    for _, name, there in found:  # two users may read alike, see PosixObjects.check_removable
        calls.set_semaphore_mode(name, there.mode)
    removed: list[str] = []
    gone: list[str] = []
    for role, name, _ in found:
        (removed if remove_if_there(calls, name) else gone).append(role)
    return Removal(tuple(removed), tuple(gone))


def named_after(segment: str) -> list[tuple[str, str]]:
    """The semaphores that a channel of ours with this object can have had: which one, and its name."""
    pattern = re.compile(f"{re.escape(segment)}-[0-9a-f]{{16}}-({'|'.join(SEMAPHORES)})")
    return [(match[1], match[0]) for name in semaphores_like(f"{segment}-") if (match := pattern.fullmatch(name))]


def stat_or_none(calls: PosixCalls, name: str) -> ShmStat | None:
    """What there is with this name; None for nothing."""
    try:
        return calls.stat_semaphore(name)
    except CallFailed as error:
        if error.errno != errno.ENOENT:
            raise
    return None


def remove_if_there(calls: PosixCalls, name: str) -> bool:
    """Whether it was there to be removed. Raises CallFailed (EACCES)."""
    try:
        calls.remove_semaphore(name)
    except CallFailed as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def whose(stat: ShmStat) -> str:
    """Which other user owns it; "" when we do."""
    return f"it is uid {stat.uid}'s" if stat.uid != os.geteuid() else ""
