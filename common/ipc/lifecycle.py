"""The life of a channel's objects, of whatever family: how they come about, what proves them ours, and how they go.

Everything here happens in the doorway, except using the objects. The order of the stores is the proof:

    creation   segment; magic "SHMPAIR?"; key path; each semaphore, noted at once; the rest; magic "SHMPAIR1"
    removal    state FINISHED or REMOVED; the semaphores as they are noted; the segment

so whatever a creator or remover left when it died can be told from an object of somebody else, and cleared: who finds
"SHMPAIR?" knows that no magic followed, and that the semaphores that are noted, and perhaps one more, are all there is.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import partial

from common.channel.listener import News
from common.errors import BadSegment, CallFailed, ChannelError, NotOurs
from common.geometry import Geometry, read_geometry
from common.ipc.calls import key_text
from common.ipc.family import ChannelObjects, Family
from common.ipc.place import Place
from common.ipc.proof import Facts, Kind, judge
from common.layout import FINISHED, HALF_MADE, MAGIC, NOT_CREATED, OPEN, PAGE, SEMAPHORES, VERSION, Header
from common.typed import NamedTuple
from common.words import plural

DEFAULT_MODE = 0o660
DEFAULT_GEOMETRY = Geometry(slot_count=8, slot_size=512 * 1024)


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


def join_channel(family: Family, place: Place, wanted: Wanted, address: int | None = None) -> ChannelObjects:
    """Open the channel, or create it where there is none. In the doorway.

    Raises what open_channel and create_channel raise; CallFailed with EEXIST when it is wanted for ourselves,
    ChannelError when it is divided otherwise than wanted.
    """
    mode = DEFAULT_MODE if wanted.mode is None else wanted.mode
    create = partial(create_channel, family, place, wanted.geometry(DEFAULT_GEOMETRY), mode, address)
    if wanted.exclusive:
        return _create_alone(create, partial(open_channel, family, place, address))
    objects = open_channel(family, place, address)
    if objects is None:
        return create()
    try:
        there = read_geometry(objects.memory)
        asked = wanted.geometry(there)
        if wanted.mode is not None:
            _check_mode(objects, wanted.mode)
        if asked != there:
            raise ChannelError(
                f"EINVAL: the channel has {there.slot_count} slots of {there.slot_size} bytes, and asked for were"
                f" {asked.slot_count} of {asked.slot_size}; leave --slots and --slot-size out, or remove it first with"
                " `writer.py --remove`"
            )
    except BaseException:
        objects.detach()
        raise
    return objects


def _create_alone(create: Callable[[], ChannelObjects], open_: Callable[[], ChannelObjects | None]) -> ChannelObjects:
    """What create() makes; the kernel's own EEXIST when open_(), which clears what a dead process left, finds one."""
    try:
        return create()
    except CallFailed as error:
        if error.errno != errno.EEXIST:
            raise
        there = open_()
        if there:
            there.detach()
            raise
    return create()


def _check_mode(objects: ChannelObjects, mode: int) -> None:
    whose = objects.whose()
    if whose:
        raise ChannelError(
            f"EACCES: {objects} is not ours alone, {whose}: no --mode keeps its owner or its creator out;"
            " leave --mode out if you trust them, or choose another --channel"
        )
    there = objects.seen.mode & 0o777
    if there != mode:
        raise ChannelError(
            f"EINVAL: the channel has mode {there:04o} and belongs to uid {objects.seen.uid}; leave --mode out,"
            " or change it first with `writer.py --chmod MODE`"
        )


def create_channel(
    family: Family, place: Place, geometry: Geometry, mode: int, address: int | None = None
) -> ChannelObjects:
    """Create the channel's segment and semaphores. In the doorway; what fails half-way is taken back.

    Raises CallFailed (EEXIST, EINVAL, ENOMEM, ENOSPC), NotOurs for a semaphore of somebody else.
    """
    objects = family.create(place, geometry.segment_size, mode, address)
    try:
        _initialise(objects, geometry)
    except BaseException:
        objects.remove()
        objects.detach()
        raise
    return objects


def _initialise(objects: ChannelObjects, geometry: Geometry) -> None:
    with Header(objects.memory) as header:
        header.magic = HALF_MADE
        header.key_dev, header.key_ino = objects.place.dev, objects.place.ino
        for index in range(len(SEMAPHORES)):
            header.set_semaphore_id(index, NOT_CREATED)
        header.version = VERSION
        objects.create_semaphores(*_tokens(0, geometry.slot_count))
        header.slot_count, header.slot_size = geometry
        header.segment_size = geometry.segment_size
        header.created_ns = time.time_ns()
        header.creator_pid = os.getpid()
        header.state = OPEN
        header.magic = MAGIC


