"""What the programs say, step by step, is true and complete; standard output carries data and nothing else."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence

import pytest

from common.ipc.lifecycle import DEFAULT_GEOMETRY
from tests.e2e.watch import key_of, names_of, segments
from tests.helpers import PATIENCE, Pair, finish, plain, wait_until

TIME_IF_ANY = r"(?: in \d+\.\d{3} s \(\d+\.\d+ (?:B|kB|MB|GB)/s\))?"  # from a tenth of a second on
ADDRESS = "0x[0-9a-f]+"
SLOT_SIZE = DEFAULT_GEOMETRY.slot_size
DEFAULT_SIZE = 2 * 4096 + 8 * SLOT_SIZE  # header, slot headers, 8 slots


def assert_said(text: str, *patterns: str) -> re.Match[str]:
    """`text` is exactly these lines, each a regular expression; the match of them all."""
    match = re.fullmatch("".join(f"{pattern}\n" for pattern in patterns), text)
    assert match, text
    return match


def key_line(pair: Pair, program: str) -> str:
    """How the key came about."""
    return rf'{program}: key {key_of(pair, 1) & 0xFFFFFFFF:#010x} = ftok\("{re.escape(str(pair.key_path))}", 1\)'


def test_every_step_of_a_pair(pair: Pair) -> None:
    written = pair.write("hello")
    (row,) = segments(pair)
    calls = names_of(pair)
    assert calls.find in ("shmget", "shm_open") and calls.attach in ("shmat", "mmap")
    segment = {"sysv": f"segment {row.id}", "posix": f"object {row.id}"}[pair.ipc]
    segment_line = f"{segment}: {DEFAULT_SIZE} bytes, 8 slots of {SLOT_SIZE}, mode 0660, uid {row.uid}"
    assert row.size == DEFAULT_SIZE
    assert_said(
        written.err,
        key_line(pair, "writer"),
        f"writer: {calls.find}: created {segment_line}",
        f"writer: {calls.attach}: attached it at {ADDRESS}",
        f"writer: store 6 bytes at {ADDRESS}, offset 8192: slot 0; head 0 -> 1",
        f"writer: sent 1 record, 6 bytes{TIME_IF_ANY}",
        f"writer: {calls.detach}: detached; 1 slot to be read",
    )
    second = pair.write("--lines", stdin=b"one\ntwo\n")
    assert_said(
        second.err,
        key_line(pair, "writer"),
        f"writer: {calls.find}: opened {segment_line}",
        f"writer: {calls.attach}: attached it at {ADDRESS}",
        f"writer: store 8 bytes at {ADDRESS}, offset {8192 + SLOT_SIZE}: slot 1; head 1 -> 2",
        f"writer: sent 2 records, 8 bytes{TIME_IF_ANY}",
        f"writer: {calls.detach}: detached; 2 slots to be read",
    )
    read = pair.read()
    said = assert_said(
        read.err,
        key_line(pair, "reader"),
        f"reader: {calls.find}: opened {segment_line}",
        f"reader: {calls.attach}: attached it at (?P<address>{ADDRESS})",
        f"reader: load 6 bytes at (?P<data>{ADDRESS}), offset 8192: slot 0; tail 0 -> 1",
        f"reader: received 3 records, 14 bytes{TIME_IF_ANY}",
        f"reader: {re.escape(calls.remove)}: removed 5 semaphores, {calls.removed.format(segment)};"
        f" {calls.detach}: detached: nothing is left",
    )
    assert int(said["data"], 16) - int(said["address"], 16) == 8192
    assert (written.out, second.out, read.out) == (b"", b"", b"hello\none\ntwo\n")


def test_key_of_another_channel(pair: Pair) -> None:
    """Channel N has the project id 8N + 1."""
    assert f'"{pair.key_path}", 25)\n' in pair.write("--channel", 3, "hello").err
    (row,) = segments(pair, 25)
    gone = {"sysv": f"marked segment {row.id} ", "posix": f"unlinked object {row.id};"}[pair.ipc]
    assert f": removed 5 semaphores, {gone}" in pair.read("--channel", 3).err


def test_rate_is_bytes_by_seconds(pair: Pair) -> None:
    writer = pair.start("writer", "--slots", 32)  # a fragment is what a read gives
    assert writer.stdin
    writer.stdin.write(bytes(10**6 - 1))
    writer.stdin.flush()
    wait_until(lambda: (status := pair.status()) and status["header"]["head"], "the first store")
    with subprocess.Popen(["sleep", "0.1"]):  # what takes less has no rate
        pass
    done = finish(writer, b"!")
    match = re.search(r"sent 1 record, 1000000 bytes in (\d+\.\d+) s \((\d+\.\d+) (kB|MB|GB)/s\)", done.err)
    assert match, done.err
    rate = float(match[2]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[match[3]]
    # The seconds are rounded to a thousandth, the rate to a tenth or a hundredth of its unit.
    seconds = float(match[1])
    assert 1e6 / (seconds + 0.0006) * 0.9 < rate and rate * (seconds - 0.0006) < 1e6 * 1.1
    pair.read()


def next_line(child: subprocess.Popen[bytes]) -> str:
    """The next line that a running program says."""
    assert child.stderr
    return plain(child.stderr.readline().decode())


class TestLongWaits:
    """Said once, after a second, when the other side is missing."""

    @staticmethod
    def assert_says(child: subprocess.Popen[bytes], line: str, began: float) -> None:
        said = [next_line(child)]
        while said[-1] != line:
            assert said[-1], f"ended before it said so: {said}"
            said.append(next_line(child))
        assert 1 <= time.monotonic() - began < PATIENCE

    def test_reader_waits_for_a_channel(self, pair: Pair) -> None:
        began = time.monotonic()
        reader = pair.start("reader")
        self.assert_says(reader, "reader: waiting for a channel; start `writer.py`\n", began)
        pair.write("hello")
        done = finish(reader)
        assert (done.code, done.out) == (0, b"hello\n")
        assert not re.search(r"waiting .*; start `\w+\.py`\n", done.err)

    def test_reader_waits_for_a_writer(self, pair: Pair) -> None:
        pair.write("hello")
        began = time.monotonic()
        reader = pair.start("reader", "--follow", "--count", 2)
        self.assert_says(reader, "reader: waiting for a writer; start `writer.py`\n", began)
        pair.write("again")
        done = finish(reader)
        assert (done.code, done.out) == (0, b"hello\nagain\n")
        assert not re.search(r"waiting .*; start `\w+\.py`\n", done.err)

    def test_writer_finds_the_ring_full_and_nobody_reading(self, pair: Pair) -> None:
        began = time.monotonic()
        path = pair.directory / "given"
        path.write_bytes(bytes(4096 * 3))
        writer = pair.start("writer", "--slots", 2, "--slot-size", "4K", "--file", path)
        line = "writer: waiting for room: all 2 slots are full and nobody is reading; start `reader.py`\n"
        self.assert_says(writer, line, began)
        assert len(pair.read().out) == 4096 * 3
        done = finish(writer)
        assert done.code == 0
        assert not re.search(r"waiting .*; start `\w+\.py`\n", done.err)

    def test_no_word_while_the_other_side_is_there(self, pair: Pair) -> None:
        """A reader that waits for the data of a live writer lacks nothing."""
        writer = pair.start("writer")
        reader = pair.start("reader")
        with subprocess.Popen(["sleep", "1.3"]):
            pass
        assert finish(writer, b"hello").code == 0
        done = finish(reader)
        assert (done.code, done.out) == (0, b"hello")
        assert "waiting for a writer" not in done.err and "waiting for data" not in done.err


@pytest.mark.parametrize(
    "arguments", [[], ["--trace"], ["--no-progress"], ["--keep"], ["--count", "1"], ["--timeout", "9"]]
)
def test_standard_output_is_data_alone(pair: Pair, arguments: Sequence[str]) -> None:
    written = pair.write("hello", *(["--trace"] if "--trace" in arguments else []))
    read = pair.read(*arguments)
    assert (written.code, written.out) == (0, b"")
    assert (read.code, read.out) == (0, b"hello\n")
    if "--keep" in arguments:
        pair.write("--remove")


def test_messages_keep_whole_lines(pair: Pair) -> None:
    """Two programs on one standard error: each line is one write, so none is cut by another."""
    path = pair.directory / "said"
    with path.open("ab") as said:
        writers = [pair.start("writer", "--slots", 32, f"hello {number}", stderr=said) for number in range(6)]
        assert [finish(writer).code for writer in writers] == [0] * 6
    assert all(line.startswith("writer: ") for line in path.read_text().splitlines())
    pair.read()
