"""The reading end: how records come out."""

from __future__ import annotations

from common.channel.end import Turn, process
from common.channel.finish import FinishingEnd
from common.channel.fragments import begins_inside, check_crc, measure_lines, where_it_begins
from common.channel.listener import News, Reason, Step
from common.channel.output import Output, Sink
from common.channel.ring import fence
from common.errors import BadSegment, Gone
from common.layout import ABORTED, CHECKED, FINISHED, LINES, UNKNOWN, SlotHeader
from common.typed import NamedTuple


class Receipt(NamedTuple):
    """What one turn of a reader brought: whole records and their bytes, or one that its writer gave up."""

    records: int
    aborted: SlotHeader | None = None


class ReadEnd(FinishingEnd):
    """The reading end: receive records until the channel is over.

    `keep` removes nothing, `follow` never ends, `resume` continues the output of a reader that stopped and waits for
    a writer that continues its record.
    """

    def receive(self, sink: Sink, at_most: int | None = None) -> Receipt | None:
        """Receive one record, or the up to `at_most` lines of one slot, straight from the slots into `sink`.

        None when the channel is over. The tail moves only after `sink` has the bytes, so a reader that dies loses
        nothing: the next one gets that fragment again. One that is interrupted while `sink` writes commits what is
        out, to the byte. Raises TornRecord, TimedOut, BadSegment, ChannelError, and what `sink` raises.
        """
        output = Output(sink, self.ring, resume=self.resume, append=self.follow)
        try:
            with Turn(self, "reader_pid") as turn:
                while self._next_fragment(output):
                    number = self.ring.header.tail
                    self.listener.tell(Step.READ, number)
                    slot = self.ring.read_slot(number)
                    self._expected.check(number, slot)
                    output.check_not_input(number, slot)
                    self._check_handover(number, slot, turn.repaired)
                    self._settle(output, number, slot)
                    turn.repaired = False
                    receipt = self._consume(output, number, slot, at_most)
                    if receipt:
                        return receipt
        except Gone:
            # Another reader was at the end first, and removed the semaphore that we waited on.
            if self.ring.header.state != FINISHED or not self.drained():
                raise
            self._settle_at_end(output)
            self._see_end(self.ending())
        return None

    def _next_fragment(self, output: Output) -> bool:
        """Wait for a fragment; False when the channel is over."""
        self.listener.tell(Step.WAIT_DATA)
        return self.wait_for(
            self.objects.full_slots, self._has_data, self._why_empty, lambda: self._finish_if_over(output)
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
            return Reason(f"waiting for data, and {process(pid)} has the turn to write", pid=pid)
        last = self.last_slot()
        if last and not last.ends_record and not self.resume:
            return Reason("waiting for data; its writer is gone just now")
        if last and not last.ends_record:
            who = (
                "`writer.py --file PATH --resume` to continue" if last.source_ino else "another writer to go on behind"
            )
            return Reason(f"waiting for {who} record {last.record}", missing=True)
        if self._missing() and self._can_be_settled():
            return Reason("waiting for `writer.py --file PATH --resume`: a writer stopped before its end", missing=True)
        return Reason("waiting for a writer; start `writer.py`", missing=True)

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
                    check_crc(copy, slot)
                if slot.flags & LINES:
                    records, end = measure_lines(copy, slot, at_most)
            if slot.flags & ABORTED or not (slot.ends_record or end < slot.length):
                records = 0  # that end here
            self.listener.tell(Step.PUT_OUT, number, slot)
            before = output.sink.size
            try:
                with source[slot.taken : end] as data:
                    output.sink.write(data)
                self._commit(output, number, slot, end, records)
            except BrokenPipeError:
                raise  # what its consumer took of the slot nobody can tell: it comes again, whole
            except BaseException:
                if self.ring.header.tail == number:
                    out = payload[slot.taken : slot.taken + output.sink.size - before]
                    self._commit_partial(output, number, slot, out)
                raise
        if self.listener.progress is not None:
            self.listener.progress(slot, end - slot.taken)
        if slot.flags & ABORTED:
            self._tell_torn(
                f"record {slot.record} is torn: its writer, pid {slot.writer_pid}, stopped after {slot.offset} bytes,"
                " and another went on"
            )
            return Receipt(0, slot)
        return Receipt(records) if slot.ends_record or end < slot.length else None

    def _commit(self, output: Output, number: int, slot: SlotHeader, end: int, records: int) -> None:
        """The bytes of a slot up to `end` are out, and with them so many records."""
        length = end - slot.taken
        if end < slot.length:
            self.listener.tell(Step.COMMIT, number)
            self._set_taken(output, number, end)
            self.objects.full_slots.release()  # the slot's token goes back with what is left in it
            self.bytes += length
            self.records += records
            return
        output.note(number + 1, 0)
        if slot.flags & ABORTED:
            torn = self.ring.header.records_torn
            self.ring.header.records_torn = min(torn + 1, UNKNOWN)
        self._expected = self._expected.behind(number, slot)
        self.listener.tell(Step.COMMIT, number, slot)
        fence()  # the bytes are out before anybody may fill their slot anew
        self.ring.header.tail = number + 1  # the commit
        # No call stands here, in which a signal would be heard that makes its account of what is received.
        self.bytes += length
        self.records += records
        self.listener.tell(Step.FREE, number)
        self.objects.empty_slots.release()

    def _commit_partial(self, output: Output, number: int, slot: SlotHeader, out: memoryview) -> None:
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

    def _check_handover(self, number: int, slot: SlotHeader, interrupted: bool) -> None:
        """Another reader that was not `interrupted` in its turn cannot have stopped inside a record."""
        if slot.taken and not interrupted and begins_inside(self.ring, number, slot):
            raise BadSegment(f"fragment {number} claims that {slot.taken} bytes are taken, inside a record")

    def _settle(self, output: Output, number: int, slot: SlotHeader) -> None:
        """Before our first byte goes out: tell when it is not the first of its record."""
        kept = output.settle(number, slot)
        # What is taken of a slot, another reader has: we end when we stop inside one.
        if (self._expected.number != number or slot.taken) and begins_inside(self.ring, number, slot):
            record, begun = where_it_begins(self.ring, number, slot)
            if slot.flags & ABORTED or kept >= begun:
                self.listener.news(News(f"going on at byte {begun} of record {record}, where another reader stopped"))
            else:
                self._tell_lost(f"record {record} comes without its first {begun} bytes: another reader took them")
        if output.sink.identity:
            output.note(number, slot.taken)
