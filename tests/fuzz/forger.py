"""A hostile peer that releases semaphores nobody acquired: `python -m tests.fuzz.forger IPC KEY_PATH NAME ...`.

A token only says "look again", so thousands of forged ones a second may cost time and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.errors import Gone
from tests.in_process import FAMILIES, place_of, token_giver


def forge(ipc: str, key_path: Path, names: list[str]) -> None:
    """Release the named semaphores in a loop, until they are gone."""
    givers = [token_giver(place_of(key_path), FAMILIES[ipc], name) for name in names]
    print("ready", flush=True)
    while True:
        for give in givers:
            give()


if __name__ == "__main__":
    try:
        forge(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
    except Gone:
        pass
