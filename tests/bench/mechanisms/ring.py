"""Shared memory, shmget(2): the writing and the reading end of this project, in the geometry of writer.py.

A block is a record. The producer copies it into a slot, which is no system call, and the consumer looks at it there:
the kernel copies nothing. What it costs is the order of the two: the turn to write, an empty slot, a full one and the
turn given back are a semtimedop(2) each, and so it is for the reader; three getpid(2) say whose turn it is. Whoever has
to sleep calls once or twice more, and each further slot of a large block (512 KiB) is five calls more.
"""

from __future__ import annotations

import errno
from pathlib import Path

from common.channel.listener import Listener, Reason
from common.channel.patience import Patience
from common.channel.read import ReadEnd
from common.channel.write import WriteEnd
from common.cli.sources import MessageSource
from common.errors import CallFailed
from common.ipc.doorway import FlockDoorway
from common.ipc.family import ChannelObjects
from common.ipc.lifecycle import Wanted, find_channel, join_channel, open_channel
from common.ipc.place import Place
from common.ipc.sysv import SysvFamily
from tests.bench.mechanisms.way import Look, Way


class Onlooker:
    """Whoever looks at a record in its slots, as ReadEnd.receive wants it."""

    identity = file = None

    def __init__(self, look: Look) -> None:
        self.settled = False
        self.size = 0
        self._look = look

    def write(self, data: memoryview) -> None:
        """Look at the bytes of one slot, which is free for others as soon as this returns."""
        self._look(data)
        self.size += len(data)

    def cut(self, size: int) -> None:
        """A stream cannot be taken back."""


class Ring(Way):
    """A channel of our own, whose key path is the directory."""

    name = "our ring"
    copies = "1 ours"
    calls = 11

    end: WriteEnd | ReadEnd

    def __init__(self, directory: Path, number: int) -> None:
        self._patience = Patience(None, Listener())
        self._family = SysvFamily(self._patience.listener)
        status = directory.stat()
        identity = (status.st_dev, status.st_ino)
        self._place = Place.of(self._family.calls, str(directory), number, identity, self._family.keys)

    def connect_sender(self) -> None:
        self._doorway = FlockDoorway(self._place.path, self._patience)
        with self._doorway:
            objects = join_channel(self._family, self._place, Wanted(None, None, None, exclusive=True))
            self.end = WriteEnd(objects, self._doorway, self._patience)
            self.end.join()

    def connect_receiver(self) -> None:
        self._doorway = FlockDoorway(self._place.path, self._patience)
        objects = self._patience.look_until(self._look, lambda: Reason("waiting for the producer"))
        self.end = ReadEnd(objects, self._doorway, self._patience)

    def _look(self) -> ChannelObjects | None:
        with self._doorway:
            return open_channel(self._family, self._place)

    def send(self, block: bytes) -> None:
        assert isinstance(self.end, WriteEnd)
        self.end.send(MessageSource(block))

    def receive(self, room: memoryview, look: Look) -> None:
        assert isinstance(self.end, ReadEnd)
        if self.end.receive(Onlooker(look)) is None:
            raise EOFError("the producer is gone")

    def disconnect(self) -> None:
        with self._doorway:
            if isinstance(self.end, WriteEnd):
                self.end.all_said = True
            self.end.leave()  # whoever is last removes the channel
            self.end.detach()

    def remove(self) -> None:
        """After a kill; else the two have done it."""
        with FlockDoorway(self._place.path, self._patience):
            try:
                objects = find_channel(self._family, self._place, observe=False)
            except CallFailed as error:
                if error.errno != errno.ENOENT:
                    raise
                self._family.remove_orphans(self._place)
                return
            objects.remove()
            objects.detach()
