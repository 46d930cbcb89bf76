"""What goes in comes out: messages, files and pipes of any size, whichever way they are redirected."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from common.ipc.lifecycle import DEFAULT_GEOMETRY
from tests.e2e.watch import names_of, objects_of, sleeps_on
from tests.families import families
from tests.helpers import Finished, Pair, finish, wait_until
from tests.said import headless

SLOT = 4096
RING = 2 * SLOT
SMALL_RING = ("--slots", 2, "--slot-size", "4K")
PROGRAMS = ["writer", "reader"]
SIZES = [0, 1, SLOT - 1, SLOT, SLOT + 1, RING - 1, RING, RING + 1, 100 * RING + 1]


def content(size: int) -> bytes:
    """The same `size` bytes at every call; no two pages of it are equal."""
    return random.Random(size).randbytes(size)


def assert_done(*programs: Finished) -> None:
    for program in programs:
        assert program.code == 0, program


@families(
    "arguments, expected",
    [
        (["hello"], b"hello\n"),
        (["hello", "world"], b"hello world\n"),
        (["-n", "hello"], b"hello"),
        ([""], b"\n"),
        (["-n", ""], b""),
        (["--", "-n"], b"-n\n"),
        (["gr\u00fc\u00df dich"], "gr\u00fc\u00df dich\n".encode()),
    ],
    posix=[(["hello"], b"hello\n"), (["-n", ""], b"")],
)
def test_message(pair: Pair, arguments: list[str], expected: bytes) -> None:
    written = pair.write(*arguments)
    assert_done(written)
    read = pair.read()
    assert_done(read)
    assert (written.out, read.out) == (b"", expected)


def test_message_that_is_no_text(pair: Pair) -> None:
    """An argument is bytes to the kernel; those that are no UTF-8 arrive unchanged too."""
    command = [word.encode() for word in pair.command("writer")]
    assert subprocess.run([*command, b"\xff\xfe"], capture_output=True, timeout=60).returncode == 0
    assert pair.read().out == b"\xff\xfe\n"


def test_data_outlives_the_writers(pair: Pair) -> None:
    """Three writers come and go before there is any reader."""
    for word in ("one", "two", "three"):
        assert_done(pair.write(word))
    read = pair.read()
    assert_done(read)
    assert read.out == b"one\ntwo\nthree\n"


def test_reader_first(pair: Pair) -> None:
    reader = pair.start("reader")
    assert_done(pair.write("hello"))
    read = finish(reader)
    assert_done(read)
    assert read.out == b"hello\n"


@families(
    "source, output, first",
    list(itertools.product(["--file", "< FILE", "producer |"], ["--output", "> OUT", "| consumer"], PROGRAMS)),
    posix=[("--file", "--output", "reader"), ("producer |", "| consumer", "writer")],
)
def test_redirections(pair: Pair, tmp_path: Path, source: str, output: str, first: str) -> None:
    data = content(3 * RING + 5)
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.write_bytes(data)

    def start_writer() -> subprocess.Popen[bytes]:
        if source == "--file":
            return pair.start("writer", *SMALL_RING, "--file", given, stdin=subprocess.DEVNULL)
        if source == "producer |":
            return pair.start("writer", *SMALL_RING)
        with given.open("rb") as file:
            return pair.start("writer", *SMALL_RING, stdin=file)

    def start_reader() -> subprocess.Popen[bytes]:
        if output != "> OUT":
            return pair.start("reader", *(["--output", taken] if output == "--output" else []))
        with taken.open("wb") as file:
            return pair.start("reader", stdout=file)

    starts = [start_writer, start_reader] if first == "writer" else [start_reader, start_writer]
    running = {start: start() for start in starts}
    written = finish(running[start_writer], data if source == "producer |" else None)
    read = finish(running[start_reader])
    assert_done(written, read)
    assert (taken.read_bytes() if output != "| consumer" else read.out) == data
    assert f"sent 1 record, {len(data)} bytes" in written.err
    assert f"received 1 record, {len(data)} bytes" in read.err


@families(
    "source, size",
    list(itertools.product(["--file", "pipe"], SIZES)),
    posix=[("--file", 0), ("--file", RING + 1), ("pipe", 100 * RING + 1)],
)
def test_any_size(pair: Pair, tmp_path: Path, source: str, size: int) -> None:
    data = content(size)
    given = tmp_path / "given"
    given.write_bytes(data)
    reader = pair.start("reader", "--output", tmp_path / "taken")
    if source == "--file":
        writer = pair.start("writer", *SMALL_RING, "--file", given)
    else:
        with subprocess.Popen(["cat", given], stdout=subprocess.PIPE) as producer:
            writer = pair.start("writer", *SMALL_RING, stdin=producer.stdout)
    read, written = finish(reader), finish(writer)
    assert_done(written, read)
    assert (tmp_path / "taken").read_bytes() == data
    noun = "byte" if size == 1 else "bytes"
    assert f"sent 1 record, {size} {noun}" in written.err
    assert f"received 1 record, {size} {noun}" in read.err


def test_default_ring_and_files_around_its_size(pair: Pair, tmp_path: Path) -> None:
    """Several files, one after the other through the default ring: each is one record."""
    ring = DEFAULT_GEOMETRY.slot_count * DEFAULT_GEOMETRY.slot_size
    sent = b""
    reader = pair.start("reader", "--follow", "--count", 3, "--output", tmp_path / "taken")
    for size in (ring - 1, ring, ring + 1):
        (tmp_path / "given").write_bytes(content(size))
        assert_done(pair.write("--file", tmp_path / "given"))
        sent += content(size)
    assert_done(finish(reader))
    assert (tmp_path / "taken").read_bytes() == sent


def test_output_replaces_what_was_there(pair: Pair, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"something longer than the new content")
    pair.write("-n", "new")
    assert_done(pair.read("--output", taken))
    assert taken.read_bytes() == b"new"


@pytest.mark.slow
def test_beyond_4_gib(pair: Pair, tmp_path: Path) -> None:
    """Counters of 31 or 32 bits would show here: in the data around 2 and 4 GiB, or as a wrong count."""
    marks = {0: b"begin", 2**31 - 2: b"two gib", 2**32 - 2: b"four gib", 2**32 + 12345: b"end"}
    given = tmp_path / "given"
    with given.open("wb") as file:  # sparse: holes of zeros between the marks
        for offset, mark in marks.items():
            file.seek(offset)
            file.write(mark)
    size = given.stat().st_size
    writer = pair.start("writer", "--file", given)
    reader = pair.start("reader")
    assert reader.stdout
    assert _nonzero_parts(reader.stdout.fileno()) == (size, marks)
    written, read = finish(writer), finish(reader)
    assert_done(written, read)
    assert re.search(rf"\bsent 1 record, {size} bytes", written.err), written
    assert re.search(rf"\breceived 1 record, {size} bytes in", read.err), read


def _nonzero_parts(descriptor: int) -> tuple[int, dict[int, bytes]]:
    """The size of all that comes, and whatever in it is not zero, by offset."""
    size, parts = 0, dict[int, bytes]()
    zeros = bytes(1 << 20)
    with open(descriptor, "rb", buffering=0, closefd=False) as stream:
        while chunk := stream.read(len(zeros)):
            if chunk != zeros[: len(chunk)]:
                for part in re.finditer(rb"[^\0]+", chunk):
                    parts[size + part.start()] = part[0]
            size += len(chunk)
    return size, _joined(parts)


def _joined(parts: dict[int, bytes]) -> dict[int, bytes]:
    """The parts, with those put together that a chunk's border had cut."""
    whole: dict[int, bytes] = {}
    for offset, part in parts.items():
        before = next((at for at, text in whole.items() if at + len(text) == offset), offset)
        whole[before] = whole.get(before, b"") + part
    return whole


