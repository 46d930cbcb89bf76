"""The System V objects of one channel, over the calls of sysv_calls.py."""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple, NoReturn

from common.errors import CallFailed, Gone, NotOurs, NotPermitted
from common.ipc import sysv_calls as sysv
from common.ipc.place import Place
from common.layout import (
    HALF_MADE,
    NOT_CREATED,
    SEMAPHORES,
    Header,
)

READ_WRITE = 0o600  # what a participant asks of the mode, whichever class it falls in


class Counter:
    """A counting semaphore."""

    def __init__(self, semaphore: Any) -> None:
        self.semaphore = semaphore

    def acquire(self, timeout: float) -> bool:
        """Take a token, asleep up to `timeout` seconds; 0 only tries. Raises Gone."""
        # No spinning before the sleep: it was measured, and it takes from the other side more than it saves.
        return sysv.wait_semaphore(self.semaphore, timeout) if timeout else sysv.try_semaphore(self.semaphore)

    def release(self) -> None:
        """Put a token back. Raises Gone."""
        sysv.release_semaphore(self.semaphore)


class Turn(Counter):
    """A semaphore of initial value 1 whose operations the kernel undoes when their process dies (SEM_UNDO)."""

    def __init__(self, semaphore: Any) -> None:
        super().__init__(semaphore)
        semaphore.undo = True

    def holder(self) -> int | None:
        """The pid of the holder, None when nobody holds it: a hint, for messages only."""
        return None if sysv.semaphore_value(self.semaphore) else sysv.semaphore_last_pid(self.semaphore)


class Presence:
    """A semaphore that counts the live: what a process adds, the kernel takes back when it dies (SEM_UNDO)."""

    def __init__(self, semaphore: Any) -> None:
        self.semaphore = semaphore
        semaphore.undo = True

    def enter(self) -> None:
        """Count this process in."""
        sysv.release_semaphore(self.semaphore)

    def leave(self) -> None:
        """Count this process out."""
        sysv.try_semaphore(self.semaphore)

    def present(self) -> bool:
        """Whether any live process has entered."""
        return sysv.semaphore_value(self.semaphore) > 0


class Left(NamedTuple):
    """A semaphore with one of our keys that a removal left alone, and why; `ours` when it is of our uid."""

    name: str
    id: int
    why: str
    ours: bool

    def __str__(self) -> str:
        return f"semaphore {self.id} ({self.name}): {self.why}"


class Removal(NamedTuple):
    """What became of the five semaphores: removed, gone before, or left (there, with our key, and not removed)."""

    removed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()

    def __str__(self) -> str:
        """Such as: removed 4 semaphores (writers was gone)."""
        rest = [f"{', '.join(self.gone)} {'was' if len(self.gone) == 1 else 'were'} gone"] if self.gone else []
        rest += [f"left {left}" for left in self.left]
        count = len(self.removed)
        return f"removed {count} semaphore{'' if count == 1 else 's'}" + (f" ({'; '.join(rest)})" if rest else "")

    @property
    def ours_left(self) -> tuple[Left, ...]:
        """What stays that is of our uid: the removal is no success."""
        return tuple(left for left in self.left if left.ours)


class _Sorted(NamedTuple):
    """The semaphores that a removal takes, the names of those that are gone, and what it leaves alone."""

    ours: tuple[tuple[str, Any, sysv.SemaphoreStat], ...]
    gone: tuple[str, ...]
    left: tuple[Left, ...]


