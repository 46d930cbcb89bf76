"""What a hostile peer stores, and where: hypothesis strategies over the fields of header and slots."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from common.layout import PAGE, SLOT, Header, SlotHeader


class Poke(NamedTuple):
    """One store of `width` bytes at byte `at` of the segment."""

    at: int
    width: int
    value: int

    def into(self, memory: memoryview | bytearray) -> None:
        """Store it, unless the segment is too small."""
        if self.at + self.width <= len(memory):
            memory[self.at : self.at + self.width] = self.value.to_bytes(self.width, "little")


HEADER_FIELDS = {
    "magic": (0, 8),
    "version": (8, 4),
    "slot_count": (12, 4),
    "slot_size": (16, 8),
    "segment_size": (24, 8),
    "key_dev": (32, 8),
    "key_ino": (40, 8),
    "created_ns": (48, 8),
    "creator_pid": (56, 4),
    "state": (60, 4),
    "writers_joined": (64, 8),
    "writer_pid": (72, 4),
    "reader_pid": (76, 4),
    **{f"semaphore_id_{index}": (Header.SEMAPHORE_IDS + 4 * index, 4) for index in range(5)},
    "writers_left": (104, 8),
    "records_torn": (112, 8),
    "nonce": (120, 8),
    "head": (128, 8),
    "tail": (192, 8),
    "input_record": (320, 8),
    "input_dev": (328, 8),
    "input_ino": (336, 8),
    "input_mtime_ns": (344, 8),
    "input_place": (352, 8),
    "input_goodbye": (360, 8),
    **{f"output_note_{index}": (Header.OUTPUT_NOTES + 8 * index, 8) for index in range(8)},
}
SLOT_FIELDS = dict(
    zip(
        SlotHeader._fields,
        ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4), (40, 4), (44, 4), (48, 8), (56, 8)),
        strict=True,
    )
)


def header_poke(field: str, value: int) -> Poke:
    """`value`, cut to the field's width, into a field of the header."""
    at, width = HEADER_FIELDS[field]
    return Poke(at, width, value % 2 ** (8 * width))


def slot_poke(slot: int, field: str, value: int) -> Poke:
    """`value`, cut to the field's width, into a field of slot `slot`."""
    at, width = SLOT_FIELDS[field]
    return Poke(PAGE + slot * SLOT.size + at, width, value % 2 ** (8 * width))


# The ends of every width, and their neighbours.
EDGES = [2**bits + step for bits in (15, 31, 32, 63, 64) for step in (-3, -2, -1, 0, 1)]

# Small numbers, the page's size, the edges, and anything.
values = st.one_of(
    st.integers(0, 6),
    st.integers(PAGE - 2, PAGE + 2),
    st.sampled_from(EDGES),
    st.integers(0, 2**64 - 1),
)


def pokes(slots: int) -> st.SearchStrategy[Poke]:
    """A store into any field of the header or of one of `slots` slot headers."""
    into_header = st.builds(header_poke, st.sampled_from(sorted(HEADER_FIELDS)), values)
    into_slot = st.builds(slot_poke, st.integers(0, slots - 1), st.sampled_from(sorted(SLOT_FIELDS)), values)
    return st.one_of(into_header, into_slot)
