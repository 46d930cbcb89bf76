"""What the comparison shows is what was measured and counted, and it leaves nothing behind."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import compare
from tests.bench.comparison import calls
from tests.bench.comparison.measure import BOUNCE, KIB, PLAN, SIZES, Figure, Results, Task
from tests.bench.comparison.show import show
from tests.bench.mechanisms import MECHANISMS
from tests.bench.mechanisms.pipe import Pipe
from tests.bench.mechanisms.ring import Ring
from tests.bench.mechanisms.sysv_queue import SysvQueue
from tests.bench.mechanisms.tcp import Tcp
from tests.bench.mechanisms.unix_socket import UnixSocket
from tests.bench.mechanisms.way import Way
from tests.helpers import PATIENCE, ROOT, keys_of, left_behind, wait_until

# In a worker of xdist a second thread waits for word from the others; from 3.12 on, fork warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded")

NAMES = [mechanism.name for mechanism in MECHANISMS]
TINY = [Task(size, 3) for size, _ in PLAN]


def shown(results: Results, counts: calls.Counts | None = None, uncounted: str = "") -> str:
    console = Console(file=io.StringIO(), width=200)
    show(console, results, counts, uncounted)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_refused_and_what_does_not_fit_is_named_with_its_reason(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(way: Way, directory: Path, number: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(Pipe, "__init__", refuse)
    results = compare.take_rounds(directory, 0, TINY)
    assert list(results.figures) == [name for name in NAMES if name != "pipe"]
    text = shown(results, uncounted="nobody counted")
    assert re.search(r"^pipe( +-){5}\s*$", text, re.MULTILINE)
    assert "\n- pipe cannot run here: OSError: [Errno 38] Function not implemented\n" in text
    limit = SysvQueue.limit()
    assert f"\n- System V queue: {limit.size} bytes at most in one message ({limit.file})\n" in text
    assert "\nnobody counted: the calls are those of one that fits.\n" in text


def test_a_bar_is_as_long_as_its_figure_is_high() -> None:
    slow = {size: Figure(2e-6, 1) for size in (*SIZES, BOUNCE)}
    fast = {size: Figure(1e-6, 0) for size in (*SIZES, BOUNCE)}
    results = Results(1, {name: fast if name == "pipe" else slow for name in NAMES}, {})
    text = shown(results)
    assert re.search(r"^pipe( +[\d,]+){5}\s*\n( +█{9}){5}", text, re.MULTILINE)
    assert re.search(r"^FIFO( +[\d,]+){5}\s*\n( +█{4} *){5}", text, re.MULTILINE)
    assert re.search(r"bare segment in this run: 64 B \d of 8, .*, bounce \d of 8\.\n", text)


def test_the_median_is_taken_of_each_figure_for_itself() -> None:
    rounds = [{64: Figure(3.0, 0.0)}, {64: Figure(1.0, 2.0)}, {64: Figure(2.0, 1.0)}]
    assert compare.median(rounds) == {64: Figure(2.0, 1.0)}


def test_calls_are_counted_between_the_marks_of_each_process() -> None:
    log = """\
7 read(3, "", 1) = 0
7 access("/mark of pipe 4096", F_OK) = -1 ENOENT (No such file or directory)
8 access("/mark of pipe 4096", F_OK <unfinished ...>
7 write(4, "x", 1 <unfinished ...>
8 <... access resumed>) = -1 ENOENT (No such file or directory)
7 <... write resumed>) = 1
8 read(3, "x", 1) = 1
7 access("/mark of pipe 4096", F_OK) = -1 ENOENT (No such file or directory)
7 getpid() = 7
8 read(3, "x", 1) = 1
8 access("/mark of pipe 4096", F_OK) = -1 ENOENT (No such file or directory)
8 +++ exited with 0 +++
"""
    assert calls.count_in_log(log.splitlines()) == {("pipe", 4096): 3 / dict(calls.PLAN)[4096]}


def test_what_is_documented_is_what_strace_counts(directory: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace: install the package strace")
    counts = calls.count_calls()
    for mechanism in MECHANISMS:
        block, bounce = counts[mechanism.name, 4 * KIB], counts[mechanism.name, BOUNCE]
        if mechanism in (Ring, UnixSocket, Tcp):  # who has to sleep, or gets a part of a block, calls again
            assert block >= mechanism.calls and bounce >= 2 * mechanism.calls
        else:
            assert (block, bounce) == (mechanism.calls, 2 * mechanism.calls)


def test_without_strace_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(calls.NotCounted, match="strace is missing"):
        calls.count_calls()


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.compare", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_whole_of_it_shows_every_mechanism_and_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    with start("--quick", "--json", str(tmp_path / "figures")) as child:
        out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, err) == (0, f"{len(NAMES)} mechanisms, two processes each ...\n"), out
    for name in NAMES:
        assert len(re.findall(rf"^{name} ", out, re.MULTILINE)) == 2
    assert "cannot run here" not in out and "\nWhy: " in out
    figures = json.loads((tmp_path / "figures").read_text())
    assert (figures["rounds"], figures["refused"], list(figures["mechanisms"])) == (1, {}, NAMES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("at", ["our ring", "FIFO"])
def test_a_signal_ends_it_and_leaves_nothing(directory: Path, number: signal.Signals, at: str) -> None:
    there = {"our ring": lambda path: left_behind(keys_of(path)), "FIFO": lambda path: (path / "fifo0").exists()}[at]

    def has_come() -> bool:
        with suppress(FileNotFoundError):  # that of a mechanism whose turn is over just now
            return any(there(path) for path in directory.iterdir())
        return False

    with start() as child:
        wait_until(has_come, at)
        os.killpg(child.pid, number)
        out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out, err.count("\n")) == (128 + number, "", 1), err
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)


def test_it_needs_no_package_for_development() -> None:
    show_loaded = "import sys, tests.bench.compare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show_loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pytest", "hypothesis", "pexpect", "tests.helpers"} & set(done.stdout.split())