class SysvObjects:
    """One channel's segment, attached, and its five semaphores, opened."""

    def __init__(self, place: Place, shmid: int, address: int | None = None, *, observe: bool = False) -> None:
        flags = (sysv.SHM_RND if address is not None else 0) | (sysv.SHM_RDONLY if observe else 0)
        self.place = place
        self.shmid = shmid
        self._segment = sysv.attach_segment(shmid, address, flags)
        try:
            memory = sysv.segment_memory(self._segment)
        except CallFailed:
            sysv.detach_segment(self._segment)
            raise
        # The kernel maps it read-only, but the memoryview would not say so before the SIGSEGV.
        self.memory = memory.toreadonly() if observe else memory
        self.address: int = self._segment.address
        self.created = False
        self.removal = Removal()  # what remove() has done
        self.before: sysv.SegmentStat | None = None  # of one that find_channel found: IPC_STAT before we attached

    def __str__(self) -> str:
        return f"segment {self.shmid}"

    def open_semaphores(self, permission: int = READ_WRITE) -> None:
        """Open all five. Raises what open_semaphore raises."""
        self._use([self.open_semaphore(index, permission) for index in range(len(SEMAPHORES))])

    def open_semaphore(self, index: int, permission: int = 0) -> Any:
        """Open SEMAPHORES[index] by key. Raises CallFailed, ENOENT when it is gone or is not the one we noted."""
        with Header(self.memory) as header:
            noted = header.semaphore_id(index)
        key = self.place.semaphore_keys[index]
        semaphore = sysv.open_semaphore(key, permission)
        if semaphore.id != noted:
            raise CallFailed("semget", (key, 1, permission), errno.ENOENT)
        return semaphore

    def _use(self, semaphores: list[Any]) -> None:
        self.semaphores = semaphores
        self.full_slots = Counter(semaphores[0])
        self.empty_slots = Counter(semaphores[1])
        self.writer_turn = Turn(semaphores[2])
        self.reader_turn = Turn(semaphores[3])
        self.writers = Presence(semaphores[4])

    def create_semaphores(self, values: tuple[int, ...]) -> None:
        """Make all five with their first `values` and with the segment's mode and owner; note each id at once."""
        stat = self.stat()
        with Header(self.memory) as header:
            made: list[Any] = []
            for index, (key, value) in enumerate(zip(self.place.semaphore_keys, values, strict=True)):
                semaphore = _create_or_adopt(key, stat, value)
                if semaphore is None:
                    self._refuse_foreign(self.place.semaphore_keys[index:], new=header.magic == HALF_MADE)
                header.set_semaphore_id(index, semaphore.id)
                made.append(semaphore)
        self._use(made)
        self.removal = Removal()

    def _refuse_foreign(self, keys: tuple[int, ...], *, new: bool) -> NoReturn:
        """Refuse the semaphore with the first of these keys, in one line with all that one command has to clear.

        In a channel that is not `new`, --remove would take its records along.
        """
        foreign = [semaphore for _, semaphore in _with_keys(keys)]
        one, ids = len(foreign) == 1, [str(semaphore.id) for semaphore in foreign]
        has_our_keys = f"has our key {sysv.key_text(keys[0])} and is" if one else "have our keys and are"
        clears = new and not any(map(_why_not_removed, foreign))
        advice = f"`writer.py --remove` clears {'it' if one else 'them'}" if clears else f"ipcrm -s {' -s '.join(ids)}"
        raise NotOurs(
            f"semaphore{'' if one else 's'} {', '.join(ids)} {has_our_keys} not provably ours."
            f" {'It was' if one else 'They were'} left untouched; choose another --channel, or if nobody needs"
            f" {'it' if one else 'them'}: {advice}"
        )

    def stat(self) -> sysv.SegmentStat:
        """IPC_STAT of the segment. Raises Gone, CallFailed."""
        return sysv.stat_segment(self.shmid)

    def removed(self) -> bool:
        """Whether the segment is marked for removal: no one else can join any more."""
        try:
            return self.stat().marked
        except Gone:
            return True

    def alone(self) -> bool:
        """Whether no other process has the segment attached."""
        return self.stat().attached == 1

    def abandoned(self) -> bool:
        """Whether it is of our uid, its creator is dead, and nobody but us has it attached."""
        stat = self.stat()
        return stat.attached == 1 and stat.cuid == os.geteuid() and _is_dead(stat.creator_pid)

    def goes_with_us(self) -> bool:
        """Whether our detach destroys the segment, removed or not, and what is in it (kernel.shm_rmid_forced)."""
        return sysv.forced_removal() and self.alone()

    def set_mode(self, mode: int) -> None:
        """IPC_SET on the segment and the semaphores. Raises CallFailed."""
        sysv.set_segment(self.shmid, mode=mode)
        for semaphore in self.semaphores:
            sysv.set_semaphore(semaphore, mode=mode)

    def set_owner(self, uid: int | None, gid: int | None) -> None:
        """IPC_SET on the segment and the semaphores; None leaves the owner or the group. Raises CallFailed."""
        sysv.set_segment(self.shmid, uid=uid, gid=gid)
        for semaphore in self.semaphores:
            sysv.set_semaphore(semaphore, uid=uid, gid=gid)

    def missing(self) -> str | None:
        """The name of the first of the five semaphores that no longer exists, else None."""
        for name, semaphore in zip(SEMAPHORES, self.semaphores, strict=True):
            try:
                sysv.semaphore_value(semaphore)
            except Gone:
                return name
            except CallFailed:
                pass  # EACCES: it is there
        return None

    def check_removable(self) -> None:
        """Raise NotPermitted when we may not remove all of it, before anything is changed.

        The kernel says so, never our comparison: in a user namespace two users may read alike.
        """
        stat = self.stat()
        try:
            sysv.check_segment_removable(self.shmid, stat)
            for _, semaphore, there in self._sort_semaphores(stat.cuid).ours:
                try:
                    sysv.check_semaphore_removable(semaphore, there)
                except Gone:
                    pass
        except CallFailed as error:
            if error.errno != errno.EPERM:
                raise
            raise NotPermitted(error, stat.uid) from None

    def remove(self) -> None:
        """Remove the semaphores that the header notes, then mark the segment; what is gone already is passed over.

        `removal` then says what became of the semaphores.
        """
        self.remove_semaphores()
        if not self.stat().marked:
            sysv.remove_segment(self.shmid)

    def remove_semaphores(self) -> None:
        """Remove the semaphores that the header notes; `removal` adds up what became of them, however often."""
        found = self._sort_semaphores(self.stat().cuid)
        removed = list(self.removal.removed)
        gone = [name for name in found.gone if name not in removed]
        for name, semaphore, _ in found.ours:
            try:
                sysv.remove_semaphore(semaphore)
                removed.append(name)
            except Gone:
                gone.append(name)
        self.removal = Removal(tuple(removed), tuple(gone), found.left)

    def _sort_semaphores(self, creator: int) -> _Sorted:
        """What has our semaphore keys. Ours is what the header notes, if our key still leads to that very id.

        In a half-made channel the first one that is not noted may have been made just before its creator died.
        Whoever made the segment may have forged its header: only semaphores of the same `creator` are ours.
        """
        noted, next_made = self._noted()
        there = dict(_with_keys(self.place.semaphore_keys))
        ours, gone, left = [], [], []
        for name, semid in zip(SEMAPHORES, noted, strict=True):
            if name not in there:
                gone += [name] if semid != NOT_CREATED else []
                continue
            semaphore = there[name]
            is_noted = semaphore.id == semid
            try:
                stat = sysv.stat_semaphore(semaphore) if is_noted else _stat_or_none(semaphore)
                proven = is_noted or (name == next_made and _never_used(semaphore, stat))
            except Gone:
                gone.append(name)
                continue
            if proven and stat and stat.cuid == creator:
                ours.append((name, semaphore, stat))
            else:
                why = f"uid {creator} made the channel, and not this" if is_noted else "the channel does not note it"
                whose = _whose(stat)
                left.append(Left(name, semaphore.id, whose or why, not whose))
        return _Sorted(tuple(ours), tuple(gone), tuple(left))

    def _noted(self) -> tuple[list[int], str | None]:
        """The ids in the header, NOT_CREATED for none; and the semaphore that a dead creator made next, if any."""
        with Header(self.memory) as header:
            # Version is stored after the ids were set to NOT_CREATED: without it the ids mean nothing yet.
            if not header.version:
                return [NOT_CREATED] * len(SEMAPHORES), None
            noted = [header.semaphore_id(index) for index in range(len(SEMAPHORES))]
            half_made = header.magic == HALF_MADE
        return noted, SEMAPHORES[noted.index(NOT_CREATED)] if half_made and NOT_CREATED in noted else None

    def detach(self) -> None:
        """Give the memory back; every view of it must be released before. Raises CallFailed (EINVAL)."""
        self.memory.release()
        sysv.detach_segment(self._segment)


