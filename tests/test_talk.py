"""What a person is told on standard error."""

from __future__ import annotations

import argparse
import errno
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from common.channel.listener import Call, News, Reason, Step
from common.cli.run import Interrupted
from common.cli.talk import Talk, state_of
from common.geometry import Geometry
from common.ipc.family import ChannelObjects
from common.ipc.sysv import SysvFamily
from common.layout import FIRST, LAST, SlotHeader
from tests.helpers import wait_until
from tests.in_process import python


@pytest.fixture(autouse=True)
def nobody_has_ended_us() -> Iterator[None]:
    """A worker of xdist has no handler of SIGINT, as a program that a signal ends."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_step_is_a_line_with_the_programs_name(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("writer")
    talk.say("a step")
    talk.error("an error")
    talk.prompt()
    assert capfd.readouterr() == ("", "writer: a step\nwriter: an error\n> ")


def test_quiet_says_only_errors(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("reader", quiet=True)
    talk.say("a step")
    talk.prompt()
    talk.wait(Reason("waiting for data", missing=True), 10)
    talk.wait(Reason("waiting for our turn"), 10)
    talk.error("an error")
    assert capfd.readouterr() == ("", "reader: an error\n")


def test_a_name_that_is_no_utf8_is_said_as_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Talk("writer").error(os.fsdecode(b"caf\xe9"))
    assert capfdbinary.readouterr().err == b"writer: caf\xe9\n"


def test_a_line_stays_one_line_whatever_it_mentions(capfd: pytest.CaptureFixture[str]) -> None:
    Talk("writer").error("a\nb\r\x1b[31m\x7f\0")
    assert capfd.readouterr().err == r"writer: a\nb\r\x1b[31m\x7f\x00" + "\n"


def test_a_wait_is_told_once_after_a_second_when_somebody_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("reader")
    nobody, other = Reason("nobody", missing=True), Reason("another", missing=True)
    for reason, waited, said in [
        (nobody, 0.9, ""),
        (nobody, 1.0, "reader: nobody\n"),
        (nobody, 1.1, ""),
        (other, 1.2, "reader: another\n"),
        (other, 0.1, ""),  # a new wait
        (other, 1.5, "reader: another\n"),
    ]:
        talk.wait(reason, waited)
        assert capfd.readouterr().err == said


def test_a_long_wait_is_told_once_however_often_it_comes(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("writer")
    room, turn = Reason("waiting for room"), Reason("waiting for our turn")
    for reason, waited, said in [
        (room, 2.9, ""),
        (room, 3.0, "writer: waiting for room\n"),
        (room, 3.1, ""),
        (turn, 3.2, "writer: waiting for our turn\n"),
        (room, 3.3, ""),
        (room, 0.1, ""),  # a new wait
        (room, 5, ""),
    ]:
        talk.wait(reason, waited)
        assert capfd.readouterr().err == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print(flush=True); signal.pause()", ""),
        ("print(flush=True); os.kill(os.getpid(), signal.SIGSTOP)", " (stopped)"),
        ("pass", " (which is no more)"),  # and nobody has asked how it ended
    ],
    ids=["alive", "stopped", "dead"],
)
def test_what_became_of_a_process(capfd: pytest.CaptureFixture[str], code: str, said: str) -> None:
    with python(f"import os, signal; {code}") as child:
        assert child.stdout
        child.stdout.readline()
        try:
            wait_until(lambda: state_of(child.pid) == said)
            Talk("reader").wait(Reason(f"pid {child.pid} has it", pid=child.pid), 3)
        finally:
            child.kill()
    line = f"reader: pid {child.pid}{said} has it"
    advice = "; the kernel gives back what the dead had, so somebody set this; `writer.py --remove` ends the channel"
    assert capfd.readouterr().err == f"{line}{advice if 'no more' in said else ''}\n"


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31, 2**32 - 1])
def test_a_number_that_can_be_no_process(pid: int) -> None:
    assert state_of(pid) == " (which is no more)"


def test_a_process_of_which_proc_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc is mounted, or it hides the processes of others."""

    def refuse(path: str, mode: str) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr("builtins.open", refuse)
    assert state_of(os.getpid()) == ""


