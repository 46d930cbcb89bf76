"""The command lines of both programs: what they take, what they refuse, what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

import pytest

from common.cli.leaving import wanted
from common.cli.pace import parse_pause
from common.cli.values import (
    address_option,
    channel_option,
    count_option,
    mode_option,
    owner_option,
    seconds_option,
    size_option,
    slot_size_option,
    slots_option,
)
from common.ipc.lifecycle import Wanted
from tests.command_line import parse
from tests.helpers import ROOT

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
    (
        seconds_option,
        ["", "-1", "nan", "inf", "soon", "1e99", "1_0"],
        "is not a number of seconds, 0 or more and below",
    ),
    (channel_option, ["", "32", "-1", "1.0", "a", "²"], "is not a channel: 0 to 31"),
    (owner_option, ["", ":"], "names neither a user nor a group"),
    (
        owner_option,
        ["4294967295", "0:4294967295", "99999999999"],
        "is beyond the largest user or group number, 4294967294",
    ),
    (owner_option, ["no-such-user", "x"], "names a user or a group that this system does not know"),
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

COMMON_DEFAULTS = {
    "key_path": str(ROOT),
    "channel": 0,
    "ipc": "sysv",
    "attach_at": None,
    "timeout": None,
    "quiet": False,
    "slow": None,
    "pause_at": None,
    "trace": None,
    "explain": False,
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
        "doctor": False,
        "json": False,
        "watch": False,
    }


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("writer", "a message --wait --verify --timeout 1 --trace"),
        ("writer", "--explain --trace=all hello"),
        ("writer", "--file F --resume --wait"),
        ("writer", "--chmod 600 --chown root"),
        ("writer", "--lines --exclusive --slots 2 --slot-size 1M --mode 600"),
        ("writer", "--channel 31 --attach-at 0x7e0000000000 hello"),
        ("reader", "--output O --resume --count 3 --follow --keep"),
        ("reader", "--status --json"),
        ("reader", "--doctor --json"),
        ("reader", "--watch --quiet --no-progress --channel 3"),
    ],
)
def test_a_command_line_that_makes_sense(monkeypatch: pytest.MonkeyPatch, program: str, arguments: str) -> None:
    parse(program, arguments, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "trace"),
    [
        ("--trace hello", "lab"),
        ("hello --trace", "lab"),
        ("--trace=lab hello", "lab"),
        ("--trace=all hello", "all"),
        ("--explain hello", "lab"),
        ("--explain --trace=all hello", "all"),
        ("--trace -- hello", "lab"),
        ("hello", None),
    ],
)
def test_trace_takes_no_message(monkeypatch: pytest.MonkeyPatch, arguments: str, trace: str | None) -> None:
    options = parse("writer", arguments, monkeypatch)
    assert (options.trace, options.message) == (trace, ["hello"])
    assert options.explain is ("--explain" in arguments)


@pytest.mark.parametrize(
    ("program", "arguments", "complaint"),
    [
        ("writer", "--trace=hello", "argument --trace/--trace=lab: ignored explicit argument 'hello'"),
        ("reader", "--trace all", "unrecognized arguments: all"),
        ("writer", "hello --file F", "MESSAGE and --file do not go together"),
        ("writer", "hello --lines", "MESSAGE and --lines do not go together"),
        ("writer", "hello --remove", "--remove and MESSAGE do not go together"),
        ("writer", "--remove --chmod 600", "--remove and --chmod do not go together"),
        ("writer", "--remove --chown root", "--remove and --chown do not go together"),
        ("writer", "hello --chmod 600", "--chmod and MESSAGE do not go together"),
        ("writer", "--file F --chown root", "--chown and --file do not go together"),
        ("writer", "--remove --wait", "--remove and --wait do not go together"),
        ("writer", "--remove --exclusive", "--remove and --exclusive do not go together"),
        ("writer", "--remove --slots 0", "--remove and --slots do not go together"),
        ("writer", "--remove --attach-at 4096", "--remove and --attach-at do not go together"),
        ("writer", "--chmod 600 --mode 600", "--chmod and --mode do not go together"),
        ("writer", "--chown root --slot-size 4K", "--chown and --slot-size do not go together"),
        ("writer", "--remove --slow 0", "--remove and --slow do not go together"),
        ("writer", "--chmod 600 --pause-at remove", "--chmod and --pause-at do not go together"),
        ("writer", "--slow x", "argument --slow: 'x' is not a number of seconds"),
        ("writer", "--pause-at put-out", "argument --pause-at: 'put-out' is not a step of writer.py: join, take-turn"),
        ("writer", "-n --file F", "-n needs a MESSAGE"),
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
        ("reader", "--json", "--json needs --status or --doctor"),
        ("reader", "--doctor --status", "--doctor and --status do not go together"),
        ("reader", "--doctor --output x", "--doctor and --output do not go together"),
        ("reader", "--status --count 1", "--status and --count do not go together"),
        ("reader", "--status --attach-at 4096", "--status and --attach-at do not go together"),
        ("reader", "--status --output O", "--status and --output do not go together"),
        ("reader", "--watch --status", "--watch and --status do not go together"),
        ("reader", "--watch --json", "--watch and --json do not go together"),
        ("reader", "--watch --follow", "--watch and --follow do not go together"),
        ("reader", "--watch --timeout 0", "--watch and --timeout do not go together"),
        ("reader", "--watch --trace", "--watch and --trace do not go together"),
        ("reader", "--status --slow 1", "--status and --slow do not go together"),
        ("reader", "--status --pause-at read", "--status and --pause-at do not go together"),
        ("reader", "--pause-at publish", "argument --pause-at: 'publish' is not a step of reader.py: join, take-turn"),
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


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_the_step_that_help_gives_as_an_example_is_one_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    with pytest.raises(SystemExit):
        parse(program, "--help", monkeypatch)
    example = re.search(r"or the third:\s+(\S+:3)", capsys.readouterr().out)
    assert example and parse_pause(f"{program}.py", example[1]).nth == 3


def test_what_the_writers_options_ask_of_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    options = parse("writer", "--slots 3 --slot-size 5000 --mode 600 --exclusive", monkeypatch)
    assert wanted(options) == Wanted(slots=3, slot_size=8192, mode=0o600, exclusive=True)
