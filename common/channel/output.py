"""What of an output is committed, and where to go on in it.

The header notes beside the tail how long a reader's output file was: by this --resume cuts it back to what was
received, and nobody empties what holds it.
"""

from __future__ import annotations

from common.channel.ring import Ring
from common.errors import ChannelError, TornRecord
from common.layout import SlotHeader
from common.notes import OutputNote
from common.typed import Protocol


class Sink(Protocol):
    """Where records go.

    `identity` is (st_dev, st_ino) of a regular file that `resume` may continue, else None; `file` that of any regular
    file with bytes in it, which may be somebody's input; `size` is how many bytes are out, even when write() was
    interrupted; `settled` becomes true when the channel has cut it to where it goes on.
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


class Output:
    """A sink and what the channel notes of it; for the holder of reader_turn."""

    def __init__(self, sink: Sink, ring: Ring, *, resume: bool, append: bool = False) -> None:
        self.sink = sink
        self._ring = ring
        self._resume = resume
        self._append = append  # in a channel from which nobody has received anything

    def note(self, tail: int, taken: int) -> None:
        """Note its size at byte `taken` of fragment `tail`; what a stream takes, no file has."""
        if self.sink.identity:
            size = (self.sink.size - taken) % 2**64
            self._ring.header.note_output(OutputNote(tail, *self.sink.identity, size))
        else:
            self._ring.header.forget_output(tail)

    def settle(self, number: int, slot: SlotHeader) -> int:
        """Before our first byte goes out, cut it to what of it is committed: how many bytes that are, else 0.

        Raises TornRecord when keeping or cutting would lose any.
        """
        if self.sink.settled:
            return 0
        kept = self._bytes_to_keep(number, slot)
        self.sink.cut(kept)
        self.sink.settled = True
        return kept

    def settle_at_end(self, began_at: int) -> None:
        """Nothing is left to read: it must be what was received. Raises TornRecord.

        `began_at` is the tail when its reader came: where others have received since, the note is theirs.
        """
        if self.sink.settled or not self.sink.identity:
            return
        wrong = self._why_not_at_end(self._ring.header.tail, began_at)
        if wrong:
            raise TornRecord(wrong)
        self.sink.settled = True
        if not self._resume:
            self.sink.cut(0)

    def check_not_input(self, number: int, slot: SlotHeader) -> None:
        """Raise ChannelError when this fragment comes from the output itself.

        Before the output is emptied, so must nothing that waits behind it, nor what a writer has come to send.
        """
        if not self.sink.file:
            return
        waiting = [slot]
        if not self.sink.settled:
            waiting += [self._ring.read_slot(number + ahead) for ahead in range(1, self._ring.lag())]
        for other in waiting:
            if other.length and other.source == self.sink.file:
                raise ChannelError(f"record {other.record} is the output itself: name another --output{_INODE}")
        note = self._ring.header.input_note()
        if not self.sink.settled and note.owed and (note.file.dev, note.file.ino) == self.sink.file:
            raise ChannelError(f"the output is the file that a writer has come to send: name another --output{_INODE}")

    def _bytes_to_keep(self, number: int, slot: SlotHeader) -> int:
        size, received = self.sink.size, self._received(number, slot.taken)
        if not self._resume:
            if received and size:
                raise TornRecord(_holds(received))
            return 0
        at_start = not slot.offset and not slot.taken
        if received is not None:
            # What a reader put out and did not commit is part of this fragment, so no true note asks for more.
            if not received <= size <= received + slot.length - slot.taken:
                raise TornRecord(_of_another_size(size, received))
            return received
        if at_start and (not size or (self._append and not number)):
            return size
        raise TornRecord(f"{_ANOTHER} (record {slot.record} goes on at byte {slot.offset + slot.taken}); {_GO_ON}")

    def _why_not_at_end(self, tail: int, began_at: int) -> str:
        size, received = self.sink.size, self._received(tail, 0)
        if not self._resume:
            return _holds(received) if received and size else ""
        if received is not None:
            return "" if received == size else _of_another_size(size, received)
        noted = tail and tail == began_at and self._ring.header.output_note(tail)
        return f"{_ANOTHER} (all has been received)" if noted else ""

    def _received(self, number: int, taken: int) -> int | None:
        """How many bytes the channel notes as received into this output; None when its note is about another one."""
        note = self._ring.header.output_note(number) if self.sink.identity else None
        return (note.size + taken) % 2**64 if note and (note.dev, note.ino) == self.sink.identity else None


_ANOTHER = "cannot resume this output: it is not the one that the last reader was writing"
_INODE = " (or remove it, if the file that was sent is gone and this one has its inode)"
_GO_ON = "name another --output, without --resume, for what is in the channel"


def _of_another_size(size: int, received: int) -> str:
    return f"the output has {size} bytes, but {received} were received into it"


def _holds(received: int) -> str:
    return (
        f"the output already holds what was received from this channel ({received} bytes):"
        " add --resume to continue it; another --output gets only the rest"
    )
