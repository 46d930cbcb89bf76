"""Reading and writing through file descriptors, with short reads and writes and with those that somebody made
non-blocking.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Callable

from common.typed import TypeVar

_T = TypeVar("_T")

LOOK_UP = 1.0  # seconds; only the signal that comes in the worst moment is heard so late
PIPE_SIZE = 2**20  # bytes; what anybody may ask for by default


class Descriptor:
    """A descriptor to read from, or to write to; `name` is what errors call it.

    `file` is (st_dev, st_ino) of the regular file behind it, None when it is something else.

    Where a call may sleep, in a pipe, a socket or a terminal, it is made when the other end is ready. A signal that
    comes just before such a call does not end it: the kernel has delivered it, and Python would hear of it only behind
    the call. To poll for a second at a time is to hear of it by then.
    """

    def __init__(self, number: int, name: str, *, to_write: bool = False) -> None:
        self.number = number
        self.name = name
        status = os.fstat(number)
        mode = status.st_mode
        self.file = (status.st_dev, status.st_ino) if stat.S_ISREG(mode) else None
        self._sleeps = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(number)
        if stat.S_ISFIFO(mode) and not to_write:  # what a pipe behind us holds is out of the channel: so not that one
            _widen(number)
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT if to_write else select.POLLIN)

    def is_ready(self, seconds: float = 0) -> bool:
        """Whether a call would not sleep: there is something to read, or room to write, or the other end is gone."""
        return bool(self._poll.poll(1000 * seconds))

    def patiently(self, operate: Callable[[], _T]) -> _T:
        """The result of `operate`, once the descriptor is ready for it. Raises OSError."""
        waits = self._sleeps
        while True:
            while waits and not self.is_ready(LOOK_UP):
                pass
            try:
                return operate()
            except BlockingIOError:
                waits = True
            except OSError as error:
                error.filename = self.name
                raise

    def read_into(self, room: memoryview) -> int:
        """Read what there is, waiting for at least a byte; 0 at the end. Raises OSError."""
        return self.patiently(lambda: os.readv(self.number, [room]))

    def read(self, size: int) -> bytes:
        """Like read_into, into new bytes."""
        return self.patiently(lambda: os.read(self.number, size))


def _widen(pipe: int) -> None:
    """Let a pipe hold more than its 64 KiB, if we may: its writer sleeps less often, and fragments are larger.

    Anybody may, up to /proc/sys/fs/pipe-max-size (pipe(7)); one that holds as much is left as it is.
    """
    try:
        if fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) < PIPE_SIZE:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # EPERM: this user's pipes have all that they may have
