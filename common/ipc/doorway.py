"""The doorway: an exclusive flock(2) on the key path, held while joining, leaving or removing.

Both programs have the key path by definition, so there is always one lock for one channel's key, and the kernel
drops it with the process. Whoever is inside is alone: what it finds half-made was left by a process that died.
"""

from __future__ import annotations

import fcntl
import os
import signal

from common.channel.listener import Call, Reason
from common.channel.patience import Patience

# The signals that end a program: held back while it is inside.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FlockDoorway:
    """`with doorway:` is the critical section; signals that would end us, and what is told, wait outside it.

    C: int flock(int fd, int operation), with LOCK_EX | LOCK_NB and LOCK_UN; see flock(2). EAGAIN: somebody is inside.

    The file stays open for the life of the object, so the doorway still works when the path is deleted under it.
    Raises OSError when `path` cannot be opened for reading; entering it raises TimedOut.
    """

    def __init__(self, path: str, patience: Patience) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: a FIFO would wait for its writer
        self._patience = patience
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def __enter__(self) -> FlockDoorway:
        return self._patience.look_until(self._try, self._why_closed)

    def _try(self) -> FlockDoorway | None:
        try:
            # Held back before the lock is ours: a signal must not strike between the two.
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._patience.listener.hold()
            self._tell(fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self
        except BaseException as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
            if isinstance(error, OSError):
                self._tell(fcntl.LOCK_EX | fcntl.LOCK_NB, error.errno or 0)
            if not isinstance(error, BlockingIOError):
                raise
        return None

    def _tell(self, operation: int, number: int = 0) -> None:
        """The call that was made, for --trace=all."""
        if self._patience.listener.call is not None:
            self._patience.listener.call(Call("flock", (self._file, operation), -1 if number else 0, number))

    def _why_closed(self) -> Reason:
        return Reason(f"waiting for the lock on {self._path}, which another process holds", missing=True)

    def __exit__(self, *exc_info: object) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._tell(fcntl.LOCK_UN)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)  # a signal that has waited raises here
        finally:
            self._patience.listener.release()

    def identity(self) -> tuple[int, int]:
        """st_dev and st_ino of the key path, as they were when it was opened."""
        status = os.fstat(self._file)
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Give the file back; the doorway must not be used afterwards."""
        os.close(self._file)
