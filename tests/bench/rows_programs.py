"""The rows of the programs themselves: their start, their memory, what they cost while nothing happens."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.bench.driver import Row, Sample
from tests.bench.report import Goal
from tests.bench.rows_files import size_name
from tests.bench.stage import KIB, MIB, CannotRun, Child, Failed, Stage, seconds, take_stdout, wait_for
from tests.helpers import ROOT, Pair

LAUNCH = Path(__file__).with_name("launch.py")
BARE = [sys.executable, "-c", "pass"]
MORE_MEMORY = 8  # MiB, over the bare interpreter


def rows(stage: Stage) -> list[Row]:
    """Those that need no large file; see memory."""
    return [start_up(stage), idle(stage), message(stage)]


def start_up(stage: Stage) -> Row:
    """Each program from its start to its end, with a message to send or to find."""

    def say_hello(ours: Pair) -> list[float]:
        took = seconds(lambda: [stage.start(ours, "writer", "hello")])
        wait_for([stage.start(ours, "reader")])
        return took

    def find_hello(ours: Pair) -> list[float]:
        wait_for([stage.start(ours, "writer", "hello")])
        return seconds(lambda: [stage.start(ours, "reader")])

    columns: dict[str, Sample] = {}
    for name, ours in stage.pairs.items():
        columns |= {f"writer, {name}": partial(say_hello, ours), f"reader, {name}": partial(find_hello, ours)}
    columns["python -c pass"] = lambda: seconds(lambda: [stage.spawn(*BARE)])
    goals = [Goal(f"{program}, System V", "python -c pass", at_most=2.5) for program in ("writer", "reader")]
    return Row("start-up", "start-up: writer hello; reader", "s", columns, goals, often=3)


def idle(stage: Stage) -> Row:
    """A writer that waits for a line, and a reader that waits for the writer: percent of one core."""

    def sample(ours: Pair) -> list[float]:
        writer = stage.start(ours, "writer", "--lines", stdin=subprocess.PIPE)
        reader = stage.start(ours, "reader", stdout=subprocess.PIPE)
        assert writer.stdin and reader.stdout
        writer.stdin.write(b"here\n")
        writer.stdin.flush()
        reader.stdout.readline()
        began, before = time.perf_counter(), _cpu_ns(writer) + _cpu_ns(reader)
        time.sleep(stage.amounts.idle)
        spent = _cpu_ns(writer) + _cpu_ns(reader) - before
        percent = 100 * spent / 1e9 / (time.perf_counter() - began)
        writer.stdin.close()
        wait_for([writer, reader])
        reader.stdout.close()
        return [percent]

    columns = {name: partial(sample, ours) for name, ours in stage.pairs.items()}
    return Row("idle", "CPU of an idle pair", "%", columns, [Goal(name, at_most=0.3) for name in columns])


def _cpu_ns(child: Child) -> int:
    try:
        return int(Path(f"/proc/{child.pid}/schedstat").read_text().split()[0])
    except FileNotFoundError:
        raise CannotRun("this kernel has no /proc/PID/schedstat") from None


def message(stage: Stage) -> Row:
    """A record out of memory: four times as much must not take much more than four times as long."""
    size = stage.amounts.message
    whole, quarter = size_name(size), size_name(size // 4)

    def sample(what: str, length: int) -> list[float]:
        command = [sys.executable, "-m", "tests.bench.message", what, length]
        child = stage.spawn("env", "-C", ROOT, *command, stdout=subprocess.PIPE)
        output = take_stdout(child)
        with open(output) as stream:
            said = stream.read()
        wait_for([child])
        return [float(said)]

    columns = {
        whole: partial(sample, "source", size),
        quarter: partial(sample, "source", size // 4),
        "its copy": partial(sample, "copy", size),
    }
    goals = [Goal(whole, quarter, at_most=5), Goal(whole, "its copy")]
    return Row("message", f"a record of {whole} out of memory", "s", columns, goals, size)


def memory(stage: Stage) -> Row:
    """The larger of both programs' peaks without the part of the segment that they touch, MiB."""

    def sample(size: int) -> list[float]:
        path = stage.file(size)
        ours = stage.pairs["System V"]
        written, read = stage.directory / "peak-writer", stage.directory / "peak-reader"
        writer = _launch(stage, written, ours.command("writer", "--file", path), stderr=subprocess.PIPE)
        wait_for([_launch(stage, read, ours.command("reader", "--quiet")), writer])
        assert writer.stderr
        with writer.stderr:
            segment = _segment_size(writer.stderr.read().decode())
        return [max(_peak(written), _peak(read)) - min(segment, size) / MIB]

    def bare() -> list[float]:
        peak = stage.directory / "peak-bare"
        wait_for([_launch(stage, peak, BARE)])
        return [_peak(peak)]

    sizes = [min(stage.amounts.curve), stage.amounts.largest]
    columns: dict[str, Sample] = {size_name(size): partial(sample, size) for size in sizes}
    columns["bare python"] = bare
    least, most = map(size_name, sizes)
    goals = [Goal(size, "bare python", at_most=MORE_MEMORY, difference=True) for size in (least, most)]
    goals.append(Goal(most, least, at_most=1.1))
    return Row("memory", f"peak memory without the segment, {least} to {most}", "MiB", columns, goals)


def _launch(stage: Stage, peak: Path, command: list[str], stderr: int | None = None) -> Child:
    return stage.spawn(sys.executable, "-I", "-S", LAUNCH, peak, *command, stderr=stderr)


def _peak(path: Path) -> float:
    return int(path.read_text()) / KIB


def _segment_size(said: str) -> int:
    found = re.search(r": (\d+) bytes, \d+ slots", said)
    if not found:
        raise Failed(f"the writer does not say how large the segment is: {said!r}")
    return int(found[1])
