"""What happens is told once, to one listener: it is all that the floors below the programs know of whoever looks on.

The trace, the narration and the progress bar listen. Nothing is told in the doorway, or a full pipe behind standard
error would hold everybody: the listener notes it there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from common.layout import SlotHeader
from common.typed import Any, NamedTuple


class Call(NamedTuple):
    """One call to the operating system, as it returned; `result` is -1 and `errno` its number when it failed."""

    name: str
    arguments: tuple[Any, ...]
    result: int
    errno: int


class Step(Enum):
    """A named step of the protocol, each told when it is about to happen.

    What happens in the doorway, join, leave and remove, is told before it: whoever pauses there holds up nobody.
    """

    JOIN = "join"
    TAKE_TURN = "take-turn"
    WAIT_SLOT = "wait-slot"
    FILL = "fill"
    PUBLISH = "publish"
    GIVE_TURN = "give-turn"
    WAIT_DATA = "wait-data"
    READ = "read"
    PUT_OUT = "put-out"
    COMMIT = "commit"
    FREE = "free"
    LEAVE = "leave"
    REMOVE = "remove"


class Reason(NamedTuple):
    """What a process waits for; `missing` when the other side is not even there, which a person wants to hear.

    `pid` is the process that the text names, whom it waits for; 0: none.
    """

    text: str
    missing: bool = False
    pid: int = 0


class News(NamedTuple):
    """What became of others, one line for a person; `lost` when data is missing for it."""

    text: str
    lost: bool = False


class Listener:
    """Whoever is told. This one hears nothing; one that listens has its own methods in the place of these.

    `call`, `step` and `progress` are None while nobody listens, which is all that it costs the hot loops.
    """

    call: Callable[[Call], None] | None = None
    # The step, the number of the fragment that it is about, -1 for none, and what its slot says, if that is known.
    step: Callable[[Step, int, SlotHeader | None], None] | None = None
    # Whether whoever hears of a step may pause at it: then a removal is told before the doorway in which it happens.
    pauses = False
    # What the slot says of the fragment that went through, and how many bytes of it did just now.
    progress: Callable[[SlotHeader, int], None] | None = None

    def tell(self, step: Step, number: int = -1, slot: SlotHeader | None = None) -> None:
        """A step is about to happen."""
        if self.step is not None:
            self.step(step, number, slot)

    def wait(self, reason: Reason, seconds: float) -> None:
        """Still waiting, at each heartbeat."""

    def news(self, news: News) -> None:
        """Something happened that a person should know."""

    def hold(self) -> None:
        """We are in the doorway: only note what is told."""

    def release(self) -> None:
        """We are out, and signals are heard again: say what was noted."""
