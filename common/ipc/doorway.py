"""The doorway: an exclusive flock(2) on the key path, held while joining, leaving or removing.

Both programs have the key path by definition, so there is always one lock for one channel's key, and the kernel
drops it with the process. Whoever is inside is alone: what it finds half-made was left by a process that died.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

# A flock is held for well under a millisecond, so look again soon; a long wait means a stopped holder.
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05

# The signals that end a program: held back while it is inside.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Voice(Protocol):
    """Whoever speaks to a person: inside, a full pipe that nobody reads would hold everybody outside."""

    def hold(self) -> None:
        """We are inside: only note what is to be said."""

    def release(self) -> None:
        """We are out, and signals are heard again: say what was noted."""


class Silent:
    """A voice that says nothing anyway."""

    def hold(self) -> None: ...
    def release(self) -> None: ...


class FlockDoorway:
    """`with doorway:` is the critical section; signals that would end us, and what `voice` says, wait outside it.

    The file stays open for the life of the object, so the doorway still works when the path is deleted under it.
    `still_closed(seconds)` is called while somebody else is inside; it may raise to give up.
    Raises OSError when `path` cannot be opened for reading.
    """

    def __init__(self, path: str, still_closed: Callable[[float], None], voice: Voice | None = None) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: a FIFO would wait for its writer
        self._still_closed = still_closed
        self._voice = voice or Silent()
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def __enter__(self) -> FlockDoorway:
        began = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            try:
                # Held back before the lock is ours: a signal must not strike between the two.
                signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._voice.hold()
                return self
            except BaseException as error:
                signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
                if not isinstance(error, BlockingIOError):
                    raise
            self._still_closed(time.monotonic() - began)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def __exit__(self, *exc_info: object) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)  # a signal that has waited raises here
        finally:
            self._voice.release()

    def identity(self) -> tuple[int, int]:
        """st_dev and st_ino of the key path, as they were when it was opened."""
        status = os.fstat(self._file)
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Give the file back; the doorway must not be used afterwards."""
        os.close(self._file)
