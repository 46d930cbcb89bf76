"""What the five System V semaphores are for: two count, two are turns, one tells how many writers live."""

from __future__ import annotations

from common.ipc.sysv_calls import Semaphore, SysvCalls


class Counter:
    """A counting semaphore."""

    def __init__(self, calls: SysvCalls, semaphore: Semaphore) -> None:
        self._calls = calls
        self._semaphore = semaphore

    def acquire(self, timeout: float) -> bool:
        """Take a token, asleep up to `timeout` seconds; 0 only tries. Raises Gone."""
        # No spinning before the sleep: it was measured, and it takes from the other side more than it saves.
        if timeout:
            return self._calls.wait_semaphore(self._semaphore, timeout)
        return self._calls.try_semaphore(self._semaphore)

    def release(self) -> None:
        """Put a token back. Raises Gone."""
        self._calls.release_semaphore(self._semaphore)


class Turn(Counter):
    """A semaphore of initial value 1 whose operations the kernel undoes when their process dies (SEM_UNDO)."""

    def __init__(self, calls: SysvCalls, semaphore: Semaphore) -> None:
        super().__init__(calls, semaphore)
        semaphore.undo = True

    def holder(self) -> int | None:
        """The pid of the holder, None when nobody holds it: a hint, for messages only."""
        free = self._calls.semaphore_value(self._semaphore)
        return None if free else self._calls.semaphore_last_pid(self._semaphore)


class Presence:
    """A semaphore that counts the live: what a process adds, the kernel takes back when it dies (SEM_UNDO)."""

    def __init__(self, calls: SysvCalls, semaphore: Semaphore) -> None:
        self._calls = calls
        self._semaphore = semaphore
        semaphore.undo = True

    def enter(self) -> None:
        """Count this process in."""
        self._calls.release_semaphore(self._semaphore)

    def leave(self) -> None:
        """Count this process out."""
        self._calls.try_semaphore(self._semaphore)

    def present(self) -> bool:
        """Whether any live process has entered."""
        return self._calls.semaphore_value(self._semaphore) > 0
