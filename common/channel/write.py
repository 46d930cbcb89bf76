"""The writing end: how records go in."""

from __future__ import annotations

import os
import zlib
from time import monotonic, sleep
from typing import Protocol

from common.channel.end import HEARTBEAT, End, Patience, Reason, _process, _Turn
from common.channel.ending import Ending
from common.channel.objects import Doorway, Objects
from common.channel.ring import fence
from common.errors import CallFailed, TornRecord
from common.layout import (
    ABORTED,
    CHECKED,
    FINISHED,
    FIRST,
    LAST,
    LINES,
    UNKNOWN,
    FileId,
    InputNote,
    SlotHeader,
)


class Source(Protocol):
    """Where a record comes from.

    `total` is its size in bytes, or UNKNOWN; `identity` is the regular file that the record is, and which can be read
    again from the middle; `file` is (st_dev, st_ino) of the regular file that its bytes come from. None: there is none.
    """

    @property
    def total(self) -> int: ...
    @property
    def identity(self) -> FileId | None: ...
    @property
    def file(self) -> tuple[int, int] | None: ...

    def fill(self, room: memoryview) -> int:
        """Put the record's next bytes into `room` and return how many; 0 at its end."""

    def skip_to(self, offset: int) -> None:
        """Go on from byte `offset` of the record (--resume)."""


