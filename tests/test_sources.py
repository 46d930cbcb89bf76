"""Sources: messages, odd files, and lines split at awkward places."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from common.channel.input import Source
from common.channel.write import WriteEnd
from common.cli import sources
from common.cli.descriptors import Descriptor
from common.cli.sources import FileSource, MessageSource
from common.layout import UNKNOWN
from tests.pipes import a_pipe

ROOM = 8  # bytes in the slots of Recorder


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with a_pipe() as ends:
        yield ends


def drain(source: Source, room: int = ROOM) -> bytes:
    """All that a source gives, into room for `room` bytes at a time."""
    data = b""
    slot = bytearray(room)
    while length := source.fill(memoryview(slot)):
        data += slot[:length]
    return data


# Messages and files


@pytest.mark.parametrize("message", [b"", b"x", b"exactly8", b"one more than eight"])
def test_a_message_source_gives_its_message(message: bytes) -> None:
    source = MessageSource(message)
    assert (source.total, source.identity) == (len(message), None)
    assert drain(source) == message


def test_a_message_source_fills_its_room_and_no_more() -> None:
    room = bytearray(b"........")
    source = MessageSource(b"0123456789")
    assert (source.fill(memoryview(room)), bytes(room)) == (8, b"01234567")
    assert (source.fill(memoryview(room)), bytes(room)) == (2, b"89234567")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file with ten bytes in it."""
    path = tmp_path / "input"
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_file_source_knows_its_size_and_identity(file: int) -> None:
    source = FileSource(file, "input")
    status = os.fstat(file)
    assert (source.total, source.file) == (10, (status.st_dev, status.st_ino))
    assert source.identity == (status.st_dev, status.st_ino, status.st_mtime_ns)
    assert drain(source) == b"0123456789"


@pytest.mark.parametrize(("position", "total"), [(0, 10), (4, 6), (10, 0), (99, 0)])
def test_a_file_source_begins_where_the_descriptor_stands(file: int, position: int, total: int) -> None:
    os.lseek(file, position, os.SEEK_SET)
    source = FileSource(file, "input")
    assert source.total == total
    assert drain(source) == b"0123456789"[position:]


@pytest.mark.parametrize(("position", "skip"), [(0, 0), (0, 3), (4, 0), (4, 3), (4, 6)])
def test_a_file_source_skips_from_where_it_began(file: int, position: int, skip: int) -> None:
    os.lseek(file, position, os.SEEK_SET)
    source = FileSource(file, "input")
    source.skip_to(skip)
    assert drain(source) == b"0123456789"[position + skip :]


def test_an_empty_file_is_read_like_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as empty:
        source = FileSource(empty.fileno(), "empty")
        assert (source.total, drain(source)) == (UNKNOWN, b"")


def test_a_file_in_proc_is_read_to_its_end_though_its_size_is_0() -> None:
    expected = Path("/proc/version").read_bytes()
    with open("/proc/version", "rb", buffering=0) as file:
        assert os.fstat(file.fileno()).st_size == 0
        source = FileSource(file.fileno(), "/proc/version")
        assert (source.total, drain(source)) == (UNKNOWN, expected)


def stat_fields(status: os.stat_result) -> dict[str, int]:
    return {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}


@pytest.mark.parametrize(("claimed", "total"), [(10, 10), (11, UNKNOWN), (4096, UNKNOWN)])
def test_a_file_without_the_last_byte_that_it_claims_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, file: int, claimed: int, total: int
) -> None:
    """Those in /sys claim a page."""
    true = os.fstat(file)
    monkeypatch.setattr(os, "fstat", lambda _: SimpleNamespace(**{**stat_fields(true), "st_size": claimed}))
    source = FileSource(file, "input")
    assert (source.total, drain(source)) == (total, b"0123456789")


def test_a_pipe_has_no_known_size_and_cannot_be_resumed(pipe: tuple[int, int]) -> None:
    source = FileSource(pipe[0], "standard input")
    assert source.total == UNKNOWN
    source.skip_to(0)
    with pytest.raises(OSError, match="Illegal seek"):
        source.skip_to(1)


def test_a_source_that_fails_names_its_file(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError) as error:
        FileSource(directory, "the input").fill(memoryview(bytearray(1)))
    os.close(directory)
    assert error.value.filename == "the input"


# Lines


class Recorder:
    """The writing end that send_lines sees; what it sends, one tuple a call."""

    def __init__(self) -> None:
        self.ring = SimpleNamespace(fragment_size=ROOM)
        self.sent: list[tuple[str, bytes, int]] = []

    def send_lines(self, lines: memoryview, count: int, *, file: tuple[int, int] | None, verify: bool) -> None:
        assert len(lines) <= ROOM
        self.sent.append(("lines", bytes(lines), count))

    def send(self, source: Source, *, verify: bool) -> None:
        self.sent.append(("record", drain(source), 1))


def send_lines(monkeypatch: pytest.MonkeyPatch, chunks: list[bytes]) -> list[tuple[str, bytes, int]]:
    """What send_lines makes of an input that comes in these chunks, one a read."""
    waiting = list(chunks)

    def read(source: Descriptor, size: int) -> bytes:
        chunk = waiting.pop(0) if waiting else b""
        if len(chunk) > size:
            waiting.insert(0, chunk[size:])
        return chunk[:size]

    def read_into(source: Descriptor, room: memoryview) -> int:
        chunk = read(source, len(room))
        room[: len(chunk)] = chunk
        return len(chunk)

    monkeypatch.setattr(Descriptor, "read", read)
    monkeypatch.setattr(Descriptor, "read_into", read_into)
    end = Recorder()
    sources.send_lines(cast(WriteEnd, end), 0)
    return end.sent


