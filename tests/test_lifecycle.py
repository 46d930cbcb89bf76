"""How a channel's objects come about, what proves that they are ours, and how they go (DESIGN.md section 5).

Whatever a dead creator or remover left is cleared, and said. Whatever is not provably ours is refused by its id,
with the command that would remove it, and not a byte of it is touched.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

from common.channel.listener import Call, Listener, News
from common.errors import BadSegment, CallFailed, ChannelError, NotOurs
from common.ipc.lifecycle import (
    DEFAULT_GEOMETRY,
    Wanted,
    create_channel,
    find_channel,
    join_channel,
    open_channel,
)
from common.ipc.place import CHANNELS, Place
from common.ipc.removal import Removal
from common.ipc.sysv import SysvFamily, SysvObjects
from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL
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
    Geometry,
    Header,
    read_geometry,
)
from tests.helpers import PATIENCE, is_root, wait_until
from tests.in_process import (
    FAMILY,
    MODE,
    NOBODY,
    SMALL,
    Heard,
    as_nobody,
    by_library,
    in_thread,
    objects,
    observing,
    place_of,
    python,
    remove_objects,
    run_python,
    sysv,
)

ALL = ["segment", *SEMAPHORES]


class _Unhearing(Listener):
    """To it nothing may be told of others."""

    def news(self, news: News) -> None:
        pytest.fail(news.text)


NOTHING_IS_SAID = SysvFamily(_Unhearing())
JOIN = Wanted(slots=None, slot_size=None, mode=None, exclusive=False)

needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user: run the tests as root")


@pytest.fixture
def place(key_path: Path) -> Iterator[Place]:
    yield place_of(key_path)
    remove_objects(place_of(key_path))


@pytest.fixture
def family(place: Place) -> Iterator[SysvObjects]:
    """A new channel, attached."""
    family = create(place, SMALL, MODE)
    yield family
    family.detach()


def create(place: Place, geometry: Geometry, mode: int, address: int | None = None) -> SysvObjects:
    """A new channel, attached."""
    made = create_channel(FAMILY, place, geometry, mode, address)
    assert isinstance(made, SysvObjects)
    return made


def join(place: Place, wanted: Wanted, source: SysvFamily = FAMILY) -> SysvObjects:
    joined = join_channel(source, place, wanted)
    assert isinstance(joined, SysvObjects)
    return joined


def open_it(place: Place, source: SysvFamily = FAMILY, address: int | None = None) -> SysvObjects | None:
    opened = open_channel(source, place, address)
    assert opened is None or isinstance(opened, SysvObjects)
    return opened


def find(place: Place, *, observe: bool) -> SysvObjects:
    found = find_channel(FAMILY, place, observe=observe)
    assert isinstance(found, SysvObjects)
    return found


def attached(place: Place) -> int:
    """How many have the segment attached."""
    return sysv.stat_segment(sysv.open_segment(place.segment_key)).attached


def header_of(family: SysvObjects) -> dict[str, Any]:
    """The fields that a creation sets."""
    header = Header(family.memory)
    try:
        ids = [header.semaphore_id(index) for index in range(len(SEMAPHORES))]
        return {
            "magic": header.magic,
            "version": header.version,
            "key": (header.key_dev, header.key_ino),
            "semaphores": ids,
            "geometry": (header.slot_count, header.slot_size, header.segment_size),
            "creator_pid": header.creator_pid,
            "state": header.state,
            "ring": (header.head, header.tail, header.writers_joined, header.writer_pid, header.reader_pid),
        }
    finally:
        header.release()


def change_header(family: SysvObjects, **fields: Any) -> None:
    header = Header(family.memory)
    for name, value in fields.items():
        setattr(header, name, value)
    header.release()


def values(family: SysvObjects) -> list[int]:
    return [sysv.semaphore_value(semaphore) for semaphore in family.semaphores.opened]


# The keys


@pytest.mark.parametrize("channel", [0, 1, 31])
def test_the_keys_of_a_channel_are_six_in_a_row(key_path: Path, channel: int) -> None:
    place = place_of(key_path, channel)
    keys = [sysv_ipc.ftok(str(key_path), 8 * channel + n, silence_warning=True) for n in range(1, 7)]
    assert [place.segment_key, *place.semaphore_keys] == keys


def test_no_two_channels_share_a_key(key_path: Path) -> None:
    places = [place_of(key_path, channel) for channel in CHANNELS]
    assert len(places) == 32
    assert len({key for place in places for key in (place.segment_key, *place.semaphore_keys)}) == 32 * 6


def test_a_place_without_its_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CallFailed) as error:
        Place.of(sysv, str(tmp_path / "nowhere"), 0, (1, 2))
    assert error.value.name == "ftok"


# Creation


def test_a_new_channel_is_complete(place: Place, family: SysvObjects) -> None:
    assert header_of(family) == {
        "magic": MAGIC,
        "version": VERSION,
        "key": (place.dev, place.ino),
        "semaphores": [semaphore.id for semaphore in family.semaphores.opened],
        "geometry": (2, PAGE, SMALL.segment_size),
        "creator_pid": os.getpid(),
        "state": OPEN,
        "ring": (0, 0, 0, 0, 0),
    }
    assert values(family) == [0, 2, 1, 1, 0]
    assert read_geometry(family.memory) == SMALL
    assert (family.created, objects(place)) == (True, ALL)


def test_the_order_of_a_creation_is_its_proof(place: Place) -> None:
    """Magic "SHMPAIR?" before the first semaphore, each id noted before the next, "SHMPAIR1" last."""
    seen: list[tuple[bytes, list[int]]] = []

    def look(call: Call) -> None:
        if call.name == "semget" and call.arguments[2] & IPC_CREAT:
            there = SysvObjects(sysv, place, sysv.open_segment(place.segment_key), None)
            header = header_of(there)
            seen.append((header["magic"], header["semaphores"]))
            there.detach()

    with observing(look):
        family = create(place, SMALL, MODE)
    ids = [semaphore.id for semaphore in family.semaphores.opened]
    family.detach()
    assert seen == [(HALF_MADE, ids[:made] + [NOT_CREATED] * (5 - made)) for made in range(5)]


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_nothing_is_ever_wider_than_asked(place: Place, mode: int) -> None:
    with observing() as calls:
        family = create(place, SMALL, mode)
    made = [call for call in calls if call.name in ("shmget", "semget") and call.arguments[2] & IPC_CREAT]
    assert [call.arguments[2] & 0o777 for call in made] == [mode] * 6
    assert not [call for call in calls if "IPC_SET" in call.arguments]
    assert family.stat().mode == mode
    assert {by_library(semaphore).mode for semaphore in family.semaphores.opened} == {mode}
    family.detach()


def test_more_slots_than_a_semaphore_can_count(place: Place) -> None:
    family = create(place, Geometry(40_000, PAGE), MODE)
    assert values(family) == [0, 32767, 1, 1, 0]
    family.detach()


@pytest.mark.parametrize("index", range(5))
def test_a_creation_that_fails_is_taken_back(place: Place, index: int) -> None:
    foreign = sysv_ipc.Semaphore(place.semaphore_keys[index], sysv_ipc.IPC_CREX, 0o600, 5)
    foreign.release()
    with pytest.raises(NotOurs):
        create(place, SMALL, MODE)
    assert objects(place) == [SEMAPHORES[index]]
    assert foreign.value == 6


def test_a_creation_at_a_bad_address_is_taken_back(place: Place) -> None:
    with pytest.raises(CallFailed) as error:
        create(place, SMALL, MODE, address=2**63)
    assert (error.value.name, objects(place)) == ("shmat", [])


def test_an_address_is_rounded_down(place: Place) -> None:
    there = create(place, SMALL, MODE)
    address = there.address
    there.detach()
    again = open_it(place, address=address + 77)
    assert again is not None
    assert again.address == address
    again.detach()


# Joining


def test_a_join_creates_with_the_defaults(place: Place) -> None:
    family = join(place, JOIN)
    assert read_geometry(family.memory) == DEFAULT_GEOMETRY == (8, 256 * 1024)
    assert (family.created, family.stat().mode) == (True, MODE)
    family.detach()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("slot_size", [None, PAGE])
def test_a_join_takes_what_there_is(
    place: Place, family: SysvObjects, slots: int | None, slot_size: int | None
) -> None:
    joined = join(place, JOIN._replace(slots=slots, slot_size=slot_size))
    assert (joined.shmid, joined.created) == (family.shmid, False)
    sysv.release_semaphore(joined.semaphores.opened[0])
    assert values(family) == [1, 2, 1, 1, 0]
    joined.detach()


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (JOIN._replace(slots=1), "EINVAL: the channel has 2 slots of 4096 bytes, and asked for were 1 of 4096;"),
        (JOIN._replace(slots=3), "EINVAL: the channel has 2 slots of 4096 bytes, and asked for were 3 of 4096;"),
        (JOIN._replace(slot_size=2 * PAGE), "EINVAL: the channel has 2 .* 4096 bytes, and asked for were 2 of 8192;"),
        (JOIN._replace(slots=2, slot_size=PAGE, exclusive=True), "File exists"),
        (JOIN._replace(mode=0o600), "EINVAL: the channel has mode 0660"),
    ],
)
def test_a_join_that_wants_something_else_is_refused(
    place: Place, family: SysvObjects, wanted: Wanted, text: str
) -> None:
    with pytest.raises((ChannelError, CallFailed), match=text):
        join(place, wanted)
    assert (attached(place), objects(place)) == (1, ALL)


def test_exclusive_creates_where_there_is_nothing(place: Place) -> None:
    family = join(place, JOIN._replace(exclusive=True))
    assert family.created
    family.detach()


def test_exclusive_where_there_is_a_channel_asks_the_kernel_for_no_other(place: Place, family: SysvObjects) -> None:
    """It is refused as shmget(2) would do it, and ipcrm that comes between leaves nothing of a second one to clear."""

    def ipcrm(call: Call) -> None:
        if call.name == "semget" and call.arguments[0] == place.semaphore_keys[-1]:
            sysv.remove_segment(family.shmid)

    with observing(ipcrm) as calls, pytest.raises(CallFailed) as refusal:
        join(place, JOIN._replace(exclusive=True, mode=MODE))
    asked = (place.segment_key, SMALL.segment_size, IPC_CREAT | IPC_EXCL | MODE)
    assert (refusal.value.name, refusal.value.arguments, refusal.value.errno) == ("shmget", asked, errno.EEXIST)
    assert [call.name for call in calls if call.name != "shmctl"] == ["shmget", "shmat", *["semget"] * 5, "shmdt"]
    assert not [call for call in calls if call.name in ("shmget", "semget") and call.arguments[2] & IPC_CREAT]
    assert objects(place) == list(SEMAPHORES)
    assert family.alone()


def test_there_is_nothing_to_open(place: Place) -> None:
    assert open_it(place) is None
    with pytest.raises(CallFailed) as error:
        find(place, observe=True)
    assert (error.value.name, error.value.strerror) == ("shmget", "No such file or directory")


def test_a_damaged_channel_is_not_joined(place: Place, family: SysvObjects) -> None:
    change_header(family, version=9)
    with pytest.raises(BadSegment, match="version 9"):
        open_it(place)
    assert (attached(place), objects(place)) == (1, ALL)


@needs_root
def test_another_user_is_kept_out(place: Place, family: SysvObjects) -> None:
    family.set_mode(0o600)
    with as_nobody():
        with pytest.raises(CallFailed, match="Permission denied"):
            open_it(place)
        with pytest.raises(CallFailed, match="Permission denied"):
            find(place, observe=True)
    assert attached(place) == 1


OTHERS = [
    (NOBODY, os.geteuid(), f"it is uid {NOBODY}'s"),
    (os.geteuid(), NOBODY, f"uid {NOBODY} made it"),
    (NOBODY, NOBODY, f"it is uid {NOBODY}'s and uid {NOBODY} made it"),
]


def of_others(place: Place, owner: int, creator: int, mode: int = MODE) -> int:
    """A channel, detached, that `creator` made and `owner` has; its id."""
    with as_nobody() if creator == NOBODY else nullcontext():
        family = create(place, SMALL, mode)
    family.set_owner(owner, None)
    family.detach()
    return family.shmid


@needs_root
@pytest.mark.parametrize(("owner", "creator", "whose"), OTHERS)
def test_a_mode_is_not_promised_where_another_user_has_the_channel(
    place: Place, owner: int, creator: int, whose: str
) -> None:
    shmid = of_others(place, owner, creator, 0o600)
    with pytest.raises(ChannelError) as refusal:
        join(place, JOIN._replace(mode=0o600))
    assert str(refusal.value) == (
        f"EACCES: segment {shmid} is not ours alone, {whose}: no --mode keeps its owner or its creator out; leave"
        " --mode out if you trust them, or choose another --channel"
    )
    assert (attached(place), objects(place)) == (0, ALL)


@needs_root
@pytest.mark.parametrize(("owner", "creator", "whose"), OTHERS)
def test_whoever_takes_part_hears_whose_channel_it_is(place: Place, owner: int, creator: int, whose: str) -> None:
    shmid = of_others(place, owner, creator)
    heard = Heard()
    source = SysvFamily(heard)
    ways: list[Callable[[], SysvObjects | None]] = [lambda: open_it(place, source), lambda: join(place, JOIN, source)]
    for take_part in ways:
        family = take_part()
        assert family is not None
        family.detach()
    assert heard.told == [News(f"segment {shmid} is not ours alone: {whose}")] * 2


def test_of_a_channel_of_our_own_nothing_is_said(place: Place, family: SysvObjects) -> None:
    joined = join(place, JOIN._replace(mode=MODE), NOTHING_IS_SAID)
    joined.detach()


# Observing and changing


def test_an_observer_cannot_write(place: Place, family: SysvObjects) -> None:
    observer = find(place, observe=True)
    assert observer.memory.readonly
    with pytest.raises(TypeError):
        observer.memory[0] = 0
    observer.detach()


def test_stat_removed_and_alone(place: Place, family: SysvObjects) -> None:
    assert (family.stat().size, family.removed(), family.alone()) == (SMALL.segment_size, False, True)
    other = find(place, observe=True)
    assert not family.alone()
    other.detach()
    sysv.remove_segment(family.shmid)
    assert (family.removed(), family.alone()) == (True, True)


@needs_root
def test_ipc_set_reaches_all_six(family: SysvObjects) -> None:
    family.set_mode(0o604)
    family.set_owner(NOBODY, None)
    family.set_owner(None, 1)
    stat = family.stat()
    assert (stat.mode, stat.uid, stat.gid) == (0o604, NOBODY, 1)
    assert {(s.mode, s.uid, s.gid) for s in map(by_library, family.semaphores.opened)} == {(0o604, NOBODY, 1)}


@needs_root
def test_check_removable_says_eperm_before_anything_is_changed(place: Place, family: SysvObjects) -> None:
    family.set_mode(0o666)
    family.check_removable()
    with as_nobody(), pytest.raises(CallFailed) as error:
        family.check_removable()
    assert (error.value.name, error.value.strerror) == ("shmctl", "Operation not permitted")
    assert objects(place) == ALL


@needs_root
@pytest.mark.parametrize("name", SEMAPHORES)
def test_check_removable_asks_for_each_semaphore(place: Place, name: str) -> None:
    """The segment has been given away, and so have all but one of its semaphores."""
    family = create(place, SMALL, 0o666)
    family.set_owner(NOBODY, None)
    with as_nobody():
        family.check_removable()
    sysv.set_semaphore(family.semaphores.opened[SEMAPHORES.index(name)], uid=0)
    with as_nobody(), pytest.raises(CallFailed) as error:
        family.check_removable()
    assert (error.value.name, error.value.strerror) == ("semctl", "Operation not permitted")
    sysv.remove_semaphore(family.semaphores.opened[SEMAPHORES.index(name)])
    with as_nobody():
        family.check_removable()
    family.detach()


def test_the_first_missing_semaphore_is_named(family: SysvObjects) -> None:
    assert family.missing() is None
    for name in reversed(SEMAPHORES):
        sysv.remove_semaphore(family.semaphores.opened[SEMAPHORES.index(name)])
        assert family.missing() == name


@needs_root
def test_a_semaphore_that_cannot_be_read_is_not_missing(family: SysvObjects) -> None:
    with as_nobody():
        assert family.missing() is None


@pytest.mark.parametrize("whose", ["ours", pytest.param("another user's", marks=needs_root)])
def test_check_removable_removes_nothing(place: Place, whose: str) -> None:
    """Also where it has to ask the kernel, because the channel is another user's and we are root."""
    with as_nobody() if whose != "ours" else nullcontext():
        family = create(place, SMALL, 0o666)
    before = bytes(family.memory), family.stat()._replace(change_time=0)
    family.check_removable()
    assert (bytes(family.memory), family.stat()._replace(change_time=0)) == before
    assert objects(place) == ALL
    family.detach()


