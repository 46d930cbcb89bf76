"""What must come out: the records of each writer, whole, in order, once; and who may call it a success.

The writers' fragments have contents that occur only once, so whatever a reader puts out can be told from everything
else. `Seen` follows what was committed and what came out, `Debts` what the writers of one channel still owe it, both as
values, and raise Violation at the first event that breaks the promise. Neither looks at a field of the header.
"""

from __future__ import annotations

from typing import NamedTuple


class Violation(Exception):
    """A promise of the protocol was broken: which, and how."""

    def __init__(self, promise: str, how: str) -> None:
        super().__init__(f"{promise}: {how}")
        self.promise = promise


class Piece(NamedTuple):
    """What comes out at once: a fragment of a record, or one line. `begin` and `end` bound its record's pieces."""

    data: bytes
    begin: int
    end: int


class Record(NamedTuple):
    """What one call of send() or send_lines() sends."""

    pieces: tuple[Piece, ...]
    lines: bool

    @property
    def data(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)


class Plan:
    """What each writer is to send. `shapes` has a tuple for each writer, in it a number of fragments or "lines"."""

    def __init__(self, shapes: tuple[tuple[int | str, ...], ...], slots: int) -> None:
        self.slots = slots
        self.records = tuple(self._records(writer, shape) for writer, shape in enumerate(shapes))
        self.pieces = tuple(tuple(p for record in records for p in record.pieces) for records in self.records)
        self._found = {
            piece.data: (writer, index)
            for writer, pieces in enumerate(self.pieces)
            for index, piece in enumerate(pieces)
        }

    @staticmethod
    def _records(writer: int, shape: tuple[int | str, ...]) -> tuple[Record, ...]:
        records, at = [], 0
        for number, size in enumerate(shape):
            if isinstance(size, str):
                first = ord("a") + 8 * writer + 2 * number
                pieces = tuple(Piece(bytes([first + i, 10]), at + i, at + i + 1) for i in range(2))
            else:
                # The last fragment of the first writer is not full, that of the second is.
                names = [f"{'ABC'[writer]}{number}{i}".encode() for i in range(size)]
                full = [name + b"." for name in names[:-1]]
                pieces = tuple(Piece(data, at, at + size) for data in (*full, names[-1] + b"." * (writer % 2)))
            records.append(Record(pieces, isinstance(size, str)))
            at += len(pieces)
        return tuple(records)

    def find(self, data: bytes) -> tuple[int, int, int]:
        """The writer, and the range of its pieces, that this output is. Raises Violation for anything else."""
        parts = data.splitlines(keepends=True)
        places = [self._found.get(part, (-1, -1)) for part in parts]
        writer, first = places[0]
        if writer < 0 or places != [(writer, first + i) for i in range(len(parts))]:
            raise Violation("no tear", f"{data!r} came out, which nobody sent")
        return writer, first, first + len(parts)

    def record_at(self, writer: int, piece: int) -> int:
        """The number of the record to which the piece belongs."""
        ends = [record.pieces[-1].end for record in self.records[writer]]
        return sum(end <= piece for end in ends)


NOBODY = -1


