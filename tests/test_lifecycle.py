"""How a channel's objects come about, what proves that they are ours, and how they go (DESIGN.md section 5).

Whatever a dead creator or remover left is cleared, and said. Whatever is not provably ours is refused by its id,
with the command that would remove it, and not a byte of it is touched.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.channel.listener import Call, Listener, News
from common.channel.objects import Objects
from common.errors import BadSegment, CallFailed, ChannelError, NotOurs
from common.geometry import read_geometry
from common.ipc.family import ChannelObjects, Family
from common.ipc.lifecycle import (
    DEFAULT_GEOMETRY,
    Wanted,
    create_channel,
    find_channel,
    join_channel,
    open_channel,
)
from common.ipc.place import Place
from common.ipc.posix import PosixFamily
from common.ipc.removal import Removal
from common.ipc.sysv import SysvFamily, SysvObjects
from common.ipc.sysv_calls import IPC_CREAT
from common.layout import FINISHED, HALF_MADE, MAGIC, NOT_CREATED, OPEN, PAGE, REMOVED, SEMAPHORES, VERSION, Header
from tests.helpers import is_root
from tests.in_process import (
    MODE,
    NOBODY,
    POSIX,
    SMALL,
    Foreign,
    Heard,
    as_nobody,
    attached,
    foreign_segment,
    modes_and_owners,
    objects,
    observing,
    place_of,
    remove_objects,
    run_python,
    strange_semaphore,
    sysv,
    take_segment_away,
    take_semaphore_away,
    values_of,
)

ALL = ["segment", *SEMAPHORES]


class _Unhearing(Listener):
    """To it nothing may be told of others."""

    def news(self, news: News) -> None:
        pytest.fail(news.text)


UNHEARING = _Unhearing()
JOIN = Wanted(slots=None, slot_size=None, mode=None, exclusive=False)

needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user: run the tests as root")


class Where(NamedTuple):
    """A place and the family whose objects are to be there; the ways to them."""

    place: Place
    family: Family

    def create(self, mode: int = MODE) -> ChannelObjects:
        """A new channel, attached."""
        return create_channel(self.family, self.place, SMALL, mode)

    def join(self, wanted: Wanted = JOIN, listener: Listener | None = None) -> ChannelObjects:
        return join_channel(self._told_to(listener), self.place, wanted)

    def open(self, listener: Listener | None = None) -> ChannelObjects | None:
        return open_channel(self._told_to(listener), self.place)

    def find(self, *, observe: bool) -> ChannelObjects:
        return find_channel(self.family, self.place, observe=observe)

    def _told_to(self, listener: Listener | None) -> Family:
        if listener is None:
            return self.family
        return PosixFamily(listener) if self.posix else SysvFamily(listener)

    @property
    def posix(self) -> bool:
        return self.family is POSIX

    def there(self) -> list[str]:
        return objects(self.place, self.family)

    def attached(self) -> int:
        return attached(self.place, self.family)

    def take_segment_away(self) -> None:
        take_segment_away(self.place, self.family)

    def take_semaphore_away(self, name: str) -> None:
        take_semaphore_away(self.place, self.family, name)

    def left_by_a_dead(self, content: bytes) -> Foreign:
        """A segment with these bytes whose creator is no more; of POSIX, that nobody has locked."""
        if not self.posix:
            run_python(NEW_SEGMENT, self.place.segment_key, len(content))
            with self.memory() as memory:
                memory[:] = content
            shmid = sysv.open_segment(self.place.segment_key)
            return Foreign(f"segment {shmid}", f"ipcrm -m {shmid}")
        return foreign_segment(self.place, self.family, content)

    @contextmanager
    def memory(self) -> Iterator[memoryview]:
        """The bytes of what is there, whatever it is; detached again at once, or it is refused for that alone."""
        there = self.family.find(self.place, observe=False)
        try:
            yield there.memory
        finally:
            there.detach()


@pytest.fixture
def where(key_path: Path, family: Family) -> Iterator[Where]:
    place = place_of(key_path)
    yield Where(place, family)
    remove_objects(place, family)


@pytest.fixture
def channel(where: Where) -> Iterator[ChannelObjects]:
    """A new channel, attached."""
    channel = where.create()
    yield channel
    channel.detach()


def header_of(channel: ChannelObjects) -> dict[str, Any]:
    """The fields that a creation sets."""
    header = Header(channel.memory)
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


def change_header(channel: Objects, **fields: Any) -> None:
    header = Header(channel.memory)
    for name, value in fields.items():
        setattr(header, name, value)
    header.release()


# Creation


def test_a_new_channel_is_complete(where: Where, channel: ChannelObjects) -> None:
    noted = [1] * 5  # made
    if isinstance(channel, SysvObjects):
        noted = [semaphore.id for semaphore in channel.semaphores.opened]
    assert header_of(channel) == {
        "magic": MAGIC,
        "version": VERSION,
        "key": (where.place.dev, where.place.ino),
        "semaphores": noted,
        "geometry": (2, PAGE, SMALL.segment_size),
        "creator_pid": os.getpid(),
        "state": OPEN,
        "ring": (0, 0, 0, 0, 0),
    }
    assert values_of(channel) == [0, 2, 1, 1, 0]
    assert read_geometry(channel.memory) == SMALL
    assert (channel.created, where.there()) == (True, ALL)


def test_the_order_of_a_creation_is_its_proof(where: Where) -> None:
    """Magic "SHMPAIR?" before the first semaphore, each id noted before the next, "SHMPAIR1" last."""
    seen: list[tuple[bytes, list[int]]] = []

    def look(call: Call) -> None:
        if call.name in ("semget", "sem_open") and creates(call):
            there = where.family.find(where.place, observe=True)
            header = header_of(there)
            seen.append((header["magic"], header["semaphores"]))
            there.detach()

    with observing(look):
        channel = where.create()
    noted = header_of(channel)["semaphores"]
    channel.detach()
    assert NOT_CREATED not in noted
    assert seen == [(HALF_MADE, noted[:made] + [NOT_CREATED] * (5 - made)) for made in range(5)]


def creates(call: Call) -> bool:
    if call.name in ("shm_open", "sem_open"):
        return bool(call.arguments[1] & os.O_CREAT)
    return call.name in ("shmget", "semget") and bool(call.arguments[2] & IPC_CREAT)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_nothing_is_ever_wider_than_asked(where: Where, mode: int) -> None:
    with observing() as calls:
        channel = where.create(mode)
    assert [call.arguments[2] & 0o777 for call in calls if creates(call)] == [mode] * 6
    assert not [call for call in calls if "IPC_SET" in call.arguments]
    assert channel.stat().mode == mode
    assert {made for made, _, _ in modes_and_owners(channel)} == {mode}
    channel.detach()


@pytest.mark.parametrize("name", SEMAPHORES)
def test_a_creation_that_fails_is_taken_back(where: Where, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has what one of the semaphores is to have: its key, or its name, which is random, and another user."""
    if where.posix and not is_root():
        pytest.skip("only root can become another user: run the tests as root")
    monkeypatch.setattr("os.urandom", bytes)
    with as_nobody() if where.posix else nullcontext():
        strange_semaphore(where.place, where.family, name, nonce=1)
    with pytest.raises(NotOurs):
        where.create()
    assert where.there() == [name]