@pytest.mark.parametrize(
    ("chunks", "sent"),
    [
        ([], []),
        ([b"a\n"], [("lines", b"a\n", 1)]),
        ([b"\n"], [("lines", b"\n", 1)]),
        ([b"a\n\nb\n"], [("lines", b"a\n\nb\n", 3)]),
        # Split in a line, before its newline, behind it
        ([b"a\nbc", b"d\n"], [("lines", b"a\n", 1), ("lines", b"bcd\n", 1)]),
        ([b"ab", b"\n"], [("lines", b"ab\n", 1)]),
        ([b"ab\n", b"cd\n"], [("lines", b"ab\n", 1), ("lines", b"cd\n", 1)]),
        ([b"a", b"b", b"c", b"\n"], [("lines", b"abc\n", 1)]),
        # A last line without its newline
        ([b"a\nb"], [("lines", b"a\n", 1), ("record", b"b", 1)]),
        ([b"b"], [("record", b"b", 1)]),
        # As long as a slot, with the newline and without
        ([b"1234567\n"], [("lines", b"1234567\n", 1)]),
        ([b"12345678\n"], [("record", b"12345678\n", 1)]),
        ([b"12345678"], [("record", b"12345678", 1)]),
        ([b"1234", b"5678", b"\na\n"], [("record", b"12345678\n", 1), ("lines", b"a\n", 1)]),
        # Longer than a slot; what is read behind its newline is not lost
        ([b"a" * 20 + b"\nb\nc"], [("record", b"a" * 20 + b"\n", 1), ("lines", b"b\n", 1), ("record", b"c", 1)]),
        ([b"a" * 15 + b"\n"], [("record", b"a" * 15 + b"\n", 1)]),
        ([b"a" * 16 + b"\n"], [("record", b"a" * 16 + b"\n", 1)]),
        ([b"a" * 20], [("record", b"a" * 20, 1)]),
        ([b"a" * 9 + b"\n" + b"b" * 9 + b"\n"], [("record", b"a" * 9 + b"\n", 1), ("record", b"b" * 9 + b"\n", 1)]),
        # A whole line in front of one that fills the slot
        ([b"a\n" + b"b" * 10 + b"\n"], [("lines", b"a\n", 1), ("record", b"b" * 10 + b"\n", 1)]),
        ([b"\0\xff\n\r\n"], [("lines", b"\0\xff\n\r\n", 2)]),
    ],
    ids=str,
)
def test_lines(monkeypatch: pytest.MonkeyPatch, chunks: list[bytes], sent: list[tuple[str, bytes, int]]) -> None:
    assert send_lines(monkeypatch, chunks) == sent


def test_lines_split_at_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"one\n\n" + b"long" * 5 + b"\ntwo\nlast"
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            sent = send_lines(monkeypatch, [c for c in (text[:first], text[first:second], text[second:]) if c])
            assert b"".join(data for _, data, _ in sent) == text
            assert [data.count(b"\n") for kind, data, count in sent if kind == "lines"] == [
                count for kind, _, count in sent if kind == "lines"
            ]
            assert sum(count for _, _, count in sent) == 5


def test_the_prompt_comes_before_each_read(pipe: tuple[int, int]) -> None:
    typed = [b"one\n", b"two\n"]

    def prompt() -> None:
        if typed:
            os.write(pipe[1], typed.pop(0))
        else:
            os.close(pipe[1])
        prompts.append(len(end.sent))

    prompts: list[int] = []
    end = Recorder()
    sources.send_lines(cast(WriteEnd, end), pipe[0], prompt=prompt)
    assert prompts == [0, 1, 2]


@pytest.mark.parametrize("text", [b"a\nb\n", b"a" * 50 + b"\nb\n", b"a" * 50], ids=["lines", "long line", "no end"])
def test_a_read_takes_no_memory_for_a_whole_slot(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], text: bytes
) -> None:
    """A buffer, and read(2) into new bytes, takes all that it asks for; a slot may be a gigabyte."""
    asked: list[int] = []
    true_read, true_readv = os.read, os.readv

    def read(descriptor: int, size: int) -> bytes:
        asked.append(size)
        return true_read(descriptor, min(size, ROOM))

    def readv(descriptor: int, rooms: list[memoryview]) -> int:
        asked.append(len(rooms[0]))
        return true_readv(descriptor, [rooms[0][:ROOM]])

    class Roomy(Recorder):
        def send(self, source: Source, *, verify: bool) -> None:
            self.sent.append(("record", drain(source, 1000), 1))

    monkeypatch.setattr(sources, "AT_ONCE", ROOM)
    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "readv", readv)
    os.write(pipe[1], text)
    os.close(pipe[1])
    end = Roomy()
    end.ring.fragment_size = 2**30
    sources.send_lines(cast(WriteEnd, end), pipe[0])
    assert b"".join(data for _, data, _ in end.sent) == text
    assert max(asked) <= ROOM