class Debts(NamedTuple):
    """What the writers of one channel owe it: a reader may end with success only when they owe nothing.

    Told by what the writers do. Each set has a bit for each writer; one that was killed and its successor have the
    same bit, because with --resume the successor pays for both.
    """

    entering: int = 0  # in the doorway on their way in: whether they have joined is not yet for others to say
    owing: int = 0  # alive, with something to say
    through: int = 0  # alive, and have said all they had to
    dead: int = 0  # killed or gone while they owed, and nobody has paid since
    perhaps: int = 0  # killed where they may have been counted or not: both endings are true
    torn: bool = False  # a record was given up
    spoken: bool = False  # something was sent

    @property
    def open(self) -> bool:
        """Whether a reader that ends must not call it a success."""
        return bool(self.owing or self.dead or self.torn)

    @property
    def settled(self) -> bool:
        """Whether a reader that reaches the end must call it one."""
        return not (self.open or self.entering or self.through or self.perhaps)

    def entered(self, writer: int) -> Debts:
        """A writer entered, in the doorway."""
        return self._replace(entering=self.entering | 1 << writer)

    def joined(self, process: int) -> Debts:
        """A process went out of the doorway; when it is a writer that entered, it has joined."""
        bit = self.entering & 1 << process
        return self._replace(entering=self.entering & ~bit, owing=self.owing | bit)

    def said_all(self, writer: int, succeeds: bool) -> Debts:
        """A writer has nothing more to say; one that `succeeds` a dead one has said what that owed, too."""
        bit = 1 << writer
        paid = ~bit if succeeds else ~0
        return self._replace(
            owing=self.owing & ~bit,
            through=self.through | bit,
            dead=self.dead & paid,
            perhaps=self.perhaps & paid,
        )

    def left(self, process: int) -> Debts:
        """A process detached."""
        bit = 1 << process
        return self._replace(owing=self.owing & ~bit, through=self.through & ~bit, dead=self.dead | (self.owing & bit))

    def died(self, process: int) -> Debts:
        """A process was killed."""
        bit = 1 << process
        return self._replace(
            entering=self.entering & ~bit,
            owing=self.owing & ~bit,
            through=self.through & ~bit,
            dead=self.dead | (self.owing & bit),
            perhaps=self.perhaps | ((self.entering | self.through) & bit),
        )

    def noted(self, event: str, by_writer: bool) -> Debts:
        """A store that commits something was made, see Seen.noted."""
        if event == "sent":
            return self._replace(spoken=True)
        if event == "aborted":
            return self._replace(torn=True)
        if event == "finished" and by_writer and self.spoken and (self.dead or self.torn):
            raise Violation("no false success", "a writer removed the channel, and no reader learns what is missing")
        return self