def _whose(stat: sysv.SegmentStat | sysv.SemaphoreStat | None) -> str:
    """Which other user owns or made it; "" when we did both. None is what we may not even look at."""
    me = os.geteuid()
    if stat is None:
        return "it is another user's"
    owner = f"it is uid {stat.uid}'s" if stat.uid != me else ""
    creator = f"uid {stat.cuid} made it" if stat.cuid != me else ""
    return " and ".join(filter(None, (owner, creator)))


def _create_or_adopt(key: int, like: sysv.SegmentStat, value: int) -> Any:
    """A new semaphore with the mode and owner of `like`, or the one that a dead creator had made and not yet noted.

    None for one of somebody else.
    """
    mode = like.mode & 0o777
    try:
        semaphore = sysv.create_semaphore(key, mode, value)
        there = (mode, os.geteuid(), os.getegid())
    except CallFailed as error:
        if error.errno != errno.EEXIST:
            raise
        semaphore = sysv.open_semaphore(key)
        stat = _stat_or_none(semaphore)
        if not stat or not _never_used(semaphore, stat):
            return None
        there = (stat.mode & 0o777, stat.uid, stat.gid)
        sysv.set_semaphore_value(semaphore, value)
    if there != (mode, like.uid, like.gid):
        sysv.set_semaphore(semaphore, mode=mode, uid=like.uid, gid=like.gid)
    return semaphore


