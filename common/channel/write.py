"""The writing end: how records go in."""

from __future__ import annotations

import os
import zlib

from common.channel.end import End, Turn, process
from common.channel.ending import Ending
from common.channel.input import Input, Source
from common.channel.listener import Reason, Step
from common.channel.objects import Doorway, Objects
from common.channel.patience import Patience
from common.channel.ring import fence
from common.errors import CallFailed, TornRecord
from common.layout import ABORTED, CHECKED, FINISHED, FIRST, LAST, LINES, UNKNOWN, SlotHeader


class WriteEnd(End):
    """The writing end: join, send records, leave."""

    def __init__(self, objects: Objects, doorway: Doorway, patience: Patience) -> None:
        super().__init__(objects, doorway, patience)
        self.all_said = False  # whether this writer has nothing more to say: leave() is then its goodbye
        self.unfinished = False  # whether it has begun a record and not ended it
        self._input = Input(self.ring, doorway)

    def join(self, source: Source | None = None, *, resume: bool = False) -> None:
        """In the doorway: count this process among the writers; `source` when it is one record of a file.

        With `resume`, a writer of the same file takes the place of the one that died: it says goodbye for it.
        """
        alone = resume and not self.objects.writers.present()
        self.objects.writers.enter()
        self._input.join(source, succeeds=alone, resume=resume)

    def send(self, source: Source, *, resume: bool = False, verify: bool = False) -> None:
        """Send one record, as many fragments as it takes, straight from `source` into the slots.

        With `resume`, continue the unfinished record of a dead writer from its first byte that was not committed.
        With `verify`, each fragment gets its checksum before it is in anybody's reach, which costs a copy.
        Raises TornRecord when it cannot be this record's beginning, TimedOut, Gone, BadSegment, and what `source`
        raises; the record is then unfinished and can be resumed.
        """
        with Turn(self, "writer_pid"):
            begun = self._begin_record(source if resume else None)
            if begun is None:
                return
            record, offset = begun
            self.unfinished = offset > 0
            if source.identity and not offset:
                self._input.begin(record, source.identity)
            source.skip_to(offset)
            file = source.file or (0, 0)
            aside = memoryview(bytearray(min(self.ring.fragment_size, source.total - offset))) if verify else None
            ended = False
            while not ended:
                number = self._free_slot()
                self.listener.tell(Step.FILL, number)
                with self.ring.payload(number, 0, min(self.ring.fragment_size, source.total - offset)) as room:
                    length, crc = self._fill(room, source, aside)
                end = offset + length
                ended = end == source.total or not length
                if ended and source.total not in (end, UNKNOWN):
                    raise TornRecord(f"the input became shorter: it ended after {end} of {source.total} bytes")
                flags = (0 if offset else FIRST) | (LAST if ended else 0) | (CHECKED if verify else 0)
                total = end if ended else source.total
                self._publish(
                    number, SlotHeader(length, flags, record, offset, total, os.getpid(), crc, int(ended), 0, *file)
                )
                offset = end

    def _fill(self, room: memoryview, source: Source, aside: memoryview | None) -> tuple[int, int]:
        """Put the next bytes of `source` into the slot: how many, and their checksum when they were put aside first."""
        if aside is None:
            return source.fill(room), 0
        length = source.fill(aside[: len(room)])
        room[:length] = aside[:length]
        return length, zlib.crc32(aside[:length])

    def send_lines(
        self, lines: bytes | memoryview, count: int, *, file: tuple[int, int] | None = None, verify: bool = False
    ) -> None:
        """Send `count` whole newline-terminated lines of `file` in one slot; they must fit it. Raises like send()."""
        with Turn(self, "writer_pid"):
            record = self._next_record()
            number = self._free_slot()
            length = len(lines)
            self.listener.tell(Step.FILL, number)
            with self.ring.payload(number, 0, length) as room:
                room[:] = lines
            crc = zlib.crc32(lines) if verify else 0
            flags = LINES | FIRST | LAST | (CHECKED if verify else 0)
            self._publish(
                number, SlotHeader(length, flags, record, 0, length, os.getpid(), crc, count, 0, *(file or (0, 0)))
            )

    def _begin_record(self, resume: Source | None) -> tuple[int, int] | None:
        """The number of the record to write and the offset to write it from; None: there is nothing left to resume."""
        last = self.last_slot()
        if not resume or last is None:
            return self._next_record(), 0
        try:
            continues = self._input.continues(last, resume)
        except TornRecord:
            self.all_said = True  # it has nothing to say here
            raise
        if continues is None:
            return None
        return (last.record, last.end) if continues else (self._next_record(), 0)

    def _next_record(self) -> int:
        """The number of a new record; what a dead writer left unfinished is marked ABORTED."""
        last = self.last_slot()
        if last and not last.ends_record:
            number = self._free_slot()
            self._publish(number, SlotHeader(0, ABORTED, last.record, last.end, last.total, last.writer_pid, 0, 1))
            return last.record + 1
        record = last.record + last.records if last else 0
        self._input.take_number(record)
        return record

    def _free_slot(self) -> int:
        """Wait for room; the number of the fragment to fill. Raises TimedOut, Gone, BadSegment."""
        self.listener.tell(Step.WAIT_SLOT)
        self.wait_for(self.objects.empty_slots, self._has_room, self._why_full)
        return self.ring.header.head

    def _has_room(self) -> bool:
        return self.ring.lag() < self.ring.slot_count

    def _why_full(self) -> Reason:
        slots = self.ring.slot_count
        waiting = f"waiting for room: {f'all {slots} slots are' if slots > 1 else 'the only slot is'} full"
        pid = self.objects.reader_turn.holder()
        if pid is None:
            return Reason(f"{waiting} and nobody is reading; start `reader.py`", missing=True)
        return Reason(f"{waiting}, and {process(pid)} has the turn to read", pid=pid)

    def _publish(self, number: int, slot: SlotHeader) -> None:
        self.ring.write_slot(number, slot)
        self.listener.tell(Step.PUBLISH, number, slot)
        length, records, ended = slot.length, 0 if slot.flags & ABORTED else slot.records, slot.ends_record
        fence()  # whoever sees the new head sees the slot filled
        self.ring.header.head = number + 1  # the commit
        # No call stands here, in which a signal would be heard that makes its account of what is sent.
        self.bytes += length
        self.records += records
        self.unfinished = not ended
        self.objects.full_slots.release()
        if self.listener.progress is not None:
            self.listener.progress(slot, length)

    def wait_until_consumed(self) -> None:
        """Return when readers have consumed all that is in the ring now (--wait). Raises TimedOut, ChannelError."""
        head = self.ring.header.head

        def look() -> bool | None:
            if self.ring.header.tail >= head:
                return True
            self._check_all_there("do not send it again: all of it is in the segment")
            return None

        self.patience.look_until(look, self._why_unread, self._moved)

    def _why_unread(self) -> Reason:
        pid = self.objects.reader_turn.holder()
        if pid is None:
            return Reason("waiting until all is read, and nobody is reading; start `reader.py`", missing=True)
        return Reason(f"waiting until all is read, and {process(pid)} has the turn to read", pid=pid)

    def leave(self) -> bool:
        """In the doorway: count us out and wake a reader; True when we were the last one out and removed the channel.

        That is when all is said and consumed and nobody else has the segment attached, or when nothing was ever said.
        To be followed by detach() before the doorway opens, see ReadEnd.leave.
        """
        if self.clear_if_removed():
            return False
        if self.all_said:
            self._input.say_goodbye()
        self.objects.writers.leave()
        if self._is_last_out() and self.objects.alone() and self._may_remove():
            self._take_away(FINISHED)
            return True
        self.objects.full_slots.release()
        return False

    def _is_to_go(self) -> bool:
        return self.all_said and not self.unread() and self.objects.alone()

    def _is_last_out(self) -> bool:
        """Whether the channel may go with us: a reader would learn nothing from it."""
        ending = self.ending(marked=False)
        header = self.ring.header
        if ending is Ending.OVER:
            return not header.records_torn
        # Nobody ever said anything; that we had to, and did not, our own exit code says.
        joined = self.ring.header.count_joined()
        left = self.ring.header.count_left()
        return ending is Ending.BROKEN_OFF and not header.head and joined - left == 1

    def _may_remove(self) -> bool:
        """False when the channel is another user's, who has to remove it."""
        try:
            self.objects.check_removable()
        except CallFailed:
            return False
        return True