# The largest value of a System V semaphore on Linux (semget(2)). Tokens only wake, so fewer than slots is enough.
_SEMVMX = 32767


def _tokens(full: int, slots: int) -> tuple[int, int]:
    """What full_slots and empty_slots of a channel with `full` of its `slots` hold while nobody uses it."""
    return min(full, _SEMVMX), min(slots - full, _SEMVMX)


def open_channel(family: Family, place: Place, address: int | None = None) -> ChannelObjects | None:
    """Open the channel to take part in it; None when there is none. In the doorway.

    What a dead creator or remover left half-way is cleared, which the listener hears. Raises NotOurs, CallFailed,
    BadSegment.
    """
    try:
        objects = family.open(place, address)
    except CallFailed as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    tell = family.calls.listener.news
    try:
        leftover = prove_ours(objects)
        if not leftover:
            read_geometry(objects.memory)
            if _open_or_rebuild_semaphores(objects):
                tell(News("one of its semaphores had been removed: made all five anew, nothing is lost"))
            if objects.whose():  # whoever takes part should know who else can always read along
                tell(News(f"{objects} is not ours alone: {objects.whose()}"))
            return objects
        _check_nothing_unread(objects)
        objects.remove()
    except BaseException:
        objects.detach()
        raise
    objects.detach()
    tell(News(f"cleared {objects}, {leftover}"))
    return None


def prove_ours(objects: ChannelObjects) -> str:
    """Why this segment is a leftover to be cleared; "" for a channel in use.

    Raises NotOurs without proof, ChannelError when the key belongs to another path.
    """
    verdict = judge(facts_of(objects))
    if verdict.kind is Kind.OF_ANOTHER_PATH:
        raise ChannelError(
            f"key {key_text(objects.place.segment_key)} already belongs to another path ({objects}); choose another"
            f" --channel, or if nobody needs it: {objects.how_to_remove()}"
        )
    if verdict.kind is Kind.FOREIGN:
        raise NotOurs(
            f"{objects} of uid {objects.seen.uid} has our key and is not a channel of ours: {verdict.why}."
            f" It was left untouched; choose another --channel, or if nobody needs it: {objects.how_to_remove()}"
        )
    return verdict.why


def facts_of(objects: ChannelObjects) -> Facts:
    """What proof.judge() needs of an attached segment, whatever it is."""
    memory, path = objects.memory, (objects.place.dev, objects.place.ino)
    abandoned = objects.abandoned()
    if len(memory) < Header.PROOF:
        return Facts(len(memory), bytes(8), (0, 0), path, 0, abandoned, empty=not memory)
    with memory[: PAGE if len(memory) >= PAGE else Header.PROOF] as page, Header(page) as header:
        magic, noted = header.magic, (header.key_dev, header.key_ino)
        state = header.state if len(page) == PAGE else 0
    return Facts(len(memory), magic, noted, path, state, abandoned, empty=abandoned and objects.blank())


def _check_nothing_unread(objects: ChannelObjects) -> None:
    """A channel is only finished when all is read; raises BadSegment when the header says otherwise, or is cut off."""
    if not objects.memory:  # its creator died before it had a size
        return
    _check_header(objects)
    with Header(objects.memory) as header:
        unread = header.head - header.tail if header.state == FINISHED else 0
    if unread:
        raise BadSegment(f"it is marked as finished, with {plural(unread, 'fragment')} unread")


def _check_header(objects: ChannelObjects) -> None:
    size = len(objects.memory)
    if size < PAGE:
        raise BadSegment(f"it was cut off at {size} bytes, or its creator died before it had more")


def find_channel(family: Family, place: Place, *, observe: bool) -> ChannelObjects:
    """Attach the channel to look at it or change it (`observe`: read-only), or to remove it; no semaphore is opened.

    Raises CallFailed (ENOENT: no channel; EACCES), NotOurs, ChannelError when the key belongs to another path, and
    BadSegment when there is no header to look at.
    """
    objects = family.find(place, observe=observe)
    try:
        prove_ours(objects)
        if observe:
            _check_header(objects)
    except BaseException:
        objects.detach()
        raise
    return objects


def _open_or_rebuild_semaphores(objects: ChannelObjects) -> bool:
    """Open them; when one was removed and nobody else is attached, make them anew, True then: no record is lost."""
    try:
        objects.open_semaphores()
        return False
    except CallFailed as error:
        if error.errno != errno.ENOENT or not objects.alone() or not objects.made_by_us():
            raise
        objects.check_removable()  # two users may read alike, see there
        with Header(objects.memory) as header:
            lag, slots = header.head - header.tail, header.slot_count
        if not 0 <= lag <= slots:
            raise BadSegment(f"head and tail contradict each other: {lag} fragments in {slots} slots") from None
        objects.remove_semaphores()
        objects.create_semaphores(*_tokens(lag, slots))
        return True
