"""A stream socket of one machine, unix(7): found by a path, and from then on two queues in the kernel.

One block is one send(2), which copies it into buffers of the kernel (wmem_default, about 200 KiB, before the producer
sleeps), and one recv(2), which copies it out; a large block comes out in several.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.bench.mechanisms.way import Look, Way, fill


class UnixSocket(Way):
    """A socket that the parent listens on, and one connection through it."""

    name = "Unix socket"
    copies = "2 kernel"
    calls = 2

    def __init__(self, directory: Path, number: int) -> None:
        self.path = directory / f"socket{number}"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(1)

    def connect_sender(self) -> None:
        self.connection = socket.socket(self.listener.family, socket.SOCK_STREAM)
        self.connection.connect(self.listener.getsockname())

    def connect_receiver(self) -> None:
        self.connection, _ = self.listener.accept()

    def send(self, block: bytes) -> None:
        self.connection.sendall(block)

    def receive(self, room: memoryview, look: Look) -> None:
        look(fill(room, self.connection.recv_into))

    def remove(self) -> None:
        self.listener.close()
        self.path.unlink()  # its name, which the kernel keeps
