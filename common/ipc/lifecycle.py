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
from typing import NamedTuple, NoReturn

from common.errors import BadSegment, CallFailed, ChannelError, Gone, NotOurs
from common.ipc import sysv_calls as sysv
from common.ipc.place import Place
from common.ipc.proof import Facts, Kind, judge
from common.ipc.sysv import (
    READ_WRITE,
    Removal,
    SysvObjects,
    _whose,
    _why_not_removed,
    _with_keys,
)
from common.layout import (
    FINISHED,
    HALF_MADE,
    MAGIC,
    NOT_CREATED,
    OPEN,
    PAGE,
    SEMAPHORES,
    VERSION,
    Geometry,
    Header,
    read_geometry,
)

DEFAULT_MODE = 0o660


DEFAULT_GEOMETRY = Geometry(slot_count=8, slot_size=256 * 1024)


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


def join_channel(place: Place, wanted: Wanted, say: Callable[[str], None], address: int | None = None) -> SysvObjects:
    """Open the channel, or create it where there is none. In the doorway.

    Raises what open_channel and create_channel raise; CallFailed with EEXIST when it is wanted for ourselves,
    ChannelError when it is divided otherwise than wanted.
    """
    objects = open_channel(place, say, address)
    mode = DEFAULT_MODE if wanted.mode is None else wanted.mode
    if objects is None:
        return create_channel(place, wanted.geometry(DEFAULT_GEOMETRY), mode, address)
    try:
        there = read_geometry(objects.memory)
        asked = wanted.geometry(there)
        if wanted.exclusive:
            # EEXIST, in the kernel's own words; unless ipcrm was here in this instant.
            sysv.remove_segment(sysv.create_segment(place.segment_key, asked.segment_size, mode))
            objects.remove()
            raise ChannelError("EIDRM: the channel was removed just now, by ipcrm; start again")
        if wanted.mode is not None:
            _check_mode(objects, wanted.mode)
        if asked != there:
            _refuse_geometry(place, there, asked)
    except BaseException:
        objects.detach()
        raise
    return objects


def _refuse_geometry(place: Place, there: Geometry, asked: Geometry) -> NoReturn:
    """EINVAL, from the kernel when what is asked is larger, from us when not: it knows sizes and no slots."""
    try:
        sysv.open_segment(place.segment_key, asked.segment_size)
    except CallFailed as error:
        if error.errno != errno.EINVAL:
            raise
    raise ChannelError(
        f"EINVAL: the channel has {there.slot_count} slots of {there.slot_size} bytes, and asked for were"
        f" {asked.slot_count} of {asked.slot_size}; leave --slots and --slot-size out, or remove it first with"
        " `writer.py --remove`"
    )


def _check_mode(objects: SysvObjects, mode: int) -> None:
    stat = objects.stat()
    whose = _whose(stat)
    if whose:
        raise ChannelError(
            f"EACCES: segment {objects.shmid} is not ours alone, {whose}: no --mode keeps its owner or its creator out;"
            " leave --mode out if you trust them, or choose another --channel"
        )
    if stat.mode & 0o777 != mode:
        raise ChannelError(
            f"EINVAL: the channel has mode {stat.mode & 0o777:04o} and belongs to uid {stat.uid}; leave --mode out,"
            " or change it first with `writer.py --chmod`"
        )


def create_channel(place: Place, geometry: Geometry, mode: int, address: int | None = None) -> SysvObjects:
    """Create the channel's segment and semaphores. In the doorway; what fails half-way is taken back.

    Raises CallFailed (EEXIST, EINVAL, ENOMEM, ENOSPC), NotOurs for a semaphore of somebody else.
    """
    shmid = sysv.create_segment(place.segment_key, geometry.segment_size, mode)
    try:
        objects = SysvObjects(place, shmid, address)
    except CallFailed:
        sysv.remove_segment(shmid)
        raise
    try:
        _initialise(objects, geometry)
    except BaseException:
        objects.remove()
        objects.detach()
        raise
    objects.created = True
    return objects


def _initialise(objects: SysvObjects, geometry: Geometry) -> None:
    with Header(objects.memory) as header:
        header.magic = HALF_MADE
        header.key_dev, header.key_ino = objects.place.dev, objects.place.ino
        for index in range(len(SEMAPHORES)):
            header.set_semaphore_id(index, NOT_CREATED)
        header.version = VERSION
        objects.create_semaphores(_first_values(0, geometry.slot_count))
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


