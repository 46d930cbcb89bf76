"""What the protocol asks of the floor above: one channel's IPC objects and its doorway, whoever provides them.

The channel runs unchanged on the objects of either family (ipc/sysv.py, ipc/posix.py) and on the simulated ones of
tests/model.
"""

from __future__ import annotations

from common.typed import Protocol


class Counter(Protocol):
    """A counting semaphore: a token in it says "look again", head and tail say what there is."""

    def acquire(self, timeout: float) -> bool:
        """Take a token, waiting up to `timeout` seconds; False when none came. Raises Gone."""

    def release(self) -> None:
        """Put a token back. Raises Gone."""


class Turn(Counter, Protocol):
    """A lock with one holder, which the kernel releases when the holder dies."""

    def holder(self) -> int | None:
        """The pid of the holder, None when nobody holds it: a hint, for messages only."""


class Presence(Protocol):
    """How many writers live; the kernel forgets the dead."""

    def enter(self) -> None:
        """Count this process in."""

    def leave(self) -> None:
        """Count this process out."""

    def present(self) -> bool:
        """Whether any live process has entered."""


class Removal(Protocol):
    """What a removal has done; str() says it to a person."""

    @property
    def left(self) -> tuple[object, ...]:
        """What has our keys and was not removed."""


class Objects(Protocol):
    """One channel's IPC objects, attached."""

    # Read-only properties, so that a family of objects may declare narrower types.
    @property
    def memory(self) -> memoryview: ...
    @property
    def full_slots(self) -> Counter: ...
    @property
    def empty_slots(self) -> Counter: ...
    @property
    def writer_turn(self) -> Turn: ...
    @property
    def reader_turn(self) -> Turn: ...
    @property
    def writers(self) -> Presence: ...

    @property
    def removal(self) -> Removal: ...

    def removed(self) -> bool:
        """Whether the segment is marked for removal: no one else can join any more."""

    def missing(self) -> str | None:
        """The name of a semaphore that is no more, None when all five are there."""

    def alone(self) -> bool:
        """Whether no other process has the segment attached."""

    def goes_with_us(self) -> bool:
        """Whether our detach destroys the segment, removed or not, and what is in it."""

    def check_removable(self) -> None:
        """Raise what remove() would raise for want of permission, before anything is changed."""

    def remove_semaphores(self) -> None:
        """Remove the semaphores; those already gone are passed over. Call it in the doorway. Raises CallFailed."""

    def remove(self) -> None:
        """Remove every object; those already gone are passed over. Call it in the doorway. Raises CallFailed."""

    def detach(self) -> None:
        """Give the memory back; every view of it must be released before."""


class Doorway(Protocol):
    """The lock inside which joining, leaving and removing happen, one at a time."""

    def __enter__(self) -> object: ...
    def __exit__(self, *exc_info: object) -> None: ...