# Joining


def test_a_join_creates_with_the_defaults(where: Where) -> None:
    channel = where.join(JOIN)
    assert read_geometry(channel.memory) == DEFAULT_GEOMETRY == (8, 512 * 1024)
    assert (channel.created, channel.stat().mode) == (True, MODE)
    channel.detach()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("slot_size", [None, PAGE])
def test_a_join_takes_what_there_is(
    where: Where, channel: ChannelObjects, slots: int | None, slot_size: int | None
) -> None:
    joined = where.join(JOIN._replace(slots=slots, slot_size=slot_size))
    assert (str(joined), joined.created) == (str(channel), False)
    joined.full_slots.release()
    assert values_of(channel) == [1, 2, 1, 1, 0]
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
    where: Where, channel: ChannelObjects, wanted: Wanted, text: str
) -> None:
    with pytest.raises((ChannelError, CallFailed), match=text):
        where.join(wanted)
    assert (where.attached(), where.there()) == (1, ALL)


def test_exclusive_creates_where_there_is_nothing(where: Where) -> None:
    channel = where.join(JOIN._replace(exclusive=True))
    assert channel.created
    channel.detach()


def test_exclusive_creates_where_a_dead_process_left_something(where: Where) -> None:
    channel = where.create()
    change_header(channel, state=FINISHED)
    channel.detach()
    heard = Heard()
    again = where.join(JOIN._replace(exclusive=True), heard)
    assert again.created and [news.text.split(",")[1] for news in heard.told] == [
        " which its last reader left half-removed"
    ]
    assert values_of(again) == [0, 8, 1, 1, 0]
    again.remove()
    again.detach()


