"""How the programs find their channel, and what they tell whoever interrupts them; the rest has files of its own."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from common.channel.listener import Reason
from common.channel.read import ReadEnd
from common.channel.write import WriteEnd
from common.cli.leaving import find_doorway, find_family, find_place, waiting
from common.cli.sinks import StreamSink
from common.cli.sources import FileSource, MessageSource
from common.cli.talk import Talk
from common.words import amount, plural
from reader import how_to_go_on as how_a_reader_goes_on
from tests.command_line import parse
from tests.in_process import FAMILIES
from writer import how_to_go_on


@pytest.mark.parametrize(("count", "said"), [(0, "0 slots"), (1, "1 slot"), (2, "2 slots")])
def test_plural(count: int, said: str) -> None:
    assert plural(count, "slot") == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0.0, "0.0 B"),
        (999.9, "999.9 B"),
        (1000.0, "1.0 kB"),
        (2.5e6, "2.5 MB"),
        (1.5e9, "1.50 GB"),
        (1e13, "10000.00 GB"),
    ],
)
def test_amount(count: float, said: str) -> None:
    assert amount(count) == said


def test_a_long_wait_names_the_channel(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key_path: Path
) -> None:
    monkeypatch.chdir(key_path.parent)
    talk = Talk("writer")
    options = parse("writer", f"--key-path {key_path.name} --channel 2", monkeypatch)
    place = find_place(options, find_family(options, talk), find_doorway(options, talk), talk)
    capfd.readouterr()
    talk.wait(Reason("waiting for room"), 3)
    key = place.segment_key & 0xFFFFFFFF
    assert capfd.readouterr().err == f"writer: waiting for room; key {key:#010x}, {key_path}, channel 2\n"


def test_what_is_said_inside_the_doorway_is_written_outside(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key_path: Path
) -> None:
    talk = Talk("writer")
    with find_doorway(parse("writer", f"--key-path {key_path}", monkeypatch), talk):
        talk.say("one")
        talk.prompt()
        assert capfd.readouterr().err == ""
    talk.error("two")
    assert capfd.readouterr().err == "writer: one\n> writer: two\n"


@pytest.mark.parametrize("ipc", FAMILIES)
def test_the_family_names_the_calls_of_what_is_said(ipc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk("writer")
    family = find_family(parse("writer", f"--ipc {ipc}", monkeypatch), talk)
    assert talk.names == family.names == FAMILIES[ipc].names


@pytest.mark.parametrize(
    ("slots", "said"), [(0, "all of it is read"), (1, "1 slot to be read"), (8, "8 slots to be read")]
)
def test_what_is_left_behind(slots: int, said: str) -> None:
    assert waiting(slots) == said


# How to go on after an interruption

ANEW = "the rest was not sent: start `writer.py` again with it"
RESUME = "`writer.py --file F --resume` goes on, `writer.py --remove` gives up"
GIVEN_UP = "its last record is unfinished, and the next writer goes on behind it; `writer.py --remove` gives up"


@pytest.fixture
def regular(tmp_path: Path) -> FileSource:
    """A file, which can be read again from the middle; what is asked here is only that."""
    (tmp_path / "F").write_bytes(b"12345")
    descriptor = os.open(tmp_path / "F", os.O_RDONLY)
    try:
        return FileSource(descriptor, "F")
    finally:
        os.close(descriptor)


@pytest.fixture
def piped() -> FileSource:
    descriptors = os.pipe()
    try:
        return FileSource(descriptors[0], "a pipe")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def go_on(
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    record: MessageSource | FileSource | None,
    *,
    all_said: bool = False,
    unfinished: bool = True,
) -> str:
    """What a writer with these arguments is told; by default its record is half sent."""
    end = cast(WriteEnd, SimpleNamespace(all_said=all_said, unfinished=unfinished))
    return how_to_go_on(end, record, parse("writer", arguments, monkeypatch))


def test_who_has_sent_all_need_not_go_on(monkeypatch: pytest.MonkeyPatch, regular: FileSource) -> None:
    """It was interrupted while it waited for the readers (--wait)."""
    assert go_on(monkeypatch, "--file F --wait", regular, all_said=True, unfinished=False) == ""


def test_who_has_not_begun_a_record_starts_again(monkeypatch: pytest.MonkeyPatch, regular: FileSource) -> None:
    nothing_sent = "the record was not sent: start `writer.py` again"
    assert go_on(monkeypatch, "--file F", regular, unfinished=False) == nothing_sent
    assert go_on(monkeypatch, "", MessageSource(b"hello"), unfinished=False) == nothing_sent
    assert go_on(monkeypatch, "--lines --file F", None, unfinished=False) == ANEW


@pytest.mark.parametrize("arguments", ["--file F", "--file F --resume", "--file F --wait"])
def test_who_is_inside_a_file_resumes(monkeypatch: pytest.MonkeyPatch, regular: FileSource, arguments: str) -> None:
    assert go_on(monkeypatch, arguments, regular) == RESUME


def test_what_cannot_be_read_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, regular: FileSource, piped: FileSource
) -> None:
    assert go_on(monkeypatch, "", piped) == GIVEN_UP
    assert go_on(monkeypatch, "--file F", piped) == GIVEN_UP, "a FIFO"
    assert go_on(monkeypatch, "", regular) == GIVEN_UP, "standard input: we do not know its name"
    assert go_on(monkeypatch, "", MessageSource(b"hello")) == GIVEN_UP
    assert go_on(monkeypatch, "--lines --file F", None) == GIVEN_UP, "a long line"


def test_what_a_writer_types_keeps_its_options(monkeypatch: pytest.MonkeyPatch, regular: FileSource) -> None:
    said = go_on(monkeypatch, "--file F --verify", regular)
    assert said.startswith("`writer.py --file F --resume --verify` goes on, `writer.py --remove")
    said = go_on(monkeypatch, "--file=-F", regular)
    assert said == "`writer.py --file ./-F --resume` goes on, `writer.py --remove` gives up", "not an option"


@pytest.mark.parametrize(
    ("arguments", "settled", "typed"),
    [
        ("", False, ""),
        ("", True, ""),  # a stream
        ("--output O", False, " --output O"),  # nothing of it is ours yet
        ("--output O", True, " --output O --resume"),
        ("--output O --resume", False, " --output O --resume"),
        ("--output O --resume", True, " --output O --resume"),
        ("--output=-O", True, " --output ./-O --resume"),  # not an option
        ("--keep", False, " --keep"),
        ("--follow", False, " --follow"),
        ("--output O --follow", True, " --output O --resume --follow"),
    ],
)
def test_what_a_reader_types_keeps_its_options(
    monkeypatch: pytest.MonkeyPatch, arguments: str, settled: bool, typed: str
) -> None:
    assert reader_goes_on(monkeypatch, arguments, settled=settled) == f"`reader.py{typed}` goes on"


@pytest.mark.parametrize(("records", "rest"), [(0, 3), (2, 1), (3, 1)])  # of 3: the last one came, and then the signal
def test_a_reader_that_wants_so_many_goes_on_with_the_rest(
    monkeypatch: pytest.MonkeyPatch, records: int, rest: int
) -> None:
    assert reader_goes_on(monkeypatch, "--count 3", records=records) == f"`reader.py --count {rest}` goes on"


def reader_goes_on(monkeypatch: pytest.MonkeyPatch, arguments: str, *, settled: bool = False, records: int = 0) -> str:
    """What a reader with these arguments is told; `settled` when it has begun its output."""
    end = cast(ReadEnd, SimpleNamespace(records=records))
    sink = cast(StreamSink, SimpleNamespace(settled=settled))
    options = parse("reader", arguments, monkeypatch)
    return how_a_reader_goes_on(end, sink, options.count, options)


@pytest.mark.parametrize("program", ["writer", "reader"])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", ""),
        ("--channel 3", " --channel 3"),
        ("--key-path K", " --key-path K"),
        ("--channel 3 --key-path K", " --key-path K --channel 3"),
        ("--channel 0", ""),
        ("--ipc posix", " --ipc posix"),
        ("--key-path /a|b --ipc posix", " --ipc posix --key-path '/a|b'"),
        ("--key-path /ü|b", " --key-path '/ü|b'"),
        ("--key-path /a\x1b[1m'\udcff\u202eb\\", r" --key-path $'/a\x1b[1m\x27\xff\xe2\x80\xaeb\x5c'"),
    ],
)
def test_what_is_typed_names_the_channel_unless_it_is_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], program: str, arguments: str, named: str
) -> None:
    options, talk = parse(program, arguments, monkeypatch), Talk(program)
    find_family(options, talk)
    talk.error("`writer.py --remove` clears it; start `reader.py` again, not reader.py or `ipcrm`")
    typed = f"`writer.py --remove{named}` clears it; start `reader.py{named}` again, not reader.py or `ipcrm`"
    assert capfd.readouterr().err == f"{program}: {typed}\n"
