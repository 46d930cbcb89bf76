"""Segments with one lie in them, and what each real program says to it: one clear line and 1, or it works.

--status looks at anything that is ours and says what is damaged; --remove removes it; nobody touches what carries
another path's name, another magic, or the semaphores of other people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import sysv_ipc

from common.ipc.family import Family
from common.ipc.place import Place
from common.layout import FINISHED, HALF_MADE, MAGIC, PAGE
from tests.fuzz.crafted import PAYLOAD, falsified_channel, opened
from tests.fuzz.pokes import Poke, header_poke, slot_poke
from tests.helpers import Finished, Pair
from tests.in_process import POSIX, foreign_segment, objects, place_of, remove_objects


@pytest.fixture
def pair(key_path: Path, tmp_path: Path, family: Family) -> Pair:
    """Both programs on one key path, over either family."""
    return Pair(key_path, tmp_path, ipc="posix" if family is POSIX else "sysv")


WORKS = ""
EVERYTHING = ["segment", "full_slots", "empty_slots", "writer_turn", "reader_turn", "writers"]


class Lie(NamedTuple):
    """What is stored, and what a joining writer and reader say to it."""

    stores: tuple[Poke, ...]
    to_writer: str
    to_reader: str


def to_both(complaint: str, *stores: Poke) -> Lie:
    return Lie(stores, complaint, complaint)


def to_reader(complaint: str, *stores: Poke) -> Lie:
    """The writer needs not look at it."""
    return Lie(stores, WORKS, complaint)


# What is true of what came before the end does not keep it from being delivered.
BROKEN_OFF, TORN = "the channel is broken off", "another reader met"

LIES = {
    "head < tail": to_both("head 1 and tail 2 contradict each other (3 slots)", header_poke("tail", 2)),
    "head - tail > slots": to_both("head 5 and tail 0 contradict each other", header_poke("head", 5)),
    "head at its end": to_both("contradict", header_poke("head", 2**64 - 1), header_poke("tail", 2**64 - 2)),
    "no slots": to_both("its geometry is absurd: 0 slots of 4096 bytes", header_poke("slot_count", 0)),
    "a slot of odd size": to_both("its geometry is absurd: 3 slots of 4097 bytes", header_poke("slot_size", 4097)),
    "too many slots": to_both("its sizes disagree: 17867063951360 bytes", header_poke("slot_count", 2**32 - 1)),
    "slots too large": to_both("its sizes disagree", header_poke("slot_size", 2**64 - PAGE)),
    "another size": to_both("18446744073709551615 by its header", header_poke("segment_size", 2**64 - 1)),
    "version 1": to_both("its header has version 1", header_poke("version", 1)),
    "version 0": to_both("its header has version 0", header_poke("version", 0)),
    "state 9": to_both("its state is 9, which means nothing", header_poke("state", 9)),
    "finished, unread": to_both("marked as finished, with 1 fragment unread", header_poke("state", FINISHED)),
    "length > slot_size": to_both("fragment 0 claims 4097 bytes", slot_poke(0, "length", PAGE + 1)),
    "taken > length": to_both("claims 5 bytes, 6 of them taken", slot_poke(0, "taken", 6)),
    "taken of no lines": to_reader("2 bytes are taken, inside a record", slot_poke(0, "taken", 2)),
    "unknown flags": to_both("impossible header", slot_poke(0, "flags", 2**31)),
    "offset + length overflows": to_both("impossible header", slot_poke(0, "offset", 2**64 - 1)),
    "the last record number": to_both("impossible header", slot_poke(0, "record", 2**64 - 1)),
    "another record number": to_reader("byte 0 of record 0 must follow here", slot_poke(0, "record", 2**64 - 4)),
    "another checksum": to_reader("their writer computed 00000001", slot_poke(0, "crc32", 1)),
    "not the first": to_reader("contradicts itself", slot_poke(0, "flags", 2)),
    "another total": to_reader("contradicts itself", slot_poke(0, "total", 4)),
    "pids": to_both(WORKS, header_poke("writer_pid", 2**32 - 1), header_poke("reader_pid", 2**31)),
    "times": to_both(WORKS, header_poke("created_ns", 2**64 - 1), header_poke("creator_pid", 2**32 - 1)),
    "writers joined": to_reader(f"{BROKEN_OFF}: 1844", header_poke("writers_joined", 2**64 - 1)),
    "writers left": to_both(WORKS, header_poke("writers_left", 2**64 - 1)),
    "no goodbye": to_reader(f"{BROKEN_OFF}: 1 writer stopped before the end", header_poke("writers_left", 0)),
    "records torn": to_reader(f"{TORN} 18446744073709551615 torn records", header_poke("records_torn", 2**64 - 1)),
}
named_lies = pytest.mark.parametrize("lie", LIES.values(), ids=LIES)


def assert_says(done: Finished, program: str, complaint: str) -> None:
    """One line of error with `complaint` in it and code 1, or success when there is nothing to complain about."""
    assert done.code == (1 if complaint else 0), done
    assert done.err.count("\n") == bool(complaint), done
    assert not complaint or done.err.startswith(f"{program}: "), done
    assert complaint in done.err, done


@named_lies
def test_writer(pair: Pair, family: Family, lie: Lie) -> None:
    with falsified_channel(pair.key_path, *lie.stores, family=family):
        assert_says(pair.write("--quiet", "--timeout", 20, "more"), "writer", lie.to_writer)


@named_lies
def test_reader(pair: Pair, family: Family, lie: Lie) -> None:
    with falsified_channel(pair.key_path, *lie.stores, family=family):
        done = pair.read("--quiet", "--timeout", 20)
        assert_says(done, "reader", lie.to_reader)
        refused = lie.to_reader and not lie.to_reader.startswith((BROKEN_OFF, TORN))
        assert done.out == (b"" if refused else PAYLOAD)


@named_lies
def test_status(pair: Pair, family: Family, lie: Lie) -> None:
    with falsified_channel(pair.key_path, *lie.stores, family=family):
        done = pair.read("--status", "--json")
        assert_says(done, "reader", WORKS)
        damage = json.loads(done.out)["damage"]
        assert damage is None or damage in lie.to_reader or lie.to_reader in damage


LEFT = "left semaphores "


@named_lies
def test_remove(pair: Pair, family: Family, lie: Lie) -> None:
    # Without a version the noted ids mean nothing yet: they may be those of a half-made header. A nonce needs none.
    stays = lie is LIES["version 0"] and family is not POSIX
    with falsified_channel(pair.key_path, *lie.stores, family=family) as place:
        assert_says(pair.write("--quiet", "--remove"), "writer", LEFT if stays else WORKS)
        assert objects(place, family) == (EVERYTHING[1:] if stays else [])


COMMANDS = [
    ("writer", "--quiet", "more"),
    ("writer", "--quiet", "--remove"),
    ("writer", "--quiet", "--chmod", "0600"),
    ("reader", "--quiet"),
    ("reader", "--status"),
]
every_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@every_command
@pytest.mark.parametrize("field", ["key_dev", "key_ino"])
def test_a_channel_of_another_path_is_left_alone(
    pair: Pair, family: Family, command: tuple[str, ...], field: str
) -> None:
    """ftok keeps 16 bits of the inode and 8 of the device, so another path can have our keys."""
    with falsified_channel(pair.key_path, header_poke(field, 1), family=family) as place:
        done = pair.run(*command)
        assert objects(place, family) == EVERYTHING
        assert_says(done, command[0], f"key {place.segment_key & 0xFFFFFFFF:#010x} already belongs to another path")


@every_command
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"S", "its 1 bytes are fewer than a header"),
        (MAGIC + bytes(PAGE - 9), "its 4095 bytes are fewer than a header"),
        (MAGIC + bytes(PAGE - 8), "its header notes no key path"),
        (HALF_MADE + bytes(PAGE - 8), "its header notes no key path"),
        (b"SHMPAIR2" + bytes(PAGE - 8), "its first bytes are b'SHMPAIR2'"),
        (bytes(3 * PAGE), "its first bytes are b'\\x00"),
        (b"\xff" * 3 * PAGE, "its first bytes are b'\\xff"),
    ],
    ids=["one byte", "a byte short", "nameless", "nameless half-made", "another magic", "zeros", "ones"],
)
def test_a_segment_that_is_not_ours_is_left_alone(
    pair: Pair, family: Family, command: tuple[str, ...], content: bytes, why: str
) -> None:
    place = place_of(pair.key_path)
    foreign = foreign_segment(place, family, content)
    with taken_part(place, family):
        done = pair.run(*command)
    assert objects(place, family) == ["segment"]
    remove_objects(place, family)
    assert_says(done, command[0], f"{foreign.name} of uid ")
    assert why in done.err
    assert done.err.endswith(f"or if nobody needs it: {foreign.remove}\n")


@contextmanager
def taken_part(place: Place, family: Family) -> Iterator[None]:
    """As System V's creator, which is this process, lives, somebody takes part in what POSIX has."""
    there = family.open(place, None)
    try:
        yield
    finally:
        there.detach()


