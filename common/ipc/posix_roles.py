"""What the five roles are in POSIX terms: a semaphore counts and wakes, a lock on a byte of the object excludes.

A semaphore of POSIX forgets nobody: what a process that died had taken is gone. So the turns and the presence are locks
of fcntl(2), which the kernel drops with the process, and their semaphores only wake and count.
"""

from __future__ import annotations

import errno

from common.errors import BadSegment, CallFailed, Gone
from common.ipc.posix_calls import Flock, Mapping, PosixCalls, Semaphore, ShmStat
from common.layout import Header
from common.typed import NamedTuple

# A lock needs a byte and leaves what is in it alone. Each is the first byte of the field of the header that it goes
# with (layout.py): magic, writers_joined, writer_pid, reader_pid.
ATTACHED = 0  # shared, by whoever takes part
WRITERS = 64  # shared, by each writer
WRITER_TURN = 72  # by who writes
READER_TURN = 76  # by who reads

_F_RDLCK, _F_WRLCK, _F_OFD_SETLK = 0, 1, 37  # <fcntl.h>
_MOST_DEAD = 1000  # tokens to take away before one writes: whoever scribbles on a semaphore must not hold us up


class Handle(NamedTuple):
    """An opened object: its descriptor, and where it is mapped, if it has a size."""

    calls: PosixCalls
    fd: int
    mapping: Mapping | None

    def stat(self) -> ShmStat:
        """Fstat of it. Raises BadSegment when its size was changed under us.

        If it is smaller, or a touch would be a SIGBUS, zeros that are ours alone are in its place.
        """
        now = self.calls.stat_segment(self.fd)
        size = len(self.mapping.memory) if self.mapping else 0
        if not self.mapping or now.size == size:
            return now
        if now.size < size:
            self.calls.cover(self.mapping)
        changed = BadSegment(f"its size was changed to {now.size} bytes while it was in use, and was {size}")
        if 0 < now.size < Header.PROOF:
            changed.remedy = "`writer.py --remove` says how to remove it"
        raise changed

    def lock_shared(self, byte: int) -> None:
        """Take a lock that all of ours only share. Raises CallFailed (EAGAIN) when somebody else has it alone."""
        if not self.calls.try_lock(self.fd, byte, exclusive=False):
            lock = Flock(_F_RDLCK, 0, byte, 1, 0)
            raise CallFailed("fcntl", (self.fd, _F_OFD_SETLK, lock), errno.EAGAIN)

    def locked_by_others(self, byte: int) -> bool:
        """Whether anybody else has a lock on this byte."""
        return self.calls.is_locked(self.fd, byte, exclusive=True)


class Counter:
    """A counting semaphore."""

    def __init__(self, handle: Handle, semaphore: Semaphore) -> None:
        self._handle = handle
        self._semaphore = semaphore

    def acquire(self, timeout: float) -> bool:
        """Take a token, asleep up to `timeout` seconds; 0 only tries. Raises BadSegment, see Handle.stat."""
        if not timeout:
            return self._handle.calls.try_semaphore(self._semaphore)
        token = self._handle.calls.wait_semaphore(self._semaphore, timeout)
        if not token:
            self._handle.stat()  # before the caller looks at head and tail
        return token

    def release(self) -> None:
        """Put a token back."""
        self._handle.calls.release_semaphore(self._semaphore)


class Turn:
    """A lock on the byte where the holder's pid is; the semaphore, 0 at first, wakes one of those who wait for it.

    A holder that dies wakes nobody: who waits tries the lock again at its next heartbeat.
    """

    def __init__(self, handle: Handle, byte: int, semaphore: Semaphore) -> None:
        self._handle = handle
        self._byte = byte
        self._semaphore = semaphore

    def acquire(self, timeout: float) -> bool:
        """Take the turn, asleep up to `timeout` seconds until it may be free; 0 only tries. Raises BadSegment, Gone.

        Whoever has removed the channel gives no turn back before its end, and sem_unlink wakes nobody.
        """
        if self._try():
            return True
        if not timeout:
            return False
        there = self._handle.calls.wait_semaphore(self._semaphore, timeout) or self._handle.stat().links
        if self._try():
            return True
        if not there:
            lock = Flock(_F_WRLCK, 0, self._byte, 1, 0)
            raise Gone("fcntl", (self._handle.fd, _F_OFD_SETLK, lock), errno.EIDRM)
        return False

    def _try(self) -> bool:
        return self._handle.calls.try_lock(self._handle.fd, self._byte, exclusive=True)

    def release(self) -> None:
        """Give it back, and wake one that waits: a token that is there already will."""
        calls = self._handle.calls
        calls.unlock(self._handle.fd, self._byte)
        if not calls.semaphore_value(self._semaphore):
            calls.release_semaphore(self._semaphore)

    def holder(self) -> int | None:
        """The pid that another holder notes, 0 before it has; None when no other holds it: a hint, for messages only.

        The kernel says that there is a lock, and not whose (fcntl(2): l_pid is -1).
        """
        if not self._handle.locked_by_others(self._byte):
            return None
        assert self._handle.mapping is not None, "a channel has a header"
        with self._handle.mapping.memory[self._byte : self._byte + 4] as field, field.cast("I") as pid:
            return pid[0]


class Presence:
    """A shared lock on one byte; the semaphore counts, as a hint for whoever looks: it forgets nobody who died."""

    def __init__(self, handle: Handle, semaphore: Semaphore) -> None:
        self._handle = handle
        self._semaphore = semaphore
        self._entered = False

    def enter(self) -> None:
        """Count this process in; the first one finds what the dead have left. In the doorway. Raises CallFailed."""
        calls = self._handle.calls
        if not self._handle.locked_by_others(WRITERS):
            for _ in range(min(calls.semaphore_value(self._semaphore), _MOST_DEAD)):
                calls.try_semaphore(self._semaphore)
        self._handle.lock_shared(WRITERS)
        self._entered = True
        calls.release_semaphore(self._semaphore)

    def leave(self) -> None:
        """Count this process out."""
        self._entered = False
        self._handle.calls.try_semaphore(self._semaphore)
        self._handle.calls.unlock(self._handle.fd, WRITERS)

    def present(self) -> bool:
        """Whether any live process has entered."""
        return self._entered or self._handle.locked_by_others(WRITERS)
