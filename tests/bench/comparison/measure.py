"""One measurement of one mechanism: blocks of each size from the producer to the consumer, then one byte to and fro."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.comparison.pairs import run_pair
from tests.bench.mechanisms.way import Look, Way

KIB = 1024
SIZES = (64, 4 * KIB, 64 * KIB, 1024 * KIB)
BOUNCE = 0  # in the place of a size: one byte, there and back
PATTERN = bytes(range(64))  # what all blocks consist of: any piece of one is the beginning of another
WARM_UP = 8  # blocks before the clock runs: both processes are there, and have touched all slots


class Task(NamedTuple):
    """So many blocks of one size, or so many round trips of one byte."""

    size: int
    times: int


# So that every mechanism has something between 10 and 200 ms to do for each.
PLAN = (Task(64, 4000), Task(4 * KIB, 4000), Task(64 * KIB, 1000), Task(1024 * KIB, 100), Task(BOUNCE, 2000))


class Figure(NamedTuple):
    """What one block or round trip cost, in the mean of a task: seconds, and how often one of the two was woken."""

    seconds: float
    wake_ups: float


class Results(NamedTuple):
    """Of a whole run: the medians by mechanism and size, and why a mechanism is not among them."""

    rounds: int
    figures: dict[str, dict[int, Figure]]
    refused: dict[str, str]


class Sample(NamedTuple):
    """What one process saw of one task."""

    seconds: float
    wake_ups: int


Mark = Callable[[Task], object]


def unmarked(task: Task) -> None:
    """Nobody wants to know where a task begins and ends."""


def measure(
    mechanism: type[Way], directory: Path, plan: Sequence[Task] = PLAN, mark: Mark = unmarked
) -> dict[int, Figure]:
    """The figures of each task that the mechanism can do, by size. Raises what run_pair raises."""
    tasks = [task for task in plan if fits(mechanism, task.size)]
    work = (partial(produce, tasks=tasks, mark=mark), partial(consume, tasks=tasks, mark=mark))
    produced, consumed = run_pair(mechanism, directory, *work)
    return {
        task.size: Figure(first.seconds / task.times, (first.wake_ups + second.wake_ups) / task.times)
        for task, first, second in zip(tasks, produced, consumed, strict=True)
    }


def fits(mechanism: type[Way], size: int) -> bool:
    """Whether a block of this size is one message."""
    try:
        limit = mechanism.limit()
    except OSError:
        return True  # to be refused for a better reason
    return limit is None or size <= limit.size


def produce(there: Way, back: Way, tasks: Sequence[Task], mark: Mark = unmarked) -> list[Sample]:
    """In the producer. The clock stops when the consumer says that it has seen all."""
    room = memoryview(bytearray(1))
    samples = []
    for task in tasks:
        block = PATTERN * (task.size // len(PATTERN)) or b"?"
        for _ in range(WARM_UP):
            there.send(block)
        back.receive(room, ignore)
        slept, began = sleeps(), time.perf_counter()
        mark(task)
        for _ in range(task.times):
            there.send(block)
            if task.size == BOUNCE:
                back.receive(room, ignore)
        mark(task)
        back.receive(room, ignore)
        samples.append(Sample(time.perf_counter() - began, sleeps() - slept))
    return samples


def consume(there: Way, back: Way, tasks: Sequence[Task], mark: Mark = unmarked) -> list[Sample]:
    """In the consumer: look at every block, or answer every byte."""
    samples = []
    for task in tasks:
        room = memoryview(bytearray(task.size or 1))
        look = expect(PATTERN * (task.size // len(PATTERN)) or b"?")
        for _ in range(WARM_UP):
            there.receive(room, look)
        back.send(b"!")
        slept, began = sleeps(), time.perf_counter()
        mark(task)
        for _ in range(task.times):
            there.receive(room, look)
            if task.size == BOUNCE:
                back.send(b"!")
        mark(task)
        samples.append(Sample(time.perf_counter() - began, sleeps() - slept))
        back.send(b"!")
    return samples


def expect(block: bytes) -> Look:
    """What looks at every byte of a piece, as fast as memory is read, and raises ValueError for a wrong one."""

    def look(piece: bytes | memoryview) -> None:
        if not block.startswith(piece):
            raise ValueError("a block has changed on its way")

    return look


def ignore(piece: bytes | memoryview) -> None:
    """An answer says nothing but that it is there."""


def sleeps() -> int:
    """How often this process has gone to sleep of its own will, and was woken (getrusage(2), ru_nvcsw)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
