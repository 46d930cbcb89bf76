"""The benchmark's machinery: how a row is sampled, that each row can be, and what is left. No time is asserted."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import plots, rows_files, stage, table, textbook
from tests.bench.__main__ import NoRow, all_rows, machine, run
from tests.bench.driver import Row, measure, time_limit
from tests.bench.report import Column, Report
from tests.bench.rows_lines import crowd
from tests.bench.rows_programs import LAUNCH
from tests.bench.stage import GIB, KIB, MIB, Amounts, CannotRun, Failed, Stage, a_stage
from tests.helpers import ROOT, keys_of, left_behind, left_in_dev_shm, wait_until

TINY = Amounts(
    rounds=2,
    curve=[MIB],
    large=MIB + 1,
    largest=2 * MIB,
    lines=1000,
    shared_lines=160,
    typed=3,
    message=16 * KIB,
    idle=0.05,
    limit=50.0,
)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Stage]:
    """A stage of its own, on which nothing may be left."""
    with a_stage(tmp_path, TINY) as made:
        yield made
        keys = keys_of(made.key_path)
        assert not [*left_behind(keys), *left_in_dev_shm(keys)]
    assert list(tmp_path.iterdir()) == []


def test_columns_take_turns_and_the_first_round_does_not_count(tiny: Stage) -> None:
    taken: list[str] = []

    def sample(name: str) -> list[float]:
        taken.append(name)
        return [float(len(taken)), 100.0]

    row = Row("name", "title", "s", {"a": lambda: sample("a"), "b": lambda: sample("b")})
    columns = measure(row, tiny).columns
    assert taken == ["a", "b"] * 3
    assert (columns["a"].samples, columns["b"].samples) == ([3.0, 100.0, 5.0, 100.0], [4.0, 100.0, 6.0, 100.0])


def test_a_column_that_cannot_go_on_keeps_no_other_from_it(tiny: Stage) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def lacks() -> list[float]:
        raise CannotRun("no compiler")

    def breaks() -> list[float]:
        if len(left) < 2:
            left.append(tiny.spawn("sleep", "0"))
            return [1.0]
        left.append(tiny.spawn("sleep", "60"))
        raise Failed("no end")

    columns = measure(Row("name", "title", "s", {"a": lacks, "b": breaks, "c": lambda: [1.0]}), tiny).columns
    assert columns["a"] == Column(missing="no compiler")
    assert columns["b"] == Column(failed="no end")
    assert (columns["c"].samples, len(columns["c"].spent)) == ([1.0, 1.0], 2)
    assert len(left) == 3 and left[-1].returncode == -signal.SIGKILL


def test_what_the_programs_spend_is_known(tiny: Stage) -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"

    def sample() -> list[float]:
        return stage.seconds(lambda: [tiny.spawn(sys.executable, "-c", burn) for _ in range(2)])

    measured = measure(Row("name", "title", "s", {"a": sample, "b": lambda: [1.0]}), tiny)
    spent, nothing = measured.spent("a"), measured.spent("b")
    assert spent and nothing
    assert spent.user + spent.system >= 0.4 > 0.1 > nothing.user + nothing.system


def test_what_hangs_is_ended() -> None:
    with pytest.raises(Failed, match=r"no end after 0\.05 s"), time_limit(0.05):
        time.sleep(50)


def test_a_program_that_fails_is_no_sample(tiny: Stage) -> None:
    with pytest.raises(Failed, match="ended with 1"):
        stage.seconds(lambda: [tiny.spawn("false")])


ROWS = {row.name: row for row in all_rows(Stage(ROOT, ROOT, TINY))}


@pytest.mark.parametrize(("name", "column"), [(row.name, column) for row in ROWS.values() for column in row.columns])
def test_every_column_has_its_samples(name: str, column: str, tiny: Stage) -> None:
    row = next(row for row in all_rows(tiny) if row.name == name)
    try:
        with time_limit(TINY.limit):
            samples = row.columns[column]()
    except CannotRun as reason:
        pytest.skip(str(reason))
    assert len(samples) == (TINY.typed if name in ("typed line", "line by line") else 1)
    assert all(sample >= 0 for sample in samples)


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_every_target_is_of_columns_that_there_are(row: Row) -> None:
    assert {goal.over for goal in row.goals} <= set(row.columns)
    assert {goal.under for goal in row.goals} <= {"", *row.columns}


def test_the_readers_of_a_crowd_receive_every_line(tiny: Stage) -> None:
    assert sum(crowd(tiny, 2).received) == TINY.shared_lines


def test_a_pipe_ends_with_the_last_command(tiny: Stage) -> None:
    output = tiny.output(MIB)
    with output.open("wb") as stream:
        stage.wait_for(tiny.pipe(["cat", tiny.file(MIB)], ["cat"], ["head", "-c", "1000"], stdout=stream.fileno())[-1:])
    assert output.read_bytes() == tiny.file(MIB).read_bytes()[:1000]


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1])
@pytest.mark.parametrize("block", [1, KIB, 4 * MIB])
def test_the_textbook_moves_every_byte(size: int, block: int, tiny: Stage) -> None:
    if block == 1:
        size = min(size, KIB)
    source, output = tiny.directory / "source", tiny.output(size)
    source.write_bytes(os.urandom(size))
    with output.open("wb") as stream:
        try:
            children = textbook.start(tiny, source, block, stream.fileno())
        except CannotRun as reason:
            pytest.skip(str(reason))
    stage.wait_for(children)
    assert hashlib.sha256(output.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_a_file_is_as_large_as_it_is_to_be(tiny: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_OWN_FILE", MIB)
    for size in (0, 1, MIB, MIB + 1, 3 * MIB, 2 * MIB):
        assert tiny.file(size).stat().st_size == size
    assert len(set(map(tiny.file, (2 * MIB, 3 * MIB)))) == 1


def test_memory_is_never_filled(tiny: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "room_in", lambda directory: 2 * MIB)
    tiny.file(2 * MIB)
    with pytest.raises(CannotRun, match="has no room for 3 MiB more"):
        tiny.output(3 * MIB)
    columns = rows_files.stream(tiny, GIB).columns
    measured = measure(Row("name", "title", "s", columns), tiny)
    assert all("no room" in column.missing for column in measured.columns.values())


def test_a_peak_is_the_command_s_own(tmp_path: Path) -> None:
    ours = bytearray(os.urandom(64 * MIB))  # such a process starts it
    output = tmp_path / "peak"
    command = [sys.executable, "-I", "-S", str(LAUNCH), str(output), sys.executable, "-c", "raise SystemExit(3)"]
    assert subprocess.run(command).returncode == 3
    assert 4 * MIB < int(output.read_text()) * KIB < len(ours)


def test_whatever_breaks_it_off_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), a_stage(tmp_path, TINY) as broken:
        keys = keys_of(broken.key_path)
        ours = broken.pairs["System V"]
        child = broken.start(ours, "reader")
        broken.start(ours, "writer", "--lines", stdin=subprocess.PIPE)
        wait_until(lambda: left_behind(keys), "a channel")
        raise KeyboardInterrupt
    assert child.returncode == -signal.SIGKILL
    assert not left_behind(keys) and list(tmp_path.iterdir()) == []


def test_a_run_measures_what_was_chosen_and_can_be_drawn(
    tiny: Stage, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("today", machine(), "a command", TINY.rounds)
    run(tiny, report, re.compile(f"^stream {MIB}$|one typed line"))
    assert [row.name for row in report.results] == ["typed line", f"stream {MIB}"]
    assert len(report.results[0].columns["cat | cat"].samples) == TINY.rounds * TINY.typed
    assert report.notes.keys() == {"dd to /dev/null"}
    table.show(report)
    assert "one typed line" in capsys.readouterr().out
    pictures = plots.draw(report, tmp_path_factory.mktemp("plots"))
    assert [picture.name for picture in pictures] == ["throughput.svg", "latency.svg"]
    assert all(b"<svg" in picture.read_bytes() for picture in pictures)


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_a_row_is_chosen_by_what_is_shown_of_it(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measure", lambda row, _: measured.append(row.name))
    measured: list[str] = []
    run(Stage(ROOT, ROOT, TINY), Report("", "", "", 1), re.compile(re.escape(row.title)))
    assert row.name in measured


def test_where_no_row_is_chosen_that_is_said(tiny: Stage) -> None:
    report = Report("today", "", "", TINY.rounds)
    with pytest.raises(NoRow, match=r"no row is called 'nosuch'; they are: .*one typed line; "):
        run(tiny, report, re.compile("nosuch"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--only", "nosuch", "--directory", tiny.directory],
        capture_output=True,
        cwd=ROOT,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tests.bench: no row is called 'nosuch'; they are: ")


def test_ctrl_c_is_for_the_benchmark_alone(tiny: Stage) -> None:
    """A Python that is just starting would answer it with a traceback."""
    child = tiny.spawn("sleep", "60")
    assert os.getpgid(child.pid) == child.pid != os.getpgrp()


def test_the_driver_gives_an_alarm_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(10):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
