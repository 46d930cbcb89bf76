"""The ring protocol: how records go in at one end and come out at the other, whoever dies in between.

This file knows order, not the operating system: it is handed a family of IPC objects (ipc.Family) and a doorway,
and runs unchanged on the simulated ones of tests/model.

Semaphores wake; head and tail decide. A token in full_slots or empty_slots only says "look again": every waiter
looks at head and tail after each wake and each heartbeat, so a lost or an extra token can neither lose data nor
hang anyone. A turn lasts one record. A process that dies in its turn leaves its pid in the header; the next holder
of the turn pays back one token of each kind, which is the most that the dead one can have taken or owed.

The order that everything rests on: fill the slot, then move head, then release full_slots; use the slot, then
move tail, then release empty_slots. x86 keeps stores in order; the semaphore operation in between is the barrier
for a reader that it wakes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from enum import Enum
from time import monotonic, sleep
from typing import NamedTuple, Protocol

from common.ending import Ending, Facts, judge
from common.ipc import CallFailed, ChannelError, Counter, Doorway, Family, Gone, TimedOut, TornRecord
from common.layout import (
    ABORTED,
    CHECKED,
    FINISHED,
    FIRST,
    LAST,
    LINES,
    OPEN,
    REMOVED,
    UNKNOWN,
    BadSegment,
    FileId,
    InputNote,
    OutputNote,
    Ring,
    SlotHeader,
)

# A lost wake-up costs at most this long, in seconds; it is also how soon a dead peer is noticed.
HEARTBEAT = 0.1


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


class Sink(Protocol):
    """Where records go.

    `identity` is (st_dev, st_ino) of a regular file that `resume` may continue, else None; `file` that of any regular
    file behind it; `size` is how many bytes are out, even when write() was interrupted; `settled` becomes true when the
    channel has cut it to where it goes on.
    """

    settled: bool

    @property
    def identity(self) -> tuple[int, int] | None: ...
    @property
    def file(self) -> tuple[int, int] | None: ...
    @property
    def size(self) -> int: ...

    def write(self, data: memoryview) -> None:
        """Put all of `data` out."""

    def cut(self, size: int) -> None:
        """Make the output `size` bytes long and go on behind them."""


class Reason(NamedTuple):
    """What a process waits for; `missing` when the other side is not even there, which a person wants to hear.

    `pid` is the process that the text names, whom it waits for; 0: none.
    """

    text: str
    missing: bool = False
    pid: int = 0


class Patience:
    """How long to wait without progress, and who hears of it.

    `timeout` is in seconds, None for ever. `tell(reason, seconds)` is called at each heartbeat of a wait.
    """

    def __init__(self, timeout: float | None, tell: Callable[[Reason, float], None]) -> None:
        self.timeout = timeout
        self.tell = tell

    def beat(self, reason: Reason, waited: float) -> None:
        """Another heartbeat has passed, `waited` seconds in all. Raises TimedOut when they are too many."""
        if self.timeout is not None and waited >= self.timeout:
            raise TimedOut(f"gave up after {self.timeout:g} s of {reason.text}")
        self.tell(reason, waited)


class Receipt(NamedTuple):
    """What one turn of a reader brought: whole records and their bytes, or one that its writer gave up."""

    records: int
    aborted: SlotHeader | None = None


class _Turn:
    """`with`: hold a turn. An exception leaves our pid behind, so that the next holder repairs as after a death."""

    def __init__(self, end: End, field: str) -> None:
        self._end = end
        self._field = field  # writer_pid or reader_pid
        self._lock = end.family.writer_turn if field == "writer_pid" else end.family.reader_turn
        self.repaired = False  # whether the last holder stopped in its turn

    def __enter__(self) -> _Turn:
        end, header = self._end, self._end.ring.header
        end.wait_for(self._lock, None, self._why_not_ours)
        if getattr(header, self._field):
            end.family.empty_slots.release()
            end.family.full_slots.release()
            self.repaired = True
        setattr(header, self._field, os.getpid())
        return self

    def _why_not_ours(self) -> Reason:
        pid = self._lock.holder()
        if pid is None:  # given back just now
            return Reason("waiting for our turn")
        return Reason(f"waiting for our turn, which {_process(pid)} has", pid=pid)

    def __exit__(self, kind: object, *_: object) -> None:
        header = self._end.ring.header
        if kind is None:
            setattr(header, self._field, 0)
        if self._end.removed:
            return
        try:
            self._lock.release()
        except Gone:
            # The channel is over: nobody needs the turn.
            if kind is None and header.state != FINISHED:
                raise


class End:
    """What both ends of a channel share: waiting, the end of the channel, leaving."""

    def __init__(self, family: Family, doorway: Doorway, patience: Patience) -> None:
        self.family = family
        self.ring = Ring(family.memory)
        self.doorway = doorway
        self.patience = patience
        self.removed = False
        self.records = 0
        self.bytes = 0
        self.on_progress: Callable[[], None] | None = None  # heard after each fragment
        self._position = (0, 0)

    def wait_for(
        self,
        counter: Counter,
        ready: Callable[[], bool] | None,
        reason: Callable[[], Reason],
        over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Take a token of `counter`; True once `ready()`, False once `over()`. Without `ready`, the token decides.

        Raises TimedOut, Gone.
        """
        try:
            token = counter.acquire(0)
            if ready() if ready else token:
                return True
            began = beaten = monotonic()
            while not over():
                token = counter.acquire(HEARTBEAT)
                if ready() if ready else token:
                    return True
                now = monotonic()
                if not token or now - beaten > HEARTBEAT:
                    beaten = now
                    self._check_all_there()
                    if self.patience.timeout is not None and self._moved():
                        began = now
                    self.patience.beat(reason(), now - began)
        except Gone:
            self._check_all_there()
            raise
        return False

    def _moved(self) -> bool:
        """Whether head or tail moved since this was asked last: somebody makes progress, if not we."""
        before = self._position
        tail = self.ring.header.tail
        self._position = (self.ring.header.head, tail)
        return self._position != before

    def _check_all_there(self) -> None:
        """Raise ChannelError when the channel, or one of its semaphores, was removed under us."""
        removed = self.family.removed()  # before the state, which a reader that finishes stores first
        state = self.ring.header.state
        if state == REMOVED or (removed and state != FINISHED):
            raise ChannelError("EIDRM: the channel was removed while we waited, by `--remove` or ipcrm")
        missing = None if removed else self.family.missing()
        if missing and self.ring.header.state == OPEN:  # whoever removes a channel stores so first
            raise ChannelError(
                f"EIDRM: semaphore {missing} was removed while we waited, by ipcrm; start again: nothing is lost, the"
                " first one that finds itself alone makes all five anew"
            )

    def unread(self) -> int:
        """Slots that wait for a reader: a hint while anybody reads or writes."""
        tail = self.ring.header.tail
        return max(self.ring.header.head - tail, 0)

    def last_slot(self) -> SlotHeader | None:
        """The slot published last, None before the first. Only for whoever keeps the writers out."""
        head = self.ring.header.head
        return self.ring.read_slot(head - 1) if head else None

    def drained(self) -> bool:
        """Nothing left to read and nobody left to write; final only in the doorway, and ending() says what it means.

        For the holder of reader_turn or whoever is in the doorway: for others the tail moves under it.
        """
        header = self.ring.header
        finished = header.state == FINISHED
        if not finished and (not self._writers_joined() or self.family.writers.present()):
            return False
        # Only now: with no writer alive and the doorway shut, head stands still.
        lag = self.ring.lag()
        if lag and finished:
            raise BadSegment(f"it is marked as finished, and {lag} fragments are unread")
        return not lag

    def ending(self) -> Ending:
        """How the channel stands. In the doorway, or when it is FINISHED. Raises BadSegment."""
        header = self.ring.header
        state = header.state
        marked = state == OPEN and self.family.removed()
        joined = self._writers_joined()
        left = self._settled()
        live = state == OPEN and not marked and self.family.writers.present()
        # Only now, see drained(); and where a writer may still move head, lag() would take us for a holder of its turn.
        still = state == FINISHED or (state == OPEN and not marked and not live)
        unread = self.ring.lag() if still else 0
        last = self.last_slot() if still and state == OPEN and not unread else None
        unfinished = last is not None and not last.ends_record
        return judge(Facts(state, marked, joined, left, live, unread, unfinished))

    def _writers_joined(self) -> int:
        """How many writers have joined; one that died while it did had noted its place before it was counted."""
        joined = self.ring.header.writers_joined
        return max(joined, self.ring.header.input_place)

    def _writers_left(self) -> int:
        """How many writers have said goodbye; one that died while it said so had noted what this was to become."""
        left = self.ring.header.writers_left
        return max(left, self.ring.header.input_goodbye)

    def _settled(self) -> int:
        """How many writers nobody waits for: they said goodbye, or their record was given up as torn."""
        left = self._writers_left()
        return left + self.ring.header.records_torn

    def remove(self, state: int) -> None:
        """In the doorway: take the channel away, FINISHED or REMOVED; whoever waits wakes with Gone."""
        self.family.check_removable()
        self._take_away(state)

    def _take_away(self, state: int) -> None:
        self.ring.header.state = state
        self.removed = True
        self.family.remove()

    def clear_if_removed(self) -> bool:
        """In the doorway: when ipcrm took the segment, our header still proves which semaphores go with it.

        Raises ChannelError when unread slots went with it.
        """
        if not self.family.removed():
            return False
        self.family.remove()
        unread = self.unread()
        if unread:
            raise ChannelError(
                f"EIDRM: the channel was removed, by `--remove` or ipcrm, with {unread} of its slots unread"
            )
        return True

    def detach(self) -> None:
        """Give the memory back."""
        self.ring.release()
        self.family.detach()

    def _progressed(self, length: int) -> None:
        self.bytes += length
        if self.on_progress:
            self.on_progress()


