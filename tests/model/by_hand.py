"""Processes of the simulated world that do what a test tells them, one verb at a time (see tests/contract.py)."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from common.errors import Gone
from common.layout import SEMAPHORES
from tests.contract import do, verbs
from tests.model.monitor import Plan, Seen
from tests.model.processes import Process, SimulatedDoorway, SimulatedFamily, SimulatedRing, ask
from tests.model.world import NOWHERE, boot, kill, operate

MOST_PEERS, SLOTS = 3, 2


class SimulatedWorld:
    """A kernel, and the processes that ask it."""

    def __init__(self) -> None:
        self.plan = Plan(((1,),) * MOST_PEERS, SLOTS)
        self.kernel = boot(MOST_PEERS, Seen.nothing(self.plan))
        self._peers: list[SimulatedPeer] = []

    def peer(self) -> SimulatedPeer:
        self._peers.append(SimulatedPeer(self, len(self._peers)))
        return self._peers[-1]

    def take_away(self, name: str) -> None:
        self._peers[0].do("take_away", name)

    def left(self) -> list[str]:
        memories = [f"memory {index}" for index, segment in enumerate(self.kernel.segments) if segment]
        segment = self.kernel.segments[self.kernel.current] if self.kernel.current != NOWHERE else None
        there = segment.semaphores if segment else 0
        return memories + [name for index, name in enumerate(SEMAPHORES) if there >> index & 1]

    def close(self) -> None:
        for peer in self._peers:
            peer.kill()


class SimulatedPeer:
    """A process: each verb is a greenlet, which goes on until it has to wait."""

    def __init__(self, world: SimulatedWorld, index: int) -> None:
        self.pid = 1 + index
        self._world, self._index = world, index
        self._asks: Any = None
        self._answer: Any = None
        self._start(_attach)
        self._known: SimpleNamespace = self.end()

    def do(self, verb: str, *arguments: Any) -> Any:
        self.begin(verb, *arguments)
        return self.end()

    def begin(self, verb: str, *arguments: Any) -> None:
        self._start(lambda: do(self._known, verb, *arguments))

    def end(self) -> Any:
        self._go_on()  # somebody may have woken it
        while not self._process.dead:
            assert self._asks[0] in ("take", "take turn"), f"{self._asks} waits for ever"
            self._asks = self._process.switch(False)  # its timeout is over
            self._go_on()
        if isinstance(self._answer, Gone):
            raise self._answer
        return self._answer

    def kill(self) -> None:
        self._process.discard()
        self._world.kernel = kill(self._world.kernel, self._index)

    def _start(self, verb: Callable[[], Any]) -> None:
        def main() -> str:
            try:
                self._answer = verb()
            except Gone as error:
                self._answer = error
            return "done"

        self._process = Process(self._index, self._world.plan, main)
        self._asks = self._process.switch()
        self._go_on()

    def _go_on(self) -> None:
        while not self._process.dead:
            outcome = operate(self._world.kernel, self._index, self._asks)
            if outcome is None:
                return
            answer, self._world.kernel = outcome
            self._asks = self._process.switch(answer)


def _attach() -> SimpleNamespace:
    with SimulatedDoorway():
        ask("open", SLOTS, True)
    family = SimulatedFamily(SLOTS)
    known = verbs(family, SimulatedRing(family.memory), SimulatedDoorway())
    known.take_away = _take_away
    return known


def _take_away(name: str) -> None:
    with SimulatedDoorway():  # ipcrm needs none; the world would take anybody else's removal for a mistake of ours
        ask("remove segment") if name == "segment" else ask("remove semaphore", name)