# Removal


def test_remove_takes_all_six_and_can_be_repeated(place: Place, family: SysvObjects) -> None:
    for _ in range(2):
        family.remove()
        assert objects(place) == []
        assert (str(family.removal), family.removal) == ("removed 5 semaphores", Removal(removed=SEMAPHORES))
    assert family.removed()


@pytest.mark.parametrize("gone", ALL)
def test_remove_passes_over_what_is_gone(place: Place, family: SysvObjects, gone: str) -> None:
    if gone == "segment":
        sysv.remove_segment(family.shmid)
    else:
        sysv.remove_semaphore(family.semaphores.opened[SEMAPHORES.index(gone)])
    assert objects(place) == [name for name in ALL if name != gone]
    family.remove()
    assert objects(place) == []
    there = "removed 5 semaphores" if gone == "segment" else f"removed 4 semaphores ({gone} was gone)"
    assert str(family.removal) == there


@pytest.mark.parametrize("index", range(5))
def test_remove_leaves_a_semaphore_that_is_not_the_one_we_noted(place: Place, family: SysvObjects, index: int) -> None:
    sysv.remove_semaphore(family.semaphores.opened[index])
    other = sysv.create_semaphore(place.semaphore_keys[index], 0o600, 0)
    family.remove()
    name = SEMAPHORES[index]
    assert objects(place) == [name]
    assert str(family.removal) == (
        f"removed 4 semaphores (left semaphore {other.id} ({name}): the channel does not note it)"
    )
    assert family.removal.ours_left == family.removal.left


