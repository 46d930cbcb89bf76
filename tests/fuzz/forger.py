"""A hostile peer that releases semaphores nobody acquired: `python -m tests.fuzz.forger KEY_PATH NAME ...`.

A token only says "look again", so thousands of forged ones a second may cost time and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.errors import Gone
from common.layout import SEMAPHORES
from tests.in_process import place_of, sysv


def forge(key_path: Path, names: list[str]) -> None:
    """Release the named semaphores in a loop, until they are gone."""
    keys = dict(zip(SEMAPHORES, place_of(key_path).semaphore_keys, strict=True))
    semaphores = [sysv.open_semaphore(keys[name]) for name in names]
    print("ready", flush=True)
    while True:
        for semaphore in semaphores:
            sysv.release_semaphore(semaphore)


if __name__ == "__main__":
    try:
        forge(Path(sys.argv[1]), sys.argv[2:])
    except Gone:
        pass