class Seen(NamedTuple):
    """What was committed and what came out so far. Processes are numbered, the writers first."""

    plan: Plan
    sent: tuple[int, ...]  # pieces that each writer committed
    out: tuple[int, ...]  # pieces of each writer that came out
    open: tuple[int, int] | None = None  # writer and reader of a record that came out in part
    last: tuple[int, int, int, int] | None = None  # reader, writer and pieces that came out and are not committed
    repeatable: tuple[int, int, int] | None = None  # the same, when that reader died
    owing: int = 0  # a bit for each reader that has to report a torn record
    informed: int = 0  # a bit for each reader that reported one
    lacking: int = 0  # a bit for each reader in whose output something is missing
    dead_writers: bool = False
    dead_readers: bool = False

    @classmethod
    def nothing(cls, plan: Plan) -> Seen:
        zeros = (0,) * len(plan.pieces)
        return cls(plan, zeros, zeros)

    def noted(self, process: int, event: str, *about: int) -> Seen:
        """A store that commits something was made; `event`: "sent", "aborted", "consumed", "torn", "finished"."""
        seen: Seen = getattr(self, f"_{event}")(process, *about)
        return seen

    def _sent(self, writer: int, stop: int) -> Seen:
        return self._replace(sent=_changed(self.sent, writer, stop))

    def _aborted(self, _: int) -> Seen:
        sent = tuple(self._whole(writer, count) for writer, count in enumerate(self.sent))
        if sent == self.sent:
            raise Violation("no tear", "a whole record was given up")
        return self._replace(sent=sent)

    def _consumed(self, _: int) -> Seen:
        return self._replace(last=None)

    def _torn(self, reader: int) -> Seen:
        """A reader consumed the mark of a record that was given up, which it has to report."""
        bit = 1 << reader
        seen = self._replace(last=None, owing=self.owing | bit, lacking=self.lacking | bit)
        if not self.open:
            return seen
        writer = self.open[0]
        return seen._replace(out=_changed(self.out, writer, self._whole(writer, self.out[writer])), open=None)

    def _finished(self, _: int) -> Seen:
        if any(self._whole(writer, count) != count for writer, count in enumerate(self.sent)):
            raise Violation("torn is no success", "the channel was finished with an unfinished record in it")
        if self.out != self.sent:
            raise Violation("no loss", f"the channel was finished when of {self.sent} pieces {self.out} had come out")
        return self

    def put_out(self, reader: int, data: bytes) -> Seen:
        """A reader put `data` out."""
        if not data:
            return self
        writer, first, stop = self.plan.find(data)
        out, begin = self.out, self.plan.pieces[writer][first].begin
        going_on = (writer, reader) if self.plan.pieces[writer][stop - 1].end > stop else None
        # One that begins inside a record has not got what went to the one that died.
        headless = first > begin and self.open != (writer, reader)
        lacking = self.lacking | headless << reader
        last = (reader, writer, first, stop)
        if self.repeatable == last[1:]:
            return self._replace(repeatable=None, open=going_on, last=last, lacking=lacking)
        if self.open and self.open[0] != writer:
            raise Violation("no tear", f"{data!r} came out in the middle of a record of another writer")
        if self.open and self.open[1] != reader and not (self.dead_readers or self.dead_writers):
            raise Violation("no tear", f"{data!r} came out at another reader than its record's beginning")
        if first > out[writer]:
            raise Violation("no loss, in order", f"{data!r} came out before what precedes it")
        if first < out[writer]:
            raise Violation("no repeat", f"{data!r} came out again")
        out = _changed(out, writer, stop)
        return self._replace(out=out, open=going_on, last=last, repeatable=None, lacking=lacking)

    def told(self, reader: int) -> Seen:
        """A reader reported a record that was given up."""
        bit = 1 << reader
        return self.unfinished()._replace(owing=self.owing & ~bit, informed=self.informed | bit)

    def unfinished(self) -> Seen:
        """A reader ended because a record is unfinished."""
        if not self.dead_writers:
            raise Violation("no tear", "a record was reported as torn, and no writer had died")
        return self

    def ended(self, reader: int, success: bool, over: bool, finished: bool, patient: bool, debts: Debts) -> Seen:
        """A reader ended, because the channel is `over` or because it had enough; `finished`: so is its channel.

        One that is `patient` waits for whoever pays.
        """
        bit = 1 << reader
        if self.owing & bit:
            raise Violation("torn is no success", "a reader ended and said nothing of a record that was given up")
        if over and debts.torn and not self.informed & bit:
            raise Violation("torn is told", "a reader ended and said nothing of a record that another one met")
        if success and self.lacking & bit:
            raise Violation("no false success", "a reader ended with success without the beginning or end of a record")
        if success and over:
            if not finished:
                raise Violation("the end is reached", "a reader ended with success and its channel goes on")
            if debts.open:
                raise Violation("no false success", f"a reader ended with success, and there are {debts}")
        if over and patient and debts.dead:
            raise Violation("who resumes waits", f"a reader with --resume ended, and there are {debts}")
        if over and not success and debts.settled and not self.lacking & bit:
            raise Violation("no false alarm", f"a reader missed something, and nothing is missing: {debts}")
        return self._without(reader)

    def _without(self, reader: int) -> Seen:
        """The same when this reader is gone: its successor has the same number, and not what it received."""
        mask = ~(1 << reader)
        going_on = (self.open[0], NOBODY) if self.open and self.open[1] == reader else self.open
        return self._replace(
            owing=self.owing & mask, lacking=self.lacking & mask, informed=self.informed & mask, open=going_on
        )

    def died(self, process: int) -> Seen:
        """A process was killed."""
        if process < len(self.sent):
            return self._replace(dead_writers=True)
        seen = self._without(process)._replace(dead_readers=True)
        if self.last and self.last[0] == process:
            return seen._replace(last=None, repeatable=self.last[1:])
        return seen

    def renamed(self, names: tuple[int, ...]) -> Seen:
        """The same with reader n called names[n]."""
        names = (*names, NOBODY)  # which is -1
        return self._replace(
            open=self.open and (self.open[0], names[self.open[1]]),
            last=self.last and (names[self.last[0]], *self.last[1:]),
            owing=_renamed(self.owing, names),
            lacking=_renamed(self.lacking, names),
            informed=_renamed(self.informed, names),
        )

    def role(self, reader: int) -> tuple[bool, bool, bool, bool, bool]:
        """What this reader is to the observer."""
        return (
            self.open is not None and self.open[1] == reader,
            self.last is not None and self.last[0] == reader,
            bool(self.owing >> reader & 1),
            bool(self.lacking >> reader & 1),
            bool(self.informed >> reader & 1),
        )

    def complete(self) -> None:
        """All processes ended. Raises Violation unless everything came out."""
        if self.out != tuple(len(pieces) for pieces in self.plan.pieces):
            raise Violation("no loss", f"at the end, of {self.sent} pieces {self.out} had come out")

    def _whole(self, writer: int, count: int) -> int:
        """`count` without the pieces of a record that is not whole."""
        pieces = self.plan.pieces[writer]
        return count if count == len(pieces) else pieces[count].begin


def _renamed(readers: int, names: tuple[int, ...]) -> int:
    """A set of readers, a bit for each, when reader n is called names[n]."""
    return sum(1 << name for reader, name in enumerate(names) if readers >> reader & 1 and name != NOBODY)


def _changed(counts: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*counts[:index], value, *counts[index + 1 :])