def test_there_is_nothing_to_open(where: Where) -> None:
    assert where.open() is None
    with pytest.raises(CallFailed) as error:
        where.find(observe=True)
    assert (error.value.name, error.value.strerror) == (where.family.names.find, "No such file or directory")


def test_a_damaged_channel_is_not_joined(where: Where, channel: ChannelObjects) -> None:
    change_header(channel, version=9)
    with pytest.raises(BadSegment, match="version 9"):
        where.open()
    assert (where.attached(), where.there()) == (1, ALL)


@needs_root
def test_another_user_is_kept_out(where: Where, channel: ChannelObjects) -> None:
    channel.set_mode(0o600)
    with as_nobody():
        with pytest.raises(CallFailed, match="Permission denied"):
            where.open()
        with pytest.raises(CallFailed, match="Permission denied"):
            where.find(observe=True)
    assert where.attached() == 1


OTHERS = [(NOBODY, os.geteuid()), (os.geteuid(), NOBODY), (NOBODY, NOBODY)]


def of_others(where: Where, owner: int, creator: int, mode: int = MODE) -> tuple[str, str]:
    """A channel, detached, that `creator` made and `owner` has; its name, and what is said of it."""
    with as_nobody() if creator == NOBODY else nullcontext():
        channel = where.create(mode)
    channel.set_owner(owner, None)
    channel.detach()
    facts = [f"it is uid {NOBODY}'s"] if owner == NOBODY else []
    if creator == NOBODY and not where.posix:  # who made it, a file does not know
        facts.append(f"uid {NOBODY} made it")
    return str(channel), " and ".join(facts)


@needs_root
@pytest.mark.parametrize(("owner", "creator"), OTHERS)
def test_a_mode_is_not_promised_where_another_user_has_the_channel(where: Where, owner: int, creator: int) -> None:
    there, whose = of_others(where, owner, creator, 0o600)
    if not whose:
        where.join(JOIN._replace(mode=0o600)).detach()
        return
    with pytest.raises(ChannelError) as refusal:
        where.join(JOIN._replace(mode=0o600))
    assert str(refusal.value) == (
        f"EACCES: {there} is not ours alone, {whose}: no --mode keeps its owner or its creator out; leave"
        " --mode out if you trust them, or choose another --channel"
    )
    assert (where.attached(), where.there()) == (0, ALL)


@needs_root
@pytest.mark.parametrize(("owner", "creator"), OTHERS)
def test_whoever_takes_part_hears_whose_channel_it_is(where: Where, owner: int, creator: int) -> None:
    there, whose = of_others(where, owner, creator)
    heard = Heard()
    ways: list[Callable[[], ChannelObjects | None]] = [lambda: where.open(heard), lambda: where.join(JOIN, heard)]
    for take_part in ways:
        channel = take_part()
        assert channel is not None
        channel.detach()
    assert heard.told == ([News(f"{there} is not ours alone: {whose}")] * 2 if whose else [])


def test_of_a_channel_of_our_own_nothing_is_said(where: Where, channel: ChannelObjects) -> None:
    joined = where.join(JOIN._replace(mode=MODE), UNHEARING)
    joined.detach()


# Observing and changing


def test_an_observer_cannot_write(where: Where, channel: ChannelObjects) -> None:
    observer = where.find(observe=True)
    assert observer.memory.readonly
    with pytest.raises(TypeError):
        observer.memory[0] = 0
    observer.detach()