def test_a_signal_in_a_write_loses_no_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write, talk = os.write, Talk("writer")
    pieces = iter([4, 0])

    def write_a_piece(descriptor: int, text: bytes) -> int:
        size = next(pieces, len(text))
        if not size:
            raise Interrupted(signal.SIGINT)
        return write(descriptor, text[:size])

    monkeypatch.setattr(os, "write", write_a_piece)
    with pytest.raises(Interrupted):
        talk.say("one")
    talk.say("two")
    assert capfd.readouterr().err == "writer: one\nwriter: two\n"


def test_the_key_and_the_path_are_told_of_a_missing_side_too_after_three_seconds(
    capfd: pytest.CaptureFixture[str],
) -> None:
    talk = Talk("reader")
    talk.where = "key 0x01, /key, channel 0"
    nobody = Reason("nobody", missing=True)
    for waited, said in [
        (1.0, "reader: nobody\n"),
        (2.9, ""),
        (3.0, "reader: nobody; key 0x01, /key, channel 0\n"),
        (3.1, ""),
        (0.1, ""),  # a new wait
        (1.0, "reader: nobody\n"),
        (3.0, ""),
    ]:
        talk.wait(nobody, waited)
        assert capfd.readouterr().err == said


def test_a_missing_side_is_told_but_once_before_the_place_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("reader")
    nobody = Reason("nobody", missing=True)
    for waited, said in [(1.0, "reader: nobody\n"), (3.0, ""), (60.0, "")]:
        talk.wait(nobody, waited)
        assert capfd.readouterr().err == said
    talk.where = "key 0x01"
    talk.wait(nobody, 61)
    assert capfd.readouterr().err == "reader: nobody; key 0x01\n"


def test_who_waits_behind_a_signal_hears_what_the_next_one_does(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, nobody = Talk("reader"), Reason("nobody", missing=True)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # as the first one leaves it
    talk.wait(nobody, 1.0)
    assert capfd.readouterr().err == "reader: nobody; the next signal ends us at once\n"


def test_quiet_waits_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("reader", quiet=True)
    talk.where = "key 0x01"
    for waited in (1, 3, 60):
        talk.wait(Reason("nobody", missing=True), waited)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_lost_is_said_with_quiet_too(capfd: pytest.CaptureFixture[str], quiet: bool) -> None:
    talk = Talk("reader", quiet=quiet)
    talk.news(News("a record is torn", lost=True))
    talk.news(News("going on"))
    assert capfd.readouterr().err == "reader: a record is torn\n" + ("" if quiet else "reader: going on\n")


@pytest.mark.parametrize("trace", ["lab", "all"])
def test_trace_shows_calls_with_quiet_too(capfd: pytest.CaptureFixture[str], trace: str) -> None:
    talk = Talk("writer")
    talk.obey(argparse.Namespace(quiet=True, trace=trace, explain=False, slow=None, pause_at=None))
    assert talk.call
    talk.call(Call("shmdt", (4096,), 0, 0))
    talk.call(Call("semop", (7, 1, 0), 0, 0))
    assert capfd.readouterr().err == "shmdt(0x1000) = 0\n" + (
        "semop(7, [{0, 1, 0}], 1) = 0\n" if trace == "all" else ""
    )


def test_what_was_counted_is_said_before_anything_else(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("reader")
    talk.obey(argparse.Namespace(quiet=False, trace="all", explain=False, slow=None, pause_at=None))
    assert talk.call
    for waited in (0.1, 0.2, 0.3, 1.0):
        talk.call(Call("semop", (7, -1, 0), -1, errno.EAGAIN))
        talk.wait(Reason("nobody", missing=True), waited)
    assert capfd.readouterr().err == (
        "semop(7, [{0, -1, 0}], 1) = -1 EAGAIN (Resource temporarily unavailable)\n"
        "# the last call 3 times more, while waiting\n"
        "reader: nobody\n"
    )


# The segment, and the first record on its way


class Segment(SimpleNamespace):
    """Of an attached channel, what is said."""

    address = 0x7F54C5C41000
    seen = SimpleNamespace(size=2105344, mode=0o100660, uid=0)

    def __str__(self) -> str:
        return "segment 1"


def attached(program: str, *, created: bool = False, quiet: bool = False) -> Talk:
    talk = Talk(program, quiet=quiet)
    talk.names = SysvFamily.names
    talk.attached(cast(ChannelObjects, Segment(created=created)), Geometry(8, 262144))
    return talk


def slot(length: int) -> SlotHeader:
    return SlotHeader(length, FIRST | LAST, 0, 0, length, 1, 0, 1)


@pytest.mark.parametrize(("created", "how"), [(True, "created"), (False, "opened")])
def test_how_the_segment_came_about_and_where_it_is(capfd: pytest.CaptureFixture[str], created: bool, how: str) -> None:
    attached("writer", created=created)
    assert capfd.readouterr().err == (
        f"writer: shmget: {how} segment 1: 2105344 bytes, 8 slots of 262144, mode 0660, uid 0\n"
        "writer: shmat: attached it at 0x7f54c5c41000\n"
    )


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Step.PUBLISH, "store 6 bytes at 0x7f54c5cc3000, offset 532480: slot 2; head 10 -> 11"),
        (Step.COMMIT, "load 6 bytes at 0x7f54c5cc3000, offset 532480: slot 2; tail 10 -> 11"),
    ],
)
def test_the_first_store_or_load_is_shown_and_not_the_second(
    capfd: pytest.CaptureFixture[str], step: Step, line: str
) -> None:
    talk = attached("writer")
    capfd.readouterr()
    talk.tell(step, 10, slot(6))
    assert capfd.readouterr().err == "", "not done yet"
    talk.tell(Step.GIVE_TURN)
    assert capfd.readouterr().err == f"writer: {line}\n"
    talk.tell(step, 11, slot(6))
    talk.tell(Step.GIVE_TURN)
    assert talk.step is None, "it costs no more"
    assert capfd.readouterr().err == ""
    talk.show_next()
    talk.tell(step, 10, slot(6))
    talk.tell(Step.FREE, 10)
    talk.tell(step, 11, slot(6))
    assert capfd.readouterr().err == f"writer: {line}\n"


