"""The rows of lines: many of them, one at a time, and between many processes."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from tests.bench.driver import Row, Sample
from tests.bench.report import Goal
from tests.bench.stage import Child, Failed, Stage, seconds, wait_for
from tests.helpers import Pair, ipc_table, keys_of

PAIRS = (1, 2, 4, 8)
WARM_UP = 20  # lines: the first ones meet a reader that still looks for the channel
PAUSE = 0.002  # seconds between two typed lines: slow enough for every program, and its core, to have gone to sleep
ALIKE = Goal("POSIX", "System V", at_most=1.1)


def rows(stage: Stage) -> list[Row]:
    """Every row of lines."""
    return [
        one_line(stage, "typed line", "one typed line", PAUSE),
        one_line(stage, "line by line", "one line, and the next at once", 0),
        from_seq(stage),
        between_many(stage),
        shares(stage),
    ]


def one_line(stage: Stage, name: str, title: str, pause: float) -> Row:
    """From the write of a line into the first program to the same line out of the last."""

    def pair(ours: Pair) -> list[float]:
        reader = stage.start(ours, "reader", stdout=subprocess.PIPE)
        writer = stage.start(ours, "writer", "--lines", stdin=subprocess.PIPE)
        return _line_by_line(writer, reader, stage.amounts.typed, pause)

    def cats() -> list[float]:
        first = stage.spawn("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert first.stdout
        last = stage.spawn("cat", stdin=first.stdout.fileno(), stdout=subprocess.PIPE)
        first.stdout.close()
        return _line_by_line(first, last, stage.amounts.typed, pause)

    goals = [
        Goal("System V", "cat | cat", at_most=1.4),
        Goal("System V", "cat | cat", at_most=1.4, statistic="p99"),
        ALIKE,
    ]
    columns: dict[str, Sample] = {name: partial(pair, ours) for name, ours in stage.pairs.items()}
    return Row(name, title, "us", {**columns, "cat | cat": cats}, goals)


def _line_by_line(first: Child, last: Child, count: int, pause: float) -> list[float]:
    """The microseconds of each line, one at a time into the first program and out of the last, to the end of both."""
    assert first.stdin and last.stdout
    took = []
    for number in range(WARM_UP + count):
        line = b"line %d\n" % number
        began = time.perf_counter()
        os.write(first.stdin.fileno(), line)
        arrived = os.read(last.stdout.fileno(), len(line))
        took.append(1e6 * (time.perf_counter() - began))
        if arrived != line:
            raise Failed(f"{arrived!r} arrived, not {line!r}")
        time.sleep(pause)
    first.stdin.close()
    wait_for([first, last])
    last.stdout.close()
    return took[WARM_UP:]


def from_seq(stage: Stage) -> Row:
    """seq | writer.py --lines: as many records as lines."""
    seq = ["seq", "1", str(stage.amounts.lines)]

    def start_writer(ours: Pair) -> list[Child]:
        return stage.pipe(seq, ours.command("writer", "--quiet", "--lines"))

    def pair(ours: Pair) -> list[float]:
        return seconds(lambda: [*start_writer(ours), stage.start(ours, "reader")])

    def three_readers() -> list[float]:
        return [share_lines(stage, 3, lambda: start_writer(stage.pairs["System V"])).seconds]

    columns: dict[str, Sample] = {
        **{name: partial(pair, ours) for name, ours in stage.pairs.items()},
        "three readers": three_readers,
        "cat | cat": lambda: seconds(partial(stage.pipe, seq, ["cat"], ["cat"])),
    }
    goals = [
        Goal("System V", "cat | cat", at_most=1.0),
        Goal("three readers", "cat | cat", at_most=1.2),
        ALIKE,
    ]
    return Row("seq", f"seq 1 {stage.amounts.lines} | writer --lines", "s", columns, goals)


class Shared(NamedTuple):
    """How several readers shared the lines: the seconds from their start to the end of all, and what each received."""

    seconds: float
    received: list[int]


def share_lines(
    stage: Stage, readers: int, start_writers: Callable[[], Sequence[Child]], *, readers_first: bool = False
) -> Shared:
    """Writers and readers at once, or the writers as soon as the `readers_first` have come."""
    ours = stage.pairs["System V"]
    # A reader that comes when all has been read would wait for another channel, so one more writer holds this one.
    holder = stage.start(ours, "writer", "--lines", stdin=subprocess.PIPE)
    _wait_until_attached(stage, 1)
    began = time.perf_counter()
    reading = [stage.spawn(*ours.command("reader"), stderr=subprocess.PIPE) for _ in range(readers)]
    if readers_first:
        _wait_until_attached(stage, 1 + readers)
    wait_for(start_writers())
    _wait_until_attached(stage, 1 + readers)
    assert holder.stdin
    holder.stdin.close()
    wait_for([holder, *reading])
    return Shared(time.perf_counter() - began, [_received(reader) for reader in reading])


def _wait_until_attached(stage: Stage, count: int) -> None:
    keys = keys_of(stage.key_path)
    while max((row["nattch"] for row in ipc_table("shm") if row["key"] in keys), default=0) < count:
        time.sleep(0.001)


def _received(reader: Child) -> int:
    """How many records a reader that has ended says that it has received."""
    assert reader.stderr
    with reader.stderr:
        said = reader.stderr.read().decode()
    found = re.search(r"received (\d+) record", said)
    if not found:
        raise Failed(f"a reader does not say how much it has received: {said!r}")
    return int(found[1])


def crowd(stage: Stage, pairs: int, *, readers_first: bool = False) -> Shared:
    """So many writers, each with its part of the lines, and as many readers."""
    path = stage.lines(stage.amounts.shared_lines // pairs)
    ours = stage.pairs["System V"]

    def start_writers() -> list[Child]:
        return [stage.start(ours, "writer", "--lines", "--file", path) for _ in range(pairs)]

    return share_lines(stage, pairs, start_writers, readers_first=readers_first)


def between_many(stage: Stage) -> Row:
    """The same lines, by more and more processes."""

    def sample(pairs: int) -> list[float]:
        return [crowd(stage, pairs).seconds]

    columns: dict[str, Sample] = {_pairs_name(pairs): partial(sample, pairs) for pairs in PAIRS}
    goals = [Goal(_pairs_name(PAIRS[0]), _pairs_name(PAIRS[-1]), at_least=0.5)]
    return Row("many", f"{stage.amounts.shared_lines} lines, many writers and readers", "s", columns, goals)


def shares(stage: Stage) -> Row:
    """What the worst of the readers gets, of what each would get if all got the same."""
    most = PAIRS[-1]

    def sample() -> list[float]:
        received = crowd(stage, most, readers_first=True).received
        return [min(received) * most / sum(received)]

    column = f"worst of {most} readers"
    goals = [Goal(column, at_least=0.25)]
    return Row("share", f"{most} writers and readers: the worst share", "", {column: sample}, goals)


def _pairs_name(pairs: int) -> str:
    return "1 pair" if pairs == 1 else f"{pairs} writers, {pairs} readers"