@needs_root
def test_what_another_user_left_in_our_way_is_named_and_is_not_ours(place: Place, family: SysvObjects) -> None:
    for semaphore in (family.semaphores.opened[0], family.semaphores.opened[2]):
        sysv.remove_semaphore(semaphore)
    theirs = of_nobody(place.semaphore_keys[2])
    family.remove()
    assert str(family.removal) == (
        f"removed 3 semaphores (full_slots was gone; left semaphore {theirs.id} (writer_turn):"
        f" it is uid {NOBODY}'s and uid {NOBODY} made it)"
    )
    assert family.removal.ours_left == ()


@needs_root
def test_a_forged_note_is_not_followed_and_said(place: Place) -> None:
    """Another user forges a channel that claims a semaphore of ours."""
    with as_nobody():
        family = create(place, SMALL, 0o666)
    sysv.remove_semaphore(family.semaphores.opened[0])
    ours = sysv.create_semaphore(place.semaphore_keys[0], 0o600, 0)
    header = Header(family.memory)
    header.set_semaphore_id(0, ours.id)
    header.release()
    family.remove()
    family.detach()
    assert objects(place) == ["full_slots"]
    assert str(family.removal) == (
        f"removed 4 semaphores (left semaphore {ours.id} (full_slots): uid {NOBODY} made the channel, and not this)"
    )
    assert [left.name for left in family.removal.ours_left] == ["full_slots"]


