"""How long to wait, and looking again a little later each time."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

from common.channel.listener import Listener, Reason
from common.errors import TimedOut
from common.typed import TypeVar

# A lost wake-up costs at most this long, in seconds; it is also how soon a dead peer is noticed.
HEARTBEAT = 0.1

# What is looked at again, without a semaphore to sleep on, is mostly there at once: seconds between two looks.
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05

_T = TypeVar("_T")


class Patience:
    """How long to wait without progress, `timeout` in seconds, None for ever; `listener` hears of each heartbeat."""

    def __init__(self, timeout: float | None, listener: Listener) -> None:
        self.timeout = timeout
        self.listener = listener

    def beat(self, reason: Reason, waited: float) -> None:
        """Another heartbeat has passed, `waited` seconds in all. Raises TimedOut when they are too many."""
        if self.timeout is not None and waited >= self.timeout:
            raise TimedOut(f"gave up after {self.timeout:g} s of {reason.text}", reason.pid)
        self.listener.wait(reason, waited)

    def look_until(
        self, look: Callable[[], _T | None], reason: Callable[[], Reason], moved: Callable[[], bool] = lambda: False
    ) -> _T:
        """What `look()` finds in the end; `moved()` tells that somebody made progress. Raises TimedOut."""
        began, pause = monotonic(), FIRST_PAUSE
        while (found := look()) is None:
            if moved():
                began = monotonic()
            self.beat(reason(), monotonic() - began)
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return found
