"""The rounds: each row of the table as data, and one loop that samples its columns in turn."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.bench.report import Column, Goal, Result, Spent
from tests.bench.stage import CannotRun, Failed, Stage

Sample = Callable[[], Sequence[float]]


class Row(NamedTuple):
    """One row: what it measures, in which unit, what one sample of each column is, and the targets.

    A sample is a sequence because one run may time many lines. `size` is the bytes that it moves, 0 where that means
    nothing; `often` is how many times as many rounds as usual it takes.
    """

    name: str
    title: str
    unit: str
    columns: Mapping[str, Sample]
    goals: Sequence[Goal] = ()
    size: int = 0
    often: int = 1


def measure(row: Row, stage: Stage) -> Result:
    """Rounds of all columns; the first one only warms up. A column that cannot go on is left out of the others."""
    columns = {name: Column() for name in row.columns}
    for number in range(1 + row.often * stage.amounts.rounds):
        for name, sample in row.columns.items():
            column = columns[name]
            if not (column.missing or column.failed):
                figures, spent = _take(sample, column, stage)
                if number:
                    column.samples += figures
                    column.spent.append(spent)
    for column in columns.values():
        if column.missing or column.failed:
            column.samples, column.spent = [], []  # of fewer rounds than the others
    return Result(row.name, row.title, row.unit, row.size, columns, list(row.goals))


def _take(sample: Sample, column: Column, stage: Stage) -> tuple[Sequence[float], Spent]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures: Sequence[float] = []
    try:
        with time_limit(stage.amounts.limit):
            figures = sample()
    except CannotRun as reason:
        column.missing = str(reason)
    except (Failed, OSError) as reason:
        column.failed = str(reason)
        stage.clear()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return figures, Spent(user, system, after.ru_nvcsw - before.ru_nvcsw)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Failed after so long, out of whatever waits. In the main thread."""

    def stop(number: int, frame: object) -> None:
        raise Failed(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest)  # a test's own
        signal.signal(signal.SIGALRM, before)
