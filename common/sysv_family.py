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

    def create_semaphores(self, values: tuple[int, ...], mode: int) -> None:
        """Make all five with their first `values`, and note each id in the header at once."""
        with Header(self.memory) as header:
            made: list[Any] = []
            for index, (key, value) in enumerate(zip(self.place.semaphore_keys, values, strict=True)):
                made.append(
                    _create_or_adopt(key, mode, value) or self._refuse_foreign(self.place.semaphore_keys[index:])
                )
                header.set_semaphore_id(index, made[-1].id)
        self._use(made)

    def _refuse_foreign(self, keys: tuple[int, ...]) -> NoReturn:
        """Refuse the semaphore with the first of these keys, in one line with all that one command has to clear."""
        foreign = []
        for key in keys:
            try:
                foreign.append(str(sysv.open_semaphore(key).id))
            except CallFailed:
                pass  # not there
        raise NotOurs(
            f"semaphore {foreign[0]} has our key {sysv.key_text(keys[0])} and is not provably ours. It was left"
            f" untouched; choose another --channel, or if nobody needs it: ipcrm -s {' -s '.join(foreign)}"
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

    def check_removable(self) -> None:
        """Raise EPERM when we may not remove the segment, before anything is changed."""
        stat = self.stat()
        if os.geteuid() not in (stat.uid, stat.cuid):
            # Root may, unless a container has taken CAP_SYS_ADMIN from it. IPC_SET asks for the same right
            # (shmctl(2)) and stores what is there already.
            sysv.set_segment(self.shmid)

    def remove(self) -> None:
        """Remove the semaphores that the header notes, then mark the segment; what is gone already is passed over."""
        self.remove_semaphores()
        if not self.stat().marked:
            sysv.remove_segment(self.shmid)

    def remove_semaphores(self) -> None:
        """Remove the semaphores that the header notes, each only if our key still leads to that very id.

        In a half-made channel the first one that is not noted may have been made just before its creator died.
        """
        creator = self.stat().cuid
        with Header(self.memory) as header:
            # Version is stored after the ids were set to NOT_CREATED: without it the ids mean nothing yet.
            noted = [header.semaphore_id(i) for i in range(len(SEMAPHORES))] if header.version else []
            half_made = header.magic == HALF_MADE
        for key, semid in zip(self.place.semaphore_keys, noted, strict=False):
            if semid == NOT_CREATED and not half_made:
                continue
            try:
                semaphore = sysv.open_semaphore(key)
                noted_or_new = semaphore.id == semid or (semid == NOT_CREATED and _never_used(semaphore.id))
                # Whoever made the segment may have forged its header: then only his own semaphores go with it.
                if noted_or_new and (creator == os.geteuid() or creator == sysv.semaphore_creator(semaphore)):
                    sysv.remove_semaphore(semaphore)
            except Gone:
                pass
            except CallFailed as error:
                if error.errno != errno.ENOENT and semid != NOT_CREATED:
                    raise
            if semid == NOT_CREATED:
                break

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
            _check_mode(family.stat(), wanted.mode)
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


def _check_mode(stat: sysv.SegmentStat, mode: int) -> None:
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
        _initialise(family, geometry, mode)
    except BaseException:
        family.remove()
        family.detach()
        raise
    family.created = True
    return family


def _initialise(family: SysvFamily, geometry: Geometry, mode: int) -> None:
    with Header(family.memory) as header:
        header.magic = HALF_MADE
        header.key_dev, header.key_ino = family.place.dev, family.place.ino
        for index in range(len(SEMAPHORES)):
            header.set_semaphore_id(index, NOT_CREATED)
        header.version = VERSION
        family.create_semaphores(_first_values(0, geometry.slot_count), mode)
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
            return family
        _check_nothing_unread(family)
        family.remove()
    except BaseException:
        family.detach()
        raise
    family.detach()
    say(f"cleared segment {shmid}, {leftover}")
    return None


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
    sysv.stat_segment(shmid)  # IPC_STAT says EACCES before shmat does
    family = SysvFamily(place, shmid, observe=observe)
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
    if abandoned and all(family.memory[at : at + PAGE] == _ZEROS for at in range(0, stat.size, PAGE)):
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
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _create_or_adopt(key: int, mode: int, value: int) -> Any:
    """A new semaphore, or the one that a dead creator had made and not yet noted; None for one of somebody else."""
    try:
        return sysv.create_semaphore(key, mode, value)
    except CallFailed as error:
        if error.errno != errno.EEXIST:
            raise
    semaphore = sysv.open_semaphore(key)
    if not _never_used(semaphore.id):
        return None
    sysv.set_semaphore(semaphore, mode=mode)
    sysv.set_semaphore_value(semaphore, value)
    return semaphore


def _never_used(semid: int) -> bool:
    """Whether it is a set of one semaphore, made by our uid and never operated on (proc_sysvipc_sem, proc(5))."""
    with open("/proc/sysvipc/sem") as table:
        names = table.readline().split()
        for line in table:
            row = dict(zip(names, line.split(), strict=False))
            if int(row["semid"]) == semid:
                return (row["nsems"], row["cuid"], row["otime"]) == ("1", str(os.geteuid()), "0")
    return False


def _open_or_rebuild_semaphores(family: SysvFamily, say: Callable[[str], None]) -> None:
    """Open them; when one was removed (ipcrm) and nobody else is attached, make them anew: no record is lost."""
    try:
        family.open_semaphores()
    except CallFailed as error:
        if error.errno != errno.ENOENT or not family.alone() or family.stat().cuid != os.geteuid():
            raise
        with Header(family.memory) as header:
            lag, slots = header.head - header.tail, header.slot_count
        if not 0 <= lag <= slots:
            raise BadSegment(f"head and tail contradict each other: {lag} fragments in {slots} slots") from None
        family.remove_semaphores()
        family.create_semaphores(_first_values(lag, slots), family.stat().mode & 0o777)
        say("one of its semaphores had been removed: made all five anew, nothing is lost")
