"""The reading end: how records come out."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from common.channel.end import End, Patience, Reason, _process, _Turn
from common.channel.ending import Ending
from common.channel.objects import Doorway, Objects
from common.channel.output import Output, Sink
from common.channel.ring import fence
from common.errors import BadSegment, Gone, TornRecord
from common.layout import (
    ABORTED,
    CHECKED,
    FINISHED,
    FIRST,
    LAST,
    LINES,
    OPEN,
    UNKNOWN,
    SlotHeader,
)


class Receipt(NamedTuple):
    """What one turn of a reader brought: whole records and their bytes, or one that its writer gave up."""

    records: int
    aborted: SlotHeader | None = None


class News(Enum):
    """What a reader has to tell while it reads; all but CONTINUED say that data is missing."""

    CONTINUED = "going on where another reader stopped"
    HEADLESS = "the record's beginning went to another reader"
    TORN = "the record's writer stopped inside it"
    TORN_BEFORE = "another reader met a torn record"
    BROKEN_OFF = "a writer stopped before its end"


class _Expected(NamedTuple):
    """What fragment `number` must be: of which record, from which offset in it, bytes; 0 between two records."""

    number: int
    record: int
    offset: int


class ReadEnd(End):
    """The reading end: receive records until the channel is over.

    `keep` removes nothing, `follow` never ends, `resume` continues the output of a reader that stopped and waits for
    a writer that continues its record.
    """

    def __init__(
        self,
        objects: Objects,
        doorway: Doorway,
        patience: Patience,
        *,
        keep: bool = False,
        follow: bool = False,
        resume: bool = False,
    ) -> None:
        super().__init__(objects, doorway, patience)
        self.keep = keep
        self.follow = follow
        self.resume = resume
        self.incomplete = False  # whether something is missing in what came out, or in the channel that ended
        self.hear: Callable[[News, int, SlotHeader | None], None] = lambda *_: None
        self._expected = _Expected(0, 0, 0)
        self._began_at = self.ring.header.tail
        self._missed = 0  # writers that stopped before their end, as far as that was told
        self._told_torn = False  # whether a torn record was told
        self._refused = False  # the output is not the one that the channel notes

    def receive(self, sink: Sink, at_most: int | None = None) -> Receipt | None:
        """Receive one record, or the up to `at_most` lines of one slot, straight from the slots into `sink`.

        None when the channel is over. The tail moves only after `sink` has the bytes, so a reader that dies loses
        nothing: the next one gets that fragment again. One that is interrupted while `sink` writes commits what is
        out, to the byte. Raises TornRecord, TimedOut, BadSegment, ChannelError, and what `sink` raises.
        """
        output = Output(sink, self.ring, resume=self.resume, append=self.follow)
        try:
            with _Turn(self, "reader_pid") as turn:
                while self._next_fragment(output):
                    number = self.ring.header.tail
                    slot = self.ring.read_slot(number)
                    self._check(number, slot)
                    output.check_not_input(number, slot)
                    self._check_handover(number, slot, turn.repaired)
                    self._settle(output, number, slot)
                    turn.repaired = False
                    receipt = self._consume(output, number, slot, at_most)
                    if receipt:
                        self.records += receipt.records
                        return receipt
        except Gone:
            # Another reader was at the end first, and removed the semaphore that we waited on.
            if self.ring.header.state != FINISHED or not self.drained():
                raise
            self._settle_at_end(output)
            self._see_end(self.ending())
        return None

    def _settle_at_end(self, output: Output) -> None:
        self._refused = True
        output.settle_at_end(self._began_at)
        self._refused = False

    def _next_fragment(self, output: Output) -> bool:
        """Wait for a fragment; False when the channel is over."""
        return self.wait_for(
            self.objects.full_slots, self._has_data, self._why_empty, lambda: self.finish_if_over(output)
        )

    def _has_data(self) -> bool:
        found = self.ring.lag() > 0
        if found:
            fence()  # nothing of the slot was loaded before head
        return found

    def _why_empty(self) -> Reason:
        if self.objects.writers.present():
            pid = self.objects.writer_turn.holder()
            if pid is None:
                return Reason("waiting for data; a writer is there, and sends nothing")
            return Reason(f"waiting for data, and {_process(pid)} has the turn to write", pid=pid)
        last = self.last_slot()
        if last and not last.ends_record:
            return Reason(
                f"waiting for `writer.py --file PATH --resume` to continue record {last.record}", missing=True
            )
        if self._missing() and self._can_be_settled():
            return Reason("waiting for `writer.py --file PATH --resume`: a writer stopped before its end", missing=True)
        return Reason("waiting for a writer; start writer.py", missing=True)

    def _consume(self, output: Output, number: int, slot: SlotHeader, at_most: int | None) -> Receipt | None:
        """Put one fragment out and commit it; a receipt when a record ended with it."""
        with self.ring.payload(number, 0, slot.length) as payload:
            records, end = slot.records, slot.length
            source = payload
            if slot.flags & CHECKED or slot.taken or (slot.flags & LINES and at_most):
                # Copied first, so that nobody can change it between the check and the way out.
                copy = bytes(payload)
                source = memoryview(copy)
                if slot.flags & CHECKED:
                    _check_crc(copy, slot)
                if slot.flags & LINES:
                    records, end = _measure_lines(copy, slot, at_most)
            before = output.sink.size
            try:
                with source[slot.taken : end] as data:
                    output.sink.write(data)
                self._commit(output, number, slot, end)
            except BrokenPipeError:
                raise  # what its consumer took of the slot nobody can tell: it comes again, whole
            except BaseException:
                if self.ring.header.tail == number:
                    out = payload[slot.taken : slot.taken + output.sink.size - before]
                    self._commit_part(output, number, slot, out)
                raise
        self._progressed(end - slot.taken)
        if end < slot.length:
            return Receipt(records)
        if not slot.ends_record:
            return None
        if slot.flags & ABORTED:
            self._tell(News.TORN, slot.record, slot)
            return Receipt(0, slot)
        return Receipt(records)

    def _commit(self, output: Output, number: int, slot: SlotHeader, end: int) -> None:
        """The bytes of a slot up to `end` are out."""
        if end < slot.length:
            self._set_taken(output, number, end)
            self.objects.full_slots.release()  # the slot's token goes back with what is left in it
            return
        output.note(number + 1, 0)
        if slot.flags & ABORTED:
            torn = self.ring.header.records_torn
            self.ring.header.records_torn = min(torn + 1, UNKNOWN)
        self._expected = _Expected(number + 1, slot.record + slot.records, 0 if slot.ends_record else slot.end)
        fence()  # the bytes are out before anybody may fill their slot anew
        self.ring.header.tail = number + 1  # the commit
        self.objects.empty_slots.release()

    def _commit_part(self, output: Output, number: int, slot: SlotHeader, out: memoryview) -> None:
        """The bytes `out` of a slot are out, when an exception came."""
        length = len(out)
        if slot.flags & LINES:
            self.records += bytes(out).count(b"\n")
        if length:
            self._set_taken(output, number, slot.taken + length)
            self.bytes += length

    def _set_taken(self, output: Output, number: int, taken: int) -> None:
        if not output.sink.identity:
            output.note(number, taken)
        self.ring.set_taken(number, taken)

    def _check(self, number: int, slot: SlotHeader) -> None:
        """Whether this fragment follows on the last one that we consumed, if nobody consumed any since."""
        if self._expected.number != number:
            # Inside a record the turn is ours, and no tail ever goes back.
            if number < self._expected.number or self._expected.offset:
                raise self._tail_moved()
            # Another reader was here; what it left must still make sense in itself.
            expected = (slot.record, slot.offset)
        else:
            expected = (self._expected.record, self._expected.offset)
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

    def _check_handover(self, number: int, slot: SlotHeader, interrupted: bool) -> None:
        """Another reader that was not `interrupted` in its turn cannot have stopped inside a record."""
        if slot.taken and not interrupted and self._is_inside(number, slot):
            raise BadSegment(f"fragment {number} claims that {slot.taken} bytes are taken, inside a record")

    def _is_inside(self, number: int, slot: SlotHeader) -> bool:
        """Whether what is to be read of this slot begins inside a record or a line."""
        if slot.taken and slot.flags & LINES:
            with self.ring.payload(number, slot.taken - 1, slot.taken) as last:
                return bytes(last) != b"\n"
        return bool(slot.offset or slot.taken)

    def _where(self, number: int, slot: SlotHeader) -> tuple[int, int]:
        """Which record what is to be read of this slot begins in, and at which of its bytes."""
        if not slot.flags & LINES:
            return slot.record, slot.offset + slot.taken
        with self.ring.payload(number, 0, slot.taken) as taken:
            lines = bytes(taken)
        return slot.record + lines.count(b"\n"), slot.taken - lines.rfind(b"\n") - 1

    def _tail_moved(self) -> BadSegment:
        return BadSegment(f"the tail moved from {self._expected.number} to {self.ring.header.tail} under its reader")

    def _settle(self, output: Output, number: int, slot: SlotHeader) -> None:
        """Before our first byte goes out: tell when it is not the first of its record."""
        kept = output.settle(number, slot)
        # What is taken of a slot, another reader has: we end when we stop inside one.
        if (self._expected.number != number or slot.taken) and self._is_inside(number, slot):
            record, begun = self._where(number, slot)
            whole = slot.flags & ABORTED or kept >= begun
            self._tell(News.CONTINUED if whole else News.HEADLESS, begun, slot._replace(record=record))
        if output.sink.identity:
            output.note(number, slot.taken)

    def leave(self) -> bool:
        """In the doorway: True when the channel is over; we have then removed it, unless `keep`.

        To be followed by detach() before the doorway opens: two that leave at once would each take the other for
        somebody who stays.
        """
        if self.removed or self.clear_if_removed():
            return self.removed
        ending = self.ending()
        if self._refused or not self._ends_with(ending) or self.ring.header.state != OPEN:
            return False
        self._see_end(ending)
        if not self.keep:
            self.remove(FINISHED)
        return True

    def _ends_with(self, ending: Ending) -> bool:
        """Whether this is the end: with `resume`, a writer may still continue what was broken off."""
        return ending is Ending.OVER or (ending is Ending.BROKEN_OFF and not (self.resume and self._can_be_settled()))

    def _can_be_settled(self) -> bool:
        """Whether a writer that resumes can make up for a missing goodbye: its file is noted, and nobody went on."""
        note = self.ring.header.input_note()
        last = self.last_slot()
        if not note.owed or note.record == UNKNOWN or last is None:
            return note.owed
        return last.record < note.record or (last.record == note.record and not last.flags & ABORTED)

    def finish_if_over(self, output: Output) -> bool:
        """True when the channel is over; we have then removed it, unless `keep`. Raises TornRecord."""
        if not self.drained():
            return False
        finished = self.ring.header.state == FINISHED
        if self.follow and not finished:
            self._notice_broken_off()
            return False
        if self._expected.offset and self._expected.number != self.ring.header.tail:
            raise self._tail_moved()
        with self.doorway:
            if not self.drained():
                return False
            ending = self.ending()
            if ending is Ending.TORN and not self.resume:
                raise self._torn()
            if not self._ends_with(ending) and self.ring.header.state == OPEN:
                return False
            self._settle_at_end(output)
            self._see_end(ending)
            # The mark on the segment is the last of a removal: without it, whoever was removing has died.
            if not self.keep and not self.objects.removed():
                self.remove(FINISHED)
        return True

    def _torn(self) -> TornRecord:
        last = self.last_slot()
        assert last
        return TornRecord(
            f"record {last.record} is unfinished: its writer, pid {last.writer_pid}, stopped after {last.end}"
            " bytes; `writer.py --file PATH --resume` continues it, `writer.py --remove` gives it up"
        )

    def _notice_broken_off(self) -> None:
        """With `follow`: tell that a writer stopped before its end, and go on."""
        missing = self._missing()
        if missing > self._missed:
            with self.doorway:
                ending = self.ending()
                if ending is Ending.BROKEN_OFF and self._ends_with(ending):
                    self._tell_broken_off()

    def _missing(self) -> int:
        """Writers that stopped before their end, but for those of torn records, which tell of it themselves."""
        joined = self.ring.header.count_joined()
        return joined - self._settled()

    def _tell_broken_off(self) -> None:
        """Once for each writer that is missing: at the end, and with `keep` or `follow` again when we leave."""
        missing = self._missing()
        if missing > self._missed:
            self._missed = missing
            self._tell(News.BROKEN_OFF, missing, self.last_slot())

    def _see_end(self, ending: Ending) -> None:
        """Tell what is missing in a channel that ended, whoever met it before."""
        torn = self.ring.header.records_torn
        if torn and not self._told_torn:
            self._tell(News.TORN_BEFORE, torn, None)
        if ending is Ending.BROKEN_OFF:
            self._tell_broken_off()

    def _tell(self, news: News, number: int, slot: SlotHeader | None) -> None:
        self.incomplete = self.incomplete or news is not News.CONTINUED
        self._told_torn = self._told_torn or news in (News.TORN, News.TORN_BEFORE)
        self.hear(news, number, slot)


def _check_crc(payload: bytes, slot: SlotHeader) -> None:
    found = zlib.crc32(payload)
    if found != slot.crc32:
        raise BadSegment(
            f"record {slot.record} is damaged: bytes {slot.offset} to {slot.end} have CRC-32 {found:08x},"
            f" their writer computed {slot.crc32:08x}"
        )


def _measure_lines(payload: bytes, slot: SlotHeader, at_most: int | None) -> tuple[int, int]:
    """How many lines of a slot to take, and the offset in it just behind the last of them."""
    lines = payload.count(b"\n", slot.taken)
    if at_most is None or lines <= at_most:
        return lines, slot.length
    end = slot.taken
    for _ in range(at_most):
        end = payload.index(b"\n", end) + 1
    return at_most, end