def test_the_line_typed_at_a_prompt_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    talk = attached("writer")
    talk.tell(Step.PUBLISH, 0, slot(6))
    talk.tell(Step.GIVE_TURN)
    capfd.readouterr()
    talk.prompt()
    talk.tell(Step.PUBLISH, 1, slot(1))
    talk.tell(Step.GIVE_TURN)
    talk.tell(Step.PUBLISH, 2, slot(1))
    talk.tell(Step.GIVE_TURN)
    shown = "writer: store 1 byte at 0x7f54c5c83000, offset 270336: slot 1; head 1 -> 2\n"
    assert capfd.readouterr().err == f"> {shown}"


def test_other_steps_are_not_shown_and_the_first_is_still_to_come(capfd: pytest.CaptureFixture[str]) -> None:
    """A part of a slot that was taken moves no tail: its commit has none to show."""
    talk = attached("reader")
    capfd.readouterr()
    for step in Step:
        talk.tell(step)
        talk.tell(step, 0)
        if step not in (Step.PUBLISH, Step.COMMIT):
            talk.tell(step, 0, slot(6))
    assert capfd.readouterr().err == ""
    talk.tell(Step.COMMIT, 0, slot(6))
    talk.tell(Step.FREE, 0)
    assert capfd.readouterr().err == "reader: load 6 bytes at 0x7f54c5c43000, offset 8192: slot 0; tail 0 -> 1\n"


def test_quiet_shows_nothing_of_it(capfd: pytest.CaptureFixture[str]) -> None:
    talk = attached("writer", created=True, quiet=True)
    talk.show_next()
    talk.prompt()
    assert talk.step is None
    talk.tell(Step.PUBLISH, 0, slot(6))
    talk.tell(Step.COMMIT, 0, slot(6))
    assert capfd.readouterr().err == ""