def test_semaphores_made_anew_are_counted_once(place: Place) -> None:
    family = create(place, SMALL, MODE)
    sysv.remove_semaphore(family.semaphores.opened[3])
    family.detach()
    again = open_it(place)
    assert again is not None
    again.remove()
    again.detach()
    assert str(again.removal) == "removed 5 semaphores"


# Orphans: semaphores whose segment was removed by ipcrm


@pytest.fixture
def orphans(place: Place) -> list[int]:
    """The ids of the semaphores of a channel without its segment."""
    family = create(place, SMALL, MODE)
    sysv.release_semaphore(family.semaphores.opened[0])
    sysv.remove_segment(family.shmid)
    family.detach()
    return [semaphore.id for semaphore in family.semaphores.opened]


def test_the_users_word_clears_orphans(place: Place, orphans: list[int]) -> None:
    assert FAMILY.remove_orphans(place) == Removal(removed=SEMAPHORES)
    assert objects(place) == []


def test_without_orphans_nothing_is_removed(place: Place) -> None:
    assert FAMILY.remove_orphans(place) == Removal()


def set_of_two(key: int) -> int:
    return int(ctypes.CDLL(None).semget(ctypes.c_int(key), 2, IPC_CREAT | IPC_EXCL | 0o600))


def given_away(key: int) -> int:
    semaphore = sysv.create_semaphore(key, 0o600, 0)
    sysv.set_semaphore(semaphore, uid=NOBODY)
    return int(semaphore.id)


def given_to_us(key: int) -> int:
    semaphore = of_nobody(key)
    sysv.set_semaphore(semaphore, uid=os.geteuid())
    return int(semaphore.id)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (set_of_two, "its set has 2 members"),
        pytest.param(given_away, f"it is uid {NOBODY}'s", marks=needs_root),
        pytest.param(given_to_us, f"uid {NOBODY} made it", marks=needs_root),
    ],
)
def test_one_foreign_semaphore_keeps_all_orphans(
    place: Place, orphans: list[int], make: Callable[[int], int], why: str
) -> None:
    sysv.remove_semaphore(sysv.open_semaphore(place.semaphore_keys[3]))
    orphans[3] = make(place.semaphore_keys[3])
    advice = f"ipcrm -s {' -s '.join(map(str, orphans))}"
    with pytest.raises(NotOurs) as refusal:
        FAMILY.remove_orphans(place)
    assert str(refusal.value) == (
        "no segment has our key, and nothing proves what has our semaphore keys to be ours: semaphore"
        f" {orphans[3]} ({why}). Nothing was touched; choose another --channel, or if nobody needs any of them:"
        f" {advice}"
    )
    with pytest.raises(NotOurs, match=f"if nobody needs them: {advice}$"):
        create(place, SMALL, MODE)
    assert objects(place) == list(SEMAPHORES)


