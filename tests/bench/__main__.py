"""The whole benchmark: `python -m tests.bench`, or `./run_demo.sh bench`, which sets up what it needs.

Our pair against pipes, copies and a textbook's pair in C: whole processes with their start-up, all columns of a row in
turn, in one run, so that the machine's speed cancels out in the ratios. What misses its target is marked, and what
cannot run here is named; nothing is asserted, since a loaded machine is not a defect.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import re
import signal
import sys
import time
from pathlib import Path

from tests.bench import rows_files, rows_lines, rows_programs, table
from tests.bench.driver import Row, measure
from tests.bench.report import Report
from tests.bench.stage import FULL, QUICK, Stage, a_stage
from tests.helpers import ROOT


class NoRow(Exception):
    """--only chooses nothing."""


def all_rows(stage: Stage) -> list[Row]:
    """In the order in which they run: those of files last, as these grow to the largest."""
    return [
        *rows_programs.rows(stage),
        *rows_lines.rows(stage),
        *rows_files.rows(stage),
        rows_programs.memory(stage),
    ]


def run(stage: Stage, report: Report, only: re.Pattern[str]) -> None:
    """Measure every row that the pattern chooses. Raises NoRow when there is none."""
    chosen = [row for row in all_rows(stage) if only.search(row.name) or only.search(row.title)]
    if not chosen:
        raise NoRow(f"no row is called {only.pattern!r}; they are: {'; '.join(row.title for row in all_rows(stage))}")
    for row in chosen:
        began = time.monotonic()
        say(row.title)
        report.results.append(measure(row, stage))
        say(f" {time.monotonic() - began:.0f} s\n")
        report.notes = {purpose: rows_files.size_name(block) for purpose, block in stage.blocks.items()}


def say(words: str) -> None:
    """What is going on, beside the tables."""
    print(words, end="", file=sys.stderr, flush=True)


def parse_options() -> argparse.Namespace:
    """The command line. Exits with 2 when it makes no sense."""
    parser = argparse.ArgumentParser(prog="./run_demo.sh bench", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--quick", action="store_true", help="smaller files and fewer rounds: under two minutes")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all samples there")
    parser.add_argument("--plots", metavar="DIRECTORY", type=Path, help="draw the pictures there, as SVG")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        type=pattern,
        default=re.compile(""),
        help="only rows whose name, as it is shown, has this regular expression",
    )
    parser.add_argument(
        "--directory", metavar="PATH", type=Path, default=Path("/dev/shm"), help="where files go: a tmpfs (/dev/shm)"
    )
    parser.add_argument(
        "--readme", metavar="JSON", type=Path, help="measure nothing: draw, and put into README.md, what --json wrote"
    )
    return parser.parse_args()


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression. Raises ArgumentTypeError."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def machine() -> str:
    """Such as: virtual machine with 2 x86_64 cores, 24 GiB, Linux 6.18, Python 3.11."""
    kind = "virtual machine" if " hypervisor" in Path("/proc/cpuinfo").read_text() else "machine"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{kind} with {len(os.sched_getaffinity(0))} {platform.machine()} cores, {memory:.0f} GiB, Linux {kernel},"
        f" Python {'.'.join(platform.python_version_tuple()[:2])}"
    )


def publish(report: Report, options: argparse.Namespace) -> None:
    """The tables, and whatever was asked for."""
    table.show(report)
    if options.json:
        options.json.write_text(report.to_json())
    if options.plots:
        from tests.bench.plots import draw

        draw(report, options.plots)


def rewrite_readme(path: Path) -> None:
    """README.md and its pictures from what an earlier run has written."""
    from tests.bench.plots import draw

    report = Report.from_json(path.read_text())
    table.rewrite(table.README, report)
    draw(report, table.README.parent)


def end(number: int, frame: object) -> None:
    """SIGTERM and SIGHUP clean up like Ctrl-C."""
    raise SystemExit(128 + number)


def main() -> int:
    """Measure, and show; 0 whatever comes out."""
    options = parse_options()
    if options.readme:
        rewrite_readme(options.readme)
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    compileall.compile_dir(ROOT / "common", quiet=1)  # as after a user's first start
    amounts, only = QUICK if options.quick else FULL, options.only.pattern
    command = f"./run_demo.sh bench{' --quick' * options.quick}{f' --only {only!r}' * bool(only)}"
    report = Report(time.strftime("%-d %B %Y"), machine(), command, amounts.rounds)
    try:
        with a_stage(options.directory, amounts) as stage:
            run(stage, report, options.only)
    except NoRow as error:
        say(f"tests.bench: {error}\n")
        return 2
    except KeyboardInterrupt:
        say("\nbroken off\n")
        if report.results:
            publish(report, options)
        return 130
    publish(report, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