def open_channel(place: Place, say: Callable[[str], None], address: int | None = None) -> SysvObjects | None:
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
    objects = SysvObjects(place, shmid, address)
    try:
        leftover = _prove_ours(objects)
        if not leftover:
            read_geometry(objects.memory)
            _open_or_rebuild_semaphores(objects, say)
            _say_whose(objects, say)
            return objects
        _check_nothing_unread(objects)
        objects.remove()
    except BaseException:
        objects.detach()
        raise
    objects.detach()
    say(f"cleared segment {shmid}, {leftover}")
    return None


def _prove_ours(objects: SysvObjects) -> str:
    """Why this segment is a leftover to be cleared; "" for a channel in use.

    Raises NotOurs without proof, ChannelError when the key belongs to another path.
    """
    verdict = judge(_facts(objects))
    if verdict.kind is Kind.OF_ANOTHER_PATH:
        raise ChannelError(
            f"key {sysv.key_text(objects.place.segment_key)} already belongs to another path"
            f" ({objects}); choose another --channel"
        )
    if verdict.kind is Kind.FOREIGN:
        raise NotOurs(
            f"{objects} of uid {objects.stat().uid} has our key and is not a channel of ours: {verdict.why}."
            f" It was left untouched; choose another --channel, or if nobody needs it: ipcrm -m {objects.shmid}"
        )
    return verdict.why


def _facts(objects: SysvObjects) -> Facts:
    memory, path = objects.memory, (objects.place.dev, objects.place.ino)
    if len(memory) < PAGE:
        return Facts(len(memory), bytes(8), (0, 0), path, 0, abandoned=False, empty=False)
    with Header(memory) as header:
        magic, noted, state = header.magic, (header.key_dev, header.key_ino), header.state
    abandoned = objects.abandoned()
    empty = abandoned and all(memory[at : at + PAGE] == _ZEROS for at in range(0, len(memory), PAGE))
    return Facts(len(memory), magic, noted, path, state, abandoned, empty)


_ZEROS = bytes(PAGE)


def _say_whose(objects: SysvObjects, say: Callable[[str], None]) -> None:
    """Whoever takes part should know who else can always read along."""
    whose = _whose(objects.stat())
    if whose:
        say(f"segment {objects.shmid} is not ours alone: {whose}")


def _check_nothing_unread(objects: SysvObjects) -> None:
    """A channel is only finished when all is read; raises BadSegment when the header says otherwise."""
    with Header(objects.memory) as header:
        unread = header.head - header.tail if header.state == FINISHED else 0
    if unread:
        raise BadSegment(f"it is marked as finished, and {unread} fragments are unread")


def find_channel(place: Place, *, observe: bool) -> SysvObjects:
    """Attach the channel to look at it (`observe`: read-only) or to change or remove it; no semaphore is opened.

    Raises CallFailed (ENOENT: no channel; EACCES), NotOurs, ChannelError when the key belongs to another path.
    """
    shmid = sysv.open_segment(place.segment_key)
    # Before shmat, which an onlooker must not see in it; and IPC_STAT says EACCES before shmat does.
    before = sysv.stat_segment(shmid)
    objects = SysvObjects(place, shmid, observe=observe)
    objects.before = before
    try:
        _prove_ours(objects)
    except BaseException:
        objects.detach()
        raise
    return objects


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


def _open_or_rebuild_semaphores(objects: SysvObjects, say: Callable[[str], None]) -> None:
    """Open them; when one was removed (ipcrm) and nobody else is attached, make them anew: no record is lost."""
    try:
        objects.open_semaphores()
    except CallFailed as error:
        if error.errno != errno.ENOENT or not objects.alone() or objects.stat().cuid != os.geteuid():
            raise
        objects.check_removable()  # two users may read alike, see there
        with Header(objects.memory) as header:
            lag, slots = header.head - header.tail, header.slot_count
        if not 0 <= lag <= slots:
            raise BadSegment(f"head and tail contradict each other: {lag} fragments in {slots} slots") from None
        objects.remove_semaphores()
        objects.create_semaphores(_first_values(lag, slots))
        say("one of its semaphores had been removed: made all five anew, nothing is lost")
