"""What both programs share towards a person: options, messages, exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

import writer
from common.channel.end import End, Reason
from common.cli.leaving import find_doorway, find_place, wanted
from common.cli.options import (
    address_option,
    channel_option,
    count_option,
    mode_option,
    owner_option,
    reader_options,
    seconds_option,
    size_option,
    slot_size_option,
    slots_option,
    writer_options,
)
from common.cli.run import Interrupted, _interrupt, describe, run
from common.cli.talk import Talk, state_of
from common.cli.tally import Tally, _rate
from common.cli.words import plural
from common.errors import BadSegment, CallFailed, ChannelError, NotOurs, TimedOut, TornRecord
from common.ipc.lifecycle import Wanted
from tests.helpers import ROOT, wait_until
from tests.in_process import Local, python, run_python

# Values of options

PARSED: list[tuple[Callable[[str], Any], str, Any]] = [
    (size_option, "0", 0),
    (size_option, "4096", 4096),
    (size_option, "64K", 65536),
    (size_option, "64k", 65536),
    (size_option, "2M", 2**21),
    (size_option, "1G", 2**30),
    (size_option, "3T", 3 * 2**40),
    (slot_size_option, "0", 0),
    (slot_size_option, "1", 4096),
    (slot_size_option, "4096", 4096),
    (slot_size_option, "4097", 8192),
    (slot_size_option, "1K", 4096),
    (count_option, "1", 1),
    (count_option, "007", 7),
    (slots_option, "0", 0),
    (slots_option, "8", 8),
    (slots_option, "4294967295", 2**32 - 1),
    (mode_option, "0660", 0o660),
    (mode_option, "600", 0o600),
    (mode_option, "777", 0o777),
    (mode_option, "0o640", 0o640),
    (address_option, "4096", 4096),
    (address_option, "0x7e0000000000", 0x7E0000000000),
    (address_option, "0xffffffffffffffff", 2**64 - 1),
    (seconds_option, "0", 0.0),
    (seconds_option, "1.5", 1.5),
    (seconds_option, "1e3", 1000.0),
    (channel_option, "0", 0),
    (channel_option, "31", 31),
    (owner_option, "root", (0, None)),
    (owner_option, "1234", (1234, None)),
    (owner_option, "1234:5678", (1234, 5678)),
    (owner_option, ":5678", (None, 5678)),
    (owner_option, "4294967294:4294967294", (2**32 - 2, 2**32 - 2)),
    (owner_option, ":root", (None, 0)),
    (owner_option, "root:", (0, None)),
]
REFUSED: list[tuple[Callable[[str], Any], list[str], str]] = [
    (size_option, ["", "K", "-1", "1.5M", "4 K", "4KB", "4X", "0x10", "٣", "1_000"], "is not a size such as"),
    (slot_size_option, ["", "-4096", "page"], "is not a size such as"),
    (count_option, ["", "0", "00", "-1", "1.5", "+1", "ten", "²", "1_0"], "is not a whole number, 1 or more"),
    (slots_option, ["", "-1", "x"], "is not a whole number, 0 or more"),
    (slots_option, ["4294967296"], "is more than the header can count to, 4294967295"),
    (
        mode_option,
        ["", "8", "1000", "-1", "rw", "0x1ff", "u+r", "0", "200", "0477"],
        "is not an octal mode such as 0660",
    ),
    (address_option, ["", "0", "1", "4095", "-4096", "0x", "here", str(2**64)], "is not an address such as"),
    (seconds_option, ["", "-1", "nan", "inf", "soon", "1e99"], "is not a number of seconds"),
    (channel_option, ["", "32", "-1", "1.0", "a", "²"], "is not a channel: 0 to 31"),
    (owner_option, ["", ":"], "names neither a user nor a group"),
    (
        owner_option,
        ["4294967295", "0:4294967295", "99999999999"],
        "is beyond the largest user or group number, 4294967294",
    ),
    (owner_option, ["no-such-user"], "no-such-user"),
    (owner_option, ["root:no-such-group"], "no-such-group"),
]


@pytest.mark.parametrize(("parse", "text", "value"), PARSED, ids=[f"{p.__name__}-{t}" for p, t, _ in PARSED])
def test_option_value(parse: Callable[[str], Any], text: str, value: Any) -> None:
    parsed = parse(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("parse", "text", "complaint"),
    [
        pytest.param(parse, text, complaint, id=f"{parse.__name__}-{text}")
        for parse, texts, complaint in REFUSED
        for text in texts
    ],
)
def test_option_value_refused(parse: Callable[[str], Any], text: str, complaint: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        parse(text)
    assert complaint in str(refusal.value)


# Command lines


def parse(program: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", [program, *arguments.split()])
    return {"writer": writer_options, "reader": reader_options}[program]()


COMMON_DEFAULTS = {
    "key_path": str(ROOT),
    "channel": 0,
    "attach_at": None,
    "timeout": None,
    "quiet": False,
    "trace": False,
    "no_progress": False,
}


def test_the_writers_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(parse("writer", "", monkeypatch)) == COMMON_DEFAULTS | {
        "message": [],
        "newline": True,
        "file": None,
        "lines": False,
        "resume": False,
        "verify": False,
        "wait": False,
        "exclusive": False,
        "mode": None,
        "slots": None,
        "slot_size": None,
        "chmod": None,
        "chown": None,
        "remove": False,
    }


def test_the_readers_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(parse("reader", "", monkeypatch)) == COMMON_DEFAULTS | {
        "output": None,
        "resume": False,
        "count": None,
        "follow": False,
        "keep": False,
        "status": False,
        "json": False,
    }


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("writer", "a message --wait --verify --timeout 1 --trace"),
        ("writer", "--file F --resume --wait"),
        ("writer", "--chmod 600 --chown root"),
        ("writer", "--lines --exclusive --slots 2 --slot-size 1M --mode 600"),
        ("writer", "--channel 31 --attach-at 0x7e0000000000 --remove"),
        ("reader", "--output O --resume --count 3 --follow --keep"),
        ("reader", "--status --json"),
    ],
)
def test_a_command_line_that_makes_sense(monkeypatch: pytest.MonkeyPatch, program: str, arguments: str) -> None:
    parse(program, arguments, monkeypatch)


@pytest.mark.parametrize(
    ("program", "arguments", "complaint"),
    [
        ("writer", "hello --file F", "MESSAGE and --file do not go together"),
        ("writer", "hello --lines", "MESSAGE and --lines do not go together"),
        ("writer", "hello --remove", "--remove and MESSAGE do not go together"),
        ("writer", "--remove --chmod 600", "--remove and --chmod do not go together"),
        ("writer", "--remove --chown root", "--remove and --chown do not go together"),
        ("writer", "hello --chmod 600", "--chmod and MESSAGE do not go together"),
        ("writer", "--file F --chown root", "--chown and --file do not go together"),
        ("writer", "--resume", "--resume needs --file"),
        ("writer", "--file F --resume --lines", "--resume and --lines do not go together"),
        ("writer", "--slots -1", "argument --slots: "),
        ("writer", "--mode 9", "argument --mode: '9' is not an octal mode such as 0660"),
        ("writer", "--channel 32", "argument --channel: '32' is not a channel: 0 to 31"),
        ("writer", "--file - --resume", "--resume needs --file"),
        ("writer", "--output O", "error: writer.py has no --output; reader.py has it"),
        ("writer", "--count=3", "error: writer.py has no --count; reader.py has it"),
        ("writer", "--remove --follow", "error: writer.py has no --follow; reader.py has it"),
        ("writer", "--verif", "unrecognized arguments: --verif"),
        ("reader", "--resume", "--resume needs --output"),
        ("reader", "--output - --resume", "--resume needs --output"),
        ("reader", "--status --output -", "--status and --output do not go together"),
        ("reader", "--file F", "error: reader.py has no --file; writer.py has it"),
        ("reader", "-n", "error: reader.py has no -n; writer.py has it"),
        ("reader", "PATH", "unrecognized arguments: PATH"),
        ("reader", "--json", "--json needs --status"),
        ("reader", "--status --count 1", "--status and --count do not go together"),
        ("reader", "--status --output O", "--status and --output do not go together"),
        ("reader", "--count 0", "argument --count: '0' is not a whole number, 1 or more"),
        ("reader", "a message", "unrecognized arguments: a message"),
    ],
)
def test_a_command_line_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, arguments: str, complaint: str
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(program, arguments, monkeypatch)
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert complaint in said.err.splitlines()[-1]


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_help_names_every_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    options = vars(parse(program, "", monkeypatch))
    with pytest.raises(SystemExit) as end:
        parse(program, "--help", monkeypatch)
    said = capsys.readouterr().out
    named = {"message": "MESSAGE", "newline": "-n"}
    assert end.value.code == 0
    assert [n for n in options if named.get(n, f"--{n.replace('_', '-')}") not in said] == []


def test_what_the_writers_options_ask_of_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    options = parse("writer", "--slots 3 --slot-size 5000 --mode 600 --exclusive", monkeypatch)
    assert wanted(options) == Wanted(slots=3, slot_size=8192, mode=0o600, exclusive=True)


# Messages


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


@pytest.mark.parametrize(("count", "said"), [(0, "0 slots"), (1, "1 slot"), (2, "2 slots")])
def test_plural(count: int, said: str) -> None:
    assert plural(count, "slot") == said


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.0, "0.0 B/s"),
        (999.9, "999.9 B/s"),
        (1000.0, "1.0 kB/s"),
        (2.5e6, "2.5 MB/s"),
        (1.5e9, "1.50 GB/s"),
        (1e13, "10000.00 GB/s"),
    ],
)
def test_rate(rate: float, said: str) -> None:
    assert _rate(rate) == said


def test_a_step_is_a_line_with_the_programs_name(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("writer")
    talk.step("a step")
    talk.error("an error")
    talk.prompt()
    assert capfd.readouterr() == ("", "writer: a step\nwriter: an error\n> ")


def test_quiet_says_only_errors(capfd: pytest.CaptureFixture[str]) -> None:
    talk = Talk("reader", quiet=True)
    talk.step("a step")
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


def test_a_long_wait_names_the_channel(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key_path: Path
) -> None:
    monkeypatch.chdir(key_path.parent)
    talk = Talk("writer")
    options = parse("writer", f"--key-path {key_path.name} --channel 2", monkeypatch)
    place = find_place(options, find_doorway(options, talk), talk)
    capfd.readouterr()
    talk.wait(Reason("waiting for room"), 3)
    key = place.segment_key & 0xFFFFFFFF
    assert capfd.readouterr().err == f"writer: waiting for room; key {key:#010x}, {key_path}, channel 2\n"


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
    assert capfd.readouterr().err == f"reader: pid {child.pid}{said} has it\n"


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31, 2**32 - 1])
def test_a_number_that_can_be_no_process(pid: int) -> None:
    assert state_of(pid) == " (which is no more)"


def test_a_process_of_which_proc_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc is mounted, or it hides the processes of others."""

    def refuse(path: str, mode: str) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr("builtins.open", refuse)
    assert state_of(os.getpid()) == ""