def test_a_declared_size_beyond_the_segment_is_refused(pair: Pair, family: Family) -> None:
    """A channel of ours, cut short: copied by hand into a segment with room for its header only."""
    with falsified_channel(pair.key_path, family=family) as place, opened(place, family) as memory:
        header = bytes(memory[:PAGE])
    foreign_segment(place, family, header)
    done = pair.read("--quiet")
    remove_objects(place, family)
    assert_says(done, "reader", f"its sizes disagree: 20480 bytes by its slots, 20480 by its header, {PAGE} by the")


def test_semaphores_that_the_header_does_not_note_are_left_alone(pair: Pair, family: Family) -> None:
    """Nothing proves that they came with this segment: --remove takes it, says what stays, and fails.

    Said once more, where there is no segment, it is the user's word on what has our keys.
    """
    ids = [header_poke(f"semaphore_id_{index}", 2**31 - 1) for index in range(5)]
    lies = [header_poke("nonce", 1)] if family is POSIX else ids
    with falsified_channel(pair.key_path, *lies, family=family) as place:
        assert_says(pair.write("--quiet", "--remove"), "writer", LEFT)
        assert objects(place, family) == EVERYTHING[1:]
        assert_says(pair.write("--quiet", "--remove"), "writer", WORKS)
        assert objects(place, family) == []


@pytest.fixture
def stranger() -> Iterator[sysv_ipc.Semaphore]:
    """A semaphore of somebody else: not under any key of ours."""
    semaphore = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX, 0o600, 7)
    yield semaphore
    semaphore.remove()


@pytest.mark.parametrize("half_made", [False, True], ids=["SHMPAIR1", "SHMPAIR?"])
@pytest.mark.parametrize("command", COMMANDS[:2] + COMMANDS[3:4], ids=" ".join)
def test_semaphores_of_other_people_are_never_touched(
    pair: Pair, family: Family, stranger: sysv_ipc.Semaphore, command: tuple[str, ...], half_made: bool
) -> None:
    """Their ids stand in our header; only a key of ours that leads to that very id would prove one ours."""
    lies = [header_poke(f"semaphore_id_{index}", stranger.id) for index in range(5)]
    if half_made:
        lies.append(header_poke("magic", int.from_bytes(HALF_MADE, "little")))
    with falsified_channel(pair.key_path, *lies, family=family):
        done = pair.run(*command, "--timeout", 0.2)
    assert stranger.value == 7
    assert done.code in (0, 1, 124), done
    assert done.err.count("\n") == bool(done.code), done
