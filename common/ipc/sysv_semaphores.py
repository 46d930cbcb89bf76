"""The five System V semaphores of one channel: made, opened, told from those of others, and removed.

Ours is what the header notes, if our key still leads to that very id. Whoever made the segment may have forged its
header: only semaphores of the same creator are ours.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from common.errors import CallFailed, Gone, NotOurs
from common.ipc.calls import key_text
from common.ipc.removal import Left, Removal
from common.ipc.sysv_calls import SegmentStat, Semaphore, SemaphoreStat, SysvCalls
from common.ipc.sysv_owners import remove_if_there, slept_on, stat_or_none, whose_or_hidden, why_not_removed, with_keys
from common.layout import HALF_MADE, NOT_CREATED, SEMAPHORES, Header
from common.typed import NamedTuple, NoReturn


class _Sorted(NamedTuple):
    """The semaphores that a removal takes, the names of those that are gone, and what it leaves alone."""

    ours: tuple[tuple[str, Semaphore, SemaphoreStat], ...]
    gone: tuple[str, ...]
    left: tuple[Left, ...]


class Semaphores:
    """The semaphores with these `keys`, of the channel whose segment's `memory` notes them and `creator` (uid) made."""

    def __init__(self, calls: SysvCalls, keys: tuple[int, ...], memory: memoryview, creator: int) -> None:
        self.opened: list[Semaphore] = []  # all five, in the order of SEMAPHORES, or none
        self.removal = Removal()  # what remove() has done
        self._calls = calls
        self._keys = keys
        self._memory = memory
        self._creator = creator
        self._refused = False  # what has the key of the first one that is not noted: it is somebody else's
        self._sorted: _Sorted | None = None  # what check_removable() has found, in the same doorway

    def open_all(self, permission: int) -> None:
        """Open all five. Raises CallFailed, ENOENT for one that is gone."""
        self.opened = [self.open(index, permission) for index in range(len(SEMAPHORES))]

    def open(self, index: int, permission: int = 0) -> Semaphore:
        """Open SEMAPHORES[index] by key. Raises CallFailed, ENOENT when it is gone or is not the one we noted."""
        key = self._keys[index]
        semaphore = self._calls.open_semaphore(key, permission)
        if semaphore.id != self.noted(index):
            raise CallFailed("semget", (key, 0, permission), errno.ENOENT)
        return semaphore

    def own(self) -> list[Semaphore]:
        """Those that the header notes and the segment's creator made, as far as their modes let us see."""
        found = []
        for index in range(len(SEMAPHORES)):
            with suppress(CallFailed):
                semaphore = self.open(index)
                stat = stat_or_none(self._calls, semaphore)
                found += [semaphore] if stat and stat.cuid == self._creator else []
        return found

    def noted(self, index: int) -> int:
        """The id that the header notes, or NOT_CREATED."""
        with Header(self._memory) as header:
            return header.semaphore_id(index)

    def create_all(self, values: tuple[int, ...], like: SegmentStat) -> None:
        """Make all five with their first `values` and with the mode and owner of `like`; note each id at once."""
        made = []
        with Header(self._memory) as header:
            for index, value in enumerate(values):
                before = header.semaphore_id(index)
                header.set_semaphore_id(index, NOT_CREATED)  # the proof of it, if we die before we can note it
                semaphore = self._create(index, like, value)
                if semaphore is None:
                    header.set_semaphore_id(index, before)
                    self._refused = True
                    self._refuse_foreign(self._keys[index:], new=header.magic == HALF_MADE)
                header.set_semaphore_id(index, semaphore.id)
                made.append(semaphore)
        self.opened = made
        self.removal = Removal()

    def _create(self, index: int, like: SegmentStat, value: int) -> Semaphore | None:
        """SEMAPHORES[index] with the mode and owner of `like`; None when one has its key. Raises CallFailed."""
        mode = like.mode & 0o777
        try:
            semaphore = self._calls.create_semaphore(self._keys[index], mode, value)
        except CallFailed as error:
            if error.errno != errno.EEXIST:
                raise
            return None
        if (like.uid, like.gid) != (os.geteuid(), os.getegid()):
            self._calls.set_semaphore(semaphore, mode=mode, uid=like.uid, gid=like.gid)
        return semaphore

    def _refuse_foreign(self, keys: tuple[int, ...], *, new: bool) -> NoReturn:
        """Refuse the semaphore with the first of these keys, in one line with all that one command has to clear.

        In a channel that is not `new`, --remove would take its records along.
        """
        foreign = [semaphore for _, semaphore in with_keys(self._calls, keys)]
        one, ids = len(foreign) == 1, [str(semaphore.id) for semaphore in foreign]
        has_our_keys = f"has our key {key_text(keys[0])} and is" if one else "have our keys and are"
        clears = new and not any(why_not_removed(self._calls, semaphore) for semaphore in foreign)
        advice = f"`writer.py --remove` clears {'it' if one else 'them'}" if clears else f"ipcrm -s {' -s '.join(ids)}"
        raise NotOurs(
            f"semaphore{'' if one else 's'} {', '.join(ids)} {has_our_keys} not provably ours."
            f" {'It was' if one else 'They were'} left untouched; choose another --channel, or if nobody needs"
            f" {'it' if one else 'them'}: {advice}"
        )

    def missing(self) -> str | None:
        """The name of the first of the five that no longer exists, else None."""
        for name, semaphore in zip(SEMAPHORES, self.opened, strict=True):
            try:
                self._calls.semaphore_value(semaphore)
            except Gone:
                return name
            except CallFailed:
                pass  # EACCES: it is there
        return None

    def left(self) -> tuple[Left, ...]:
        """What else has our keys, which a removal leaves alone. Raises CallFailed."""
        return self._sort().left

    def check_removable(self) -> None:
        """Ask the kernel for the right to remove what is ours. Raises CallFailed (EPERM)."""
        self._sorted = self._sort()
        for _, semaphore, there in self._sorted.ours:
            try:
                self._calls.check_semaphore_removable(semaphore, there)
            except Gone:
                pass

    def remove(self) -> None:
        """Remove what is ours, and what is gone already is passed over; `removal` adds up, however often."""
        found, self._sorted = self._sorted or self._sort(), None
        removed = list(self.removal.removed)
        gone = [name for name in found.gone if name not in removed]
        for name, semaphore, _ in found.ours:
            (removed if remove_if_there(self._calls, semaphore) else gone).append(name)
        self.removal = Removal(tuple(removed), tuple(gone), found.left)

    def _sort(self) -> _Sorted:
        """What is ours, and what else has our keys.

        The first one that is not noted may have been made just before its creator, or who mended it, died.
        """
        noted, next_made = self._noted_and_next()
        ours, gone, left = [], [], []
        for index, (name, semid) in enumerate(zip(SEMAPHORES, noted, strict=True)):
            try:
                semaphore, stat = self._look_up(index, semid)
                is_noted = semaphore.id == semid
                proven = is_noted or (name == next_made and self._never_used(semaphore, stat))
            except Gone:
                gone += [name] if semid != NOT_CREATED else []
                continue
            if proven and stat and stat.cuid == self._creator:
                ours.append((name, semaphore, stat))
            else:
                why = (
                    f"uid {self._creator} made the channel, and not this"
                    if is_noted
                    else "the channel does not note it"
                )
                of_others = whose_or_hidden(stat)
                left.append(Left(name, semaphore.id, of_others or why, not of_others))
        return _Sorted(tuple(ours), tuple(gone), tuple(left))

    def _look_up(self, index: int, noted: int) -> tuple[Semaphore, SemaphoreStat | None]:
        """SEMAPHORES[index], or what has our key by now, with its stat, None when its mode hides that. Raises Gone."""
        if self.opened:
            try:
                return self.opened[index], self._calls.stat_semaphore(self.opened[index])
            except Gone:
                pass
        key = self._keys[index]
        for _, semaphore in with_keys(self._calls, (key,)):
            if semaphore.id == noted:
                return semaphore, self._calls.stat_semaphore(semaphore)
            return semaphore, stat_or_none(self._calls, semaphore)
        raise Gone("semget", (key, 0, 0), errno.ENOENT)

    def _noted_and_next(self) -> tuple[list[int], str | None]:
        """The ids in the header, NOT_CREATED for none; and the semaphore that was perhaps made next, if any."""
        with Header(self._memory) as header:
            # Version is stored after the ids were set to NOT_CREATED: without it the ids mean nothing yet.
            if not header.version:
                return [NOT_CREATED] * len(SEMAPHORES), None
            noted = [header.semaphore_id(index) for index in range(len(SEMAPHORES))]
        perhaps = NOT_CREATED in noted and not self._refused
        return noted, SEMAPHORES[noted.index(NOT_CREATED)] if perhaps else None

    def _never_used(self, semaphore: Semaphore, stat: SemaphoreStat | None) -> bool:
        """Whether it is a set of one semaphore, made by our uid, never operated on, and nobody sleeps on it."""
        if not stat or (stat.members, stat.cuid, stat.operation_time) != (1, os.geteuid(), 0):
            return False
        return not slept_on(self._calls, semaphore)
