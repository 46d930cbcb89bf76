"""--slow and --pause-at: which steps a program has, and what is said and waited before each."""

from __future__ import annotations

import argparse
import os
import re
import signal
import threading
from collections.abc import Iterator

import pytest

from common.channel.listener import Step
from common.cli.pace import Pace, PauseAt, list_steps
from common.cli.values import pause_option
from common.geometry import Geometry
from common.layout import ABORTED, FIRST, LAST, SlotHeader
from tests.helpers import ROOT

PROGRAMS = ("writer.py", "reader.py")
NAME = re.compile(r"^  ([a-z-]+) +(.+)$", re.MULTILINE)


class Said:
    """A voice that keeps what it says."""

    def __init__(self, program: str = "writer", *, ending: bool = False) -> None:
        self.program, self.ending = program, ending
        self.lines: list[str] = []
        self.insisted: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def error(self, text: str) -> None:
        self.insisted.append(text)

    def is_ending(self) -> bool:
        return self.ending


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of --slow, none of which is waited."""
    waits: list[float] = []
    monkeypatch.setattr("common.cli.pace.time.sleep", waits.append)
    return waits


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Step]]:
    """The pauses of --pause-at, each ended at once by the signal that a script would send."""
    pauses: list[Step] = []
    monkeypatch.setattr("common.cli.pace._foreground_terminal", lambda: None)

    def send(voice: Said, text: str) -> None:
        voice.insisted.append(text)
        pauses.append(Step(text.split()[2].rstrip(",")))
        signal.raise_signal(signal.SIGCONT)

    monkeypatch.setattr(Said, "error", send)
    yield pauses
    assert (signal.getsignal(signal.SIGCONT), signal.set_wakeup_fd(-1)) == (signal.SIG_DFL, -1)


def slot(length: int, flags: int = FIRST | LAST, taken: int = 0) -> SlotHeader:
    return SlotHeader(length, flags, 5, 0, length, 1, 0, 1, taken)


def say(program: str, step: Step, number: int = -1, header: SlotHeader | None = None) -> str:
    voice = Said(program)
    pace = Pace(voice, 0, ())
    pace.geometry = Geometry(8, 4096)
    pace.step(step, number, header)
    (line,) = voice.lines
    return line


def test_every_step_is_one_of_a_program_and_has_its_line() -> None:
    listed = [dict(NAME.findall(list_steps(program))) for program in PROGRAMS]
    assert set(listed[0]) | set(listed[1]) == {step.value for step in Step}
    assert all(len(line) < 80 for program in PROGRAMS for line in list_steps(program).splitlines()[:-1])


def test_a_line_says_which_slot_which_bytes_and_which_counter() -> None:
    assert say("writer", Step.FILL, 10) == (
        "fill: put input into slot 2, at offset 16384, 4096 bytes at most"  # two pages come before slot 0
    )
    assert say("writer", Step.PUBLISH, 10, slot(1)) == (
        "publish: store head 10 -> 11: from now on readers see slot 2, 1 byte"
    )
    assert say("reader", Step.PUT_OUT, 11, slot(6, taken=2)) == (
        "put-out: write out 4 bytes of slot 3, straight from offset 20480"
    )
    assert say("reader", Step.COMMIT, 11, slot(6)) == (
        "commit: store tail 11 -> 12: 6 bytes out, slot 3 may be filled anew"
    )
    assert "12: 1 byte out, slot" in say("reader", Step.COMMIT, 11, slot(1))
    assert say("reader", Step.COMMIT, 11) == "commit: note in slot 3 how much of it is out; tail stays"
    assert "slot 0, 0 bytes (record 5 is given up)" in say("writer", Step.PUBLISH, 0, slot(0, ABORTED))


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_line_of_a_program_is_left_open(program: str) -> None:
    """No text asks for what its step does not tell."""
    for name, text in NAME.findall(list_steps(program)):
        said = say(program.removesuffix(".py"), Step(name), 3, slot(6))
        assert said.startswith(f"{name}: ") and "{" not in said + text


def test_the_steps_of_the_listener_are_those_that_a_program_tells() -> None:
    """A step that nobody tells would be a pause that never comes."""
    told = "".join(path.read_text() for path in [*ROOT.glob("*.py"), *ROOT.glob("common/c*/*.py")])
    assert {step for step in Step if f"tell(Step.{step.name}" not in told} == set()


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("publish", PauseAt(Step.PUBLISH)),
        ("publish:3", PauseAt(Step.PUBLISH, 3)),
        ("give-turn:01", PauseAt(Step.GIVE_TURN, 1)),
    ],
)
def test_where_to_pause(text: str, parsed: PauseAt) -> None:
    assert pause_option("writer.py", text) == parsed


@pytest.mark.parametrize("text", ["", ":", ":1", "Publish", "publish:", "publish:0", "publish:-1", "publish:²", "read"])
def test_nowhere_to_pause(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a step of writer\.py: join, take-turn, "):
        pause_option("writer.py", text)


def test_slow_waits_before_each_step(slept: list[float]) -> None:
    voice = Said()
    pace = Pace(voice, 1.5, ())
    pace.step(Step.JOIN, -1, None)
    pace.step(Step.LEAVE, -1, None)
    assert ([line.split(":")[0] for line in voice.lines], slept) == (["join", "leave"], [1.5, 1.5])


def test_a_pause_is_before_each_step_of_that_name_and_the_others_are_slow(
    slept: list[float], paused: list[Step]
) -> None:
    pace = Pace(Said(), 2, [PauseAt(Step.FILL)])
    for number in range(2):
        pace.step(Step.WAIT_SLOT, -1, None)
        pace.step(Step.FILL, number, None)
    assert (slept, paused) == ([2, 2], [Step.FILL, Step.FILL])


@pytest.mark.parametrize("nth", [1, 3])
def test_the_third_time_is_the_third_time(slept: list[float], paused: list[Step], nth: int) -> None:
    voice = Said()
    pace = Pace(voice, 0, [PauseAt(Step.FILL, nth)])
    for number in range(5):
        pace.step(Step.FILL, number, None)
        assert len(paused) == (number + 1 >= nth)
    assert len(voice.lines) == 5


def test_a_pause_at_several_steps_and_the_others_are_slow(slept: list[float], paused: list[Step]) -> None:
    pace = Pace(Said(), 2, [PauseAt(Step.FILL, 1), PauseAt(Step.FILL, 3), PauseAt(Step.LEAVE)])
    for step in [*[Step.FILL] * 4, Step.LEAVE]:
        pace.step(step, 0, None)
    assert (slept, paused) == ([2, 2], [Step.FILL, Step.FILL, Step.LEAVE])


def test_once_a_signal_has_come_nothing_is_waited_for(slept: list[float], paused: list[Step]) -> None:
    voice = Said(ending=True)
    for pace in (Pace(voice, 1, ()), Pace(voice, 1, [PauseAt(Step.LEAVE)])):
        pace.step(Step.LEAVE, -1, None)
    assert (len(voice.lines), slept, paused) == (2, [], [])


def test_a_terminal_that_is_gone_is_looked_at_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be ready to be read for ever, and each look a round of a busy loop."""
    gone, other_end = os.pipe()
    os.close(other_end)
    monkeypatch.setattr("common.cli.pace._foreground_terminal", lambda: gone)
    voice = Said()
    go_on = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGCONT))
    go_on.start()
    Pace(voice, 0, [PauseAt(Step.FILL)]).step(Step.FILL, 0, None)
    go_on.join()
    pid = os.getpid()
    assert voice.insisted == [
        f"paused before fill, pid {pid}: Enter or `kill -CONT {pid}` goes on, `kill -9 {pid}` ends it here",
        f"Enter is heard no more; `kill -CONT {pid}` goes on",
    ]
