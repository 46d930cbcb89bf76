"""How fast is it: `python -m tests.bench.throughput`.

Our pair over both families against `cat FILE | cat >/dev/null`, side by side in one run: all move the same file through
the page cache to /dev/null. The machine's speed cancels out in the ratios; each figure is the median of several rounds,
and each round has every column once. Nothing here is asserted: a loaded machine is not a defect.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.helpers import Pair

MEGABYTE = 1024 * 1024
SIZES = (1, 64, 512)  # MiB
LINES = 500  # in one run of both programs
WARM_UP = 50  # lines before those: the first ones meet a reader that still looks for the channel


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


def line_through_pair(pair: Pair) -> float:
    """The median seconds from a line into the writer's pipe to the same line out of the reader's."""
    with (
        subprocess.Popen(pair.command("reader", "--quiet"), stdout=subprocess.PIPE) as reader,
        subprocess.Popen(pair.command("writer", "--quiet", "--lines"), stdin=subprocess.PIPE) as writer,
    ):
        return line_latency(writer, reader)


def line_through_pipe() -> float:
    """The same through two cats."""
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first,
        subprocess.Popen(["cat"], stdin=first.stdout, stdout=subprocess.PIPE) as second,
    ):
        return line_latency(first, second)


def line_latency(first: subprocess.Popen[bytes], last: subprocess.Popen[bytes]) -> float:
    """One line at a time into the first program and out of the last, to the end of both."""
    assert first.stdin and last.stdout
    seconds = []
    for number in range(WARM_UP + LINES):
        line = b"line %d\n" % number
        began = time.perf_counter()
        first.stdin.write(line)
        first.stdin.flush()
        assert last.stdout.readline() == line
        seconds.append(time.perf_counter() - began)
    first.stdin.close()
    assert last.stdout.read() == b"" and (first.wait(), last.wait()) == (0, 0)
    return statistics.median(seconds[WARM_UP:])


def compare(columns: Sequence[Callable[[], float]], runs: int) -> list[float]:
    """The median of each column's figures, in rounds of all columns; the first round only warms up."""
    rounds = [[column() for column in columns] for _ in range(runs + 1)][1:]
    return [statistics.median(figures) for figures in zip(*rounds, strict=True)]


def compare_times(actions: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """The same of the seconds that each takes."""
    return compare([partial(timed, action) for action in actions], runs)


def measure(pairs: Sequence[Pair], directory: Path, runs: int) -> None:
    """Print the table; `pairs` are System V's and POSIX's."""
    show("", "System V", "POSIX", "cat | cat", "POSIX/SysV", "SysV/cat")
    path = directory / "file"
    times = []
    for size in SIZES:
        path.write_bytes(b"\xa5" * (size * MEGABYTE))
        pipe = partial(through_pipe, path)
        times.append(compare_times([*(partial(through_pair, pair, path) for pair in pairs), pipe], runs))
        show_figures(f"{size} MiB, with start-up", times[-1], "{:.3f} s")
    # The start-up is the same for every size, so the difference of two sizes is free of it.
    more = SIZES[-1] - SIZES[0]
    rates = [more / max(large - small, 1e-9) for small, large in zip(times[0], times[-1], strict=True)]
    show_figures("each further MiB", rates, "{:.0f} MiB/s")
    lines = compare([*(partial(line_through_pair, pair) for pair in pairs), line_through_pipe], runs)
    show_figures("one line, in to out", [second * 1e6 for second in lines], "{:.0f} us")
    show("", "System V", "POSIX", "bare python", "POSIX/SysV", "SysV/bare")
    starts = compare_times([*(partial(hello, pair) for pair in pairs), bare_python], runs)
    show_figures("start-up, two programs", starts, "{:.3f} s")


def show(*columns: str) -> None:
    print("{:24} {:>12} {:>12} {:>12} {:>10} {:>9}".format(*columns), flush=True)


def show_figures(what: str, figures: Sequence[float], form: str) -> None:
    sysv, posix, other = figures
    show(what, *(form.format(figure) for figure in figures), f"{posix / sysv:.2f}", f"{sysv / other:.2f}")


def main() -> int:
    """Measure on key paths of our own, in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="runs of each, the median of which is shown (7)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        key_path = directory / "key"
        key_path.touch()
        measure([Pair(key_path, directory, ipc=ipc) for ipc in ("sysv", "posix")], directory, options.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