def test_what_is_said_inside_the_doorway_is_written_outside(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key_path: Path
) -> None:
    talk = Talk("writer")
    with find_doorway(parse("writer", f"--key-path {key_path}", monkeypatch), talk):
        talk.step("one")
        talk.prompt()
        assert capfd.readouterr().err == ""
    talk.error("two")
    assert capfd.readouterr().err == "writer: one\n> writer: two\n"


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
        talk.step("one")
    talk.step("two")
    assert capfd.readouterr().err == "writer: one\nwriter: two\n"


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


# The progress bar


class Bar:
    """A bar on a terminal that goes away at the call `fails_at`."""

    task_ids = (0,)

    def __init__(self, fails_at: str) -> None:
        self.fails_at = fails_at
        self.updates = 0

    def start(self, total: int | None) -> Bar:
        return self._call("start")

    def update(self, task: int, *, completed: int, refresh: bool) -> None:
        self.updates += 1
        self._call("update")

    def stop(self) -> None:
        self._call("stop")

    def _call(self, name: str) -> Bar:
        if name == self.fails_at:
            raise OSError(errno.EIO, "Input/output error")
        return self


@pytest.mark.parametrize(("fails_at", "updates"), [("start", 0), ("update", 1), ("stop", 3), ("never", 3)])
def test_a_terminal_that_is_gone_ends_no_transfer(monkeypatch: pytest.MonkeyPatch, fails_at: str, updates: int) -> None:
    bar, end = Bar(fails_at), SimpleNamespace(on_progress=None, bytes=5, records=1)
    monkeypatch.setattr("common.cli.tally._progress_bar", bar.start)
    monkeypatch.setattr("common.cli.tally.WORTH_SAYING", 0)
    monkeypatch.setattr("common.cli.tally.REFRESH", 0)
    monkeypatch.setattr(os, "isatty", lambda _: True)
    options = argparse.Namespace(quiet=False, no_progress=False, trace=False)
    with Tally(cast(End, end), options, bar=True) as tally:
        for _ in range(3):
            if end.on_progress:
                end.on_progress()
    assert bar.updates == updates
    assert tally.summary("sent").startswith("sent 1 record, 5 bytes in ")


@pytest.mark.parametrize(("resume", "total"), [("", 5), (" --resume", None)])
def test_the_bar_of_a_resumed_file_has_no_total(
    monkeypatch: pytest.MonkeyPatch, key_path: Path, tmp_path: Path, resume: str, total: int | None
) -> None:
    """How much of it is left is known only in the turn."""
    totals: list[int | None] = []

    class Noting(Tally):
        def __init__(self, *arguments: Any, total: int | None, **others: Any) -> None:
            totals.append(total)
            super().__init__(*arguments, total=total, **others)

    monkeypatch.setattr(writer, "Tally", Noting)
    (tmp_path / "input").write_bytes(b"12345")
    options = parse("writer", f"--quiet --file F{resume}", monkeypatch)
    with Local(key_path) as local, (tmp_path / "input").open("rb") as file:
        record = writer.make_record(file.fileno(), options)
        writer.write(local.writer(), file.fileno(), record, options, Talk("writer", quiet=True))
    assert totals == [total]
