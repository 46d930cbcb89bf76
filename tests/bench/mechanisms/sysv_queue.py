"""A System V message queue, sysvipc(7): whole messages in the kernel, in a queue of 16 KiB (msgmnb).

One block is one msgsnd(2), which copies it into memory of the kernel, and one msgrcv(2), which copies it out, a whole
message or none. sysv_ipc copies it once more on either side, as struct msgbuf has the type in front of the text.
"""

from __future__ import annotations

from pathlib import Path

import sysv_ipc

from tests.bench.mechanisms.way import Limit, Look, Way


class SysvQueue(Way):
    """A queue without a key (IPC_PRIVATE): whoever has its id can use it."""

    name = "System V queue"
    copies = "2 kernel, 2 library"
    calls = 2

    def __init__(self, directory: Path, number: int) -> None:
        size = self.limit().size
        self.queue = sysv_ipc.MessageQueue(sysv_ipc.IPC_PRIVATE, sysv_ipc.IPC_CREX, mode=0o600, max_message_size=size)

    @classmethod
    def limit(cls) -> Limit:
        return Limit.read("/proc/sys/kernel/msgmax")

    def connect_sender(self) -> None:
        """It is open: an id needs no opening."""

    def connect_receiver(self) -> None:
        """Likewise."""

    def send(self, block: bytes) -> None:
        self.queue.send(block)

    def receive(self, room: memoryview, look: Look) -> None:
        message, _ = self.queue.receive()
        look(message)

    def remove(self) -> None:
        self.queue.remove()  # nobody else would: it outlives all processes
