"""What is System V's own: keys, addresses, ids in the header, sets of semaphores that have a creator."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

from common.channel.listener import Call, Listener, News
from common.errors import CallFailed, NotOurs
from common.geometry import Geometry
from common.ipc.lifecycle import (
    DEFAULT_GEOMETRY,
    Wanted,
    create_channel,
    find_channel,
    join_channel,
    open_channel,
)
from common.ipc.place import CHANNELS, Place
from common.ipc.sysv import SysvFamily, SysvObjects
from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL
from common.layout import HALF_MADE, NOT_CREATED, PAGE, SEMAPHORES, Header
from tests.helpers import is_root, wait_until
from tests.in_process import (
    FAMILY,
    MODE,
    NOBODY,
    SMALL,
    as_nobody,
    by_library,
    in_thread,
    objects,
    observing,
    place_of,
    remove_objects,
    run_python,
    sysv,
)


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


def test_more_slots_than_a_semaphore_can_count(place: Place) -> None:
    family = create(place, Geometry(40_000, PAGE), MODE)
    assert values(family) == [0, 32767, 1, 1, 0]
    family.detach()


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


def test_exclusive_where_there_is_a_channel_is_refused_by_the_kernel(place: Place, family: SysvObjects) -> None:
    """Once, before it is looked at: ipcrm that comes between leaves nothing of a second one to clear."""

    def ipcrm(call: Call) -> None:
        if call.name == "semget" and call.arguments[0] == place.semaphore_keys[-1]:
            sysv.remove_segment(family.shmid)

    with observing(ipcrm) as calls, pytest.raises(CallFailed) as refusal:
        join(place, JOIN._replace(exclusive=True, mode=MODE))
    asked = (place.segment_key, DEFAULT_GEOMETRY.segment_size, IPC_CREAT | IPC_EXCL | MODE)
    assert (refusal.value.name, refusal.value.arguments, refusal.value.errno) == ("shmget", asked, errno.EEXIST)
    names = [call.name for call in calls if call.name != "shmctl"]
    assert names == ["shmget", "shmget", "shmat", *["semget"] * 5, "shmdt"]
    creating = [call for call in calls if call.name in ("shmget", "semget") and call.arguments[2] & IPC_CREAT]
    assert creating == [Call("shmget", asked, -1, errno.EEXIST)]
    assert objects(place) == list(SEMAPHORES)
    assert family.alone()


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


# Orphans: semaphores whose segment was removed by ipcrm


@pytest.fixture
def orphans(place: Place) -> list[int]:
    """The ids of the semaphores of a channel without its segment."""
    family = create(place, SMALL, MODE)
    sysv.release_semaphore(family.semaphores.opened[0])
    sysv.remove_segment(family.shmid)
    family.detach()
    return [semaphore.id for semaphore in family.semaphores.opened]


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


def test_an_empty_segment_of_a_live_creator_is_refused(place: Place) -> None:
    shmid = sysv.create_segment(place.segment_key, SMALL.segment_size, MODE)
    assert_named(refused(place, shmid), shmid, os.geteuid(), EMPTY)


def used(key: int) -> Any:
    semaphore = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o600, 0)
    semaphore.release()
    return semaphore


def unused(key: int) -> Any:
    return sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o600, 7)


def of_nobody(key: int) -> Any:
    with as_nobody():
        return sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o666, 0)


@pytest.mark.parametrize("index", [0, 4])
@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (used, "`writer.py --remove` clears it"),
        (unused, "`writer.py --remove` clears it"),
        pytest.param(of_nobody, "ipcrm -s {}", marks=needs_root),
    ],
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
def test_what_somebody_made_in_the_place_of_a_removed_one_is_refused_again_and_again(place: Place, index: int) -> None:
    """Its key is ours and our uid made it, but no creator of ours died before noting it."""
    family = create(place, SMALL, MODE)
    sysv.remove_semaphore(family.semaphores.opened[index])
    family.detach()
    foreign = unused(place.semaphore_keys[index])
    for _ in range(2):
        with pytest.raises(NotOurs, match=f"ipcrm -s {foreign.id}( |$)"):
            open_it(place)
    assert (foreign.value, foreign.mode) == (7, 0o600)
    foreign.remove()
    again = open_it(place)
    assert again is not None
    again.detach()


@needs_root
@pytest.mark.parametrize("leftover", [False, True])
def test_semaphores_made_anew_belong_to_whom_the_segment_belongs(place: Place, leftover: bool) -> None:
    """Also those that a mender who died had made: before it gave one away, and before it noted it."""
    family = create(place, SMALL, 0o600)
    family.set_owner(NOBODY, 1)
    sysv.remove_semaphore(family.semaphores.opened[0])
    if leftover:
        with Header(family.memory) as header:
            header.set_semaphore_id(0, NOT_CREATED)
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