def _with_keys(keys: tuple[int, ...]) -> list[tuple[str, Any]]:
    """The semaphores that have these keys, the last ones of a channel's, with their names."""
    found = []
    for name, key in zip(SEMAPHORES[-len(keys) :], keys, strict=True):
        try:
            found.append((name, sysv.open_semaphore(key)))
        except CallFailed as error:
            if error.errno != errno.ENOENT:
                raise
    return found


def _stat_or_none(semaphore: Any) -> sysv.SemaphoreStat | None:
    """IPC_STAT; None when its mode does not let us look."""
    try:
        return sysv.stat_semaphore(semaphore)
    except CallFailed as error:
        if error.errno != errno.EACCES:
            raise
    return None


def _slept_on(semaphore: Any) -> bool:
    return bool(sysv.sleepers_for_tokens(semaphore) or sysv.sleepers_for_zero(semaphore))


def _never_used(semaphore: Any, stat: sysv.SemaphoreStat | None) -> bool:
    """Whether it is a set of one semaphore, made by our uid, never operated on, and nobody sleeps on it."""
    if not stat or (stat.members, stat.cuid, stat.operation_time) != (1, os.geteuid(), 0):
        return False
    return not _slept_on(semaphore)


def _why_not_removed(semaphore: Any) -> str:
    """Why the user's --remove does not clear this semaphore, which no segment proves ours; "" when it does."""
    stat = _stat_or_none(semaphore)
    whose = _whose(stat)
    if whose or not stat:
        return whose
    if stat.members != 1:
        return f"its set has {stat.members} members"
    return "a process sleeps on it" if _slept_on(semaphore) else ""


def _is_dead(pid: int) -> bool:
    """Whether that process is certainly no more; a pid of 0 is outside our pid namespace: unknown means alive."""
    try:
        if pid:
            os.kill(pid, 0)
            return _has_ended(pid)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _has_ended(pid: int) -> bool:
    """Whether a process that still has its pid only waits to be waited for. Raises OSError."""
    import select

    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)