class TestLines:
    """--lines: each line a record, as many whole lines to a slot as there are."""

    def test_packs_whole_lines_into_a_slot(self, pair: Pair) -> None:
        text = b"".join(b"line %d\n" % number for number in range(1000))
        written = pair.write("--lines", "--slots", 4, "--slot-size", "4K", stdin=text)
        assert_done(written)
        assert "sent 1000 records, 8890 bytes" in written.err
        status = pair.status()
        # 8890 bytes cannot do with fewer than 3 slots of 4096, and need no more when lines are packed.
        assert status and status["header"]["head"] == 3
        assert pair.read().out == text

    @families(
        "length, last",
        list(itertools.product([SLOT - 1, SLOT, SLOT + 1, 5 * SLOT], [b"last\n", b"last"])),
        posix=[(5 * SLOT, b"last")],
    )
    def test_line_longer_than_a_slot(self, pair: Pair, length: int, last: bytes) -> None:
        text = b"first\n" + b"x" * (length - 1) + b"\n" + last
        reader = pair.start("reader")
        written = pair.write("--lines", *SMALL_RING, stdin=text)
        read = finish(reader)
        assert_done(written, read)
        assert read.out == text
        assert f"sent 3 records, {len(text)} bytes" in written.err
        assert f"received 3 records, {len(text)} bytes" in read.err

    @pytest.mark.parametrize(
        ("text", "records"),
        [(b"\n", "1 record"), (b"\n\n", "2 records"), (b"no newline", "1 record")],
    )
    def test_edges(self, pair: Pair, text: bytes, records: str) -> None:
        written = pair.write("--lines", stdin=text)
        assert_done(written)
        assert f"sent {records}, " in written.err
        read = pair.read()
        assert_done(read)
        assert read.out == text
        assert f"received {records}, " in read.err

    def test_no_line_at_all(self, pair: Pair) -> None:
        """Nobody said anything: the writer takes away what it made, as if it had not been there."""
        written = pair.write("--lines", stdin=b"")
        assert_done(written)
        assert "sent 0 records, 0 bytes" in written.err
        calls = names_of(pair)
        assert written.err.endswith(f"writer: {calls.remove}, {calls.detach}: removed the channel: nothing is left\n")
        assert objects_of(pair) == []

    def test_no_line_at_all_for_a_reader_that_is_there(self, pair: Pair) -> None:
        """It sees the writer come and go, and ends with it."""
        writer, reader = pair.start("writer", "--lines"), pair.start("reader")
        wait_until(lambda: sleeps_on(pair, "full_slots"))
        written = finish(writer)
        read = finish(reader)
        assert_done(written, read)
        assert "received 0 records, 0 bytes" in read.err
        assert read.out == b""

    def test_each_line_arrives_when_it_is_written(self, pair: Pair) -> None:
        """A slow producer's line is not held back until the slot is full."""
        writer, reader = pair.start("writer", "--lines"), pair.start("reader")
        assert writer.stdin and reader.stdout
        for number in range(3):
            line = b"line %d\n" % number
            writer.stdin.write(line)
            writer.stdin.flush()
            assert reader.stdout.readline() == line
        assert_done(finish(writer), finish(reader))


