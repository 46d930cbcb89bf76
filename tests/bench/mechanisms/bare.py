"""Shared memory as a first lab has it: a segment, and two semaphores that count its empty and its full slots.

A block is copied once, into its slot, and looked at there. Either side makes two semop(2) for it: one takes a slot and
sleeps while there is none, the other gives it to the other side. For one producer and one consumer, neither of whom
may die: what else the ring calls for is the answer to that.
"""

from __future__ import annotations

from pathlib import Path

import sysv_ipc

from tests.bench.mechanisms.way import Look, Way

SLOT = 2**20  # bytes; no block is larger
SLOTS = 8  # as in our ring; with two, every block of the one is waited for by the other


class Bare(Way):
    """A segment and semaphores without a key (IPC_PRIVATE): whoever is forked has them."""

    name = "bare segment"
    copies = "1 ours"
    calls = 4

    def __init__(self, directory: Path, number: int) -> None:
        self.segment = sysv_ipc.SharedMemory(sysv_ipc.IPC_PRIVATE, sysv_ipc.IPC_CREX, mode=0o600, size=SLOTS * SLOT)
        self.segment.remove()  # it goes with the last detach, whoever is killed; a semaphore would go at once
        self.memory = memoryview(self.segment)
        self.empty = sysv_ipc.Semaphore(sysv_ipc.IPC_PRIVATE, sysv_ipc.IPC_CREX, mode=0o600, initial_value=SLOTS)
        try:
            self.full = sysv_ipc.Semaphore(sysv_ipc.IPC_PRIVATE, sysv_ipc.IPC_CREX, mode=0o600, initial_value=0)
        except BaseException:
            self.empty.remove()
            raise
        self.at = 0

    def connect_sender(self) -> None:
        """It is attached: a child inherits that."""

    def connect_receiver(self) -> None:
        """Likewise."""

    def send(self, block: bytes) -> None:
        self.empty.acquire()
        self.memory[self.at : self.at + len(block)] = block
        self.full.release()
        self.at = (self.at + SLOT) % len(self.memory)

    def receive(self, room: memoryview, look: Look) -> None:
        self.full.acquire()
        look(self.memory[self.at : self.at + len(room)])
        self.empty.release()
        self.at = (self.at + SLOT) % len(self.memory)

    def remove(self) -> None:
        self.memory.release()
        self.segment.detach()
        self.empty.remove()
        self.full.remove()