@needs_root
def test_a_change_of_mode_and_owner_reaches_all_six(channel: ChannelObjects) -> None:
    channel.set_mode(0o604)
    channel.set_owner(NOBODY, None)
    channel.set_owner(None, 1)
    stat = channel.stat()
    assert (stat.mode, stat.uid, stat.gid) == (0o604, NOBODY, 1)
    assert set(modes_and_owners(channel)) == {(0o604, NOBODY, 1)}


@needs_root
def test_check_removable_says_eperm_before_anything_is_changed(where: Where, channel: ChannelObjects) -> None:
    channel.set_mode(0o666)
    channel.check_removable()
    with as_nobody(), pytest.raises(CallFailed) as error:
        channel.check_removable()
    asked = "fchmod" if where.posix else "shmctl"
    assert (error.value.name, error.value.strerror) == (asked, "Operation not permitted")
    assert where.there() == ALL


@needs_root
def test_a_semaphore_that_cannot_be_read_is_not_missing(channel: ChannelObjects) -> None:
    with as_nobody():
        assert channel.missing() is None


def facts(channel: ChannelObjects) -> tuple[int, int, int, int]:
    """What the kernel says of the segment, but for times and who looked."""
    stat = channel.stat()
    return stat.mode, stat.uid, stat.gid, stat.size


@pytest.mark.parametrize("whose", ["ours", pytest.param("another user's", marks=needs_root)])
def test_check_removable_removes_nothing(where: Where, whose: str) -> None:
    """Also where it has to ask the kernel, because the channel is another user's and we are root."""
    with as_nobody() if whose != "ours" else nullcontext():
        channel = where.create(0o666)
    before = bytes(channel.memory), facts(channel), modes_and_owners(channel)
    channel.check_removable()
    assert (bytes(channel.memory), facts(channel), modes_and_owners(channel)) == before
    assert where.there() == ALL
    channel.detach()


# Removal


def test_remove_takes_all_six_and_can_be_repeated(where: Where, channel: ChannelObjects) -> None:
    for _ in range(2):
        channel.remove()
        assert where.there() == []
        assert (str(channel.removal), channel.removal) == ("removed 5 semaphores", Removal(removed=SEMAPHORES))
    assert channel.removed()


@pytest.mark.parametrize("gone", ALL)
def test_remove_passes_over_what_is_gone(where: Where, channel: ChannelObjects, gone: str) -> None:
    if gone == "segment":
        where.take_segment_away()
    else:
        where.take_semaphore_away(gone)
    assert where.there() == [name for name in ALL if name != gone]
    channel.remove()
    assert where.there() == []
    there = "removed 5 semaphores" if gone == "segment" else f"removed 4 semaphores ({gone} was gone)"
    assert str(channel.removal) == there


@pytest.mark.parametrize("name", SEMAPHORES)
def test_remove_leaves_a_semaphore_that_is_not_the_one_we_noted(
    where: Where, channel: ChannelObjects, name: str
) -> None:
    where.take_semaphore_away(name)
    other = strange_semaphore(where.place, where.family, name)
    channel.remove()
    assert where.there() == [name]
    gone = f"{name} was gone; " if where.posix else ""  # the other has another name; of System V, the key
    assert str(channel.removal) == (
        f"removed 4 semaphores ({gone}left semaphore {other} ({name}): the channel does not note it)"
    )
    assert channel.removal.ours_left == channel.removal.left


def test_semaphores_made_anew_are_counted_once(where: Where) -> None:
    channel = where.create()
    where.take_semaphore_away(SEMAPHORES[3])
    channel.detach()
    again = where.open()
    assert again is not None
    again.remove()
    again.detach()
    assert str(again.removal) == "removed 5 semaphores"


# Orphans: semaphores whose segment was removed by ipcrm


@pytest.fixture
def orphans(where: Where) -> None:
    """The semaphores of a channel without its segment."""
    channel = where.create()
    channel.full_slots.release()
    where.take_segment_away()
    channel.detach()


@pytest.mark.usefixtures("orphans")
def test_the_users_word_clears_orphans(where: Where) -> None:
    removal = where.family.remove_orphans(where.place)
    assert (str(removal), sorted(removal.removed)) == ("removed 5 semaphores", sorted(SEMAPHORES))
    assert where.there() == []


