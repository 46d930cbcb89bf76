"""Hostile bytes against both ends of the ring, at rest and while they run, over objects in a bytearray.

Where it makes a difference, over such as System V has and such as POSIX has.

Promised of every case: it works, or it ends with an error that run turns into one line; it ends; the reader
stores nothing outside the header and its own `taken`, the writer nothing outside the one slot that it fills.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.channel.ring import Ring
from common.cli.sources import MessageSource
from common.errors import BadSegment, CallFailed, TimedOut
from common.layout import FINISHED, FIRST, LAST, PAGE, REMOVED, UNKNOWN, Header
from common.notes import OutputNote
from tests.families import only
from tests.fuzz.effort import effort
from tests.fuzz.fakes import GEOMETRY, FakeObjects, FakeSink, add_fragment, open_memory
from tests.fuzz.pokes import SLOT_FIELDS, Poke, header_poke, pokes, slot_poke
from tests.fuzz.scenarios import (
    ACTIONS,
    AGES,
    ONE_LINE,
    WRITING,
    age_channel,
    honest_channel,
    reader,
    receive_all,
    run_scenario,
    scribble,
    truncate,
    writer,
)


def payload_slots_changed(before: bytes, after: bytearray) -> int:
    starts = range(GEOMETRY.payloads_at, GEOMETRY.segment_size, GEOMETRY.slot_size)
    return sum(before[at : at + GEOMETRY.slot_size] != after[at : at + GEOMETRY.slot_size] for at in starts)


schedules = st.lists(st.tuples(st.integers(0, 12), pokes(GEOMETRY.slot_count)), max_size=5)
at_rest = st.lists(pokes(GEOMETRY.slot_count), max_size=3)


@pytest.mark.parametrize("action", ACTIONS)
@effort(200)
@given(
    channel=st.tuples(st.integers(0, 3), st.sampled_from(AGES)),
    first=at_rest,
    schedule=schedules,
    tokens=st.integers(0, 32767),
)
def test_any_stores_at_any_step(
    ipc: str, action: str, channel: tuple[int, int], first: list[Poke], schedule: list[tuple[int, Poke]], tokens: int
) -> None:
    fragments, age = channel
    memory = honest_channel(fragments)
    age_channel(memory, age)
    for store in first:
        store.into(memory)
    before = bytes(memory)
    run_scenario(action, memory, schedule, tokens, ipc)
    assert payload_slots_changed(before, memory) <= (action in WRITING)


@effort(200)
@given(seed=st.integers(0), action=st.sampled_from(sorted(ACTIONS)))
def test_random_bytes_behind_a_valid_geometry(ipc: str, seed: int, action: str) -> None:
    memory = open_memory()
    memory[64 : GEOMETRY.payloads_at] = Random(seed).randbytes(GEOMETRY.payloads_at - 64)
    header_poke("tail", 2**63).into(memory)
    header_poke("head", 2**63 + seed % 4).into(memory)
    run_scenario(action, memory, [], 0, ipc)


@pytest.mark.parametrize(
    ("stores", "complaint"),
    [
        ([header_poke("tail", 4)], "head 3 and tail 4 contradict"),
        ([header_poke("head", 4), header_poke("tail", 0)], "head 4 and tail 0 contradict"),
        ([header_poke("head", 2**64 - 1), header_poke("tail", 2**64 - 1)], "contradict"),
        ([slot_poke(0, "length", PAGE + 1)], f"claims {PAGE + 1} bytes"),
        ([slot_poke(0, "length", 2**32 - 1)], "claims 4294967295 bytes"),
        ([slot_poke(0, "taken", 7)], "7 of them taken"),
        ([slot_poke(0, "flags", 64)], "impossible header"),
        ([slot_poke(0, "flags", 2**32 - 1)], "impossible header"),
        ([slot_poke(0, "offset", 2**64 - 1)], "impossible header"),
        ([slot_poke(0, "record", 2**64 - 1)], "impossible header"),
        ([slot_poke(0, "record", 1)], "record 0 must follow"),
        ([slot_poke(1, "offset", 1)], "byte 0 of record 3 must follow"),
        ([slot_poke(1, "taken", 1)], "taken"),
    ],
)
def test_the_reader_names_what_is_wrong(stores: list[Poke], complaint: str) -> None:
    memory = honest_channel(3)
    for store in stores:
        store.into(memory)
    objects = FakeObjects(memory)
    with pytest.raises(BadSegment, match=complaint):
        receive_all(reader(objects), FakeSink(objects.interfere))


@pytest.mark.parametrize("record", [2**64 - 2, 2**64 - 1])
@pytest.mark.parametrize("fields", [{"flags": FIRST, "total": UNKNOWN, "records": 0}, {"records": 1}])
def test_a_writer_that_follows_the_last_record_number(record: int, fields: dict[str, int]) -> None:
    memory = open_memory()
    with memoryview(memory) as view:
        add_fragment(view, b"x", record=record, **fields)
    with suppress(BadSegment):
        writer(FakeObjects(memory)).send(MessageSource(b"next"))


@pytest.mark.parametrize("tail", [0, 2, 3])
def test_a_tail_moved_inside_a_record_is_no_success(tail: int) -> None:
    """Only the holder of the turn moves it, and inside a record that is us."""
    memory = open_memory()
    with memoryview(memory) as view:
        for index, flags in enumerate((FIRST, 0, LAST)):
            fields = {"record": 0, "offset": 4 * index, "total": 12, "flags": flags, "records": int(flags == LAST)}
            add_fragment(view, b"abc%d" % index, **fields)
    objects, moved = FakeObjects(memory), header_poke("tail", tail)
    header_poke("writers_joined", 1).into(memory)
    header_poke("writers_left", 1).into(memory)
    sink = FakeSink(objects.interfere)
    # The first look at the memory after the first fragment went out and was committed.
    objects.interfere.act = lambda: moved.into(memory) if Header(objects.memory).tail == 1 else None
    with pytest.raises(BadSegment, match="tail"):
        receive_all(reader(objects), sink)


@pytest.mark.parametrize(
    ("action", "field"), [("receive", "tail"), ("receive --count", "tail"), ("send", "head"), ("send lines", "head")]
)
def test_a_number_scribbled_between_its_check_and_its_use(
    monkeypatch: pytest.MonkeyPatch, action: str, field: str
) -> None:
    """The fragment behind 2^64-1 has no number, so a BadSegment and not the ValueError of a store that does not fit."""
    true_lag, memory = Ring.lag, honest_channel(1)

    def lag(ring: Ring) -> int:
        found = true_lag(ring)
        setattr(ring.header, field, 2**64 - 1)
        return found

    monkeypatch.setattr(Ring, "lag", lag)
    with pytest.raises(BadSegment, match="cannot be counted further"):
        ACTIONS[action](FakeObjects(memory))


@pytest.mark.parametrize("state", [FINISHED, REMOVED, 0, 77])
def test_a_state_that_flips_under_a_writer_hangs_nobody(ipc: str, state: int) -> None:
    """Once the store is there the writer goes on or ends; it must not wait for a turn that it holds itself."""
    memory = open_memory()
    objects = FakeObjects(memory, ipc)
    end = writer(objects)
    end.join()
    header_poke("state", state).into(memory)
    with suppress(BadSegment):
        end.send_lines(b"one\n", 1)
        end.send_lines(b"two\n", 1)
    assert objects.writer_turn.value == 1


@pytest.mark.parametrize("gone", [False, True])
def test_finished_with_unread_records_is_no_success(ipc: str, gone: bool) -> None:
    memory = open_memory()
    with memoryview(memory) as view:
        add_fragment(view, b"unread")
    header_poke("state", FINISHED).into(memory)
    header_poke("writers_joined", 1).into(memory)
    header_poke("writers_left", 1).into(memory)
    objects = FakeObjects(memory, ipc)
    objects.full_slots.gone = gone
    sink = FakeSink(objects.interfere)
    with suppress(BadSegment, CallFailed):
        receive_all(reader(objects), sink)
        assert bytes(sink.content) == b"unread"


@pytest.mark.parametrize("action", ["send", "receive"])
def test_tokens_without_end_do_not_outrun_the_timeout(monkeypatch: pytest.MonkeyPatch, ipc: str, action: str) -> None:
    """Each wait gets a forged token at once, so the clock alone must bring the heartbeats, and with them the end."""
    memory = honest_channel(3 if action == "send" else 0)
    objects = FakeObjects(memory, ipc)
    objects.writers.value = 1
    objects.empty_slots.value = objects.full_slots.value = objects.full_slots.most
    scribble(objects, memory, [])
    monkeypatch.setattr("common.channel.end.monotonic", itertools.count(0, 0.01).__next__)
    with pytest.raises(TimedOut):
        ACTIONS[action](objects)


@only("posix", "no segment of System V can be made smaller")
@pytest.mark.parametrize("action", ACTIONS)
def test_truncated_at_any_step(ipc: str, action: str) -> None:
    """Whoever looks at the size finds it, and then has zeros for all the bytes there were."""
    for step in itertools.count():
        memory = honest_channel(3)
        objects = FakeObjects(memory, ipc)
        truncate(objects, memory, step)
        with suppress(*ONE_LINE):
            ACTIONS[action](objects)
        if not objects.truncated:
            break
    assert step or action == "unread", "no step of it looks at the objects"


def test_lines_that_vanish_while_they_are_counted() -> None:
    """The newlines go away between the reader's looks at them."""
    memory = honest_channel(1)
    objects = FakeObjects(memory)
    objects.interfere.act = lambda: memory.__setitem__(slice(GEOMETRY.payloads_at, GEOMETRY.payloads_at + 6), b"xxxxxx")
    sink = FakeSink(objects.interfere)
    with suppress(*ONE_LINE):
        receive_all(reader(objects), sink, at_most=1)
    assert len(sink.content) <= 6


