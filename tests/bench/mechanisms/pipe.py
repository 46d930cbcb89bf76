"""A pipe, pipe(7): up to 64 KiB of bytes in the kernel, between write(2) and read(2).

One block is one write, which copies it into pages of the kernel, and one read, which copies it out of them. One that
is larger than the pipe puts the producer to sleep until the consumer has made room, and comes out in several reads.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tests.bench.mechanisms.way import Look, Way, fill


class Pipe(Way):
    """What a shell puts between two programs: both ends are inherited, so only relatives can have it."""

    name = "pipe"
    copies = "2 kernel"
    calls = 2

    def __init__(self, directory: Path, number: int) -> None:
        self.reading, self.writing = os.pipe()

    def connect_sender(self) -> None:
        os.close(self.reading)  # or nobody would be told when the consumer dies (EPIPE)

    def connect_receiver(self) -> None:
        os.close(self.writing)

    def send(self, block: bytes) -> None:
        sent = os.write(self.writing, block)
        while sent < len(block):  # write(2) may take fewer
            sent += os.write(self.writing, memoryview(block)[sent:])

    def receive(self, room: memoryview, look: Look) -> None:
        look(fill(room, lambda rest: os.readv(self.reading, [rest])))

    def remove(self) -> None:
        for descriptor in (self.reading, self.writing):
            with suppress(OSError):
                os.close(descriptor)
