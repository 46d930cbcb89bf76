"""Reading and writing through file descriptors, with short reads and writes and with those that somebody made
non-blocking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def patiently(descriptor: int, name: str, operate: Callable[[], _T], *, to_write: bool = False) -> _T:
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
    return patiently(descriptor, name, lambda: os.readv(descriptor, [room]))


def read_some(descriptor: int, size: int, name: str = "") -> bytes:
    """Like read_into, into new bytes."""
    return patiently(descriptor, name, lambda: os.read(descriptor, size))


def regular_file(descriptor: int) -> tuple[int, int] | None:
    """st_dev and st_ino of the regular file behind a descriptor; None when it is something else."""
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None