# No newline stands just before a power of two: one flipped bit in `taken` must not look like a reader that stopped
# there between two lines, which is the one lie that a slot header can tell.
LINES_OF_TWO = b"12\n45\n"


CHECKED_DATA = bytes(range(256)) * (PAGE // 256) + b"the rest"


@functools.cache
def _checked_bytes() -> bytes:
    memory = open_memory()
    end = writer(FakeObjects(memory))
    end.join()
    end.send(MessageSource(CHECKED_DATA), verify=True)
    end.send_lines(LINES_OF_TWO, 2, verify=True)
    end.leave()
    return bytes(memory)


def _checked_channel() -> tuple[bytearray, bytes]:
    """Two records with checksums, the first in two fragments, as a real writer makes them; and what they hold."""
    return bytearray(_checked_bytes()), CHECKED_DATA + LINES_OF_TWO


def _received(memory: bytearray) -> bytes | None:
    """What a reader puts out of a channel that three fragments are left in; None when it fails."""
    objects = FakeObjects(memory)
    objects.full_slots.value = GEOMETRY.slot_count
    sink = FakeSink(objects.interfere)
    try:
        receipts = receive_all(reader(objects), sink)
    except ONE_LINE:
        return None
    return None if any(receipt.aborted for receipt in receipts) else bytes(sink.content)


@pytest.mark.parametrize("field", SLOT_FIELDS)
def test_no_flipped_bit_of_a_slot_header_is_a_silent_success(field: str) -> None:
    """--verify: each bit of each slot header, one at a time; a field without a say in the bytes may pass."""
    honest, data = _checked_channel()
    assert _received(bytearray(honest)) == data
    at, width = SLOT_FIELDS[field]
    for slot in range(GEOMETRY.slot_count):
        for bit in range(8 * width):
            memory = bytearray(honest)
            memory[PAGE + 64 * slot + at + bit // 8] ^= 1 << bit % 8
            assert _received(memory) in (None, data), f"slot {slot}, bit {bit} of {field}"


@effort(100)
@given(slot=st.integers(0, 2), bit=st.integers(0, 8 * PAGE - 1))
def test_no_flipped_bit_of_a_payload_is_a_success(slot: int, bit: int) -> None:
    memory, _ = _checked_channel()
    length = (PAGE, 8, 6)[slot]
    memory[GEOMETRY.payloads_at + slot * PAGE + bit // 8 % length] ^= 1 << bit % 8
    assert _received(memory) is None


notes = st.builds(
    OutputNote,
    st.integers(0, 3),
    st.sampled_from([1, 2, 0]),
    st.sampled_from([2, 1, 0]),
    st.one_of(st.integers(0, 3 * PAGE), st.integers(0, 2**64 - 1)),
)


@effort(300)
@given(lies=st.lists(notes, max_size=2), tail=st.integers(0, 2), size=st.integers(0, 3 * PAGE))
def test_a_lying_note_costs_no_more_than_one_fragment(lies: list[OutputNote], tail: int, size: int) -> None:
    """--output --resume: a dead reader has put out at most one fragment that it did not commit.

    So however the notes and the tail lie, not more than that may be cut off the file.
    """
    memory = honest_channel(3)
    header_poke("tail", tail).into(memory)
    objects = FakeObjects(memory)
    header = Header(objects.memory)
    for lie in lies:
        header.note_output(lie)
    length = reader(objects).ring.read_slot(tail).length
    before = b"k" * size
    sink = FakeSink(objects.interfere, before)
    with suppress(*ONE_LINE):
        reader(objects, resume=True).receive(sink)
    kept = len(sink.content) - len(bytes(sink.content).lstrip(b"k"))
    assert kept >= size - length


def test_a_true_note_is_obeyed() -> None:
    """The counterpart: what a dead reader put out and did not commit is cut off, to the byte."""
    memory = honest_channel(1)
    objects = FakeObjects(memory)
    Header(objects.memory).note_output(OutputNote(0, 1, 2, 10))
    sink = FakeSink(objects.interfere, b"k" * 10 + b"a\nb")
    receive_all(reader(objects, resume=True), sink)
    assert bytes(sink.content) == b"k" * 10 + b"a\nb\nc\n"


@effort(300)
@given(st.data())
def test_checked_data_is_right_or_refused_under_pokes(data: st.DataObject) -> None:
    """--verify, one record: while slots (not head and tail) are scribbled over, success means the right bytes."""
    memory, _ = _checked_channel()
    header_poke("head", 2).into(memory)
    slot = st.builds(
        slot_poke, st.integers(0, 1), st.sampled_from(["length", "record", "offset", "total", "crc32"]), st.integers(0)
    )
    schedule = data.draw(st.lists(st.tuples(st.integers(0, 8), slot), max_size=3))
    objects = FakeObjects(memory)
    scribble(objects, memory, schedule)
    sink = FakeSink(objects.interfere)
    with suppress(*ONE_LINE):
        receive_all(reader(objects), sink)
        assert bytes(sink.content) == CHECKED_DATA


def _scribbling_crc32(memory: bytearray, *, before: bool) -> Callable[[Any], int]:
    """zlib.crc32 with a peer that changes slot 0 just before, or just after, the bytes are summed."""
    true_crc32, scribble_now = zlib.crc32, Poke(GEOMETRY.payloads_at, 4, 0).into

    def crc32(data: Any) -> int:
        if before:
            scribble_now(memory)
        found = true_crc32(data)
        scribble_now(memory)
        return found

    return crc32


def test_verify_writes_out_the_very_bytes_that_it_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer changes the slot between the reader's checksum and its write."""
    memory, data = _checked_channel()
    monkeypatch.setattr("common.channel.fragments.zlib.crc32", _scribbling_crc32(memory, before=False))
    assert _received(memory) == data


def test_verify_sums_the_very_bytes_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer changes the slot between the writer's reading into it and its checksum."""
    memory = open_memory()
    end = writer(FakeObjects(memory))
    end.join()
    with monkeypatch.context() as patched:
        patched.setattr("common.channel.write.zlib.crc32", _scribbling_crc32(memory, before=True))
        end.send(MessageSource(b"the very bytes"), verify=True)
    end.leave()
    assert _received(memory) in (None, b"the very bytes")
