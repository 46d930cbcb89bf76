"""The System V objects of one channel: how they come about, what proves that they are ours, and how they go.

Everything here happens in the doorway, except using the objects. The order of the stores is the proof:

    creation   segment; magic "SHMPAIR?"; key path; each semaphore, its id noted at once; the rest; magic "SHMPAIR1"
    removal    state FINISHED or REMOVED; the semaphores by their noted ids; the segment

so whatever a creator or remover left when it died can be told from an object of somebody else, and cleared.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from common import sysv
from common.ipc import CallFailed, ChannelError, Gone, NotOurs
from common.layout import (
    FINISHED,
    HALF_MADE,
    MAGIC,
    NOT_CREATED,
    OPEN,
    PAGE,
    REMOVED,
    SEMAPHORES,
    VERSION,
    BadSegment,
    Geometry,
    Header,
    read_geometry,
)

CHANNELS = range(32)
DEFAULT_MODE = 0o660
DEFAULT_GEOMETRY = Geometry(slot_count=8, slot_size=256 * 1024)
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


class Place(NamedTuple):
    """Where a channel is: its key path and number, and the six keys that follow from them."""

    path: str
    channel: int
    dev: int
    ino: int
    segment_key: int
    semaphore_keys: tuple[int, ...]

    @classmethod
    def of(cls, path: str, channel: int, identity: tuple[int, int]) -> Place:
        """`identity` is (st_dev, st_ino) of the path. Raises CallFailed when ftok cannot find it."""
        first = 8 * channel + 1
        keys = [sysv.make_key(path, first + index) for index in range(1 + len(SEMAPHORES))]
        return cls(path, channel, *identity, keys[0], tuple(keys[1:]))


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


class SysvFamily:
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
        """Raise EPERM when we may not remove all of it, before anything is changed.

        The kernel says so, never our comparison: in a user namespace two users may read alike.
        """
        stat = self.stat()
        sysv.check_segment_removable(self.shmid, stat)
        for _, semaphore, there in self._sort_semaphores(stat.cuid).ours:
            try:
                sysv.check_semaphore_removable(semaphore, there)
            except Gone:
                pass

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


class Wanted(NamedTuple):
    """What a writer asks of its channel; a `slots`, `slot_size` (bytes) or `mode` of None takes what there is."""

    slots: int | None
    slot_size: int | None
    mode: int | None
    exclusive: bool

    def geometry(self, default: Geometry) -> Geometry:
        """The wish, with `default` where there is none."""
        slots = default.slot_count if self.slots is None else self.slots
        return Geometry(slots, default.slot_size if self.slot_size is None else self.slot_size)


def join_channel(place: Place, wanted: Wanted, say: Callable[[str], None], address: int | None = None) -> SysvFamily:
    """Open the channel, or create it where there is none. In the doorway.

    Raises what open_channel and create_channel raise; CallFailed with EEXIST when it is wanted for ourselves, with
    EINVAL when it is divided otherwise than wanted.
    """
    family = open_channel(place, say, address)
    mode = DEFAULT_MODE if wanted.mode is None else wanted.mode
    if family is None:
        return create_channel(place, wanted.geometry(DEFAULT_GEOMETRY), mode, address)
    try:
        there = read_geometry(family.memory)
        asked = wanted.geometry(there)
        if wanted.exclusive:
            # EEXIST, in the kernel's own words; unless ipcrm was here in this instant.
            sysv.remove_segment(sysv.create_segment(place.segment_key, asked.segment_size, mode))
            family.remove()
            raise ChannelError("EIDRM: the channel was removed just now, by ipcrm; start again")
        if wanted.mode is not None:
            _check_mode(family, wanted.mode)
        if asked != there:
            sysv.open_segment(place.segment_key, asked.segment_size)  # EINVAL when it is too large
            raise ChannelError(
                f"EINVAL: the channel has {there.slot_count} slots of {there.slot_size} bytes; leave --slots and"
                " --slot-size out, or remove it first with `writer.py --remove`"
            )
    except BaseException:
        family.detach()
        raise
    return family


def _check_mode(family: SysvFamily, mode: int) -> None:
    stat = family.stat()
    whose = _whose(stat)
    if whose:
        raise ChannelError(
            f"EACCES: segment {family.shmid} is not ours alone, {whose}: no --mode keeps its owner or its creator out;"
            " leave --mode out if you trust them, or choose another --channel"
        )
    if stat.mode & 0o777 != mode:
        raise ChannelError(
            f"EINVAL: the channel has mode {stat.mode & 0o777:04o} and belongs to uid {stat.uid}; leave --mode out,"
            " or change it first with `writer.py --chmod`"
        )


def create_channel(place: Place, geometry: Geometry, mode: int, address: int | None = None) -> SysvFamily:
    """Create the channel's segment and semaphores. In the doorway; what fails half-way is taken back.

    Raises CallFailed (EEXIST, EINVAL, ENOMEM, ENOSPC), NotOurs for a semaphore of somebody else.
    """
    shmid = sysv.create_segment(place.segment_key, geometry.segment_size, mode)
    try:
        family = SysvFamily(place, shmid, address)
    except CallFailed:
        sysv.remove_segment(shmid)
        raise
    try:
        _initialise(family, geometry)
    except BaseException:
        family.remove()
        family.detach()
        raise
    family.created = True
    return family


def _initialise(family: SysvFamily, geometry: Geometry) -> None:
    with Header(family.memory) as header:
        header.magic = HALF_MADE
        header.key_dev, header.key_ino = family.place.dev, family.place.ino
        for index in range(len(SEMAPHORES)):
            header.set_semaphore_id(index, NOT_CREATED)
        header.version = VERSION
        family.create_semaphores(_first_values(0, geometry.slot_count))
        header.slot_count, header.slot_size = geometry
        header.segment_size = geometry.segment_size
        header.created_ns = time.time_ns()
        header.creator_pid = os.getpid()
        header.state = OPEN
        header.magic = MAGIC


# The largest value of a semaphore on Linux (semget(2)). Tokens only wake, so fewer than slots is enough.
_SEMVMX = 32767


def _first_values(full: int, slots: int) -> tuple[int, ...]:
    """What the semaphores of a channel with `full` of its `slots` hold while nobody uses it, as in SEMAPHORES."""
    return min(full, _SEMVMX), min(slots - full, _SEMVMX), 1, 1, 0


def open_channel(place: Place, say: Callable[[str], None], address: int | None = None) -> SysvFamily | None:
    """Open the channel to take part in it; None when there is none. In the doorway.

    What a dead creator or remover left half-way is cleared, which `say` hears. Raises NotOurs, CallFailed,
    BadSegment.
    """
    try:
        shmid = sysv.open_segment(place.segment_key, 0, READ_WRITE)
    except CallFailed as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    family = SysvFamily(place, shmid, address)
    try:
        leftover = prove_ours(family)
        if not leftover:
            read_geometry(family.memory)
            _open_or_rebuild_semaphores(family, say)
            _say_whose(family, say)
            return family
        _check_nothing_unread(family)
        family.remove()
    except BaseException:
        family.detach()
        raise
    family.detach()
    say(f"cleared segment {shmid}, {leftover}")
    return None


def _say_whose(family: SysvFamily, say: Callable[[str], None]) -> None:
    """Whoever takes part should know who else can always read along."""
    whose = _whose(family.stat())
    if whose:
        say(f"segment {family.shmid} is not ours alone: {whose}")


def _whose(stat: sysv.SegmentStat | sysv.SemaphoreStat | None) -> str:
    """Which other user owns or made it; "" when we did both. None is what we may not even look at."""
    me = os.geteuid()
    if stat is None:
        return "it is another user's"
    owner = f"it is uid {stat.uid}'s" if stat.uid != me else ""
    creator = f"uid {stat.cuid} made it" if stat.cuid != me else ""
    return " and ".join(filter(None, (owner, creator)))


def _check_nothing_unread(family: SysvFamily) -> None:
    """A channel is only finished when all is read; raises BadSegment when the header says otherwise."""
    with Header(family.memory) as header:
        unread = header.head - header.tail if header.state == FINISHED else 0
    if unread:
        raise BadSegment(f"it is marked as finished, and {unread} fragments are unread")


def find_channel(place: Place, *, observe: bool) -> SysvFamily:
    """Attach the channel to look at it (`observe`: read-only) or to change or remove it; no semaphore is opened.

    Raises CallFailed (ENOENT: no channel; EACCES), NotOurs, ChannelError when the key belongs to another path.
    """
    shmid = sysv.open_segment(place.segment_key)
    # Before shmat, which an onlooker must not see in it; and IPC_STAT says EACCES before shmat does.
    before = sysv.stat_segment(shmid)
    family = SysvFamily(place, shmid, observe=observe)
    family.before = before
    try:
        prove_ours(family)
    except BaseException:
        family.detach()
        raise
    return family


def prove_ours(family: SysvFamily) -> str:
    """Why this segment is a leftover to be cleared; "" for a channel in use.

    Raises NotOurs without proof, ChannelError when the key belongs to another path.
    """
    stat = family.stat()
    if len(family.memory) < PAGE:
        raise _not_ours(family, stat, f"its {stat.size} bytes are fewer than a header")
    with Header(family.memory) as header:
        magic, path = header.magic, (header.key_dev, header.key_ino)
        state = header.state
    ours = path == (family.place.dev, family.place.ino)
    abandoned = stat.attached == 1 and stat.cuid == os.geteuid() and _is_dead(stat.creator_pid)
    # The inode is stored last and is never 0, so it tells whether the path is there at all.
    if magic in (MAGIC, HALF_MADE) and path[1] and not ours:
        raise ChannelError(
            f"key {sysv.key_text(family.place.segment_key)} already belongs to another path"
            f" (segment {family.shmid}); choose another --channel"
        )
    if magic == HALF_MADE and (ours or abandoned):
        return "which its creator left half-made"
    if magic == MAGIC and ours:
        return {FINISHED: "which its last reader left half-removed", REMOVED: "left half-removed"}.get(state, "")
    # One slot of any size makes every number of pages from the smallest channel's on.
    possible = stat.size % PAGE == 0 and stat.size >= Geometry(1, PAGE).segment_size
    if abandoned and possible and all(family.memory[at : at + PAGE] == _ZEROS for at in range(0, stat.size, PAGE)):
        return "which its creator left empty"
    raise _not_ours(family, stat, f"its first bytes are {magic!r}, not {MAGIC!r}")


_ZEROS = bytes(PAGE)


def _not_ours(family: SysvFamily, stat: sysv.SegmentStat, why: str) -> NotOurs:
    return NotOurs(
        f"segment {family.shmid} of uid {stat.uid} has our key and is not a channel of ours: {why}."
        f" It was left untouched; choose another --channel, or if nobody needs it: ipcrm -m {family.shmid}"
    )


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


def remove_orphans(place: Place) -> Removal:
    """The user's word on this key: remove what has our semaphore keys where there is no segment. In the doorway.

    All of it or nothing: raises NotOurs when one of them is not of our uid, has company in its set or a sleeper.
    """
    found = _with_keys(place.semaphore_keys)
    kept = {semaphore.id: why for _, semaphore in found if (why := _why_not_removed(semaphore))}
    if kept:
        said = ", ".join(f"semaphore {semid} ({why})" for semid, why in kept.items())
        raise NotOurs(
            f"no segment has our key, and nothing proves what has our semaphore keys to be ours: {said}. Nothing was"
            " touched; choose another --channel, or if nobody needs any of them:"
            f" ipcrm {' '.join(f'-s {semaphore.id}' for _, semaphore in found)}"
        )
    for _, semaphore in found:  # two users may read alike, see check_removable
        sysv.check_semaphore_removable(semaphore, sysv.stat_semaphore(semaphore))
    removed, gone = [], []
    for name, semaphore in found:
        try:
            sysv.remove_semaphore(semaphore)
            removed.append(name)
        except Gone:
            gone.append(name)
    return Removal(tuple(removed), tuple(gone))


def _open_or_rebuild_semaphores(family: SysvFamily, say: Callable[[str], None]) -> None:
    """Open them; when one was removed (ipcrm) and nobody else is attached, make them anew: no record is lost."""
    try:
        family.open_semaphores()
    except CallFailed as error:
        if error.errno != errno.ENOENT or not family.alone() or family.stat().cuid != os.geteuid():
            raise
        family.check_removable()  # two users may read alike, see there
        with Header(family.memory) as header:
            lag, slots = header.head - header.tail, header.slot_count
        if not 0 <= lag <= slots:
            raise BadSegment(f"head and tail contradict each other: {lag} fragments in {slots} slots") from None
        family.remove_semaphores()
        family.create_semaphores(_first_values(lag, slots))
        say("one of its semaphores had been removed: made all five anew, nothing is lost")