class WriteEnd(End):
    """The writing end: join, send records, leave."""

    def __init__(self, family: Family, doorway: Doorway, patience: Patience) -> None:
        super().__init__(family, doorway, patience)
        self.all_said = False  # whether this writer has nothing more to say: leave() is then its goodbye
        self._place = 0  # its number among the writers that joined
        self._successor = False  # it has the place of a writer that died
        self._resumed: FileId | None = None  # the file of a record that another writer began and we completed

    def join(self, source: Source | None = None, *, resume: bool = False) -> None:
        """In the doorway: count this process among the writers; `source` when it is one record of a file.

        With `resume`, a writer of the same file takes the place of the one that died: it says goodbye for it.
        """
        header = self.ring.header
        alone = not self.family.writers.present()
        self.family.writers.enter()
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
        header.writers_joined = self._writers_joined() if self._successor else self._place

    def _count_in(self) -> None:
        self._place, self._successor = min(self._writers_joined() + 1, UNKNOWN), False

    def _note(self, record: int, file: FileId) -> None:
        """In the doorway: our note replaces one whose goodbye may not have been counted yet."""
        self.ring.header.writers_left = self._writers_left()
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
        raise TornRecord(f"this is not the file to resume: {difference}; `writer.py` without --resume sends it anew")

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
        self.wait_for(self.family.empty_slots, self._has_room, self._why_full)
        return self.ring.header.head

    def _has_room(self) -> bool:
        return self.ring.lag() < self.ring.slot_count

    def _why_full(self) -> Reason:
        waiting = f"waiting for room: all {self.ring.slot_count} slots are full"
        pid = self.family.reader_turn.holder()
        if pid is None:
            return Reason(f"{waiting} and nobody is reading; start reader.py", missing=True)
        return Reason(f"{waiting}, and {_process(pid)} has the turn to read", pid=pid)

    def _publish(self, number: int, slot: SlotHeader) -> None:
        self.ring.write_slot(number, slot)
        self.ring.header.head = number + 1  # the commit
        self.family.full_slots.release()
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
        pid = self.family.reader_turn.holder()
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
        self.family.writers.leave()
        if self._is_last_out() and self.family.alone() and self._may_remove():
            self._take_away(FINISHED)
            return True
        self.family.full_slots.release()
        return False

    def _say_goodbye(self) -> None:
        """Count us among the writers that said all they had to, and with us the dead one whose record we completed."""
        header = self.ring.header
        note = header.input_note()
        own = not self._successor
        noted = own and note.owed and note.place == self._place
        for_the_dead = note.owed and note.file == self._resumed and not noted
        left = min(self._writers_left() + own + for_the_dead, UNKNOWN)
        if noted or for_the_dead:
            header.input_goodbye = left  # whoever dies in here has said it, see _writers_left
        header.writers_left = left

    def _is_last_out(self) -> bool:
        """Whether the channel may go with us: a reader would learn nothing from it."""
        ending = self.ending()
        header = self.ring.header
        if ending is Ending.OVER:
            return not header.records_torn
        # Nobody ever said anything; that we had to, and did not, our own exit code says.
        joined = self._writers_joined()
        left = self._writers_left()
        return ending is Ending.BROKEN_OFF and not header.head and joined - left == 1

    def _may_remove(self) -> bool:
        """False when the channel is another user's, who has to remove it."""
        try:
            self.family.check_removable()
        except CallFailed:
            return False
        return True


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
        family: Family,
        doorway: Doorway,
        patience: Patience,
        *,
        keep: bool = False,
        follow: bool = False,
        resume: bool = False,
    ) -> None:
        super().__init__(family, doorway, patience)
        self.keep = keep
        self.follow = follow
        self.resume = resume
        self.incomplete = False  # whether something is missing in what came out, or in the channel that ended
        self.hear: Callable[[News, int, SlotHeader | None], None] = lambda *_: None
        self._expected = _Expected(0, 0, 0)
        self._began_at = self.ring.header.tail
        self._missed = 0  # writers that stopped before their end, as far as that was told
        self._refused = False  # the output is not the one that the channel notes

    def receive(self, sink: Sink, at_most: int | None = None) -> Receipt | None:
        """Receive one record, or the up to `at_most` lines of one slot, straight from the slots into `sink`.

        None when the channel is over. The tail moves only after `sink` has the bytes, so a reader that dies loses
        nothing: the next one gets that fragment again. One that is interrupted while `sink` writes commits what is
        out, to the byte. Raises TornRecord, TimedOut, BadSegment, ChannelError, and what `sink` raises.
        """
        try:
            with _Turn(self, "reader_pid") as turn:
                while self._next_fragment(sink):
                    number = self.ring.header.tail
                    slot = self.ring.read_slot(number)
                    self._check(number, slot)
                    self._check_not_input(sink, number, slot)
                    self._check_handover(number, slot, turn.repaired)
                    self._settle(sink, number, slot)
                    turn.repaired = False
                    receipt = self._consume(sink, number, slot, at_most)
                    if receipt:
                        self.records += receipt.records
                        return receipt
        except Gone:
            # Another reader was at the end first, and removed the semaphore that we waited on.
            if self.ring.header.state != FINISHED or not self.drained():
                raise
            self._settle_at_end(sink)
            self._see_end(self.ending())
        return None

    def _next_fragment(self, sink: Sink) -> bool:
        """Wait for a fragment; False when the channel is over."""
        return self.wait_for(self.family.full_slots, self._has_data, self._why_empty, lambda: self.finish_if_over(sink))

    def _has_data(self) -> bool:
        return self.ring.lag() > 0

    def _why_empty(self) -> Reason:
        if self.family.writers.present():
            pid = self.family.writer_turn.holder()
            if pid is None:
                return Reason("waiting for data; a writer is counted as present")
            return Reason(f"waiting for data, and {_process(pid)} has the turn to write", pid=pid)
        last = self.last_slot()
        if last and not last.ends_record:
            return Reason(
                f"waiting for `writer.py --file PATH --resume` to continue record {last.record}", missing=True
            )
        if self._missing() and self._can_be_settled():
            return Reason("waiting for `writer.py --file PATH --resume`: a writer stopped before its end", missing=True)
        return Reason("waiting for a writer; start writer.py", missing=True)

    def _consume(self, sink: Sink, number: int, slot: SlotHeader, at_most: int | None) -> Receipt | None:
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
            before = sink.size
            try:
                with source[slot.taken : end] as data:
                    sink.write(data)
                self._commit(sink, number, slot, end)
            except BaseException as error:
                if self.ring.header.tail == number:
                    out = payload[slot.taken : slot.taken + sink.size - before]
                    self._commit_part(sink, number, slot, out, isinstance(error, BrokenPipeError))
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

    def _commit(self, sink: Sink, number: int, slot: SlotHeader, end: int) -> None:
        """The bytes of a slot up to `end` are out."""
        if end < slot.length:
            self._take(sink, number, end)
            self.family.full_slots.release()  # the slot's token goes back with what is left in it
            return
        if sink.identity:
            self._note_output(sink, number + 1, 0)
        else:  # what a stream takes, no file has
            self.ring.header.forget_output(number + 1)
        if slot.flags & ABORTED:
            torn = self.ring.header.records_torn
            self.ring.header.records_torn = min(torn + 1, UNKNOWN)
        self._expected = _Expected(number + 1, slot.record + slot.records, 0 if slot.ends_record else slot.end)
        self.ring.header.tail = number + 1  # the commit
        self.family.empty_slots.release()

    def _commit_part(self, sink: Sink, number: int, slot: SlotHeader, out: memoryview, consumer_gone: bool) -> None:
        """The bytes `out` of a slot are out, when an exception came."""
        length = len(out)
        if slot.flags & LINES:
            begun = bytes(out)
            self.records += begun.count(b"\n")
            if consumer_gone:  # what it took of a line is lost: the next one gets all of it
                length = begun.rfind(b"\n") + 1
        if length:
            self._take(sink, number, slot.taken + length)
            self.bytes += length

    def _take(self, sink: Sink, number: int, taken: int) -> None:
        if not sink.identity:
            self.ring.header.forget_output(number)
        self.ring.take(number, taken)

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

    def _check_not_input(self, sink: Sink, number: int, slot: SlotHeader) -> None:
        """Raise ChannelError when this fragment comes from the output itself.

        Before the output is emptied, so must nothing that waits behind it, nor what a writer has come to send.
        """
        if not sink.file:
            return
        waiting = [slot]
        if not sink.settled:
            waiting += [self.ring.read_slot(number + ahead) for ahead in range(1, self.ring.lag())]
        for other in waiting:
            if other.length and other.source == sink.file:
                raise ChannelError(f"record {other.record} is the output itself: name another --output")
        note = self.ring.header.input_note()
        if not sink.settled and note.owed and (note.file.dev, note.file.ino) == sink.file:
            raise ChannelError("the output is the file that a writer has come to send: name another --output")

    def _settle(self, sink: Sink, number: int, slot: SlotHeader) -> None:
        """Before our first byte goes out: cut the output to what of it is committed."""
        kept = 0
        if not sink.settled:
            kept = self._bytes_to_keep(sink, number, slot)
            sink.cut(kept)
            sink.settled = True
        # What is taken of a slot, another reader has: we end when we stop inside one.
        if (self._expected.number != number or slot.taken) and self._is_inside(number, slot):
            record, begun = self._where(number, slot)
            whole = slot.flags & ABORTED or kept >= begun
            self._tell(News.CONTINUED if whole else News.HEADLESS, begun, slot._replace(record=record))
        self._note_output(sink, number, slot.taken)

    def _bytes_to_keep(self, sink: Sink, number: int, slot: SlotHeader) -> int:
        """How much of the output stays. Raises TornRecord when keeping or cutting would lose any."""
        received = self._noted_in(sink, number, slot.taken)
        if not self.resume:
            if received and sink.size:
                raise TornRecord(_holds(received))
            return 0
        at_start = not slot.offset and not slot.taken
        if received is not None:
            # What a reader put out and did not commit is part of this fragment, so no true note asks for more.
            if not received <= sink.size <= received + slot.length - slot.taken:
                raise TornRecord(f"the output has {sink.size} bytes, but {received} were received into it")
            return received
        if at_start and (not number or not sink.size):
            return sink.size  # nobody has received anything of this channel, or nothing is in it
        raise TornRecord(f"{_OTHER_OUTPUT} (record {slot.record} goes on at byte {slot.offset + slot.taken})")

    def _noted_in(self, sink: Sink, number: int, taken: int) -> int | None:
        """How many bytes the channel notes as received into this output; None when its note is about another one."""
        note = self.ring.header.output_note(number) if sink.identity else None
        return (note.size + taken) % 2**64 if note and (note.dev, note.ino) == sink.identity else None

    def _settle_at_end(self, sink: Sink) -> None:
        """Nothing is left to read: the output must be what was received. Raises TornRecord."""
        if sink.settled or not sink.identity:
            return
        wrong = self._why_not_at_end(sink, self.ring.header.tail)
        if wrong:
            self._refused = True
            raise TornRecord(wrong)
        sink.settled = True
        if not self.resume:
            sink.cut(0)

    def _why_not_at_end(self, sink: Sink, tail: int) -> str:
        received = self._noted_in(sink, tail, 0)
        if not self.resume:
            return _holds(received) if received and sink.size else ""
        if received is not None:
            return (
                ""
                if received == sink.size
                else f"the output has {sink.size} bytes, but {received} were received into it"
            )
        # Where others have received meanwhile, the note is theirs and says nothing of this output.
        noted = tail and tail == self._began_at and self.ring.header.output_note(tail)
        return f"{_OTHER_OUTPUT} (all has been received)" if noted else ""

    def _note_output(self, sink: Sink, tail: int, taken: int) -> None:
        if sink.identity:
            self.ring.header.note_output(OutputNote(tail, *sink.identity, (sink.size - taken) % 2**64))

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

    def finish_if_over(self, sink: Sink) -> bool:
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
            self._settle_at_end(sink)
            self._see_end(ending)
            # The mark on the segment is the last of a removal: without it, whoever was removing has died.
            if not self.keep and not self.family.removed():
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
        joined = self._writers_joined()
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
        if torn and not self.incomplete:
            self._tell(News.TORN_BEFORE, torn, None)
        if ending is Ending.BROKEN_OFF and self._missing() > self._missed:  # else it is told already
            self._tell_broken_off()

    def _tell(self, news: News, number: int, slot: SlotHeader | None) -> None:
        self.incomplete = self.incomplete or news is not News.CONTINUED
        self.hear(news, number, slot)


_OTHER_OUTPUT = "cannot resume this output: it is not the one that the last reader was writing"


def _holds(received: int) -> str:
    return (
        f"the output already holds {received} bytes that were received from this channel:"
        " add --resume to continue it, or name another --output"
    )


def _process(pid: int) -> str:
    """Whose turn it is; the kernel says 0 of a process outside our pid namespace."""
    return f"pid {pid}" if pid else "a process that we cannot see"


def _size(total: int) -> str:
    return "unknown" if total == UNKNOWN else str(total)


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
