"""Where records come from: the message, files, pipes and terminals. This file knows descriptors and no segment."""

from __future__ import annotations

import os
from collections.abc import Callable

from common.channel.write import WriteEnd
from common.cli.descriptors import Descriptor
from common.errors import ChannelError
from common.layout import UNKNOWN
from common.notes import FileId

# What a buffer, or read(2) into new bytes, takes for lines at most, in bytes; a slot may be far larger than a line.
AT_ONCE = 2**20


class MessageSource:
    """A record out of memory; `file` is where it was read from."""

    identity = None

    def __init__(self, message: bytes, file: tuple[int, int] | None = None) -> None:
        self._rest = memoryview(message)  # a slice of bytes would be a copy of all that is left
        self.total = len(message)
        self.file = file

    def fill(self, room: memoryview) -> int:
        """Put the next bytes into `room`; how many."""
        part, self._rest = self._rest[: len(room)], self._rest[len(room) :]
        room[: len(part)] = part
        return len(part)

    def skip_to(self, offset: int) -> None:
        """A message is always sent from its beginning."""


class FileSource:
    """All that a descriptor still has to give, as one record: from where it stands to its end.

    A regular file's size is taken once, so what is appended meanwhile is not sent. One that has no last byte, as
    those in /proc (size 0) and /sys (a page), does not tell its size: it is read to its end like a pipe.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._input = Descriptor(descriptor, name)
        self.total = UNKNOWN
        self._start = 0
        status = os.fstat(descriptor)
        self.file = self._input.file
        self.identity = FileId(*self.file, status.st_mtime_ns % 2**64) if self.file else None
        if self.file and status.st_size and self._has_byte(status.st_size - 1):
            self._start = os.lseek(descriptor, 0, os.SEEK_CUR)
            self.total = max(status.st_size - self._start, 0)

    def _has_byte(self, offset: int) -> bool:
        return bool(self._input.patiently(lambda: os.pread(self._input.number, 1, offset)))

    def fill(self, room: memoryview) -> int:
        """Read the next bytes into `room`, with no copy of our own; how many, 0 at the end. Raises OSError."""
        return self._input.read_into(room)

    def skip_to(self, offset: int) -> None:
        """Go on from byte `offset` of the record. Raises OSError (ESPIPE) for a pipe."""
        if offset:
            os.lseek(self._input.number, self._start + offset, os.SEEK_SET)


class _LongLine:
    """One line that is longer than a slot; what was read behind its newline is `rest`."""

    total = UNKNOWN
    identity = None

    def __init__(self, source: Descriptor, begun: bytes) -> None:
        self.file = source.file
        self._input = source
        self._begun = begun
        self._ended = False
        self.rest = b""
        self.came = 0  # bytes that were read for it, and behind it

    def fill(self, room: memoryview) -> int:
        """Put the line's next bytes into `room`; how many, 0 behind its newline. Raises OSError."""
        if self._ended:
            return 0
        data = self._begun
        if not data:
            data = self._input.read(min(len(room), AT_ONCE))
            self.came += len(data)
        self._begun = b""
        length = data.find(b"\n") + 1
        if length:
            self._ended = True
            data, self.rest = data[:length], data[length:]
        room[: len(data)] = data
        return len(data)

    def skip_to(self, offset: int) -> None:
        """A line is always sent from its beginning."""


def send_lines(
    end: WriteEnd, descriptor: int, name: str = "", *, verify: bool = False, prompt: Callable[[], None] = lambda: None
) -> None:
    """Send each line as a record, as soon as it is there, as many whole lines to a slot as there are.

    The turn is not held while waiting for input, so the lines of several writers alternate. A last line without a
    newline is a record too. Raises OSError, and what WriteEnd.send raises.
    """
    source = Descriptor(descriptor, name)
    expected = FileSource(descriptor, name).total if source.file else UNKNOWN
    buffer = bytearray(min(end.ring.fragment_size, AT_ONCE))
    room = memoryview(buffer)
    came = held = 0  # bytes; `held` of them are in the buffer, not yet sent
    while True:
        whole = buffer.rfind(b"\n", 0, held) + 1
        if whole:
            end.send_lines(room[:whole], buffer.count(b"\n", 0, whole), file=source.file, verify=verify)
            room[: held - whole] = room[whole:held]
            held -= whole
        elif held == len(buffer):
            line = _LongLine(source, bytes(buffer))
            end.send(line, verify=verify)
            came += line.came
            held = len(line.rest)
            room[:held] = line.rest
        else:
            prompt()
            length = source.read_into(room[held:])
            if not length:
                break
            came += length
            held += length
    if held:
        end.send(MessageSource(bytes(room[:held]), source.file), verify=verify)
    if expected != UNKNOWN and came < expected:
        raise ChannelError(f"the input became shorter: it ended after {came} of {expected} bytes")