class TestConsumerThatLeaves:
    """EPIPE, as in `reader.py | head -1`: a quiet end with nothing lost."""

    def test_head_takes_one_line(self, pair: Pair) -> None:
        writer = pair.start("writer", "--lines")
        reader = pair.start("reader")
        assert writer.stdin and reader.stdout
        head = subprocess.Popen(["head", "-n", "1"], stdin=reader.stdout, stdout=subprocess.PIPE)
        reader.stdout.close()
        reader.stdout = None
        writer.stdin.write(b"one\n")
        writer.stdin.flush()
        assert head.communicate(timeout=60)[0] == b"one\n"
        # head is gone now, so what follows meets a closed pipe.
        assert_done(finish(writer, b"two\nthree\n"))
        read = finish(reader)
        assert_done(read)
        assert "Traceback" not in read.err and "EPIPE" not in read.err
        rest = pair.read()
        assert_done(rest)
        assert rest.out == b"two\nthree\n"

    def test_rest_of_a_file_goes_to_the_next_reader(self, pair: Pair, tmp_path: Path) -> None:
        data = content(50 * SLOT)
        (tmp_path / "given").write_bytes(data)
        writer = pair.start("writer", *SMALL_RING, "--file", tmp_path / "given")
        reader = pair.start("reader")
        assert reader.stdout
        assert reader.stdout.read(10) == data[:10]
        reader.stdout.close()
        reader.stdout = None
        left, read, written = finish(reader), pair.read("--quiet"), finish(writer)
        assert_done(left, written)
        assert "EPIPE" not in left.err
        assert (read.code, read.err) == (1, headless(0, len(data) - len(read.out)))
        assert data.endswith(read.out)
        # The slots that the pipe had taken whole are gone with it; all else comes again.
        assert len(data) - len(read.out) in range(SLOT, len(data), SLOT)

    @pytest.mark.parametrize("lines", [False, True], ids=["file", "lines"])
    def test_the_slot_of_a_consumer_that_left_comes_again(self, pair: Pair, tmp_path: Path, lines: bool) -> None:
        """A slot is larger than what a pipe holds: nothing of the first one is committed, however much was taken."""
        data = b"".join(b"line %d " % number + b"." * (number % 97) + b"\n" for number in range(15_000))
        (tmp_path / "given").write_bytes(data)
        assert_done(pair.write("--file", tmp_path / "given", *(["--lines"] if lines else [])))
        for size in (1, 5000, 70_000):
            got, left = take_and_leave(pair, size)
            assert got == data[:size]
            assert_done(left)
            assert "received 0 records, 0 bytes" in left.err
            assert "the consumer closed its end: the slot that it was reading comes again, whole; --count N" in left.err
        rest = pair.read("--quiet")
        assert (rest.code, rest.out, rest.err) == (0, data, "")


def test_a_file_that_claims_more_than_it_has(pair: Pair) -> None:
    """Those in /sys claim a page."""
    path = Path("/sys/class/net/lo/address")
    if not path.exists():
        pytest.skip("there is no /sys/class/net/lo here: mount sysfs on /sys")
    assert path.stat().st_size > len(path.read_bytes())
    assert pair.write("--file", path).code == 0
    done = pair.read()
    assert (done.code, done.out) == (0, path.read_bytes())


def take_and_leave(pair: Pair, size: int) -> tuple[bytes, Finished]:
    """A reader whose consumer takes `size` bytes and closes the pipe: those bytes, and how the reader ended."""
    reader = pair.start("reader")
    assert reader.stdout
    got = b""
    while len(got) < size:
        got += os.read(reader.stdout.fileno(), size - len(got))
    reader.stdout.close()
    reader.stdout = None
    return got, finish(reader)
