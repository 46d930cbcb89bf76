"""A hostile peer as a process of its own: `python -m tests.fuzz.scribbler IPC KEY_PATH REGION`.

It attaches the segment and, once some of the transfer is through, stores lies into one region of it until it is killed:
one after every few fragments that are published, and every few milliseconds when none are.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from common.channel.ring import Ring
from common.layout import PAGE, Header
from tests.fuzz.crafted import opened
from tests.fuzz.pokes import HEADER_FIELDS, SLOT_FIELDS, Poke, header_poke, slot_poke
from tests.in_process import FAMILIES, place_of

STALLED = 0.005  # seconds without a new fragment, after which the next lie is due
LATEST_START = 300  # fragments read before the first lie; a test's transfer has more


def _value(chance: random.Random) -> int:
    return chance.choice((chance.randrange(8), chance.getrandbits(64), 2 ** chance.randrange(65) - 1))


def _near(memory: memoryview, at: int, chance: random.Random) -> int:
    """A value close to the one that is there, which is the harder lie to see through."""
    return int.from_bytes(memory[at : at + 8], "little") + chance.randrange(-3, 4)


def lie(memory: memoryview, region: str, ring: Ring, chance: random.Random) -> Poke:
    """The next store into `region`: header, counters or slots."""
    if region == "counters":
        field = chance.choice(("head", "tail"))
        return header_poke(field, _near(memory, HEADER_FIELDS[field][0], chance))
    if region == "header":
        return header_poke(chance.choice(sorted(HEADER_FIELDS)), _value(chance))
    return slot_poke(chance.randrange(ring.slot_count), chance.choice(sorted(SLOT_FIELDS)), _value(chance))


def wait_for_fragments(header: Header, count: int) -> None:
    """Return when `count` more were published, or none for a while."""
    goal, deadline = header.head + count, time.monotonic() + STALLED
    while header.head < goal and time.monotonic() < deadline:
        time.sleep(0)


def scribble(ipc: str, key_path: Path, region: str) -> None:
    """Lie until somebody kills us."""
    chance = random.Random(0)
    with opened(place_of(key_path), FAMILIES[ipc]) as memory:
        ring, header = Ring(memory), Header(memory[:PAGE])
        print("ready", flush=True)
        first = chance.randrange(LATEST_START)
        while header.tail < first:
            time.sleep(0)
        while True:
            wait_for_fragments(header, chance.randrange(1, 4))
            lie(memory, region, ring, chance).into(memory)


if __name__ == "__main__":
    scribble(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
