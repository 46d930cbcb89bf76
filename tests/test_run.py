"""How a program ends: what it says of an error, its signals, its exit code."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from common.cli.run import Interrupted, _interrupt, describe, run
from common.cli.talk import Talk
from common.errors import BadSegment, CallFailed, ChannelError, NotOurs, TimedOut, TornRecord
from tests.in_process import run_python

# Errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ChannelError("what a person reads"), "what a person reads"),
        (NotOurs("not ours"), "not ours"),
        (TornRecord("torn"), "torn"),
        (BadSegment("its state is 9"), "the segment is damaged: its state is 9; `writer.py --remove` removes it"),
        (
            CallFailed("shmdt", (4096,), errno.EINVAL),
            "shmdt(0x1000): EINVAL (Invalid argument): no segment is attached at this address (any more)",
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "d"),
            "d: EISDIR (Is a directory): it is a directory; name a file",
        ),
        (OSError("without an errno"), "without an errno"),
        (
            MemoryError(),
            "there is no memory left; a smaller --slot-size needs less, see also `ulimit -v` and `ulimit -d`",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_describe(error: BaseException, line: str) -> None:
    assert describe(error) == line


# Exit codes


@pytest.fixture
def handlers() -> Iterator[None]:
    """Gives back the signal handlers that run() sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> Callable[[Talk], NoReturn]:
    def main(talk: Talk) -> NoReturn:
        raise error

    return main


@pytest.mark.parametrize("code", [0, 1])
def test_the_mains_code_is_the_programs(handlers: None, code: int) -> None:
    assert run("writer", lambda talk: code) == code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TimedOut("gave up"), 124, "writer: gave up\n"),
        (ChannelError("no"), 1, "writer: no\n"),
        (BadSegment("bad"), 1, "writer: the segment is damaged: bad; `writer.py --remove` removes it\n"),
        (OSError(errno.EIO, "Input/output error"), 1, None),
        (MemoryError(), 1, None),
        (Interrupted(signal.SIGTERM), 143, "writer: ended by SIGTERM\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_a_code(
    handlers: None, capfd: pytest.CaptureFixture[str], error: BaseException, code: int, line: str | None
) -> None:
    assert run("writer", raising(error)) == code
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == (line or f"writer: {describe(error)}\n")
    assert said.err.count("\n") == 1


def test_a_defect_of_ours_is_not_hidden(handlers: None) -> None:
    with pytest.raises(ZeroDivisionError):
        run("writer", raising(ZeroDivisionError()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_line_and_its_code(
    handlers: None, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def main(talk: Talk) -> int:
        signal.raise_signal(number)
        return 0

    assert run("reader", main) == 128 + number
    assert capfd.readouterr().err == f"reader: ended by {number.name}\n"


def test_after_one_signal_the_next_is_final(handlers: None) -> None:
    def main(talk: Talk) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Interrupted:
            return 0 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 99
        return 98

    assert run("reader", main) == 0


@pytest.mark.parametrize(
    ("number", "kept"), [(signal.SIGHUP, True), (signal.SIGTERM, True), (signal.SIGINT, False)], ids=str
)
def test_nohup_is_respected(handlers: None, number: signal.Signals, kept: bool) -> None:
    signal.signal(number, signal.SIG_IGN)
    assert run("writer", lambda talk: signal.getsignal(number) is signal.SIG_IGN) == kept


def test_a_signal_as_soon_as_it_is_heard_is_a_line(
    handlers: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hear = signal.signal

    def hear_at_once(number: int, handler: Any) -> None:
        hear(number, handler)
        if handler is _interrupt:
            signal.raise_signal(number)

    monkeypatch.setattr(signal, "signal", hear_at_once)
    assert run("writer", lambda talk: 0) == 128 + signal.SIGINT
    assert capfd.readouterr().err == "writer: ended by SIGINT\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_behind_the_end_changes_nothing(handlers: None, number: signal.Signals) -> None:
    assert run("writer", lambda talk: 0) == 0
    signal.raise_signal(number)


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_closed_standard_descriptor_is_not_taken_by_a_file_of_ours(descriptor: int) -> None:
    code = """
import os, sys
descriptor = int(sys.argv[1])
spare = os.dup(1)
os.close(descriptor)
from common.cli.run import run
run("writer", lambda talk: 0)
opened = os.open("/dev/null", os.O_RDWR)
try:
    os.read(0, 1) if descriptor == 0 else os.write(descriptor, b"x")
    answer = "usable"
except OSError as error:
    answer = os.strerror(error.errno)
os.write(spare, f"{opened > 2} {answer}".encode())
"""
    assert run_python(code, descriptor) == "True Bad file descriptor"
