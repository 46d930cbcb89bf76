"""Against other ways: `./run_demo.sh compare`, or `python -m tests.bench.compare`.

Shared memory (our ring, and a bare segment), pipe, FIFO, Unix socket, TCP over loopback and both kinds of message
queue move the same blocks between two processes, and one byte to and fro. Each round has every mechanism once, so that
what else the machine does meets all of them; each figure is the median of the rounds. Nothing here is asserted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from common.cli.run import exit_on_signals
from tests.bench.comparison.calls import Counts, NotCounted, count_calls
from tests.bench.comparison.measure import PLAN, Figure, Results, Task, measure
from tests.bench.comparison.pairs import Refused
from tests.bench.comparison.show import missing, show, why
from tests.bench.mechanisms import MECHANISMS

SECONDS = 15.0  # of rounds; with the count of the calls the whole stays under thirty


def take_rounds(directory: Path, seconds: float, plan: Sequence[Task] = PLAN) -> Results:
    """Rounds of all mechanisms, one at least, until `seconds` have passed."""
    figures: dict[str, list[dict[int, Figure]]] = {mechanism.name: [] for mechanism in MECHANISMS}
    refused: dict[str, str] = {}
    end, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < end:
        for mechanism in MECHANISMS:
            try:
                if mechanism.name not in refused:
                    figures[mechanism.name].append(measure(mechanism, directory, plan))
            except Refused as error:
                refused[mechanism.name] = str(error)
        rounds += 1
    medians = {name: median(taken) for name, taken in figures.items() if name not in refused}
    return Results(rounds, medians, refused)


def median(taken: Sequence[dict[int, Figure]]) -> dict[int, Figure]:
    """Of each size, and of seconds and wake-ups each for itself."""
    return {
        size: Figure(*(statistics.median(column) for column in zip(*(one[size] for one in taken), strict=True)))
        for size in taken[0]
    }


def as_json(results: Results, counts: Counts | None) -> str:
    """What is shown, for a program: by mechanism and size in bytes, 0 for the byte's round trip; `said` is the rest."""
    shown = {
        name: {
            size: {**figure._asdict(), "calls": counts.get((name, size)) if counts else None}
            for size, figure in figures.items()
        }
        for name, figures in results.figures.items()
    }
    said = [*missing(results), *why(results, counts)]
    told = {"rounds": results.rounds, "refused": results.refused, "mechanisms": shown, "said": said}
    return json.dumps(told, indent=4)


def main() -> int:
    """Measure, count, show."""
    parser = argparse.ArgumentParser(prog="./run_demo.sh compare", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"rounds begin for so long ({SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help="one round of a fiftieth, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for a program, too")
    options = parser.parse_args()
    exit_on_signals()  # what was made is removed on the way out
    print(f"{len(MECHANISMS)} mechanisms, two processes each ...", file=sys.stderr, flush=True)
    plan = [Task(size, max(times // 50, 1)) for size, times in PLAN] if options.quick else PLAN
    with tempfile.TemporaryDirectory() as directory:
        results = take_rounds(Path(directory), 0 if options.quick else options.seconds, plan)
    counts, uncounted = None, ""
    try:
        counts = count_calls()
    except NotCounted as error:
        uncounted = str(error)
    show(Console(highlight=False), results, counts, uncounted)
    if options.json:
        options.json.write_text(as_json(results, counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
