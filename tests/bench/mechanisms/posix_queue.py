"""A POSIX message queue, mq_overview(7): whole messages in the kernel, ten of them in one queue.

One block is one mq_send(3), which copies it into memory of the kernel, and one mq_receive(3), which copies it out, a
whole message or none. In Linux its descriptor is a file descriptor, which a child inherits.
"""

from __future__ import annotations

from pathlib import Path

import posix_ipc  # type: ignore[import-not-found, unused-ignore]

from tests.bench.mechanisms.way import Limit, Look, Way

MESSAGES = 10  # the default of msg_max; more might be too many bytes for a user (RLIMIT_MSGQUEUE)


class PosixQueue(Way):
    """A queue whose name is gone as soon as it is open, so that nothing can stay behind."""

    name = "POSIX queue"
    copies = "2 kernel"
    calls = 2

    def __init__(self, directory: Path, number: int) -> None:
        messages = min(MESSAGES, Limit.read("/proc/sys/fs/mqueue/msg_max").size)
        self.queue = posix_ipc.MessageQueue(
            None, posix_ipc.O_CREX, mode=0o600, max_messages=messages, max_message_size=self.limit().size
        )
        self.queue.unlink()

    @classmethod
    def limit(cls) -> Limit:
        return Limit.read("/proc/sys/fs/mqueue/msgsize_max")

    def connect_sender(self) -> None:
        """It is open."""

    def connect_receiver(self) -> None:
        """Likewise."""

    def send(self, block: bytes) -> None:
        self.queue.send(block)

    def receive(self, room: memoryview, look: Look) -> None:
        message, _ = self.queue.receive()
        look(message)

    def remove(self) -> None:
        self.queue.close()
