"""Channels with one field falsified, over real objects of either family, for the real programs to meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.channel.listener import Listener
from common.channel.patience import Patience
from common.channel.write import WriteEnd
from common.cli.sources import MessageSource
from common.ipc.doorway import FlockDoorway
from common.ipc.family import Family
from common.ipc.lifecycle import Wanted, join_channel
from common.ipc.place import Place
from common.layout import PAGE
from tests.fuzz.pokes import Poke
from tests.in_process import FAMILY, place_of, remove_objects

PAYLOAD = b"kept\n"


def make_channel(key_path: Path, record: bytes = PAYLOAD, family: Family = FAMILY) -> Place:
    """A channel of three slots, one of which holds `record`; its writer has left."""
    place = place_of(key_path)
    patience = Patience(None, Listener())
    doorway = FlockDoorway(place.path, patience)
    with doorway:
        objects = join_channel(family, place, Wanted(3, PAGE, 0o660, exclusive=True))
        end = WriteEnd(objects, doorway, patience)
        end.join()
        end.send(MessageSource(record), verify=True)
        end.all_said = True
        end.leave()
        end.detach()
    doorway.close()
    return place


@contextmanager
def opened(place: Place, family: Family) -> Iterator[memoryview]:
    """The bytes of the segment at `place`, writable."""
    there = family.find(place, observe=False)
    try:
        yield there.memory
    finally:
        there.detach()


def falsify(place: Place, *stores: Poke, family: Family = FAMILY) -> None:
    """Store lies into the channel at `place`."""
    with opened(place, family) as memory:
        for store in stores:
            store.into(memory)


@contextmanager
def falsified_channel(key_path: Path, *stores: Poke, family: Family = FAMILY) -> Iterator[Place]:
    """A channel with lies in it; whatever is left of it afterwards is removed."""
    place = make_channel(key_path, family=family)
    falsify(place, *stores, family=family)
    try:
        yield place
    finally:
        remove_objects(place, family)
