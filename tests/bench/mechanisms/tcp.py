"""TCP over the loopback interface, tcp(7): the one that would also reach another machine.

One block is one send(2) and one recv(2) or more, with a copy each, as with a Unix socket; between the two the kernel
cuts it into segments, numbers and acknowledges them, and takes them through the whole network stack and back.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.bench.mechanisms.unix_socket import UnixSocket


class Tcp(UnixSocket):
    """The same two programs as with a Unix socket; only the address differs."""

    name = "TCP, loopback"

    def __init__(self, directory: Path, number: int) -> None:
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind(("127.0.0.1", 0))  # a port that is free
        self.listener.listen(1)

    def connect_sender(self) -> None:
        super().connect_sender()
        # Or a small block waits for the acknowledgement of the one before, which may take 40 ms (Nagle's algorithm).
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def remove(self) -> None:
        self.listener.close()