class WriteEnd(End):
    """The writing end: join, send records, leave."""

    def __init__(self, objects: Objects, doorway: Doorway, patience: Patience) -> None:
        super().__init__(objects, doorway, patience)
        self.all_said = False  # whether this writer has nothing more to say: leave() is then its goodbye
        self._place = 0  # its number among the writers that joined
        self._successor = False  # it has the place of a writer that died
        self._resumed: FileId | None = None  # the file of a record that another writer began and we completed

    def join(self, source: Source | None = None, *, resume: bool = False) -> None:
        """In the doorway: count this process among the writers; `source` when it is one record of a file.

        With `resume`, a writer of the same file takes the place of the one that died: it says goodbye for it.
        """
        header = self.ring.header
        alone = not self.objects.writers.present()
        self.objects.writers.enter()
        note = header.input_note()
        # While other writers live, the one that owes its goodbye may be one of them, and needs its place.
        again = resume and source is not None and note.file == source.identity
        if again and note.owed and alone:
            self._place, self._successor = note.place, True
        else:
            self._count_in()
            if source and source.identity and not note.owed:
                # What was sent before, and is perhaps the last record, stays noted for whoever resumes after us.
                self._note(note.record if again else UNKNOWN, source.identity)
        header.writers_joined = self.ring.header.count_joined() if self._successor else self._place

    def _count_in(self) -> None:
        self._place, self._successor = min(self.ring.header.count_joined() + 1, UNKNOWN), False

    def _note(self, record: int, file: FileId) -> None:
        """In the doorway: our note replaces one whose goodbye may not have been counted yet."""
        self.ring.header.writers_left = self.ring.header.count_left()
        self.ring.header.note_input(InputNote(record, file, self._place, 0))

    def send(self, source: Source, *, resume: bool = False, verify: bool = False) -> None:
        """Send one record, as many fragments as it takes, straight from `source` into the slots.

        With `resume`, continue the unfinished record of a dead writer from its first byte that was not committed.
        With `verify`, each fragment gets its checksum before it is in anybody's reach, which costs a copy.
        Raises TornRecord when it cannot be this record's beginning, TimedOut, Gone, BadSegment, and what `source`
        raises; the record is then unfinished and can be resumed.
        """
        with _Turn(self, "writer_pid"):
            begun = self._take_up(source if resume else None)
            if begun is None:
                return
            record, offset = begun
            if source.identity and not offset:
                self._note_begun(record, source.identity)
            source.skip_to(offset)
            file = source.file or (0, 0)
            aside = memoryview(bytearray(min(self.ring.fragment_size, source.total - offset))) if verify else None
            ended = False
            while not ended:
                number = self._free_slot()
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
            self.records += 1

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
        with _Turn(self, "writer_pid"):
            record = self._next_record()
            number = self._free_slot()
            length = len(lines)
            with self.ring.payload(number, 0, length) as room:
                room[:] = lines
            crc = zlib.crc32(lines) if verify else 0
            flags = LINES | FIRST | LAST | (CHECKED if verify else 0)
            self._publish(
                number, SlotHeader(length, flags, record, 0, length, os.getpid(), crc, count, 0, *(file or (0, 0)))
            )
            self.records += count

    def _take_up(self, resume: Source | None) -> tuple[int, int] | None:
        """The number of the record to write and the offset to write it from; None: there is nothing left to resume."""
        last = self.last_slot()
        if not resume or last is None:
            return self._next_record(), 0
        with self.doorway:  # or a writer that joins might replace it half-way
            note = self.ring.header.input_note()
        try:
            if last.ends_record:
                if not self._is_complete(last, resume, note):
                    return self._next_record(), 0
                self._resumed = resume.identity
                return None
            self._check_begun_from(last, resume, note)
        except TornRecord:
            self.all_said = True  # it has nothing to say here
            raise
        self._resumed = resume.identity
        return last.record, last.end

    def _next_record(self) -> int:
        """The number of a new record; what a dead writer left unfinished is marked ABORTED."""
        last = self.last_slot()
        if last and not last.ends_record:
            number = self._free_slot()
            self._publish(number, SlotHeader(0, ABORTED, last.record, last.end, last.total, last.writer_pid, 0, 1))
            return last.record + 1
        record = last.record + last.records if last else 0
        if self.ring.header.input_record == record:  # of a dead writer that had published nothing of it
            with self.doorway:
                self.ring.header.input_record = UNKNOWN
        return record

    def _check_begun_from(self, last: SlotHeader, source: Source, note: InputNote) -> None:
        """Raise TornRecord when the unfinished last record cannot be the beginning of `source`."""
        if not last.source_ino or note.record != last.record:
            difference = f"record {last.record} is a message, a line or from a pipe, which cannot be read again"
        elif last.source != source.file:
            difference = f"record {last.record} was begun from another one"
        elif source.total == UNKNOWN or last.total != source.total:
            difference = (
                f"its size is {_size(source.total)}, and record {last.record} stopped after {last.end} bytes of"
                f" {_size(last.total)}"
            )
        elif note.file != source.identity:
            difference = f"it was changed after record {last.record} was begun from it"
        else:
            return
        raise TornRecord(
            f"this is not the file to resume: {difference}; `writer.py --remove` gives up what was begun, then send it"
            " anew"
        )

    def _is_complete(self, last: SlotHeader, source: Source, note: InputNote) -> bool:
        """Whether the last record is all of `source`: its writer died with nothing left to send."""
        if note.record != last.record or note.file != source.identity:
            return False
        if last.flags & ABORTED:
            raise TornRecord(
                f"record {last.record} was given up after {last.offset} bytes when another writer went on;"
                " send it again without --resume"
            )
        # Lines and messages leave no note: it can be of a writer that died before it sent anything. An empty file does
        # not tell its size, see FileSource.
        return last.source == source.file and not last.flags & LINES and source.total in (last.total, UNKNOWN)

    def _note_begun(self, record: int, file: FileId) -> None:
        """Note that `record` is this file, before anything of it is published."""
        header = self.ring.header
        with self.doorway:
            note = header.input_note()
            if note.owed and note.place == self._place and note.record == UNKNOWN:
                header.input_record = record
                self._successor = False  # the place is its own: nothing had begun
                return
            if self._successor:  # its predecessor is through: it goes on as a writer of its own
                self._count_in()
            self._note(record, file)
            header.writers_joined = max(header.writers_joined, self._place)

    def _free_slot(self) -> int:
        """Wait for room; the number of the fragment to fill. Raises TimedOut, Gone, BadSegment."""
        self.wait_for(self.objects.empty_slots, self._has_room, self._why_full)
        return self.ring.header.head

    def _has_room(self) -> bool:
        return self.ring.lag() < self.ring.slot_count

    def _why_full(self) -> Reason:
        waiting = f"waiting for room: all {self.ring.slot_count} slots are full"
        pid = self.objects.reader_turn.holder()
        if pid is None:
            return Reason(f"{waiting} and nobody is reading; start reader.py", missing=True)
        return Reason(f"{waiting}, and {_process(pid)} has the turn to read", pid=pid)

    def _publish(self, number: int, slot: SlotHeader) -> None:
        self.ring.write_slot(number, slot)
        fence()  # whoever sees the new head sees the slot filled
        self.ring.header.head = number + 1  # the commit
        self.objects.full_slots.release()
        self._progressed(slot.length)

    def wait_until_consumed(self) -> None:
        """Return when readers have consumed all that is in the ring now (--wait). Raises TimedOut, ChannelError."""
        header = self.ring.header
        head = header.head
        began = monotonic()
        pause = 0.001
        while header.tail < head:
            self._check_all_there()
            if self._moved():
                began = monotonic()
            self.patience.beat(self._why_unread(), monotonic() - began)
            sleep(pause)
            pause = min(2 * pause, HEARTBEAT)

    def _why_unread(self) -> Reason:
        pid = self.objects.reader_turn.holder()
        if pid is None:
            return Reason("waiting until all is read, and nobody is reading; start reader.py", missing=True)
        return Reason(f"waiting until all is read, and {_process(pid)} has the turn to read", pid=pid)

    def leave(self) -> bool:
        """In the doorway: count us out and wake a reader; True when we were the last one out and removed the channel.

        That is when all is said and consumed and nobody else has the segment attached, or when nothing was ever said.
        To be followed by detach() before the doorway opens, see ReadEnd.leave.
        """
        if self.clear_if_removed():
            return False
        if self.all_said:
            self._say_goodbye()
        self.objects.writers.leave()
        if self._is_last_out() and self.objects.alone() and self._may_remove():
            self._take_away(FINISHED)
            return True
        self.objects.full_slots.release()
        return False

    def _say_goodbye(self) -> None:
        """Count us among the writers that said all they had to, and with us the dead one whose record we completed."""
        header = self.ring.header
        note = header.input_note()
        own = not self._successor
        noted = own and note.owed and note.place == self._place
        for_the_dead = note.owed and note.file == self._resumed and not noted
        left = min(self.ring.header.count_left() + own + for_the_dead, UNKNOWN)
        if noted or for_the_dead:
            header.input_goodbye = left  # whoever dies in here has said it, see Header.count_left
        header.writers_left = left

    def _is_last_out(self) -> bool:
        """Whether the channel may go with us: a reader would learn nothing from it."""
        ending = self.ending()
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


def _size(total: int) -> str:
    return "unknown" if total == UNKNOWN else str(total)
