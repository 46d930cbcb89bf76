"""Who the contract suite asks: processes that have one channel attached, and do there what they are told.

The kernel's processes are here, over the objects of either family; those of the model's world are in model/by_hand.py.
"""

from __future__ import annotations

import errno
import json
import sys
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from common.channel.listener import Listener
from common.channel.objects import Doorway, Objects
from common.channel.patience import Patience
from common.channel.ring import Ring
from common.errors import Gone
from common.ipc.doorway import FlockDoorway
from common.ipc.lifecycle import Wanted, join_channel
from common.layout import SEMAPHORES
from tests.helpers import ipc_table, wait_until
from tests.in_process import (
    FAMILIES,
    MODE,
    SMALL,
    objects,
    place_of,
    python,
    remove_objects,
    segment_file,
    take_segment_away,
    take_semaphore_away,
)


class Peer(Protocol):
    """A process that has the channel attached; the verbs are those of verbs()."""

    pid: int

    def do(self, verb: str, *arguments: Any) -> Any:
        """Its answer. Raises Gone."""

    def begin(self, verb: str, *arguments: Any) -> None:
        """Let it do so, and come back when it is done or asleep."""

    def end(self) -> Any:
        """The answer to what was begun, at the latest at its timeout. Raises Gone."""

    def kill(self) -> None:
        """kill -9."""


class World(Protocol):
    """Where there are peers."""

    def peer(self) -> Peer:
        """A new process, which creates the channel where there is none."""

    def take_away(self, name: str) -> None:
        """What ipcrm does: the "segment" alone goes, or one of SEMAPHORES."""

    def left(self) -> list[str]:
        """What there is of the channel, its memory included."""

    def close(self) -> None:
        """End all of it."""


def verbs(there: Objects, ring: Ring, doorway: Doorway) -> SimpleNamespace:
    """What a process can be told to do."""

    def remove() -> None:
        with doorway:
            there.check_removable()
            there.remove()

    def detach() -> None:
        ring.release()
        there.detach()

    def go_in(field: str) -> Any:
        """What it finds there as soon as it is inside."""
        doorway.__enter__()
        return getattr(ring.header, field)

    return SimpleNamespace(
        **{name: getattr(there, name) for name in (*SEMAPHORES, "removed", "missing", "alone")},
        remove=remove,
        detach=detach,
        load=lambda field: getattr(ring.header, field),
        store=lambda field, value: setattr(ring.header, field, value),
        go_in=go_in,
        go_out=partial(doorway.__exit__, None, None, None),
    )


def do(known: SimpleNamespace, verb: str, *arguments: Any) -> Any:
    """Do `verb`, such as "full_slots.acquire"."""
    return attrgetter(verb)(known)(*arguments)


class KernelPeer:
    """A process of the operating system."""

    def __init__(self, ipc: str, key_path: Path) -> None:
        self._process = python("import tests.contract; tests.contract.obey()", ipc, key_path)
        self.pid = self._process.pid
        self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline() or '"it has died, see its traceback"')

    def do(self, verb: str, *arguments: Any) -> Any:
        self._tell(verb, *arguments)
        return self.end()

    def _tell(self, *words: Any) -> None:
        assert self._process.stdin
        print(json.dumps(words), file=self._process.stdin, flush=True)
        self._hear()

    def begin(self, verb: str, *arguments: Any) -> None:
        self._tell(verb, *arguments)
        status = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "S", "its sleep")

    def end(self) -> Any:
        answer, gone = self._hear()
        if gone:
            raise Gone("semop", (), errno.EIDRM)
        return answer

    def kill(self) -> None:
        self._process.kill()
        with self._process:  # which waits for it, and closes its streams
            pass


def obey() -> None:
    """The body of such a process: each line of its input is a verb, which it says that it has begun."""
    family, key_path = FAMILIES[sys.argv[1]], Path(sys.argv[2])
    place, patience = place_of(key_path), Patience(None, Listener())
    doorway = FlockDoorway(place.path, patience)
    with doorway:
        there = join_channel(family, place, Wanted(SMALL.slot_count, SMALL.slot_size, MODE, exclusive=False))
    known = verbs(there, Ring(there.memory), doorway)
    _say("attached")
    for line in sys.stdin:
        _say("begun")
        answer, gone = None, False
        try:
            answer = do(known, *json.loads(line))
        except Gone:
            gone = True
        _say((answer, gone))


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


class KernelWorld:
    """Processes over the objects of one family."""

    def __init__(self, ipc: str, key_path: Path) -> None:
        self._ipc, self._key_path = ipc, key_path
        self._place, self._family = place_of(key_path), FAMILIES[ipc]
        self._peers: list[KernelPeer] = []

    def peer(self) -> KernelPeer:
        self._peers.append(KernelPeer(self._ipc, self._key_path))
        return self._peers[-1]

    def take_away(self, name: str) -> None:
        if name == "segment":
            take_segment_away(self._place, self._family)
        else:
            take_semaphore_away(self._place, self._family, name)

    def left(self) -> list[str]:
        if self._ipc == "sysv":  # a marked segment has no key any more
            pids = {peer.pid for peer in self._peers}
            memory = [str(row["shmid"]) for row in ipc_table("shm") if row["cpid"] in pids]
        else:
            memory = []
            for peer in self._peers:
                with suppress(OSError):  # it is no more
                    maps = Path(f"/proc/{peer.pid}/maps").read_text().splitlines()
                    memory += [line for line in maps if str(segment_file(self._place)) in line]
        return [name for name in objects(self._place, self._family) if name != "segment"] + memory

    def close(self) -> None:
        for peer in self._peers:
            peer.kill()
        remove_objects(self._place, self._family)