@needs_root
def test_orphans_that_we_may_not_look_at_are_another_users(place: Place, orphans: list[int]) -> None:
    """He is told whose they are as far as he may know."""
    with as_nobody(), pytest.raises(NotOurs, match=r"semaphore \d+ \(it is another user's\), semaphore"):
        FAMILY.remove_orphans(place)
    assert objects(place) == list(SEMAPHORES)


def wait_for_token(semaphore: Any) -> None:
    semaphore.acquire()


def wait_for_zero(semaphore: Any) -> None:
    semaphore.Z()


@contextmanager
def sleeper(key: int, sleep: Callable[[Any], None]) -> Iterator[None]:
    """Somebody who sleeps on the semaphore with this key for the time of the block."""
    watched, used = sysv_ipc.Semaphore(key), sysv_ipc.Semaphore(key)
    watched.value = 0 if sleep is wait_for_token else 1
    with in_thread(lambda: sleep(used)):
        try:
            wait_until(lambda: watched.waiting_for_nonzero or watched.waiting_for_zero, "a sleeper")
            yield
        finally:
            watched.value = 1 if sleep is wait_for_token else 0


@pytest.mark.parametrize("sleep", [wait_for_token, wait_for_zero])
def test_orphans_that_somebody_sleeps_on_are_in_use(
    place: Place, orphans: list[int], sleep: Callable[[Any], None]
) -> None:
    with sleeper(place.semaphore_keys[4], sleep):
        with pytest.raises(NotOurs, match=rf"semaphore {orphans[4]} \(a process sleeps on it\)"):
            FAMILY.remove_orphans(place)
        with pytest.raises(NotOurs, match=f"ipcrm -s {' -s '.join(map(str, orphans))}$"):
            create(place, SMALL, MODE)
        assert objects(place) == list(SEMAPHORES)


@pytest.mark.parametrize("sleep", [wait_for_token, wait_for_zero])
def test_a_semaphore_that_somebody_sleeps_on_is_not_adopted(place: Place, sleep: Callable[[Any], None]) -> None:
    """Never operated on, for its first operation waits: its time is still 0."""
    made = sysv_ipc.Semaphore(place.semaphore_keys[1], sysv_ipc.IPC_CREX, 0o600)
    with sleeper(place.semaphore_keys[1], sleep):
        value = made.value
        assert made.o_time == 0
        with pytest.raises(NotOurs, match=f"^semaphore {made.id} has our key"):
            create(place, SMALL, MODE)
        assert (made.value, objects(place)) == (value, ["empty_slots"])


# Leftovers: cleared, and said

COUNT_DOWN = """
import os, sys
from tests.in_process import FAMILY, LISTENER, sysv
from common.layout import Geometry
from common.layout import Header
from common.ipc.place import Place
from common.ipc.lifecycle import create_channel
path, calls_left = sys.argv[1], int(sys.argv[2])
status = os.stat(path)
place = Place.of(sysv, path, 0, (status.st_dev, status.st_ino))

def count_down(call):
    global calls_left
    calls_left -= 1
    if not calls_left:
        os.kill(os.getpid(), 9)
"""
CREATE_AND_DIE = (
    COUNT_DOWN
    + """
LISTENER.call = count_down
create_channel(FAMILY, place, Geometry(2, 4096), 0o660)
print("alive")
"""
)
REMOVE_AND_DIE = (
    COUNT_DOWN
    + """
family = create_channel(FAMILY, place, Geometry(2, 4096), 0o660)
Header(family.memory).state = int(sys.argv[3])
LISTENER.call = count_down
family.remove()
print("alive")
"""
)
NEW_SEGMENT = """
import os, sys
from tests.in_process import sysv
if len(sys.argv) > 3:
    os.setuid(int(sys.argv[3]))
print(sysv.create_segment(int(sys.argv[1]), int(sys.argv[2]), 0o600))
"""


def segment_of_a_dead(place: Place, size: int = SMALL.segment_size) -> int:
    """A segment of zeros whose creator is no more."""
    return int(run_python(NEW_SEGMENT, place.segment_key, size))


def write_header(place: Place, shmid: int, **fields: Any) -> None:
    family = SysvObjects(sysv, place, shmid, None)
    change_header(family, **fields)
    family.detach()


def check_it_works(place: Place) -> None:
    """A fresh start works, and leaves nothing behind."""
    family = join(place, Wanted(2, PAGE, MODE, exclusive=False))
    assert values(family) == [0, 2, 1, 1, 0]
    family.remove()
    family.detach()
    assert objects(place) == []


def deaths(code: str, place: Place, *arguments: object) -> Iterator[int]:
    """Run `code` with a death behind its first IPC call, then behind its second, ... until it ends by itself."""
    for calls in itertools.count(1):
        if run_python(code, place.path, calls, *arguments):
            return
        yield calls


