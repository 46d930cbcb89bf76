"""What the fuzzer runs: an action of one end on a falsified channel, while a peer scribbles over it.

Hypothesis (test_ends.py) thinks up the stores.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from common.channel.output import Output
from common.channel.read import ReadEnd, Receipt
from common.channel.ring import Ring
from common.channel.write import WriteEnd
from common.cli.sources import MessageSource
from common.errors import BadSegment, CallFailed, ChannelError
from common.layout import FIRST, LAST, LINES, PAGE
from tests.fuzz.fakes import FakeObjects, FakeSink, OpenDoorway, ShortPatience, add_fragment, open_memory
from tests.fuzz.pokes import Poke, header_poke

ONE_LINE = (ChannelError, BadSegment, CallFailed)
STEPS = 5000  # more than any finite scribbling can cost

Action = Callable[[FakeObjects], Any]


def reader(objects: FakeObjects, **options: bool) -> ReadEnd:
    return ReadEnd(objects, OpenDoorway(), ShortPatience(), **options)


def writer(objects: FakeObjects) -> WriteEnd:
    return WriteEnd(objects, OpenDoorway(), ShortPatience())


def receive_all(end: ReadEnd, sink: FakeSink, at_most: int | None = None) -> list[Receipt]:
    return list(iter(lambda: end.receive(sink, at_most), None))


def _receive(resume: bool, at_most: int | None) -> Action:
    return lambda objects: receive_all(
        reader(objects, resume=resume), FakeSink(objects.interfere, b"what was there before"), at_most
    )


def _finish(end: ReadEnd, sink: FakeSink) -> None:
    end._finish_if_over(Output(sink, end.ring, resume=False))


def _join_and_leave(objects: FakeObjects) -> None:
    end = writer(objects)
    end.join()
    end.leave()


READING: dict[str, Action] = {
    "receive": _receive(False, None),
    "receive --resume": _receive(True, None),
    "receive --count": _receive(False, 1),
    "finish": lambda objects: _finish(reader(objects), FakeSink(objects.interfere)),
    "unread": lambda objects: reader(objects).unread(),
}
WRITING: dict[str, Action] = {
    "join and leave": _join_and_leave,
    "send": lambda objects: writer(objects).send(MessageSource(b"\xee" * 100), verify=True),
    "send --resume": lambda objects: writer(objects).send(MessageSource(b"\xee" * PAGE), resume=True),
    "send lines": lambda objects: writer(objects).send_lines(b"one\ntwo\n", 2),
}
ACTIONS = {**READING, **WRITING}


def honest_channel(fragments: int) -> bytearray:
    """A channel that holds some records of every kind, and whose writer has left."""
    return bytearray(_honest_bytes(fragments))


@functools.cache
def _honest_bytes(fragments: int) -> bytes:
    memory = open_memory()
    kinds: list[tuple[bytes, dict[str, int]]] = [
        (b"a\nb\nc\n", {"flags": FIRST | LAST | LINES, "records": 3}),
        (b"x" * PAGE, {"record": 3, "flags": FIRST, "total": PAGE + 1, "records": 0}),
        (b"y", {"record": 3, "flags": LAST, "offset": PAGE, "total": PAGE + 1}),
    ]
    with memoryview(memory) as view:
        for payload, fields in kinds[:fragments]:
            add_fragment(view, payload, **fields)
    header_poke("writers_joined", 1).into(memory)
    header_poke("writers_left", 1).into(memory)
    return bytes(memory)


# Fragments that went through the ring before: none, and as many as bring a counter near its end. Each is a multiple
# of the three slots, so that the fragments stay where they are.
AGES = (0, 3 * 2**30, 2**64 - 10, 2**64 - 7, 2**64 - 4)


def age_channel(memory: bytearray, age: int) -> None:
    """Let the honest channel have a past: later fragments, and later record numbers."""
    with memoryview(memory) as view:
        ring = Ring(view)
        published = ring.header.head
        for number in range(published):
            slot = ring.read_slot(number)
            ring.write_slot(number, slot._replace(record=slot.record + age))
        ring.header.head += age
        ring.header.tail += age
        ring.release()


def scribble(objects: FakeObjects, memory: bytearray, schedule: list[tuple[int, Poke]]) -> None:
    """Let a peer make each store of `schedule` as many steps after the one before as it says."""

    def steps() -> Iterator[None]:
        for pause, store in schedule:
            for _ in range(pause):
                yield
            store.into(memory)
        for _ in range(STEPS):
            yield
        raise AssertionError(f"no end after {STEPS} steps")

    ticking = steps()
    objects.interfere.act = lambda: next(ticking)


def truncate(objects: FakeObjects, memory: bytearray, step: int) -> None:
    """Let a peer truncate the object at this step, of those that there are."""
    steps = itertools.count()

    def act() -> None:
        if next(steps) == step:
            memory[:] = bytes(len(memory))
            objects.truncated = True

    objects.interfere.act = act


def run_scenario(
    action: str, memory: bytearray, schedule: list[tuple[int, Poke]], tokens: int, ipc: str = "sysv"
) -> None:
    """Run `action` on `memory`; passes over the errors that a person gets as one line, and over no other."""
    with suppress(*ONE_LINE):
        objects = FakeObjects(memory, ipc)
        objects.full_slots.value = tokens
        scribble(objects, memory, schedule)
        ACTIONS[action](objects)
