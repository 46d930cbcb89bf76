"""A FIFO, fifo(7): a pipe with a name in the file system, so that strangers can open it.

Only the name is in the directory: the bytes go through the same 64 KiB of the kernel, with the same calls and copies.
open(2) sleeps until the other side opens it too.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.mechanisms.pipe import Pipe


class Fifo(Pipe):
    """What `mkfifo` makes: found by its path, and from then on a pipe."""

    name = "FIFO"

    def __init__(self, directory: Path, number: int) -> None:
        self.path = directory / f"fifo{number}"
        os.mkfifo(self.path, 0o600)

    def connect_sender(self) -> None:
        self.writing = os.open(self.path, os.O_WRONLY)

    def connect_receiver(self) -> None:
        self.reading = os.open(self.path, os.O_RDONLY)

    def remove(self) -> None:
        self.path.unlink()