def test_a_creator_killed_after_any_call_leaves_nothing_in_the_way(place: Place) -> None:
    cleared = []
    for _ in deaths(CREATE_AND_DIE, place):
        shmid = sysv.open_segment(place.segment_key)
        heard = Heard()
        assert open_it(place, SysvFamily(heard)) is None
        cleared += [text.removeprefix(f"cleared segment {shmid}, which its creator left ") for text, _ in heard.told]
        assert objects(place) == []
        check_it_works(place)
    # shmget, shmat and a look at its size; then a semget and a semctl at least for each semaphore.
    assert (cleared[:3], set(cleared[3:])) == (["empty"] * 3, {"half-made"})
    assert len(cleared) >= 3 + 5 * 2


@pytest.mark.parametrize(
    ("state", "what"), [(FINISHED, "which its last reader left half-removed"), (REMOVED, "left half-removed")]
)
def test_a_remover_killed_after_any_call_leaves_nothing_in_the_way(place: Place, state: int, what: str) -> None:
    cleared = 0
    for _ in deaths(REMOVE_AND_DIE, place, state):
        heard = Heard()
        if "segment" in objects(place):
            shmid = sysv.open_segment(place.segment_key)
            assert open_it(place, SysvFamily(heard)) is None
            assert heard.told == [News(f"cleared segment {shmid}, {what}")]
            cleared += 1
        assert objects(place) == []
        check_it_works(place)
    assert cleared >= 5 * 2


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "which its creator left empty"),
        ({"magic": HALF_MADE}, "which its creator left half-made"),
        ({"magic": HALF_MADE, "key_dev": 1}, "which its creator left half-made"),
    ],
    ids=["empty", "path not stored", "path half stored"],
)
def test_a_leftover_is_cleared_and_said(place: Place, fields: dict[str, Any], what: str) -> None:
    shmid = segment_of_a_dead(place)
    write_header(place, shmid, **fields)
    heard = Heard()
    assert open_it(place, SysvFamily(heard)) is None
    assert heard.told == [News(f"cleared segment {shmid}, {what}")]
    assert objects(place) == []


def test_a_half_made_channel_without_version_has_no_ids_yet(place: Place) -> None:
    """Before the version is stored, the words of the ids mean nothing: 0 is not the id of a semaphore to remove."""
    shmid = segment_of_a_dead(place)
    semaphore = sysv.create_semaphore(place.semaphore_keys[0], MODE, 0)
    family = SysvObjects(sysv, place, shmid, None)
    change_header(family, magic=HALF_MADE, key_dev=place.dev, key_ino=place.ino)
    header = Header(family.memory)
    header.set_semaphore_id(0, semaphore.id)
    header.release()
    family.remove_semaphores()
    family.detach()
    assert objects(place) == ["segment", "full_slots"]


def test_a_leftover_semaphore_goes_with_its_half_made_segment(place: Place) -> None:
    family = create(place, SMALL, MODE)
    change_header(family, magic=HALF_MADE)
    header = Header(family.memory)
    for index in (2, 3, 4):
        header.set_semaphore_id(index, NOT_CREATED)  # as if its creator died when the third was made, not noted
    header.release()
    for semaphore in family.semaphores.opened[3:]:
        sysv.remove_semaphore(semaphore)
    family.detach()
    assert objects(place) == ["segment", "full_slots", "empty_slots", "writer_turn"]
    assert open_it(place) is None
    assert objects(place) == []


def test_a_finished_channel_with_unread_data_is_not_cleared(place: Place, family: SysvObjects) -> None:
    change_header(family, state=FINISHED, head=2, tail=1)
    with pytest.raises(BadSegment, match=r"^it is marked as finished, and 1 fragments are unread$"):
        open_it(place, NOTHING_IS_SAID)
    assert objects(place) == ALL


def test_a_half_made_channel_of_a_live_creator_is_cleared_in_the_doorway(place: Place, family: SysvObjects) -> None:
    """Whoever is in the doorway is alone: a creation that is not complete has failed, whoever lives."""
    change_header(family, magic=HALF_MADE)
    heard = Heard()
    assert open_it(place, SysvFamily(heard)) is None
    assert heard.told == [News(f"cleared segment {family.shmid}, which its creator left half-made")]


# Foreign objects: refused, untouched


def contents(place: Place, shmid: int) -> bytes:
    """The bytes of a segment. Detached again at once: one that somebody has attached is refused for that alone."""
    family = SysvObjects(sysv, place, shmid, None, observe=True)
    try:
        return bytes(family.memory)
    finally:
        family.detach()


def refused(place: Place, shmid: int, error: type[Exception] = NotOurs) -> str:
    """Every way to the segment refuses it and leaves it as it was; what is said."""
    before, stat = contents(place, shmid), sysv.stat_segment(shmid)
    said = set()
    attempts: list[Callable[[], object]] = [
        lambda: open_it(place, NOTHING_IS_SAID),
        lambda: join(place, JOIN, NOTHING_IS_SAID),
        lambda: find(place, observe=True),
        lambda: find(place, observe=False),
    ]
    for attempt in attempts:
        with pytest.raises(error) as refusal:
            attempt()
        said.add(str(refusal.value))
    assert contents(place, shmid) == before
    after = sysv.stat_segment(shmid)
    touched = {"last_pid": 0, "attach_time": 0, "detach_time": 0}  # by the looks themselves
    assert after._replace(**touched) == stat._replace(**touched)
    (text,) = said
    return text


def assert_named(text: str, shmid: int, uid: int, why: str) -> None:
    assert text == (
        f"segment {shmid} of uid {uid} has our key and is not a channel of ours: {why}. It was left untouched;"
        f" choose another --channel, or if nobody needs it: ipcrm -m {shmid}"
    )