def test_without_orphans_nothing_is_removed(where: Where) -> None:
    assert where.family.remove_orphans(where.place) == Removal()


# Leftovers: cleared, and said

COUNT_DOWN = """
import os, sys
from tests.in_process import FAMILIES, LISTENER, sysv
from common.geometry import Geometry
from common.layout import Header
from common.ipc.place import Place
from common.ipc.lifecycle import create_channel
FAMILY, path, calls_left = FAMILIES[sys.argv[1]], sys.argv[2], int(sys.argv[3])
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
channel = create_channel(FAMILY, place, Geometry(2, 4096), 0o660)
Header(channel.memory).state = int(sys.argv[4])
LISTENER.call = count_down
channel.remove()
print("alive")
"""
)
MEND_AND_DIE = (
    COUNT_DOWN
    + """
from common.ipc.lifecycle import open_channel
LISTENER.call = count_down
assert open_channel(FAMILY, place)
print("alive")
"""
)
NEW_SEGMENT = """
import sys
from tests.in_process import sysv
print(sysv.create_segment(int(sys.argv[1]), int(sys.argv[2]), 0o600))
"""


def write_header(where: Where, **fields: Any) -> None:
    channel = where.family.find(where.place, observe=False)
    change_header(channel, **fields)
    channel.detach()


def check_it_works(where: Where) -> None:
    """A fresh start works, and leaves nothing behind."""
    channel = where.join(Wanted(2, PAGE, MODE, exclusive=False))
    assert values_of(channel) == [0, 2, 1, 1, 0]
    channel.remove()
    channel.detach()
    assert where.there() == []


def deaths(code: str, where: Where, *arguments: object) -> Iterator[int]:
    """Run `code` with a death behind its first IPC call, then behind its second, ... until it ends by itself."""
    for calls in itertools.count(1):
        if run_python(code, "posix" if where.posix else "sysv", where.place.path, calls, *arguments):
            return
        yield calls


def test_a_creator_killed_after_any_call_leaves_nothing_in_the_way(where: Where) -> None:
    cleared = []
    for _ in deaths(CREATE_AND_DIE, where):
        heard = Heard()
        assert where.open(heard) is None
        cleared += [re.sub(r"^cleared \w+ \S+, which its creator left ", "", text) for text, _ in heard.told]
        assert where.there() == []
        check_it_works(where)
    if where.posix:  # shm_open, fchmod; ftruncate, posix_fallocate, fstat, fcntl, mmap; sem_open, chmod, lstat each
        early, calls = ["without a size"] * 2 + ["empty"] * 5, 7 + 5 * 3
    else:  # shmget, shmat and a look at its size; then a semget and a semctl at least for each semaphore
        early, calls = ["empty"] * 3, 3 + 5 * 2
    assert (cleared[: len(early)], set(cleared[len(early) :])) == (early, {"half-made"})
    assert len(cleared) >= calls


@pytest.mark.parametrize("name", SEMAPHORES[::2])
def test_who_mends_a_channel_and_is_killed_after_any_call_leaves_it_to_be_mended(where: Where, name: str) -> None:
    channel = where.create()
    change_header(channel, head=3, tail=2)
    channel.detach()
    where.take_semaphore_away(name)
    calls = 0
    for _ in deaths(MEND_AND_DIE, where):
        calls += 1
        found = where.open()
        assert found is not None
        assert (values_of(found), where.there()) == ([1, 1, 1, 1, 0], ALL)
        found.detach()
        where.take_semaphore_away(name)
    assert calls >= 15  # at the least to look at five, to remove four and to make five
    found = where.open()
    assert found is not None
    found.remove()
    found.detach()
    assert where.there() == []


@pytest.mark.parametrize(
    ("state", "what"), [(FINISHED, "which its last reader left half-removed"), (REMOVED, "left half-removed")]
)
def test_a_remover_killed_after_any_call_leaves_nothing_in_the_way(where: Where, state: int, what: str) -> None:
    cleared = 0
    for _ in deaths(REMOVE_AND_DIE, where, state):
        heard = Heard()
        if "segment" in where.there():
            assert where.open(heard) is None
            (said,) = heard.told
            assert re.fullmatch(rf"cleared \w+ \S+, {what}", said.text)
            cleared += 1
        assert where.there() == []
        check_it_works(where)
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
def test_a_leftover_is_cleared_and_said(where: Where, fields: dict[str, Any], what: str) -> None:
    left = where.left_by_a_dead(bytes(SMALL.segment_size))
    write_header(where, **fields)
    heard = Heard()
    assert where.open(heard) is None
    assert heard.told == [News(f"cleared {left.name}, {what}")]
    assert where.there() == []


