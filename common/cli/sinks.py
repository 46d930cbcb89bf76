"""Where records go: files, pipes and terminals. This file knows descriptors and no segment."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from functools import partial

from common.channel.listener import Reason
from common.channel.patience import Patience
from common.cli.descriptors import Descriptor
from common.errors import ChannelError
from common.layout import MAX_FRAGMENT


class StreamSink:
    """A pipe, a terminal, or a file that somebody else opened. Raises ChannelError for one that a reader is writing."""

    identity: tuple[int, int] | None = None

    def __init__(self, descriptor: int, name: str = "standard output") -> None:
        self._output = Descriptor(descriptor, name, to_write=True)
        self._sizes = deque([0], maxlen=1)
        self.settled = False
        self.inode = self._output.file
        status = os.fstat(descriptor)
        # An empty one has no byte of anybody's: it may have the inode of an input that is gone.
        self.file = self.inode if status.st_size else None
        self._has_name = status.st_nlink > 0  # a temporary file may never have had one (tmpfile(3))
        self._appends = False
        if self.inode:
            self._lock()

    def _lock(self) -> None:
        """Nobody else may write where we do, but for those who append; the kernel drops the lock with the process."""
        import fcntl

        self._appends = bool(fcntl.fcntl(self._output.number, fcntl.F_GETFL) & os.O_APPEND)
        if self._appends:
            return
        try:
            fcntl.flock(self._output.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ChannelError(
                f"{self._output.name}: EWOULDBLOCK (flock): another reader is writing this file; name another --output"
            ) from None

    @property
    def size(self) -> int:
        """Bytes that are out, true at any instant: also when a signal or an error has interrupted write()."""
        return self._sizes[0]

    def write(self, data: memoryview) -> None:
        """Put all of `data` out; write(2) may take fewer bytes than it was given.

        Raises OSError; BrokenPipeError when nobody reads any more.
        """
        self._check_not_shrunk()
        begun = self.size
        done = 0
        while done < len(data):
            with data[done : done + MAX_FRAGMENT] as rest:
                self._output.patiently(partial(self._write_some, rest))
            done = self.size - begun

    def _check_not_shrunk(self) -> None:
        """Raise ChannelError when others cut the file: what we write next would leave a hole before it."""
        if not self.inode or self._appends:
            return
        there, at = os.fstat(self._output.number).st_size, os.lseek(self._output.number, 0, os.SEEK_CUR)
        if there < at:
            raise ChannelError(_changed(self._output.name, there, at))

    def _write_some(self, data: memoryview) -> None:
        # A signal may raise as soon as a call has returned, before its result has a name: so this is one call, all C.
        self._sizes.extend(map(self.size.__add__, map(os.write, (self._output.number,), (data,))))

    def cut(self, size: int) -> None:
        """A stream cannot be taken back; what an earlier reader put out stays out."""

    def close(self) -> None:
        """Nothing more comes. Raises ChannelError when others have cut or removed what we wrote into."""
        if self.inode and self.size:
            self._check_not_shrunk()
            self._check_not_removed(os.fstat(self._output.number))

    def _check_not_removed(self, status: os.stat_result) -> None:
        if self._has_name and not status.st_nlink:
            raise ChannelError(
                f"{self._output.name} was removed while it was written: what was received is lost with it"
            )


class FileSink(StreamSink):
    """A regular file of our own (--output); nothing in it is touched before cut()."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, name)
        self.identity = self.inode
        self._sizes.append(os.fstat(descriptor).st_size)

    def cut(self, size: int) -> None:
        """Make the file `size` bytes long and go on behind them. Raises OSError."""
        os.ftruncate(self._output.number, size)
        os.lseek(self._output.number, size, os.SEEK_SET)
        self._sizes.append(size)

    def close(self) -> None:
        """A quota or a network may say only now that it could not be written (close(2)); others may have spoilt it."""
        name, status = self._output.name, os.fstat(self._output.number)
        try:
            os.close(self._output.number)
        except OSError as error:
            error.filename = name
            raise
        self._check_not_removed(status)
        if self.settled and status.st_size != self.size:
            raise ChannelError(_changed(name, status.st_size, self.size))


def _changed(name: str, there: int, expected: int) -> str:
    return f"{name} was changed while it was written: it has {there} bytes, not the {expected} that were received"


def open_output(path: str, patience: Patience) -> StreamSink:
    """--output: a regular file is continued or emptied by the channel, anything else is a stream.

    A FIFO is waited for until somebody reads it. Raises OSError, TimedOut.
    """
    nobody = Reason(f"waiting for somebody to read {path}", missing=True)
    descriptor = patience.look_until(partial(_try_open, path), lambda: nobody)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileSink(descriptor, path)
    return StreamSink(descriptor, path)


def _try_open(path: str) -> int | None:
    """None for a FIFO that nobody reads: to sleep in open(2) would be to say nothing."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        raise
    os.set_blocking(descriptor, True)
    return descriptor
