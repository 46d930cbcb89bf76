"""What a reader demands of a fragment before anything of it goes out, and where in its record it begins."""

from __future__ import annotations

import zlib

from common.channel.ring import Ring
from common.errors import BadSegment
from common.layout import ABORTED, FIRST, LAST, LINES, SlotHeader
from common.typed import NamedTuple


class Expected(NamedTuple):
    """What fragment `number` must be: of which record, from which offset in it, bytes; 0 between two records."""

    number: int = 0
    record: int = 0
    offset: int = 0

    def behind(self, number: int, slot: SlotHeader) -> Expected:
        """What must follow on this fragment."""
        return Expected(number + 1, slot.record + slot.records, 0 if slot.ends_record else slot.end)

    def check(self, number: int, slot: SlotHeader) -> None:
        """Whether this fragment, at the tail, follows on the last one that we consumed, if nobody has since.

        Raises BadSegment.
        """
        if self.number != number:
            self.check_tail(number)
            # Another reader was here; what it left must still make sense in itself.
            expected = (slot.record, slot.offset)
        else:
            expected = (self.record, self.offset)
        if (slot.record, slot.offset) != expected:
            raise BadSegment(
                f"fragment {number} is byte {slot.offset} of record {slot.record};"
                f" byte {expected[1]} of record {expected[0]} must follow here"
            )
        whole = slot.flags & LAST and not slot.flags & ABORTED
        if bool(slot.flags & FIRST) != (slot.offset == 0 and not slot.flags & ABORTED) or (
            whole and slot.end != slot.total
        ):
            raise BadSegment(f"fragment {number} contradicts itself: {slot}")

    def check_tail(self, tail: int) -> None:
        """Inside a record the turn is ours, and no tail ever goes back. Raises BadSegment."""
        if tail < self.number or (self.offset and tail != self.number):
            raise BadSegment(f"the tail moved from {self.number} to {tail} under its reader")


def begins_inside(ring: Ring, number: int, slot: SlotHeader) -> bool:
    """Whether what is to be read of this slot begins inside a record or a line."""
    if slot.taken and slot.flags & LINES:
        with ring.payload(number, slot.taken - 1, slot.taken) as last:
            return bytes(last) != b"\n"
    return bool(slot.offset or slot.taken)


def where_it_begins(ring: Ring, number: int, slot: SlotHeader) -> tuple[int, int]:
    """Which record what is to be read of this slot begins in, and at which of its bytes."""
    if not slot.flags & LINES:
        return slot.record, slot.offset + slot.taken
    with ring.payload(number, 0, slot.taken) as taken:
        lines = bytes(taken)
    return slot.record + lines.count(b"\n"), slot.taken - lines.rfind(b"\n") - 1


def check_crc(payload: bytes, slot: SlotHeader) -> None:
    """Raise BadSegment when the payload is not what its writer computed the checksum of."""
    found = zlib.crc32(payload)
    if found != slot.crc32:
        raise BadSegment(
            f"record {slot.record} is damaged: bytes {slot.offset} to {slot.end} have CRC-32 {found:08x},"
            f" their writer computed {slot.crc32:08x}"
        )


def measure_lines(payload: bytes, slot: SlotHeader, at_most: int | None) -> tuple[int, int]:
    """How many lines of a slot to take, and the offset in it just behind the last of them."""
    lines = payload.count(b"\n", slot.taken)
    if at_most is None or lines <= at_most:
        return lines, slot.length
    end = slot.taken
    for _ in range(at_most):
        end = payload.index(b"\n", end) + 1
    return at_most, end