EMPTY = r"its first bytes are b'\x00\x00\x00\x00\x00\x00\x00\x00', not b'SHMPAIR1'"


@pytest.mark.parametrize(
    ("magic", "why"),
    [
        (b"somebody", "its first bytes are b'somebody', not b'SHMPAIR1'"),
        (b"SHMPAIR2", "its first bytes are b'SHMPAIR2', not b'SHMPAIR1'"),
        (MAGIC, "its first bytes are b'SHMPAIR1', not b'SHMPAIR1'"),
    ],
)
def test_a_segment_with_other_bytes_is_refused(place: Place, magic: bytes, why: str) -> None:
    shmid = segment_of_a_dead(place)
    write_header(place, shmid, magic=magic)
    assert_named(refused(place, shmid), shmid, os.geteuid(), why)


def test_an_empty_segment_of_a_live_creator_is_refused(place: Place) -> None:
    shmid = sysv.create_segment(place.segment_key, SMALL.segment_size, MODE)
    assert_named(refused(place, shmid), shmid, os.geteuid(), EMPTY)


@pytest.mark.parametrize("at", [8, PAGE - 1, PAGE, SMALL.segment_size - 1])
def test_a_segment_with_one_byte_in_it_is_refused(place: Place, at: int) -> None:
    shmid = segment_of_a_dead(place)
    family = SysvObjects(sysv, place, shmid, None)
    family.memory[at] = 1
    family.detach()
    assert_named(refused(place, shmid), shmid, os.geteuid(), EMPTY)


def test_an_empty_segment_that_somebody_has_attached_is_refused(place: Place) -> None:
    shmid = segment_of_a_dead(place)
    somebody = sysv.attach_segment(shmid)
    assert_named(refused(place, shmid), shmid, os.geteuid(), EMPTY)
    sysv.detach_segment(somebody)


@needs_root
def test_an_empty_segment_of_another_user_is_refused(place: Place) -> None:
    shmid = int(run_python(NEW_SEGMENT, place.segment_key, SMALL.segment_size, NOBODY))
    assert_named(refused(place, shmid), shmid, NOBODY, EMPTY)


@pytest.mark.parametrize("size", [1, 100, PAGE - 1])
def test_a_segment_smaller_than_a_header_is_refused(place: Place, size: int) -> None:
    shmid = segment_of_a_dead(place, size)
    why = f"its {size} bytes are fewer than a header"
    assert_named(refused(place, shmid), shmid, os.geteuid(), why)


@pytest.mark.parametrize("size", [PAGE, 2 * PAGE, 3 * PAGE - 1, 3 * PAGE + 1])
def test_an_empty_segment_that_no_channel_can_have_is_refused(place: Place, size: int) -> None:
    shmid = segment_of_a_dead(place, size)
    assert_named(refused(place, shmid), shmid, os.geteuid(), EMPTY)


@pytest.mark.parametrize("size", [3 * PAGE, 4 * PAGE, DEFAULT_GEOMETRY.segment_size])
def test_an_empty_segment_that_a_channel_can_have_is_cleared(place: Place, size: int) -> None:
    shmid = segment_of_a_dead(place, size)
    heard = Heard()
    assert open_it(place, SysvFamily(heard)) is None
    assert heard.told == [News(f"cleared segment {shmid}, which its creator left empty")]


@pytest.mark.parametrize("magic", [MAGIC, HALF_MADE])
@pytest.mark.parametrize("change", ["key_dev", "key_ino"])
def test_the_channel_of_another_path_with_our_key_is_refused(
    place: Place, family: SysvObjects, magic: bytes, change: str
) -> None:
    change_header(family, magic=magic, **{change: 12345})
    assert refused(place, family.shmid, ChannelError) == (
        f"key {place.segment_key & 0xFFFFFFFF:#010x} already belongs to another path (segment {family.shmid});"
        " choose another --channel"
    )
    assert objects(place) == ALL


def used(key: int) -> Any:
    semaphore = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o600, 0)
    semaphore.release()
    return semaphore


def of_nobody(key: int) -> Any:
    with as_nobody():
        return sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o666, 0)


@pytest.mark.parametrize("index", [0, 4])
@pytest.mark.parametrize(
    ("make", "advice"),
    [(used, "`writer.py --remove` clears it"), pytest.param(of_nobody, "ipcrm -s {}", marks=needs_root)],
)
def test_a_foreign_semaphore_is_refused(place: Place, make: Callable[[int], Any], advice: str, index: int) -> None:
    key = place.semaphore_keys[index]
    semaphore = make(key)
    before = (semaphore.value, semaphore.mode, semaphore.uid, semaphore.o_time)
    with pytest.raises(NotOurs) as refusal:
        join(place, JOIN)
    assert str(refusal.value) == (
        f"semaphore {semaphore.id} has our key {key & 0xFFFFFFFF:#010x} and is not provably ours. It was left"
        f" untouched; choose another --channel, or if nobody needs it: {advice.format(semaphore.id)}"
    )
    assert (semaphore.value, semaphore.mode, semaphore.uid, semaphore.o_time) == before
    assert objects(place) == [SEMAPHORES[index]]


def test_a_set_of_two_semaphores_is_refused(place: Place) -> None:
    semid = set_of_two(place.semaphore_keys[2])
    with pytest.raises(NotOurs, match=f"ipcrm -s {semid}$"):
        join(place, JOIN)
    assert objects(place) == ["writer_turn"]


