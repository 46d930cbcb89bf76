"""The ends outside the channel: files, pipes and terminals as the sources and sinks of records.

This file knows file descriptors and no segment. Everything here copes with short reads and writes and with
descriptors that somebody made non-blocking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from common.channel import WriteEnd
from common.layout import MAX_FRAGMENT, UNKNOWN

_T = TypeVar("_T")


def _patiently(descriptor: int, name: str, operate: Callable[[], _T], *, to_write: bool = False) -> _T:
    """The result of `operate`, once the descriptor is ready for it. Raises OSError, with `name` as its filename."""
    while True:
        try:
            return operate()
        except BlockingIOError:
            _wait_until_ready(descriptor, to_write)
        except OSError as error:
            error.filename = name
            raise


def _wait_until_ready(descriptor: int, to_write: bool) -> None:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT if to_write else select.POLLIN)
    poll.poll()


def read_into(descriptor: int, room: memoryview, name: str = "") -> int:
    """Read what there is, waiting for at least a byte; 0 at the end. Raises OSError."""
    return _patiently(descriptor, name, lambda: os.readv(descriptor, [room]))


def read_some(descriptor: int, size: int, name: str = "") -> bytes:
    """Like read_into, into new bytes."""
    return _patiently(descriptor, name, lambda: os.read(descriptor, size))


def write_all(descriptor: int, data: memoryview | bytes, name: str = "") -> None:
    """Write every byte; write(2) may take fewer than it was given. Raises OSError."""
    with memoryview(data) as view:
        rest = view
        while rest:
            written = _patiently(descriptor, name, partial(os.write, descriptor, rest[:MAX_FRAGMENT]), to_write=True)
            rest = rest[written:]


class MessageSource:
    """A record out of memory."""

    identity = None

    def __init__(self, message: bytes) -> None:
        self._rest = message
        self.total = len(message)

    def fill(self, room: memoryview) -> int:
        """Put the next bytes into `room`; how many."""
        part, self._rest = self._rest[: len(room)], self._rest[len(room) :]
        room[: len(part)] = part
        return len(part)

    def skip_to(self, offset: int) -> None:
        """A message is always sent from its beginning."""


class FileSource:
    """All that a descriptor still has to give, as one record: from where it stands to its end.

    A regular file's size is taken once, so what is appended meanwhile is not sent. One of size 0 may be one of
    those in /proc that do not tell theirs: it is read to its end like a pipe.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self.total = UNKNOWN
        self._start = 0
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode) and status.st_size:
            self._start = os.lseek(descriptor, 0, os.SEEK_CUR)
            self.total = max(status.st_size - self._start, 0)

    def fill(self, room: memoryview) -> int:
        """Read the next bytes into `room`, with no copy of our own; how many, 0 at the end. Raises OSError."""
        return read_into(self._descriptor, room, self._name)

    def skip_to(self, offset: int) -> None:
        """Go on from byte `offset` of the record. Raises OSError (ESPIPE) for a pipe."""
        if offset:
            os.lseek(self._descriptor, self._start + offset, os.SEEK_SET)


class _LongLine:
    """One line that is longer than a slot; what was read behind its newline is `rest`."""

    total = UNKNOWN
    identity = None

    def __init__(self, descriptor: int, name: str, begun: bytes) -> None:
        self._descriptor = descriptor
        self._name = name
        self._begun = begun
        self._ended = False
        self.rest = b""

    def fill(self, room: memoryview) -> int:
        """Put the line's next bytes into `room`; how many, 0 behind its newline. Raises OSError."""
        if self._ended:
            return 0
        data = self._begun or read_some(self._descriptor, len(room), self._name)
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
    room = end.ring.fragment_size
    data = b""
    while True:
        whole = data.rfind(b"\n") + 1
        if whole:
            with memoryview(data)[:whole] as lines:
                end.send_lines(lines, data.count(b"\n"), verify=verify)
            data = data[whole:]
        elif len(data) == room:
            line = _LongLine(descriptor, name, data)
            end.send(line, verify=verify)
            data = line.rest
        else:
            prompt()
            chunk = read_some(descriptor, room - len(data), name)
            if not chunk:
                break
            data += chunk
    if data:
        end.send(MessageSource(data), verify=verify)


class StreamSink:
    """A pipe, a terminal, or a file that somebody else opened."""

    identity: tuple[int, int] | None = None

    def __init__(self, descriptor: int, name: str = "standard output") -> None:
        self._descriptor = descriptor
        self._name = name
        self.size = 0
        self.settled = False

    def write(self, data: memoryview) -> None:
        """Put all of `data` out. Raises OSError, BrokenPipeError when nobody reads any more."""
        write_all(self._descriptor, data, self._name)
        self.size += len(data)

    def cut(self, size: int) -> None:
        """A stream cannot be taken back; what an earlier reader put out stays out."""


class FileSink(StreamSink):
    """A regular file of our own (--output); nothing in it is touched before cut()."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, name)
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.size = status.st_size

    def cut(self, size: int) -> None:
        """Make the file `size` bytes long and go on behind them. Raises OSError."""
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        self.size = size


def open_output(path: str) -> StreamSink:
    """--output: a regular file is continued or emptied by the channel, anything else is a stream. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileSink(descriptor, path)
    return StreamSink(descriptor, path)
