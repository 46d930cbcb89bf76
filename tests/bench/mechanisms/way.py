"""The interface of every mechanism: one way, from a producer to a consumer. For an answer there is a second one.

Their parent makes a way before it forks the two, so that both know of it, and removes it whatever became of them.
What both do with a block is the same for all: the producer has it in its memory, and the consumer looks at every byte
of it, where it first can. That is in memory of its own, where the kernel or a library has put it; or in the slot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

Look = Callable[[bytes | memoryview], object]


class Limit(NamedTuple):
    """The most bytes in one message, and the file that says so."""

    size: int
    file: str

    @classmethod
    def read(cls, file: str) -> Limit:
        """What the kernel says now. Raises OSError where it does not have the mechanism."""
        return cls(int(Path(file).read_text()), file)


class Way(ABC):
    """One way from one process to another, number 0 there and number 1 back.

    `copies` says how often a block is copied and by whom, `calls` how many system calls both processes make for one
    that fits, when neither has to sleep.
    """

    name: ClassVar[str]
    copies: ClassVar[str]
    calls: ClassVar[int]

    @abstractmethod
    def __init__(self, directory: Path, number: int) -> None:
        """Make it, with whatever files it needs in `directory`. Raises what the system says where it cannot."""

    @classmethod
    def limit(cls) -> Limit | None:
        """How large a message may be; None for any size."""
        return None

    @abstractmethod
    def connect_sender(self) -> None:
        """In the producer."""

    @abstractmethod
    def connect_receiver(self) -> None:
        """In the consumer."""

    @abstractmethod
    def send(self, block: bytes) -> None:
        """Send one block."""

    @abstractmethod
    def receive(self, room: memoryview, look: Look) -> None:
        """Receive the next block, which has as many bytes as `room`, and `look` at it, in one piece or several.

        `room` is memory to put it into, for those who need some.
        """

    def disconnect(self) -> None:  # noqa: B027  # most have nothing to do
        """In either process, when all is said; what is only open, the kernel closes at its end."""

    @abstractmethod
    def remove(self) -> None:
        """In the parent: nothing is left."""


def fill(room: memoryview, read_into: Callable[[memoryview], int]) -> memoryview:
    """A stream of bytes knows no blocks: read until `room` is full. Raises EOFError."""
    have = 0
    while have < len(room):
        got = read_into(room[have:])
        if not got:
            raise EOFError("the producer is gone")
        have += got
    return room