@pytest.mark.parametrize("index", range(5))
def test_an_unused_semaphore_of_ours_is_adopted(place: Place, index: int) -> None:
    made = sysv_ipc.Semaphore(place.semaphore_keys[index], sysv_ipc.IPC_CREX, 0o777, 99)
    family = join(place, Wanted(2, PAGE, 0o600, exclusive=False))
    assert family.semaphores.opened[index].id == made.id
    assert (values(family)[index], made.mode) == ([0, 2, 1, 1, 0][index], 0o600)
    family.detach()


# Semaphores that somebody removed


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize(("head", "tail", "tokens"), [(0, 0, [0, 2]), (5, 4, [1, 1]), (9, 7, [2, 0])])
def test_a_removed_semaphore_is_made_anew(place: Place, index: int, head: int, tail: int, tokens: list[int]) -> None:
    family = create(place, SMALL, 0o640)
    change_header(family, head=head, tail=tail)
    sysv.remove_semaphore(family.semaphores.opened[index])
    family.detach()
    heard = Heard()
    again = open_it(place, SysvFamily(heard))
    assert again is not None
    assert heard.told == [News("one of its semaphores had been removed: made all five anew, nothing is lost")]
    assert values(again) == [*tokens, 1, 1, 0]
    assert {by_library(semaphore).mode for semaphore in again.semaphores.opened} == {0o640}
    assert header_of(again)["semaphores"] == [semaphore.id for semaphore in again.semaphores.opened]
    assert header_of(again)["ring"][:2] == (head, tail)
    again.detach()


@needs_root
@pytest.mark.parametrize("leftover", [False, True])
def test_semaphores_made_anew_belong_to_whom_the_segment_belongs(place: Place, leftover: bool) -> None:
    """Also those that a mender who died had made: before it gave one away, and before it noted it."""
    family = create(place, SMALL, 0o600)
    family.set_owner(NOBODY, 1)
    sysv.remove_semaphore(family.semaphores.opened[0])
    if leftover:
        sysv.create_semaphore(place.semaphore_keys[0], 0o600, 0)
    family.detach()
    again = open_it(place)
    assert again is not None
    assert {(s.mode, s.uid, s.gid) for s in map(by_library, again.semaphores.opened)} == {(0o600, NOBODY, 1)}
    again.detach()
    with as_nobody():
        theirs = open_it(place)
    assert theirs is not None
    theirs.detach()


def test_a_replaced_semaphore_is_not_taken_for_the_old_one(place: Place) -> None:
    family = create(place, SMALL, MODE)
    sysv.remove_semaphore(family.semaphores.opened[0])
    family.detach()
    foreign = used(place.semaphore_keys[0])
    with pytest.raises(NotOurs, match=f"ipcrm -s {foreign.id}$"):
        open_it(place)
    assert (foreign.value, attached(place)) == (1, 0)


def test_semaphores_in_use_are_not_made_anew(place: Place, family: SysvObjects) -> None:
    sysv.remove_semaphore(family.semaphores.opened[2])
    with pytest.raises(CallFailed) as error:
        open_it(place, NOTHING_IS_SAID)
    assert (error.value.name, error.value.strerror) == ("semget", "No such file or directory")
    assert objects(place) == [name for name in ALL if name != "writer_turn"]
    assert attached(place) == 1


def test_a_ring_that_contradicts_itself_gets_no_semaphores(place: Place) -> None:
    family = create(place, SMALL, MODE)
    change_header(family, head=1, tail=2)
    sysv.remove_semaphore(family.semaphores.opened[0])
    family.detach()
    with pytest.raises(BadSegment, match=r"^head and tail contradict each other"):
        open_it(place, NOTHING_IS_SAID)
    assert attached(place) == 0


# The semaphores at work


def test_a_counter_counts(family: SysvObjects) -> None:
    assert [family.empty_slots.acquire(0) for _ in range(3)] == [True, True, False]
    family.empty_slots.release()
    assert family.empty_slots.acquire(PATIENCE)
    assert not family.empty_slots.acquire(0.001)


def test_a_turn_has_one_holder(place: Place, family: SysvObjects) -> None:
    other = join(place, JOIN)
    assert family.writer_turn.holder() is None
    assert family.writer_turn.acquire(0)
    assert (other.writer_turn.acquire(0), other.writer_turn.holder()) == (False, os.getpid())
    assert other.reader_turn.holder() is None
    family.writer_turn.release()
    assert other.writer_turn.acquire(0)
    other.detach()


def test_writers_are_counted(family: SysvObjects) -> None:
    assert not family.writers.present()
    family.writers.enter()
    family.writers.enter()
    family.writers.leave()
    assert family.writers.present()
    family.writers.leave()
    assert not family.writers.present()


HOLD = """
import os, sys
from tests.in_process import FAMILY, sysv
from common.ipc.place import Place
from common.ipc.lifecycle import open_channel
path = sys.argv[1]
status = os.stat(path)
family = open_channel(FAMILY, Place.of(sysv, path, 0, (status.st_dev, status.st_ino)))
family.writers.enter()
assert family.writer_turn.acquire(1) and family.reader_turn.acquire(1) and family.empty_slots.acquire(1)
print("holding", flush=True)
sys.stdin.read()
"""


def test_the_kernel_gives_back_the_turns_and_the_presence_of_the_dead(place: Place, family: SysvObjects) -> None:
    with python(HOLD, place.path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "holding\n"
        assert values(family) == [0, 1, 0, 0, 1]
        assert (family.writer_turn.holder(), family.writers.present()) == (child.pid, True)
        child.send_signal(signal.SIGKILL)
    assert values(family) == [0, 1, 1, 1, 0], "but a counter's token stays taken: head and tail decide"
