"""How many system calls a block costs, as strace counts them; it runs `python -m tests.bench.comparison.calls`.

Each process marks in strace's log where its blocks begin and end, by a call that nothing else makes: access(2) on a
path that does not exist and says what follows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.bench.comparison.measure import BOUNCE, KIB, Task, measure
from tests.bench.comparison.pairs import Refused
from tests.bench.mechanisms import MECHANISMS
from tests.bench.mechanisms.way import Way

ROOT = Path(__file__).resolve().parents[3]
PLAN = (Task(4 * KIB, 100), Task(1024 * KIB, 10), Task(BOUNCE, 100))
PATIENCE = 60  # seconds; it takes about three

Counts = dict[tuple[str, int], float]  # calls of both processes for one block, by mechanism and size


class NotCounted(Exception):
    """strace is missing, or may not look; the text says why."""


def count_calls() -> Counts:
    """How many system calls each mechanism makes for a block of PLAN's sizes. Raises NotCounted."""
    if not shutil.which("strace"):
        raise NotCounted("strace is missing (install the package strace)")
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        command = ["strace", "-f", "-qq", "-o", str(log), sys.executable, "-m", __name__]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise NotCounted(f"strace failed ({(done.stderr.strip() or 'it says nothing').splitlines()[-1]})")
        with log.open() as lines:
            return count_in_log(lines)


def count_in_log(lines: Iterable[str]) -> Counts:
    """The calls between each two marks of a process, per block."""
    times = dict(PLAN)
    found: Counter[tuple[str, int]] = Counter()
    inside: dict[str, tuple[str, int]] = {}  # of each process between two marks: of what it sends blocks
    for pid, call in _calls(lines):
        mark = re.search(r'"/mark of (.*) (\d+)"', call)
        if not mark:
            found.update([inside[pid]] if pid in inside else [])
        elif not inside.pop(pid, None):
            inside[pid] = (mark[1], int(mark[2]))
    return {(name, size): count / times[size] for (name, size), count in found.items()}


def _calls(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Who makes a call, and which; a line that only goes on with one ("<... read resumed>") is none."""
    for line in lines:
        found = re.match(r"(\d+) +(\w+\(.*)", line)
        if found:
            yield found[1], found[2]


def mark(mechanism: type[Way], task: Task) -> None:
    """A line in strace's log."""
    os.access(f"/mark of {mechanism.name} {task.size}", os.F_OK)


def main() -> None:
    """Under strace: let each mechanism do the plan; one that is refused leaves no marks."""
    with tempfile.TemporaryDirectory() as directory:
        for mechanism in MECHANISMS:
            with suppress(Refused):
                measure(mechanism, Path(directory), PLAN, partial(mark, mechanism))


if __name__ == "__main__":
    main()