def test_a_leftover_semaphore_goes_with_its_half_made_segment(where: Where) -> None:
    channel = where.create()
    change_header(channel, magic=HALF_MADE)
    header = Header(channel.memory)
    for index in (2, 3, 4):
        header.set_semaphore_id(index, NOT_CREATED)  # as if its creator died when the third was made, not noted
    header.release()
    for name in SEMAPHORES[3:]:
        where.take_semaphore_away(name)
    channel.detach()
    assert where.there() == ["segment", "full_slots", "empty_slots", "writer_turn"]
    assert where.open() is None
    assert where.there() == []


def test_a_finished_channel_with_unread_data_is_not_cleared(where: Where, channel: ChannelObjects) -> None:
    change_header(channel, state=FINISHED, head=2, tail=1)
    with pytest.raises(BadSegment, match=r"^it is marked as finished, with 1 fragment unread$"):
        where.open(UNHEARING)
    assert where.there() == ALL


def test_a_half_made_channel_of_a_live_creator_is_cleared_in_the_doorway(where: Where, channel: ChannelObjects) -> None:
    """Whoever is in the doorway is alone: a creation that is not complete has failed, whoever lives."""
    change_header(channel, magic=HALF_MADE)
    heard = Heard()
    assert where.open(heard) is None
    assert heard.told == [News(f"cleared {channel}, which its creator left half-made")]


# Foreign objects: refused, untouched


def refused(where: Where, error: type[Exception] = NotOurs) -> str:
    """Every way to the segment refuses it and leaves it as it was; what is said."""

    def look() -> tuple[bytes, tuple[int, int, int, int], int]:
        there = where.family.find(where.place, observe=True)
        found = bytes(there.memory), facts(there)
        there.detach()
        return *found, where.attached()

    before = look()
    said = set()
    attempts: list[Callable[[], object]] = [
        lambda: where.open(UNHEARING),
        lambda: where.join(JOIN, UNHEARING),
        lambda: where.find(observe=True),
        lambda: where.find(observe=False),
    ]
    for attempt in attempts:
        with pytest.raises(error) as refusal:
            attempt()
        said.add(str(refusal.value))
    assert look() == before
    (text,) = said
    return text


def assert_named(text: str, foreign: Foreign, uid: int, why: str) -> None:
    assert text == (
        f"{foreign.name} of uid {uid} has our key and is not a channel of ours: {why}. It was left untouched;"
        f" choose another --channel, or if nobody needs it: {foreign.remove}"
    )


EMPTY = r"its first bytes are b'\x00\x00\x00\x00\x00\x00\x00\x00', not b'SHMPAIR1'"


@pytest.mark.parametrize(
    ("magic", "why"),
    [
        (b"somebody", "its first bytes are b'somebody', not b'SHMPAIR1'"),
        (b"SHMPAIR2", "its first bytes are b'SHMPAIR2', not b'SHMPAIR1'"),
        (MAGIC, "its header notes no key path"),
    ],
)
def test_a_segment_with_other_bytes_is_refused(where: Where, magic: bytes, why: str) -> None:
    foreign = where.left_by_a_dead(magic.ljust(SMALL.segment_size, bytes(1)))
    assert_named(refused(where), foreign, os.geteuid(), why)


@pytest.mark.parametrize("at", [8, PAGE - 1, PAGE, SMALL.segment_size - 1])
def test_a_segment_with_one_byte_in_it_is_refused(where: Where, at: int) -> None:
    content = bytearray(SMALL.segment_size)
    content[at] = 1
    foreign = where.left_by_a_dead(bytes(content))
    assert_named(refused(where), foreign, os.geteuid(), EMPTY)


