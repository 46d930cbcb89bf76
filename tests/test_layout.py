"""The bytes of the segment: every offset that DESIGN.md section 3 fixes, every sum, every refusal."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from common.channel.ring import Ring
from common.errors import BadSegment
from common.geometry import Geometry, read_geometry
from common.layout import (
    ABORTED,
    CHECKED,
    FINISHED,
    FIRST,
    HALF_MADE,
    LAST,
    LINES,
    MAGIC,
    MAX_FRAGMENT,
    OPEN,
    PAGE,
    REMOVED,
    SEMAPHORES,
    SLOT,
    UNKNOWN,
    VERSION,
    Header,
    SlotHeader,
)
from common.notes import OutputNote
from tests.in_process import Died

GEOMETRY = Geometry(slot_count=3, slot_size=2 * PAGE)

# Field, offset and size in bytes, as a C compiler lays out the struct of DESIGN.md section 3.
HEADER_FIELDS = [
    ("version", 8, 4),
    ("slot_count", 12, 4),
    ("slot_size", 16, 8),
    ("segment_size", 24, 8),
    ("key_dev", 32, 8),
    ("key_ino", 40, 8),
    ("created_ns", 48, 8),
    ("creator_pid", 56, 4),
    ("state", 60, 4),
    ("writers_joined", 64, 8),
    ("writer_pid", 72, 4),
    ("reader_pid", 76, 4),
    ("writers_left", 104, 8),
    ("records_torn", 112, 8),
    ("nonce", 120, 8),
    ("head", 128, 8),
    ("tail", 192, 8),
    ("input_record", 320, 8),
    ("input_dev", 328, 8),
    ("input_ino", 336, 8),
    ("input_mtime_ns", 344, 8),
    ("input_place", 352, 8),
    ("input_goodbye", 360, 8),
]
SLOT_FIELDS = [
    ("length", 0, 4),
    ("flags", 4, 4),
    ("record", 8, 8),
    ("offset", 16, 8),
    ("total", 24, 8),
    ("writer_pid", 32, 4),
    ("crc32", 36, 4),
    ("records", 40, 4),
    ("taken", 44, 4),
    ("source_dev", 48, 8),
    ("source_ino", 56, 8),
]


def ones(size: int, offset: int, length: int) -> bytes:
    """`size` zero bytes, but for `length` bytes of ones at `offset`."""
    return bytes(offset) + b"\xff" * length + bytes(size - offset - length)


def segment(geometry: Geometry = GEOMETRY) -> bytearray:
    """The bytes of a new, empty channel."""
    memory = bytearray(geometry.segment_size)
    header = Header(memoryview(memory))
    header.magic, header.version, header.state = MAGIC, VERSION, OPEN
    header.slot_count, header.slot_size = geometry
    header.segment_size = geometry.segment_size
    header.release()
    return memory


@pytest.fixture
def page() -> bytearray:
    return bytearray(PAGE)


@pytest.fixture
def header(page: bytearray) -> Iterator[Header]:
    header = Header(memoryview(page))
    yield header
    header.release()


@pytest.fixture
def memory() -> bytearray:
    return segment()


@pytest.fixture
def ring(memory: bytearray) -> Iterator[Ring]:
    ring = Ring(memoryview(memory))
    yield ring
    ring.release()


def test_state_and_flag_values() -> None:
    assert (MAGIC, HALF_MADE, VERSION) == (b"SHMPAIR1", b"SHMPAIR?", 2)
    assert (OPEN, FINISHED, REMOVED) == (1, 2, 3)
    assert (FIRST, LAST, ABORTED, CHECKED, LINES) == (1, 2, 4, 8, 16)
    assert UNKNOWN == 0xFFFFFFFFFFFFFFFF


@pytest.mark.parametrize(("field", "offset", "size"), HEADER_FIELDS)
def test_header_field_is_where_c_has_it(page: bytearray, header: Header, field: str, offset: int, size: int) -> None:
    setattr(header, field, 2 ** (8 * size) - 1)
    assert bytes(page) == ones(PAGE, offset, size)

    page[offset : offset + size] = (0x0102030405060708 % 2 ** (8 * size)).to_bytes(size, "little")
    assert getattr(header, field) == struct.unpack_from({4: "=I", 8: "=Q"}[size], page, offset)[0]


def test_the_magic_is_the_first_eight_bytes_as_they_are_read(page: bytearray, header: Header) -> None:
    header.magic = MAGIC
    assert bytes(page) == b"SHMPAIR1" + bytes(PAGE - 8)
    assert header.magic == b"SHMPAIR1"


@pytest.mark.parametrize("index", range(len(SEMAPHORES)))
def test_semaphore_ids_are_five_signed_words(page: bytearray, header: Header, index: int) -> None:
    header.set_semaphore_id(index, -1)
    assert bytes(page) == ones(PAGE, 80 + 4 * index, 4)
    assert header.semaphore_id(index) == -1


def test_the_semaphores_are_in_the_order_of_section_4() -> None:
    assert SEMAPHORES == ("full_slots", "empty_slots", "writer_turn", "reader_turn", "writers")


def test_head_and_tail_have_cache_lines_of_their_own() -> None:
    lines = {field: offset // 64 for field, offset, _ in HEADER_FIELDS}
    assert list(lines.values()).count(lines["head"]) == 1
    assert list(lines.values()).count(lines["tail"]) == 1


@pytest.mark.parametrize("value", [-1, 2**32])
def test_a_field_refuses_what_does_not_fit_it(page: bytearray, header: Header, value: int) -> None:
    with pytest.raises(ValueError, match="invalid value"):
        header.writer_pid = value
    assert bytes(page) == bytes(PAGE)


def test_a_released_header_holds_no_view_of_the_memory(page: bytearray) -> None:
    Header(memoryview(page)).release()
    page.append(0)  # BufferError, were there a view


# Slot headers


@pytest.mark.parametrize(("field", "offset", "size"), SLOT_FIELDS)
def test_slot_field_is_where_c_has_it(memory: bytearray, ring: Ring, field: str, offset: int, size: int) -> None:
    number = 1
    before = bytes(memory)
    ring.write_slot(number, SlotHeader(*[0] * 9)._replace(**{field: 2 ** (8 * size) - 1}))
    at = PAGE + 64 * number
    assert bytes(memory[at : at + 64]) == ones(64, offset, size)
    assert memory[:at] + memory[at + 64 :] == before[:at] + before[at + 64 :]


def test_a_slot_header_is_64_bytes() -> None:
    assert SLOT.size == 64


def test_a_slot_header_comes_back_as_it_was_written(ring: Ring) -> None:
    slot = SlotHeader(100, FIRST | LINES | LAST, 7, 0, 100, 4242, 0xDEADBEEF, 3, 50)
    ring.write_slot(2, slot)
    assert ring.read_slot(2) == slot


def test_take_stores_taken_and_nothing_else(memory: bytearray, ring: Ring) -> None:
    ring.set_taken(1, 0xFFFFFFFF)
    at = PAGE + 64
    assert bytes(memory[at : at + 64]) == ones(64, 44, 4)


@pytest.mark.parametrize(
    ("flags", "ends"),
    [(0, False), (FIRST, False), (FIRST | CHECKED, False), (LAST, True), (ABORTED, True), (LINES, True)],
)
def test_which_flags_end_a_record(flags: int, ends: bool) -> None:
    assert SlotHeader(0, flags, 0, 0, 0, 0, 0, 0).ends_record is ends


def test_the_end_of_a_fragment_is_the_offset_behind_it() -> None:
    assert SlotHeader(length=10, flags=0, record=0, offset=5, total=99, writer_pid=0, crc32=0, records=0).end == 15


@pytest.mark.parametrize(
    "change",
    [
        {"length": 2 * PAGE + 1},
        {"length": 10, "taken": 11, "flags": LINES},
        {"flags": 32},
        {"flags": 2**31},
        {"offset": UNKNOWN, "length": 1},
        {"record": UNKNOWN},
        {"record": UNKNOWN - 1},
        {"record": UNKNOWN - 9, "records": 9},
    ],
    ids=str,
)
def test_an_impossible_slot_header_is_refused(ring: Ring, change: dict[str, int]) -> None:
    ring.write_slot(1, SlotHeader(*[0] * 9)._replace(**change))
    with pytest.raises(BadSegment, match=r"^fragment 1 (claims|has an impossible header)"):
        ring.read_slot(1)


@pytest.mark.parametrize(
    "change",
    [
        {"length": 2 * PAGE},
        {"length": 10, "taken": 10, "flags": LINES},
        {"offset": UNKNOWN - 1, "length": 1},
        {"flags": 31},
        {"record": UNKNOWN - 2},
        {"record": UNKNOWN - 10, "records": 9},
    ],
    ids=str,
)
def test_a_slot_header_at_the_limit_is_accepted(ring: Ring, change: dict[str, int]) -> None:
    slot = SlotHeader(*[0] * 9)._replace(**change)
    ring.write_slot(1, slot)
    assert ring.read_slot(1) == slot


# Geometry


@pytest.mark.parametrize(
    ("slot_count", "slot_size", "payloads_at", "segment_size"),
    [
        (1, PAGE, 2 * PAGE, 3 * PAGE),
        (8, 256 * 1024, 2 * PAGE, 2 * PAGE + 2 * 1024 * 1024),
        (64, PAGE, 2 * PAGE, 66 * PAGE),  # the slot headers fill their page exactly
        (65, PAGE, 3 * PAGE, 68 * PAGE),  # and one more takes another
        (2**32 - 1, PAGE, PAGE + 2**38, PAGE + 2**38 + (2**32 - 1) * PAGE),
    ],
)
def test_geometry_sums(slot_count: int, slot_size: int, payloads_at: int, segment_size: int) -> None:
    geometry = Geometry(slot_count, slot_size)
    assert (geometry.payloads_at, geometry.segment_size) == (payloads_at, segment_size)


@pytest.mark.parametrize("geometry", [Geometry(0, PAGE), Geometry(8, 0), Geometry(0, 0)])
def test_a_geometry_that_holds_nothing_has_size_0(geometry: Geometry) -> None:
    assert geometry.segment_size == 0


@pytest.mark.parametrize("state", [OPEN, FINISHED, REMOVED])
def test_read_geometry_accepts_every_state_that_means_something(memory: bytearray, state: int) -> None:
    memory[60] = state
    assert read_geometry(memoryview(memory)) == GEOMETRY


def set_field(field: str, value: int | bytes) -> Callable[[bytearray], None]:
    def change(memory: bytearray) -> None:
        header = Header(memoryview(memory))
        setattr(header, field, value)
        header.release()

    return change


REFUSALS = [
    (lambda memory: memory.clear(), "it has 0 bytes, fewer than a header"),
    (lambda memory: memory.__delitem__(slice(PAGE - 1, None)), "it has 4095 bytes, fewer than a header"),
    (set_field("magic", bytes(8)), r"its magic is b'\x00\x00\x00\x00\x00\x00\x00\x00', not b'SHMPAIR1'"),
    (set_field("magic", HALF_MADE), "its magic is b'SHMPAIR?', not b'SHMPAIR1'"),
    (set_field("magic", b"1RIAPMHS"), "its magic is b'1RIAPMHS', not b'SHMPAIR1'"),
    (set_field("version", 0), "its header has version 0; this program knows version 2"),
    (set_field("version", 1), "its header has version 1; this program knows version 2"),
    (set_field("state", 0), "its state is 0, which means nothing"),
    (set_field("state", 4), "its state is 4, which means nothing"),
    (set_field("slot_count", 0), "its geometry is absurd: 0 slots of 8192 bytes"),
    (set_field("slot_size", 0), "its geometry is absurd: 3 slots of 0 bytes"),
    (set_field("slot_size", 8191), "its geometry is absurd: 3 slots of 8191 bytes"),
    (
        set_field("slot_count", 2**32 - 1),
        "its sizes disagree: 35459249991680 bytes by its slots, 32768 by its header, 32768 by the kernel",
    ),
    (
        set_field("slot_count", 2),
        "its sizes disagree: 24576 bytes by its slots, 32768 by its header, 32768 by the kernel",
    ),
    (
        set_field("segment_size", 32767),
        "its sizes disagree: 32768 bytes by its slots, 32767 by its header, 32768 by the kernel",
    ),
    (
        lambda memory: memory.append(0),
        "its sizes disagree: 32768 bytes by its slots, 32768 by its header, 32769 by the kernel",
    ),
    (
        lambda memory: memory.__delitem__(slice(PAGE, None)),
        "its sizes disagree: 32768 bytes by its slots, 32768 by its header, 4096 by the kernel",
    ),
]


@pytest.mark.parametrize(("change", "text"), REFUSALS, ids=[text for _, text in REFUSALS])
def test_read_geometry_refuses(memory: bytearray, change: Callable[[bytearray], None], text: str) -> None:
    change(memory)
    with pytest.raises(BadSegment) as refusal:
        read_geometry(memoryview(memory))
    assert str(refusal.value) == text


def test_a_refusal_leaves_no_view_of_the_memory(memory: bytearray) -> None:
    memory[0] = 0
    with memoryview(memory) as view, pytest.raises(BadSegment):
        read_geometry(view)
    memory.append(0)  # BufferError, were there a view


# The ring


def test_a_new_ring_is_empty(ring: Ring) -> None:
    assert (ring.header.head, ring.header.tail, ring.lag()) == (0, 0, 0)


@pytest.mark.parametrize("tail", [0, 1, 2**32, 2**64 - 5])
def test_a_ring_is_full_with_as_many_fragments_as_slots(ring: Ring, tail: int) -> None:
    ring.header.tail, ring.header.head = tail, tail + 3
    assert ring.lag() == 3


@pytest.mark.parametrize(("head", "tail"), [(4, 0), (0, 1), (2**64 - 1, 0), (0, 2**64 - 1), (2**64 - 1, 2**64 - 1)])
def test_head_and_tail_that_contradict_each_other_are_refused(ring: Ring, head: int, tail: int) -> None:
    ring.header.head, ring.header.tail = head, tail
    with pytest.raises(BadSegment, match=rf"^head {head} and tail {tail} contradict each other \(3 slots\)$"):
        ring.lag()


def test_fragments_share_a_slot_when_their_numbers_are_slot_count_apart(ring: Ring) -> None:
    slots = [SlotHeader(n, FIRST, n, 0, UNKNOWN, 0, 0, 0) for n in range(4)]
    for number, slot in enumerate(slots):
        ring.write_slot(number, slot)
    assert [ring.read_slot(number) for number in (0, 1, 2, 3)] == [slots[3], slots[1], slots[2], slots[3]]


@pytest.mark.parametrize("use", ["read_slot", "write_slot", "set_taken"])
def test_the_last_number_of_all_is_no_fragments(memory: bytearray, ring: Ring, use: str) -> None:
    before = bytes(memory)
    arguments: dict[str, tuple[Any, ...]] = {"read_slot": (), "write_slot": (SlotHeader(*[1] * 9),), "set_taken": (1,)}
    with pytest.raises(BadSegment, match=rf"^head or tail is {UNKNOWN}, which cannot be counted further$"):
        getattr(ring, use)(UNKNOWN, *arguments[use])
    assert bytes(memory) == before


def test_a_single_slot_has_two_headers(memory: bytearray) -> None:
    """The last published one says how far a dead writer got, so it must outlive the filling of the next."""
    memory[:] = segment(Geometry(1, PAGE))
    ring = Ring(memoryview(memory))
    slots = [SlotHeader(n, FIRST, n, 0, UNKNOWN, 0, 0, 0) for n in range(3)]
    for number in (0, 1):
        ring.write_slot(number, slots[number])
    assert [ring.read_slot(number) for number in (0, 1)] == slots[:2]
    ring.write_slot(2, slots[2])
    assert ring.read_slot(0) == slots[2]
    with ring.payload(0, 0, PAGE) as even, ring.payload(1, 0, PAGE) as odd:
        even[7] = 7
        assert odd[7] == 7, "but one payload"
    ring.release()


def test_the_payloads_fill_the_end_of_the_segment_side_by_side(memory: bytearray, ring: Ring) -> None:
    for number in range(3):
        with ring.payload(number, 0, 2 * PAGE) as payload:
            payload[:] = bytes([number + 1]) * (2 * PAGE)
    assert memory[2 * PAGE :] == b"\1" * 2 * PAGE + b"\2" * 2 * PAGE + b"\3" * 2 * PAGE


def test_a_part_of_a_payload(memory: bytearray, ring: Ring) -> None:
    with ring.payload(4, 10, 13) as part:
        part[:] = b"abc"
    at = 2 * PAGE + 2 * PAGE + 10
    assert memory[at - 1 : at + 4] == b"\0abc\0"


def test_a_scribbled_header_cannot_move_the_slots(memory: bytearray, ring: Ring) -> None:
    ring.header.slot_count, ring.header.slot_size = 2**32 - 1, 2**64 - PAGE
    with ring.payload(2, 0, 2 * PAGE) as payload:
        payload[-1] = 7
    assert memory[-1] == 7
    assert ring.slot_count == 3


def test_a_fragment_is_never_longer_than_one_read_can_be() -> None:
    geometry = Geometry(1, 2**31)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    with mmap.mmap(-1, geometry.segment_size, flags=flags) as memory:  # touched in its first page only
        memory[:PAGE] = bytes(segment_header(geometry))
        with memoryview(memory) as view:
            ring = Ring(view)
            assert ring.fragment_size == MAX_FRAGMENT == 0x7FFFF000
            ring.release()


def segment_header(geometry: Geometry) -> bytearray:
    """The first page of a new, empty channel."""
    page = segment(Geometry(1, PAGE))[:PAGE]
    set_field("slot_count", geometry.slot_count)(page)
    set_field("slot_size", geometry.slot_size)(page)
    set_field("segment_size", geometry.segment_size)(page)
    return page


# Output notes


NOTES = [OutputNote(tail=tail, dev=10 + tail, ino=20 + tail, size=30 + tail) for tail in range(4)]


def test_the_two_output_notes_are_behind_the_tail(page: bytearray, header: Header) -> None:
    for note in (NOTES[2], NOTES[3]):
        header.note_output(note)
    assert struct.unpack_from("=8Q", page, 256) == (12, 22, 32, 2, 13, 23, 33, 3)
    assert not any(page[:256]) and not any(page[320:])


def test_a_new_segment_has_no_output_note(header: Header) -> None:
    assert header.output_note(0) is None
    assert header.output_note(1) is None


def test_the_note_of_a_tail_outlives_the_writing_of_the_next(header: Header) -> None:
    header.note_output(NOTES[0])
    header.note_output(NOTES[1])
    assert (header.output_note(0), header.output_note(1)) == (NOTES[0], NOTES[1])


def test_a_note_does_not_speak_for_another_tail(header: Header) -> None:
    header.note_output(NOTES[0])
    header.note_output(NOTES[2])
    assert (header.output_note(0), header.output_note(2)) == (None, NOTES[2])


class DyingWords:
    """The header as words, whose user dies before its store number `dies_at`, counted from 0."""

    def __init__(self, words: memoryview, dies_at: int) -> None:
        self._words, self._left = words, dies_at

    def __getitem__(self, index: int) -> int:
        return int(self._words[index])

    def __setitem__(self, index: int, value: int) -> None:
        if not self._left:
            raise Died
        self._left -= 1
        self._words[index] = value


STORES = 5  # of a note


@pytest.mark.parametrize("dies_at", range(STORES + 1))
@pytest.mark.parametrize("new", [NOTES[0]._replace(dev=1, ino=2, size=3), NOTES[2]], ids=["same tail", "next but one"])
def test_whoever_dies_in_a_note_leaves_no_mixture(
    monkeypatch: pytest.MonkeyPatch, header: Header, new: OutputNote, dies_at: int
) -> None:
    old = NOTES[0]
    header.note_output(old)
    with monkeypatch.context() as patched:
        patched.setattr(header, "_u64", DyingWords(header._u64, dies_at))
        with pytest.raises(Died) if dies_at < STORES else nullcontext():
            header.note_output(new)
    left = {header.output_note(old.tail), header.output_note(new.tail)} - {None}
    assert left <= ({new} if dies_at == STORES else {old})
    assert left or 0 < dies_at < STORES


def test_the_same_note_again_stores_nothing(monkeypatch: pytest.MonkeyPatch, header: Header) -> None:
    """So a reader that notes it at each start cannot die in it."""
    header.note_output(NOTES[0])
    with monkeypatch.context() as patched:
        patched.setattr(header, "_u64", DyingWords(header._u64, 0))
        header.note_output(NOTES[0])
    assert header.output_note(0) == NOTES[0]
