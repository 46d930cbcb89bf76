"""What a transfer has moved: the summary, and the progress bar on a terminal."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from common.channel.end import End
from common.cli.talk import Talk
from common.cli.tally import Tally, _progress_bar
from common.geometry import Geometry
from common.layout import FIRST, LAST, PAGE, SlotHeader
from tests.in_process import Collector, Died, Local, Script, stream, take_all

OPTIONS = argparse.Namespace(quiet=False, no_progress=False, trace=None, explain=False, slow=None, pause_at=None)

# The summary


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, ""),
        (0.099, ""),
        (0.1, " in 0.100 s (50.0 B/s)"),
        (2.0, " in 2.000 s (2.5 B/s)"),
    ],
)
def test_the_time_and_the_rate_of_what_took_a_while(monkeypatch: pytest.MonkeyPatch, seconds: float, said: str) -> None:
    times = iter([0.0, seconds])
    monkeypatch.setattr("common.cli.tally.time", SimpleNamespace(monotonic=lambda: next(times)))
    end = cast(End, SimpleNamespace(bytes=5, records=1))
    assert Tally(end, OPTIONS, Talk("writer"), bar=False).summary("sent") == f"sent 1 record, 5 bytes{said}"


# The progress bar


class Bar:
    """A bar on a terminal that goes away at the call `fails_at`."""

    task_ids = (0,)

    def __init__(self, fails_at: str = "never") -> None:
        self.fails_at = fails_at
        self.begun: int | None = None
        self.first_total: int | None = None
        self.updates: list[tuple[int, int | None]] = []  # what is done, and of how much

    def start(self, begun: int, total: int | None) -> Bar:
        self.begun = begun
        self.first_total = total
        return self._call("start")

    def update(self, task: int, *, completed: int, total: int | None, refresh: bool) -> None:
        self.updates.append((completed, total))
        self._call("update")

    def stop(self) -> None:
        self._call("stop")

    def _call(self, name: str) -> Bar:
        if name == self.fails_at:
            raise OSError(errno.EIO, "Input/output error")
        return self


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is a terminal, and a bar is shown at once and kept up to date."""
    monkeypatch.setattr("common.cli.tally.WORTH_SAYING", 0)
    monkeypatch.setattr("common.cli.tally.REFRESH", 0)
    monkeypatch.setattr(os, "isatty", lambda _: True)


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch, terminal: None) -> Bar:
    """The next bar that is shown."""
    bar = Bar()
    monkeypatch.setattr("common.cli.tally._progress_bar", bar.start)
    return bar


@pytest.mark.parametrize(("fails_at", "updates"), [("start", 0), ("update", 1), ("stop", 3), ("never", 3)])
def test_a_terminal_that_is_gone_ends_no_transfer(
    monkeypatch: pytest.MonkeyPatch, terminal: None, fails_at: str, updates: int
) -> None:
    bar, end, talk = Bar(fails_at), SimpleNamespace(bytes=5, records=1), Talk("writer")
    monkeypatch.setattr("common.cli.tally._progress_bar", bar.start)
    with Tally(cast(End, end), OPTIONS, talk, bar=True) as tally:
        for _ in range(3):
            if talk.progress:
                talk.progress(SlotHeader(5, FIRST | LAST, 0, 0, 5, 1, 0, 1), 5)
    assert len(bar.updates) == updates
    assert talk.progress is None
    assert tally.summary("sent").startswith("sent 1 record, 5 bytes")


@pytest.mark.parametrize("option", ["quiet", "no_progress", "trace", "slow", "pause_at", "bar", "isatty"])
def test_where_there_is_no_bar(monkeypatch: pytest.MonkeyPatch, terminal: None, option: str) -> None:
    talk = Talk("writer")
    end = cast(End, SimpleNamespace(bytes=5, records=1))
    options = argparse.Namespace(**{**vars(OPTIONS), option: True})
    if option == "isatty":
        monkeypatch.setattr(os, "isatty", lambda _: False)
    with Tally(end, options, talk, bar=option != "bar"):
        assert talk.progress is None


FILE = bytes(range(256)) * (PAGE // 256) * 3  # three slots
ALL = len(FILE)


@pytest.fixture
def local(key_path: Path) -> Iterator[Local]:
    with Local(key_path, Geometry(4, PAGE)) as channel:
        yield channel


def tally(local: Local, end: End) -> Tally:
    """Of an end whose listener is the channel's: all that a tally asks of it is to be one."""
    return Tally(end, OPTIONS, cast(Talk, local.heard), bar=True)


WHOLE = [(PAGE, ALL), (2 * PAGE, ALL), (ALL, ALL)]


def test_the_bar_of_a_file_shows_how_much_of_it_is_sent(local: Local, bar: Bar) -> None:
    writer = local.writer()
    with tally(local, writer):
        writer.send(Script(FILE))
    assert (bar.begun, bar.updates) == (PAGE, WHOLE)


def test_the_bar_of_a_file_shows_how_much_of_it_has_arrived(local: Local, bar: Bar) -> None:
    writer = local.writer()
    writer.send(Script(FILE))
    local.leave(writer)
    reader = local.reader()
    with tally(local, reader):
        assert take_all(reader) == FILE
    assert (bar.begun, bar.updates) == (PAGE, WHOLE)


def test_the_bar_of_a_writer_that_resumes_begins_where_it_does(local: Local, bar: Bar) -> None:
    first = local.writer()
    with pytest.raises(Died):
        first.send(Script(FILE, dies_at=PAGE))
    second = local.writer()
    with tally(local, second):
        second.send(Script(FILE), resume=True)
    assert (bar.begun, bar.updates) == (2 * PAGE, WHOLE[1:])


def test_the_bar_of_a_reader_that_resumes_begins_where_it_does(local: Local, bar: Bar) -> None:
    writer = local.writer()
    writer.send(Script(FILE))
    local.leave(writer)
    first = local.reader()
    with pytest.raises(Died):
        first.receive(Collector(dies_at=1))
    local.detach(first)
    second = local.reader()
    with tally(local, second):
        assert take_all(second) == FILE[PAGE:]
    assert (bar.begun, bar.updates) == (2 * PAGE, WHOLE[1:])


def test_the_bar_of_lines_shows_how_many_bytes_went_through(local: Local, bar: Bar) -> None:
    writer, reader = local.writer(), local.reader()
    with tally(local, writer):
        for _ in range(2):
            writer.send_lines(b"one\ntwo\n", 2)
    assert (bar.begun, bar.updates) == (8, [(8, None), (16, None)])
    local.leave(writer)
    bar.updates.clear()
    with tally(local, reader):
        take_all(reader)
    assert (bar.begun, bar.updates) == (8, [(8, None), (16, None)])


def test_the_bar_of_a_pipe_has_no_total(local: Local, bar: Bar) -> None:
    writer, reader = local.writer(), local.reader()
    with tally(local, writer):
        writer.send(stream(FILE))
    expected = [(done, None) for done, _ in WHOLE] + [(ALL, None)]
    assert bar.updates == expected
    local.leave(writer)
    bar.updates.clear()
    with tally(local, reader):
        assert take_all(reader) == FILE
    assert bar.updates == expected


@pytest.mark.parametrize("begun", [0, 5])
def test_what_was_there_before_is_on_the_bar_and_not_in_its_speed(
    capfd: pytest.CaptureFixture[str], begun: int
) -> None:
    shown = _progress_bar(begun, None)
    try:
        (task,) = shown.tasks
        assert (task.completed, task.total, task.speed) == (begun, None, None)
    finally:
        shown.stop()
