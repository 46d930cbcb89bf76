"""Header, slots and payloads over one memoryview: the only way to the bytes of a channel."""

from __future__ import annotations

from _thread import allocate_lock

from common.errors import BadSegment
from common.geometry import read_geometry
from common.layout import FLAGS, MAX_FRAGMENT, PAGE, SLOT, TAKEN_OFFSET, UNKNOWN, Header, SlotHeader

_lock = allocate_lock()
_lock.acquire()


def fence() -> None:
    """What was loaded and stored before is so for every processor before what comes now.

    x86-64 keeps the order that matters here by itself, arm64 does not: a lock that is released and taken again does.
    """
    _lock.release()
    _lock.acquire()


class Ring:
    """Header, slots and payloads over one memoryview, the only owner of views into it.

    The geometry is read and checked once, so nobody can change it under us: whatever is scribbled into the
    segment later, no access leaves its slot. release() must come before the segment is detached.
    """

    def __init__(self, memory: memoryview) -> None:
        self.geometry = read_geometry(memory)
        self.slot_count = self.geometry.slot_count
        self.fragment_size = min(self.geometry.slot_size, MAX_FRAGMENT)
        self.header = Header(memory)
        self._memory = memory
        self._payloads_at = self.geometry.payloads_at

    def release(self) -> None:
        """Give up every view of the segment's memory; the ring must not be used afterwards."""
        self.header.release()

    def lag(self) -> int:
        """Fragments published and not consumed; for a turn's holder exact, for anyone else a hint.

        Raises BadSegment when head and tail contradict each other.
        """
        tail = self.header.tail
        head = self.header.head
        if not 0 <= head - tail <= self.slot_count or head == UNKNOWN:
            raise BadSegment(f"head {head} and tail {tail} contradict each other ({self.slot_count} slots)")
        return head - tail

    def read_slot(self, number: int) -> SlotHeader:
        """The slot header of fragment `number`.

        Raises BadSegment when its lengths or flags are impossible.
        """
        slot = SlotHeader._make(SLOT.unpack_from(self._memory, self._slot_at(number)))
        if slot.length > self.fragment_size or slot.taken > slot.length:
            raise BadSegment(f"fragment {number} claims {slot.length} bytes, {slot.taken} of them taken")
        # Strictly below, so that the number of the next record fits too.
        if slot.flags & ~FLAGS or slot.end > UNKNOWN or slot.record + max(slot.records, 1) >= UNKNOWN:
            raise BadSegment(f"fragment {number} has an impossible header: {slot}")
        return slot

    def write_slot(self, number: int, slot: SlotHeader) -> None:
        """Describe fragment `number`; it becomes visible only when head moves past it. Raises BadSegment."""
        SLOT.pack_into(self._memory, self._slot_at(number), *slot)

    def set_taken(self, number: int, taken: int) -> None:
        """Note that `taken` payload bytes of fragment `number` are consumed: one 4-byte store."""
        at = self._slot_at(number) + TAKEN_OFFSET
        with self._memory[at : at + 4] as field, field.cast("I") as word:
            word[0] = taken

    def payload(self, number: int, start: int, stop: int) -> memoryview:
        """The payload bytes [start, stop) of fragment `number`; the caller releases the view (use `with`)."""
        at = self._payloads_at + (number % self.slot_count) * self.geometry.slot_size
        return self._memory[at + start : at + stop]

    def _slot_at(self, number: int) -> int:
        # head and tail may be scribbled on between lag() and their use; the fragment behind this one has no number.
        if number >= UNKNOWN:
            raise BadSegment(f"head or tail is {number}, which cannot be counted further")
        # Even a single slot has two headers: the last published one must outlive the filling of the next.
        return PAGE + (number % max(self.slot_count, 2)) * SLOT.size