def test_an_empty_segment_that_somebody_has_attached_is_refused(where: Where) -> None:
    foreign = where.left_by_a_dead(bytes(SMALL.segment_size))
    somebody = where.family.open(where.place, None)
    assert_named(refused(where), foreign, os.geteuid(), EMPTY)
    somebody.detach()


@needs_root
def test_an_empty_segment_of_another_user_is_refused(where: Where) -> None:
    """Of System V not even its creator's death makes it ours; of POSIX nobody knows who that was."""
    with as_nobody():
        foreign = foreign_segment(where.place, where.family, bytes(SMALL.segment_size), 0o600)
    assert_named(refused(where), foreign, NOBODY, EMPTY)


@pytest.mark.parametrize("size", [1, 100, PAGE - 1])
def test_a_segment_smaller_than_a_header_is_refused(where: Where, size: int) -> None:
    foreign = where.left_by_a_dead(bytes(size))
    why = f"its {size} bytes are fewer than a header"
    assert_named(refused(where), foreign, os.geteuid(), why)


@pytest.mark.parametrize("size", [PAGE, 2 * PAGE, 3 * PAGE - 1, 3 * PAGE + 1])
def test_an_empty_segment_that_no_channel_can_have_is_refused(where: Where, size: int) -> None:
    foreign = where.left_by_a_dead(bytes(size))
    assert_named(refused(where), foreign, os.geteuid(), EMPTY)


@pytest.mark.parametrize("size", [3 * PAGE, 4 * PAGE, DEFAULT_GEOMETRY.segment_size])
def test_an_empty_segment_that_a_channel_can_have_is_cleared(where: Where, size: int) -> None:
    left = where.left_by_a_dead(bytes(size))
    heard = Heard()
    assert where.open(heard) is None
    assert heard.told == [News(f"cleared {left.name}, which its creator left empty")]


@pytest.mark.parametrize("magic", [MAGIC, HALF_MADE])
@pytest.mark.parametrize("change", ["key_dev", "key_ino"])
def test_the_channel_of_another_path_with_our_key_is_refused(
    where: Where, channel: ChannelObjects, magic: bytes, change: str
) -> None:
    change_header(channel, magic=magic, **{change: 12345})
    assert refused(where, ChannelError) == (
        f"key {where.place.segment_key & 0xFFFFFFFF:#010x} already belongs to another path ({channel});"
        f" choose another --channel, or if nobody needs it: {channel.how_to_remove()}"
    )
    assert where.there() == ALL


# Semaphores that somebody removed


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize(("head", "tail", "tokens"), [(0, 0, [0, 2]), (5, 4, [1, 1]), (9, 7, [2, 0])])
def test_a_removed_semaphore_is_made_anew(where: Where, index: int, head: int, tail: int, tokens: list[int]) -> None:
    channel = where.create(0o640)
    change_header(channel, head=head, tail=tail)
    where.take_semaphore_away(SEMAPHORES[index])
    channel.detach()
    heard = Heard()
    again = where.open(heard)
    assert again is not None
    assert heard.told == [News("one of its semaphores had been removed: made all five anew, nothing is lost")]
    assert values_of(again) == [*tokens, 1, 1, 0]
    assert {mode for mode, _, _ in modes_and_owners(again)} == {0o640}
    assert again.missing() is None
    assert header_of(again)["ring"][:2] == (head, tail)
    again.detach()


def test_semaphores_in_use_are_not_made_anew(where: Where, channel: ChannelObjects) -> None:
    where.take_semaphore_away(SEMAPHORES[2])
    with pytest.raises(CallFailed) as error:
        where.open(UNHEARING)
    asked = "sem_open" if where.posix else "semget"
    assert (error.value.name, error.value.strerror) == (asked, "No such file or directory")
    assert where.there() == [name for name in ALL if name != "writer_turn"]
    assert where.attached() == 1


def test_a_ring_that_contradicts_itself_gets_no_semaphores(where: Where) -> None:
    channel = where.create()
    change_header(channel, head=1, tail=2)
    where.take_semaphore_away(SEMAPHORES[0])
    channel.detach()
    with pytest.raises(BadSegment, match=r"^head and tail contradict each other"):
        where.open(UNHEARING)
    assert where.attached() == 0
