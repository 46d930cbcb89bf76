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
from time import monotonic, sleep
from typing import NamedTuple, Protocol

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
    OutputNote,
    Ring,
    SlotHeader,
)

# A lost wake-up costs at most this long, in seconds; it is also how soon a dead peer is noticed.
HEARTBEAT = 0.1


class Source(Protocol):
    """Where a record comes from. `total` is its size in bytes, or UNKNOWN; `identity` a file's (st_dev, st_ino)."""

    @property
    def total(self) -> int: ...
    @property
    def identity(self) -> tuple[int, int] | None: ...

    def fill(self, room: memoryview) -> int:
        """Put the record's next bytes into `room` and return how many; 0 at its end."""

    def skip_to(self, offset: int) -> None:
        """Go on from byte `offset` of the record (--resume)."""


class Sink(Protocol):
    """Where records go.

    `identity` is (st_dev, st_ino) of a regular file that `resume` may continue, else None; `size` is how many bytes
    are out, even when write() was interrupted; `settled` becomes true when the channel has cut it to where it goes on.
    """

    settled: bool

    @property
    def identity(self) -> tuple[int, int] | None: ...
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
                self._check_not_removed()
                if self.patience.timeout is not None and self._moved():
                    began = now
                self.patience.beat(reason(), now - began)
        return False

    def _moved(self) -> bool:
        """Whether head or tail moved since this was asked last: somebody makes progress, if not we."""
        before = self._position
        tail = self.ring.header.tail
        self._position = (self.ring.header.head, tail)
        return self._position != before

    def _check_not_removed(self) -> None:
        removed = self.family.removed()  # before the state, which a reader that finishes stores first
        state = self.ring.header.state
        if state == REMOVED or (removed and state != FINISHED):
            raise ChannelError("EIDRM: the channel was removed while we waited, by `--remove` or ipcrm")

    def unread(self) -> int:
        """Slots that wait for a reader: a hint while anybody reads or writes."""
        tail = self.ring.header.tail
        return max(self.ring.header.head - tail, 0)

    def last_slot(self) -> SlotHeader | None:
        """The slot published last, None before the first. Only for whoever keeps the writers out."""
        head = self.ring.header.head
        return self.ring.read_slot(head - 1) if head else None

    def over(self) -> bool:
        """Nothing left to read and nobody left to write; final only in the doorway.

        For the holder of reader_turn or whoever is in the doorway: for others the tail moves under it.
        """
        header = self.ring.header
        finished = header.state == FINISHED
        if not finished and (not header.writers_joined or self.family.writers.present()):
            return False
        # Only now: with no writer alive and the doorway shut, head stands still.
        lag = self.ring.lag()
        if lag and finished:
            raise BadSegment(f"it is marked as finished, and {lag} fragments are unread")
        return not lag

    def remove(self, state: int) -> None:
        """In the doorway: take the channel away, FINISHED or REMOVED; whoever waits wakes with Gone."""
        self.family.check_removable()
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

    def remove_if_over(self) -> bool:
        """In the doorway: remove a channel in which nothing is left to do; True when we did."""
        if self.ring.header.state != OPEN or not self.over():
            return False
        last = self.last_slot()
        if last and not last.ends_record:
            return False
        self.remove(FINISHED)
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

    def join(self) -> None:
        """In the doorway: count this process among the writers."""
        self.family.writers.enter()
        header = self.ring.header
        header.writers_joined = min(header.writers_joined + 1, UNKNOWN)

    def send(self, source: Source, *, resume: bool = False, verify: bool = False) -> None:
        """Send one record, as many fragments as it takes, straight from `source` into the slots.

        With `resume`, continue the unfinished record of a dead writer from its first byte that was not committed.
        With `verify`, each fragment gets its checksum before it is in anybody's reach, which costs a copy.
        Raises TornRecord when it cannot be this record's beginning, TimedOut, Gone, BadSegment, and what `source`
        raises; the record is then unfinished and can be resumed.
        """
        with _Turn(self, "writer_pid"):
            record, offset = self._take_up(source if resume else None)
            if record < 0:
                return
            if not offset:
                self._note_input(record, source)
            source.skip_to(offset)
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
                self._publish(number, SlotHeader(length, flags, record, offset, total, os.getpid(), crc, int(ended)))
                offset = end
            self.records += 1

    def _fill(self, room: memoryview, source: Source, aside: memoryview | None) -> tuple[int, int]:
        """Put the next bytes of `source` into the slot: how many, and their checksum when they were put aside first."""
        if aside is None:
            return source.fill(room), 0
        length = source.fill(aside[: len(room)])
        room[:length] = aside[:length]
        return length, zlib.crc32(aside[:length])

    def send_lines(self, lines: bytes | memoryview, count: int, *, verify: bool = False) -> None:
        """Send `count` whole newline-terminated lines in one slot; they must fit it. Raises like send()."""
        with _Turn(self, "writer_pid"):
            record, _ = self._take_up(None)
            number = self._free_slot()
            length = len(lines)
            with self.ring.payload(number, 0, length) as room:
                room[:] = lines
            crc = zlib.crc32(lines) if verify else 0
            flags = LINES | FIRST | LAST | (CHECKED if verify else 0)
            self._publish(number, SlotHeader(length, flags, record, 0, length, os.getpid(), crc, count))
            self.records += count

    def _take_up(self, resume: Source | None) -> tuple[int, int]:
        """The number of the record to write and the offset to write it from.

        What a dead writer left unfinished is continued from `resume`, without one it is marked ABORTED. A record of
        -1: there is nothing left to resume.
        """
        last = self.last_slot()
        if last is None:
            return 0, 0
        if last.ends_record:
            return (-1, 0) if resume and self._is_complete(last, resume) else (last.record + last.records, 0)
        if resume:
            self._check_begun_from(last, resume)
            return last.record, last.end
        number = self._free_slot()
        self._publish(number, SlotHeader(0, ABORTED, last.record, last.end, last.total, last.writer_pid, 0, 1))
        return last.record + 1, 0

    def _check_begun_from(self, last: SlotHeader, source: Source) -> None:
        """Raise TornRecord when the unfinished last record cannot be the beginning of `source`."""
        record, identity = self._input_note()
        if source.total == UNKNOWN or source.total < last.end or last.total not in (source.total, UNKNOWN):
            difference = (
                f"its size is {_size(source.total)}, and record {last.record} stopped after {last.end} bytes of"
                f" {_size(last.total)}"
            )
        elif record != last.record or not identity[1]:
            difference = f"record {last.record} is a message or a line"
        elif last.total != UNKNOWN and identity != source.identity:
            difference = f"record {last.record} was begun from another one"
        else:
            return
        raise TornRecord(f"this is not the file to resume: {difference}")

    def _is_complete(self, last: SlotHeader, source: Source) -> bool:
        """Whether the last record is all of `source`: its writer died with nothing left to send."""
        if last.flags & ABORTED:
            raise TornRecord(
                f"record {last.record} was given up after {last.offset} bytes when another writer went on;"
                " send it again without --resume"
            )
        if last.flags & LINES:
            return False  # lines leave no note; the one that is there is of a writer that died before it sent anything
        # An empty file does not tell its size, see FileSource.
        return self._input_note() == (last.record, source.identity) and source.total in (last.total, UNKNOWN)

    def _input_note(self) -> tuple[int, tuple[int, int]]:
        """The record that was last begun, and st_dev and st_ino of the file that it is; 0, 0 when it is none."""
        record = self.ring.header.input_record
        dev = self.ring.header.input_dev
        return record, (dev, self.ring.header.input_ino)

    def _note_input(self, record: int, source: Source) -> None:
        """Note which file this record comes from; its number first, so that a torn note belongs to no record."""
        header = self.ring.header
        header.input_record = record
        header.input_dev, header.input_ino = source.identity or (0, 0)

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
            self._check_not_removed()
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

    def leave(self, *, unused: bool = False) -> bool:
        """In the doorway: count us out and wake a reader; True when we were the last one out and removed the channel.

        That is when all we sent is consumed and nobody else has the segment attached, or, with `unused`, when
        nothing was ever sent: a channel in which a reader would find nothing but an end. To be followed by detach()
        before the doorway opens, see ReadEnd.leave.
        """
        if self.clear_if_removed():
            return False
        self.family.writers.leave()
        last_out = (self.ring.header.head or unused) and self.over() and self.family.alone()
        if last_out and self._may_remove() and self.remove_if_over():
            return True
        self.family.full_slots.release()
        return False

    def _may_remove(self) -> bool:
        """False when the channel is another user's, who has to remove it."""
        try:
            self.family.check_removable()
        except CallFailed:
            return False
        return True


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
        self.torn = 0  # records that their writers gave up
        self.on_continued: Callable[[SlotHeader], None] | None = None  # hears of a record that another reader began
        self._expected = _Expected(0, 0, 0)

    def receive(self, sink: Sink, at_most: int | None = None) -> Receipt | None:
        """Receive one record, or the up to `at_most` lines of one slot, straight from the slots into `sink`.

        None when the channel is over. The tail moves only after `sink` has the bytes, so a reader that dies loses
        nothing: the next one gets that fragment again. One that is interrupted while `sink` writes commits what is
        out, to the byte. Raises TornRecord, TimedOut, BadSegment, ChannelError, and what `sink` raises.
        """
        try:
            with _Turn(self, "reader_pid") as turn:
                while self._next_fragment():
                    number = self.ring.header.tail
                    slot = self.ring.read_slot(number)
                    self._check(number, slot)
                    self._take_over(number, slot, turn.repaired)
                    turn.repaired = False
                    self._settle(sink, number, slot)
                    receipt = self._consume(sink, number, slot, at_most)
                    if receipt:
                        self.records += receipt.records
                        return receipt
        except Gone:
            # Another reader was at the end first, and removed the semaphore that we waited on.
            if self.ring.header.state != FINISHED or not self.over():
                raise
        if not sink.settled and not self.resume:
            sink.cut(0)
        return None

    def _next_fragment(self) -> bool:
        """Wait for a fragment; False when the channel is over."""
        return self.wait_for(self.family.full_slots, self._has_data, self._why_empty, self.finish_if_over)

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
            self.torn += 1
            return Receipt(0, slot)
        return Receipt(records)

    def _commit(self, sink: Sink, number: int, slot: SlotHeader, end: int) -> None:
        """The bytes of a slot up to `end` are out."""
        if end < slot.length:
            self._take(sink, number, end)
            self.family.full_slots.release()  # the slot's token goes back with what is left in it
            return
        self._note_output(sink, number + 1, 0)
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
        if not sink.identity:  # what a stream took of the slot, no file has
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

    def _take_over(self, number: int, slot: SlotHeader, interrupted: bool) -> None:
        """Go on where another reader stopped; `interrupted`: in its turn, else it cannot have been inside a record."""
        if slot.taken and not interrupted:
            with self.ring.payload(number, slot.taken - 1, slot.taken) as last:
                if not slot.flags & LINES or bytes(last) != b"\n":
                    raise BadSegment(f"fragment {number} claims that {slot.taken} bytes are taken, inside a record")
        inside = self._expected.number != number and (slot.offset or slot.taken)
        if self.on_continued and (interrupted or inside):
            self.on_continued(slot)

    def _tail_moved(self) -> BadSegment:
        return BadSegment(f"the tail moved from {self._expected.number} to {self.ring.header.tail} under its reader")

    def _settle(self, sink: Sink, number: int, slot: SlotHeader) -> None:
        """Before our first byte goes out: cut the output to what of it is committed."""
        if not sink.settled:
            sink.cut(self._committed(sink, number, slot))
            sink.settled = True
        self._note_output(sink, number, slot.taken)

    def _committed(self, sink: Sink, number: int, slot: SlotHeader) -> int:
        """How many bytes of the output to keep. Raises TornRecord when keeping or cutting would lose any."""
        note = self.ring.header.output_note(number) if sink.identity else None
        begun = note if note and (note.dev, note.ino) == sink.identity else None
        at_start = not slot.offset and not slot.taken
        if not self.resume:
            if begun and not at_start:
                raise TornRecord(
                    f"the output already holds the first {slot.offset + slot.taken} bytes of record {slot.record}:"
                    " add --resume to continue it, or name another --output"
                )
            return 0
        if begun:
            committed = (begun.size + slot.taken) % 2**64
            # What a reader put out and did not commit is part of this fragment, so no true note asks for more.
            if not committed <= sink.size <= committed + slot.length - slot.taken:
                raise TornRecord(f"the output has {sink.size} bytes, but {committed} were received into it")
            return committed
        if at_start and not sink.size:
            return 0
        raise TornRecord(
            "cannot resume this output: it is not the one that the last reader was writing"
            f" (record {slot.record} goes on at byte {slot.offset + slot.taken})"
        )

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
        return self.over() if self.keep else self.remove_if_over()

    def finish_if_over(self) -> bool:
        """True when the channel is over; we have then removed it, unless `keep`. Raises TornRecord."""
        if not self.over() or (self.follow and self.ring.header.state != FINISHED):
            return False
        if self._expected.offset and self._expected.number != self.ring.header.tail:
            raise self._tail_moved()
        with self.doorway:
            if not self.over():
                return False
            last = self.last_slot()
            if last and not last.ends_record:
                if self.resume:
                    return False
                raise TornRecord(
                    f"record {last.record} is unfinished: its writer, pid {last.writer_pid}, stopped after {last.end}"
                    " bytes; `writer.py --file PATH --resume` continues it, `writer.py --remove` gives it up"
                )
            # The mark on the segment is the last of a removal: without it, whoever was removing has died.
            if not self.keep and not self.family.removed():
                self.remove(FINISHED)
        return True


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
