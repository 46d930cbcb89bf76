"""Hostile bytes against layout.py: whatever they are, the answer is BadSegment or numbers that lead nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.channel.ring import Ring
from common.errors import BadSegment
from common.geometry import Geometry, read_geometry
from common.layout import FLAGS, MAGIC, PAGE, SLOT, UNKNOWN, SlotHeader
from tests.fuzz.effort import effort
from tests.fuzz.fakes import GEOMETRY, add_fragment, open_memory
from tests.fuzz.pokes import HEADER_FIELDS, SLOT_FIELDS, Poke, header_poke, pokes


@effort(200)
@given(st.binary(max_size=3 * PAGE), st.booleans())
def test_random_bytes_are_refused(content: bytes, with_magic: bool) -> None:
    memory = bytearray(MAGIC + content) if with_magic else bytearray(content)
    with pytest.raises(BadSegment):
        read_geometry(memoryview(memory))


@effort(200)
@given(st.lists(pokes(GEOMETRY.slot_count), max_size=4))
def test_a_geometry_that_is_accepted_fits_the_memory(stores: list[Poke]) -> None:
    memory = open_memory()
    for store in stores:
        store.into(memory)
    try:
        geometry = read_geometry(memoryview(memory))
    except BadSegment:
        return
    assert geometry.segment_size == len(memory)


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        (header_poke("magic", int.from_bytes(b"SHMPAIR?", "little")), "magic"),
        (header_poke("version", 1), "version 1"),
        (header_poke("state", 0), "state is 0"),
        (header_poke("state", 2**32 - 1), "state is 4294967295"),
        (header_poke("slot_count", 0), "absurd"),
        (header_poke("slot_count", 2**32 - 1), "sizes disagree"),
        (header_poke("slot_size", 0), "absurd"),
        (header_poke("slot_size", 1), "absurd"),
        (header_poke("slot_size", 2**64 - PAGE), "sizes disagree"),
        (header_poke("segment_size", 2**64 - 1), "sizes disagree"),
    ],
)
def test_what_is_wrong_is_named(store: Poke, complaint: str) -> None:
    memory = open_memory()
    store.into(memory)
    with pytest.raises(BadSegment, match=complaint):
        read_geometry(memoryview(memory))


@pytest.mark.parametrize("size", [0, 1, 8, PAGE - 1, PAGE, PAGE + 1, GEOMETRY.segment_size - 1])
def test_a_truncated_segment_is_refused(size: int) -> None:
    with pytest.raises(BadSegment, match="fewer than a header" if size < PAGE else "sizes disagree"):
        read_geometry(memoryview(open_memory()[:size]))


@effort(200)
@given(
    content=st.one_of(
        st.binary(min_size=SLOT.size, max_size=SLOT.size),
        st.lists(st.integers(0, 2**32 - 1), min_size=12, max_size=12).map(
            lambda words: b"".join(word.to_bytes(4, "little") for word in words) + bytes(16)
        ),
    ),
    length=st.integers(0, PAGE + 1),
    flags=st.integers(0, 2 * FLAGS),
)
def test_a_slot_header_that_is_accepted_is_possible(content: bytes, length: int, flags: int) -> None:
    memory = open_memory()
    memory[PAGE : PAGE + SLOT.size] = length.to_bytes(4, "little") + flags.to_bytes(4, "little") + content[8:]
    ring = Ring(memoryview(memory))
    try:
        slot = ring.read_slot(0)
    except BadSegment:
        return
    assert slot.taken <= slot.length <= GEOMETRY.slot_size
    assert slot.end <= UNKNOWN
    assert not slot.flags & ~FLAGS
    # The writer that follows may have to store any of these: they must fit their fields.
    SLOT.pack(*slot._replace(record=slot.record + max(slot.records, 1)))


@pytest.mark.parametrize("number", [0, 1, 2, 3, 2**32, 2**64 - 2, 2**64 - 1])
@pytest.mark.parametrize("span", [(0, GEOMETRY.slot_size), (1, 2), (GEOMETRY.slot_size, GEOMETRY.slot_size)])
def test_a_payload_never_leaves_its_slot(number: int, span: tuple[int, int]) -> None:
    memory = open_memory()
    before = bytes(memory)
    with Ring(memoryview(memory)).payload(number, *span) as room:
        room[:] = b"\xee" * len(room)
    start = GEOMETRY.payloads_at + number % GEOMETRY.slot_count * GEOMETRY.slot_size
    assert memory[start + span[0] : start + span[1]] == b"\xee" * (span[1] - span[0])
    assert (
        memory[: start + span[0]] + memory[start + span[1] :] == before[: start + span[0]] + before[start + span[1] :]
    )


def test_geometry_is_read_once() -> None:
    memory = open_memory()
    ring = Ring(memoryview(memory))
    for field in ("slot_count", "slot_size", "segment_size"):
        header_poke(field, 2**64 - 1).into(memory)
    assert (ring.geometry, ring.slot_count, ring.fragment_size) == (GEOMETRY, GEOMETRY.slot_count, GEOMETRY.slot_size)
    with ring.payload(1, 0, 4) as room:
        room[:] = b"here"
    assert memory.find(b"here") == GEOMETRY.payloads_at + GEOMETRY.slot_size


def test_the_pokes_hit_the_fields_they_name() -> None:
    memory = open_memory(Geometry(1, PAGE))
    with memoryview(memory) as view:
        add_fragment(view, b"")
        for field, (at, width) in HEADER_FIELDS.items():
            header_poke(field, 77).into(view)
            assert int.from_bytes(view[at : at + width], "little") == 77
    fields = {field: index + 1 for index, field in enumerate(SLOT_FIELDS)}
    content = bytearray(SLOT.size)
    for field, value in fields.items():
        at, width = SLOT_FIELDS[field]
        Poke(at, width, value).into(content)
    assert SlotHeader._make(SLOT.unpack(content))._asdict() == fields
