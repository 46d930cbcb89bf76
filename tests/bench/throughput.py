"""How fast is it: `python -m tests.bench.throughput`.

Our pair against `cat FILE | cat >/dev/null`, side by side in one run: both move the same file through the page cache
to /dev/null. The machine's speed cancels out in the ratio; each figure is the median of several alternating runs.
Nothing here is asserted: a loaded machine is not a defect.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers import Pair

MEGABYTE = 1024 * 1024
SIZES = (1, 64, 512)  # MiB


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def through_pair(pair: Pair, path: Path) -> None:
    """The file through writer.py and reader.py, both started here."""
    writer = subprocess.Popen(pair.command("writer", "--quiet", "--file", path))
    subprocess.run(pair.command("reader", "--quiet"), stdout=subprocess.DEVNULL, check=True)
    assert writer.wait() == 0


def through_pipe(path: Path) -> None:
    """The file through a pipe between two cats."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as first:
        # Out of the second cat comes a pipe's bytes into /dev/null, as out of the reader come the segment's.
        subprocess.run(["cat"], stdin=first.stdout, stdout=subprocess.DEVNULL, check=True)


def hello(pair: Pair) -> None:
    """One message, from nothing to nothing."""
    subprocess.run(pair.command("writer", "--quiet", "hello"), check=True)
    subprocess.run(pair.command("reader", "--quiet"), stdout=subprocess.DEVNULL, check=True)


def bare_python() -> None:
    """Two interpreters that do nothing: what any two Python programs cost."""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", "pass"], check=True)


def compare(ours: Callable[[], object], theirs: Callable[[], object], runs: int) -> tuple[float, float]:
    """The median seconds of each, from runs that alternate; the first of each only warms up."""
    seconds = [(timed(ours), timed(theirs)) for _ in range(runs + 1)][1:]
    mine, others = zip(*seconds, strict=True)
    return statistics.median(mine), statistics.median(others)


def measure(pair: Pair, directory: Path, runs: int) -> None:
    """Print the table."""
    show("", "our pair", "cat | cat", "ratio")
    path = directory / "file"
    times = []
    for size in SIZES:
        path.write_bytes(b"\xa5" * (size * MEGABYTE))
        times.append(compare(lambda: through_pair(pair, path), lambda: through_pipe(path), runs))
        show_times(f"{size} MiB, with start-up", *times[-1])
    # The start-up is the same for every size, so the difference of two sizes is free of it.
    more = SIZES[-1] - SIZES[0]
    rates = [more / max(large - small, 1e-9) for small, large in zip(times[0], times[-1], strict=True)]
    show("each further MiB", *(f"{rate:.0f} MiB/s" for rate in rates), f"{rates[0] / rates[1]:.2f}")
    show("", "hello", "bare python", "ratio")
    show_times("start-up, two programs", *compare(lambda: hello(pair), bare_python, runs))


def show(*columns: str) -> None:
    print("{:24} {:>12} {:>12} {:>8}".format(*columns), flush=True)


def show_times(what: str, ours: float, theirs: float) -> None:
    show(what, f"{ours:.3f} s", f"{theirs:.3f} s", f"{ours / theirs:.2f}")


def main() -> int:
    """Measure on a key path of our own, in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="runs of each, the median of which is shown (7)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        key_path = directory / "key"
        key_path.touch()
        measure(Pair(key_path, directory), directory, options.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
