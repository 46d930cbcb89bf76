"""Where a channel is: key path and channel number, and the keys that follow from them."""

from __future__ import annotations

from common.ipc.calls import Calls
from common.layout import SEMAPHORES
from common.typed import NamedTuple

CHANNELS = range(32)


class Place(NamedTuple):
    """Where a channel is: its key path and number, and the keys that follow from them."""

    path: str
    channel: int
    dev: int
    ino: int
    segment_key: int
    semaphore_keys: tuple[int, ...]

    @classmethod
    def of(
        cls, calls: Calls, path: str, channel: int, identity: tuple[int, int], count: int = 1 + len(SEMAPHORES)
    ) -> Place:
        """`identity` is (st_dev, st_ino) of the path, and `count` how many keys are needed.

        Raises CallFailed when ftok cannot find it.
        """
        first = 8 * channel + 1
        keys = [calls.make_key(path, first + index) for index in range(count)]
        return cls(path, channel, *identity, keys[0], tuple(keys[1:]))
