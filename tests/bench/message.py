"""How long a message of so many bytes takes into slots, or its plain copy: `python -m tests.bench.message source 1024`.

The seconds on standard output; without the start, and without what making the message takes.
"""

from __future__ import annotations

import sys
import time

from common.cli.sources import MessageSource
from common.ipc.lifecycle import DEFAULT_GEOMETRY


def fill_slots(message: bytes) -> None:
    """As a writer does it: one slot after the other, to the end of the message."""
    source = MessageSource(message)
    room = memoryview(bytearray(DEFAULT_GEOMETRY.slot_size))
    while source.fill(room):
        pass


def copy(message: bytes) -> None:
    """Slot by slot as well, with nothing around it."""
    room = memoryview(bytearray(DEFAULT_GEOMETRY.slot_size))
    whole = memoryview(message)
    for at in range(0, len(whole), len(room)):
        part = whole[at : at + len(room)]
        room[: len(part)] = part


def main() -> int:
    """Time what the first argument says, with as many bytes as the second."""
    action = {"source": fill_slots, "copy": copy}[sys.argv[1]]
    message = b"m" * int(sys.argv[2])
    began = time.perf_counter()
    action(message)
    print(time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
