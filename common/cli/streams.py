"""The ends outside the channel: files, pipes and terminals as the sources and sinks of records.

This file knows file descriptors and no segment. Everything here copes with short reads and writes and with
descriptors that somebody made non-blocking.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from common.channel.write import WriteEnd
from common.errors import ChannelError
from common.layout import MAX_FRAGMENT, UNKNOWN, FileId

_T = TypeVar("_T")

# read(2) into new bytes takes memory for all that it asks for, in bytes; a slot may be far larger than a line.
AT_ONCE = 2**20


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


def regular_file(descriptor: int) -> tuple[int, int] | None:
    """st_dev and st_ino of the regular file behind a descriptor; None when it is something else."""
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


class MessageSource:
    """A record out of memory; `file` is where it was read from."""

    identity = None

    def __init__(self, message: bytes, file: tuple[int, int] | None = None) -> None:
        self._rest = message
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
        self._descriptor = descriptor
        self._name = name
        self.total = UNKNOWN
        self._start = 0
        status = os.fstat(descriptor)
        self.file = regular_file(descriptor)
        self.identity = FileId(*self.file, status.st_mtime_ns % 2**64) if self.file else None
        if self.file and status.st_size and self._has_byte(status.st_size - 1):
            self._start = os.lseek(descriptor, 0, os.SEEK_CUR)
            self.total = max(status.st_size - self._start, 0)

    def _has_byte(self, offset: int) -> bool:
        return bool(_patiently(self._descriptor, self._name, lambda: os.pread(self._descriptor, 1, offset)))

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

    def __init__(self, descriptor: int, name: str, begun: bytes, file: tuple[int, int] | None) -> None:
        self.file = file
        self._descriptor = descriptor
        self._name = name
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
            data = read_some(self._descriptor, min(len(room), AT_ONCE), self._name)
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
    room = min(end.ring.fragment_size, AT_ONCE)
    file = regular_file(descriptor)
    expected = FileSource(descriptor, name).total if file else UNKNOWN
    came = 0
    data = b""
    while True:
        whole = data.rfind(b"\n") + 1
        if whole:
            with memoryview(data)[:whole] as lines:
                end.send_lines(lines, data.count(b"\n"), file=file, verify=verify)
            data = data[whole:]
        elif len(data) == room:
            line = _LongLine(descriptor, name, data, file)
            end.send(line, verify=verify)
            came += line.came
            data = line.rest
        else:
            prompt()
            chunk = read_some(descriptor, room - len(data), name)
            if not chunk:
                break
            came += len(chunk)
            data += chunk
    if data:
        end.send(MessageSource(data, file), verify=verify)
    if expected != UNKNOWN and came < expected:
        raise ChannelError(f"the input became shorter: it ended after {came} of {expected} bytes")


class StreamSink:
    """A pipe, a terminal, or a file that somebody else opened. Raises ChannelError for one that a reader is writing."""

    identity: tuple[int, int] | None = None

    def __init__(self, descriptor: int, name: str = "standard output") -> None:
        self._descriptor = descriptor
        self._name = name
        self._sizes = deque([0], maxlen=1)
        self.settled = False
        self.inode = regular_file(descriptor)
        # An empty one has no byte of anybody's: it may have the inode of an input that is gone.
        self.file = self.inode if os.fstat(descriptor).st_size else None
        if self.inode:
            self._lock()

    def _lock(self) -> None:
        """Nobody else may write where we do, but for those who append; the kernel drops the lock with the process."""
        import fcntl

        if fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_APPEND:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ChannelError(
                f"{self._name}: EWOULDBLOCK (flock): another reader is writing this file; name another --output"
            ) from None

    @property
    def size(self) -> int:
        """Bytes that are out, true at any instant: also when a signal or an error has interrupted write()."""
        return self._sizes[0]

    def write(self, data: memoryview) -> None:
        """Put all of `data` out; write(2) may take fewer bytes than it was given.

        Raises OSError; BrokenPipeError when nobody reads any more.
        """
        begun = self.size
        done = 0
        while done < len(data):
            with data[done : done + MAX_FRAGMENT] as rest:
                _patiently(self._descriptor, self._name, partial(self._write_some, rest), to_write=True)
            done = self.size - begun

    def _write_some(self, data: memoryview) -> None:
        # A signal may raise as soon as a call has returned, before its result has a name: so this is one call, all C.
        self._sizes.extend(map(self.size.__add__, map(os.write, (self._descriptor,), (data,))))

    def cut(self, size: int) -> None:
        """A stream cannot be taken back; what an earlier reader put out stays out."""

    def close(self) -> None:
        """Nothing more comes. Raises OSError for what only now turns out, ChannelError for an output that is gone."""


class FileSink(StreamSink):
    """A regular file of our own (--output); nothing in it is touched before cut()."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, name)
        self.identity = self.inode
        self._sizes.append(os.fstat(descriptor).st_size)

    def cut(self, size: int) -> None:
        """Make the file `size` bytes long and go on behind them. Raises OSError."""
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        self._sizes.append(size)

    def close(self) -> None:
        """A quota or a network may say only now that it could not be written (close(2)); others may have spoilt it."""
        status = os.fstat(self._descriptor)
        try:
            os.close(self._descriptor)
        except OSError as error:
            error.filename = self._name
            raise
        if not status.st_nlink:
            raise ChannelError(f"{self._name} was removed while it was written: what was received is lost with it")
        if self.settled and status.st_size != self.size:
            raise ChannelError(
                f"{self._name} was changed while it was written: it has {status.st_size} bytes, not the {self.size}"
                " that were received"
            )


def open_output(path: str) -> StreamSink:
    """--output: a regular file is continued or emptied by the channel, anything else is a stream. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileSink(descriptor, path)
    return StreamSink(descriptor, path)
