"""What must come out: the records of each writer, whole, in order, once.

The writers' fragments have contents that occur only once, so whatever a reader puts out can be told from everything
else. `Seen` follows what was committed and what came out, as a value, and raises Violation at the first event that
breaks the promise.
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


class Seen(NamedTuple):
    """What was committed and what came out so far. Processes are numbered, the writers first."""

    plan: Plan
    sent: tuple[int, ...]  # pieces that each writer committed
    out: tuple[int, ...]  # pieces of each writer that came out
    open: tuple[int, int] | None = None  # writer and reader of a record that came out in part
    last: tuple[int, int, int, int] | None = None  # reader, writer and pieces that came out and are not committed
    repeatable: tuple[int, int, int] | None = None  # the same, when that reader died
    owing: int = 0  # a bit for each reader that has to report a torn record
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
        seen = self._replace(last=None, owing=self.owing | 1 << reader)
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
        if self.repeatable == (writer, first, stop):
            return self._replace(repeatable=None, last=(reader, writer, first, stop))
        out = self.out
        if self.open and self.open[0] != writer:
            raise Violation("no tear", f"{data!r} came out in the middle of a record of another writer")
        if self.open and self.open[1] != reader and not (self.dead_readers or self.dead_writers):
            raise Violation("no tear", f"{data!r} came out at another reader than its record's beginning")
        if first > out[writer]:
            raise Violation("no loss, in order", f"{data!r} came out before what precedes it")
        if first < out[writer]:
            raise Violation("no repeat", f"{data!r} came out again")
        ended = self.plan.pieces[writer][stop - 1].end == stop
        return self._replace(
            out=_changed(out, writer, stop),
            open=None if ended else (writer, reader),
            last=(reader, writer, first, stop),
            repeatable=None,
        )

    def told(self, reader: int) -> Seen:
        """A reader reported a record that was given up."""
        return self.unfinished()._replace(owing=self.owing & ~(1 << reader))

    def unfinished(self) -> Seen:
        """A reader ended because a record is unfinished."""
        if not self.dead_writers:
            raise Violation("no tear", "a record was reported as torn, and no writer had died")
        return self

    def ended(self, reader: int, finished: bool) -> Seen:
        """A reader ended with success; `finished`: so did its channel."""
        if self.owing >> reader & 1:
            raise Violation("torn is no success", "a reader ended and said nothing of a record that was given up")
        if not finished:
            raise Violation("the end is reached", "a reader ended with success and its channel goes on")
        return self

    def died(self, process: int) -> Seen:
        """A process was killed."""
        if process < len(self.sent):
            return self._replace(dead_writers=True)
        seen = self._replace(dead_readers=True, owing=self.owing & ~(1 << process))
        if self.last and self.last[0] == process:
            return seen._replace(last=None, repeatable=self.last[1:])
        return seen

    def renamed(self, names: tuple[int, ...]) -> Seen:
        """The same with reader n called names[n]."""
        return self._replace(
            open=self.open and (self.open[0], names[self.open[1]]),
            last=self.last and (names[self.last[0]], *self.last[1:]),
            owing=sum(1 << names[reader] for reader in range(len(names)) if self.owing >> reader & 1),
        )

    def role(self, reader: int) -> tuple[bool, bool, bool]:
        """What this reader is to the observer."""
        return (
            self.open is not None and self.open[1] == reader,
            self.last is not None and self.last[0] == reader,
            bool(self.owing >> reader & 1),
        )

    def complete(self) -> None:
        """All processes ended. Raises Violation unless everything came out."""
        if self.out != tuple(len(pieces) for pieces in self.plan.pieces):
            raise Violation("no loss", f"at the end, of {self.sent} pieces {self.out} had come out")

    def _whole(self, writer: int, count: int) -> int:
        """`count` without the pieces of a record that is not whole."""
        pieces = self.plan.pieces[writer]
        return count if count == len(pieces) else pieces[count].begin


def _changed(counts: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*counts[:index], value, *counts[index + 1 :])
