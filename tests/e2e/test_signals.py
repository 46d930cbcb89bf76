"""SIGINT, SIGTERM and SIGHUP, whatever a program is doing: code 128+N, one line, and the other side knows its part."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import reader
from common.cli.run import Interrupted
from common.cli.talk import Talk
from common.layout import SEMAPHORES
from tests.e2e.launch import Child
from tests.e2e.watch import (
    is_full,
    is_taken,
    objects_of,
    segments,
    shut_doorway,
    sleeps_on,
    stands_at_doorway,
    state_of,
    value_of,
)
from tests.helpers import PATIENCE, Finished, Pair, finish, wait_until
from tests.said import broken_off, headless, torn, unfinished

Place = Callable[[Pair], AbstractContextManager[Child]]

SLOT = 4096
ONE_SLOT = ("--slots", 1, "--slot-size", "4K")
ending_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


def given(pair: Pair, size: int) -> Path:
    """A file of `size` bytes to send."""
    path = pair.directory / "given"
    path.write_bytes(random.Random(size).randbytes(size))
    return path


@contextmanager
def writer_reading_its_input(pair: Pair) -> Iterator[Child]:
    child = pair.start("writer", "--quiet")
    wait_until(lambda: is_taken(pair, "writer_turn") and state_of(child.pid) == "S")
    yield child


@contextmanager
def writer_waiting_for_room(pair: Pair) -> Iterator[Child]:
    child = pair.start("writer", "--quiet", *ONE_SLOT, "--file", given(pair, 2 * SLOT))
    wait_until(lambda: sleeps_on(pair, "empty_slots"))
    yield child


@contextmanager
def writer_waiting_until_all_is_read(pair: Pair) -> Iterator[Child]:
    child = pair.start("writer", "--quiet", "--wait", "hello")
    wait_until(lambda: (status := pair.status()) and status["header"]["head"] == 1)
    wait_until(lambda: not is_taken(pair, "writer_turn") and state_of(child.pid) == "S")
    yield child


@contextmanager
def writer_at_the_doorway(pair: Pair) -> Iterator[Child]:
    with shut_doorway(pair):
        child = pair.start("writer", "--quiet", "hello")
        wait_until(lambda: stands_at_doorway(pair, child.pid))
        yield child


@contextmanager
def reader_waiting_for_a_channel(pair: Pair) -> Iterator[Child]:
    child = pair.start("reader", "--quiet")
    wait_until(lambda: stands_at_doorway(pair, child.pid))
    yield child


@contextmanager
def reader_waiting_for_data(pair: Pair) -> Iterator[Child]:
    writer = pair.start("writer", "--quiet", "--lines")
    child = pair.start("reader", "--quiet")
    wait_until(lambda: sleeps_on(pair, "full_slots"))
    yield child
    assert finish(writer, b"late\n").code == 0


@contextmanager
def reader_at_the_doorway(pair: Pair) -> Iterator[Child]:
    pair.write("hello")
    with shut_doorway(pair):
        child = pair.start("reader", "--quiet")
        wait_until(lambda: stands_at_doorway(pair, child.pid))
        yield child


@contextmanager
def reader_writing_its_output(pair: Pair) -> Iterator[Child]:
    """Its standard output is a pipe that is full."""
    pair.write("--file", given(pair, 2**20))
    child = pair.start("reader", "--quiet")
    wait_until(lambda: is_taken(pair, "reader_turn") and state_of(child.pid) == "S")
    yield child


PLACES: list[Place] = [
    writer_reading_its_input,
    writer_waiting_for_room,
    writer_waiting_until_all_is_read,
    writer_at_the_doorway,
    reader_waiting_for_a_channel,
    reader_waiting_for_data,
    reader_at_the_doorway,
    reader_writing_its_output,
]


def end(child: Child, number: int) -> Finished:
    """Send the signal and wait for the end."""
    child.send_signal(number)
    child.wait(PATIENCE)
    return finish(child)


def test_who_cannot_leave_says_what_the_next_signal_does(pair: Pair) -> None:
    """Somebody holds the key path's lock: the first signal waits for the doorway, the second does not."""
    writer = pair.start("writer", "--wait", "hello")
    wait_until(lambda: (status := pair.status()) and status["header"]["head"] == 1)
    with shut_doorway(pair):
        writer.send_signal(signal.SIGINT)
        wait_until(lambda: stands_at_doorway(pair, writer.pid))
        said, line = b"", f"the lock on {pair.key_path}, which another process holds; the next signal ends us at once\n"
        assert writer.stderr
        while line.encode() not in said:
            said += (got := os.read(writer.stderr.fileno(), 4096))
            assert got, said
        writer.send_signal(signal.SIGINT)
        assert writer.wait(PATIENCE) == -signal.SIGINT
    done = pair.read("--quiet")
    assert (done.code, done.out) == (1, b"hello\n"), "it never said goodbye"


@ending_signals
@pytest.mark.parametrize("place", PLACES)
def test_code_and_line(pair: Pair, place: Place, number: signal.Signals) -> None:
    with place(pair) as child:
        done = end(child, number)
        program = place.__name__.partition("_")[0]
        assert (done.code, done.err) == (128 + number, f"{program}: ended by {number.name}\n")
    assert_in_order(pair)
    if segments(pair):
        assert pair.write("--remove").code == 0


def assert_in_order(pair: Pair) -> None:
    """Nobody is attached any more, nobody counts as a live writer, and both turns are free."""
    there = [row.attached for row in segments(pair)]
    assert there in ([], [0])
    if there:
        turns_and_writers = [value_of(pair, name) for name in SEMAPHORES[2:]]
        assert turns_and_writers == [1, 1, 0]


class TestTheOtherSide:
    def test_reader_after_one_ended_in_its_turn(self, pair: Pair) -> None:
        """It stopped between two records: the next ones miss nothing, and have nothing to say."""
        writer = pair.start("writer", "--lines", "--quiet")
        reader = pair.start("reader", "--quiet", "--count", 2)
        assert writer.stdin and reader.stdout
        writer.stdin.write(b"one\n")
        writer.stdin.flush()
        assert reader.stdout.readline() == b"one\n"
        wait_until(lambda: sleeps_on(pair, "full_slots"))
        end(reader, signal.SIGINT)
        assert finish(writer, b"two\n").code == 0
        assert pair.write("three").code == 0
        second, third = pair.read("--count", 1), pair.read()
        assert (second.code, second.out) == (0, b"two\n"), second
        assert (third.code, third.out) == (0, b"three\n"), third
        assert "another reader" not in second.err + third.err

    @ending_signals
    def test_writer_ended_inside_a_record(self, pair: Pair, number: signal.Signals) -> None:
        """The reader has what was sent and says what is missing; the next writer marks the record as torn."""
        writer, reader = pair.start("writer"), pair.start("reader")
        assert writer.stdin and reader.stdout
        writer.stdin.write(b"12345")
        writer.stdin.flush()
        assert reader.stdout.read(5) == b"12345"
        end(writer, number)
        read = finish(reader)
        assert (read.code, read.out) == (1, b""), read
        assert read.err.endswith(f"\n{unfinished(0, writer.pid, 5, from_file=False)}")
        assert pair.write("next").code == 0
        read = pair.read("--quiet")
        assert (read.code, read.out) == (1, b"next\n"), read
        assert read.err == torn(0, writer.pid, 5)
        assert objects_of(pair) == []

    @ending_signals
    def test_writer_ended_between_lines(self, pair: Pair, number: signal.Signals) -> None:
        """Who was ended has not said goodbye: what it sent arrives, but that was not all."""
        writer, reader = pair.start("writer", "--lines"), pair.start("reader", "--quiet")
        assert writer.stdin and reader.stdout
        writer.stdin.write(b"one\n")
        writer.stdin.flush()
        assert reader.stdout.readline() == b"one\n"
        end(writer, number)
        read = finish(reader)
        assert (read.code, read.out, read.err) == (1, b"", broken_off(0))
        assert objects_of(pair) == []

    @pytest.mark.parametrize("options", [["--keep"], ["--count", "1"], ["--follow", "--count", "2"]], ids=str)
    def test_a_missing_goodbye_is_said_once(self, pair: Pair, options: list[str]) -> None:
        """Whether the reader hears of it while it waits, at the end, or when it leaves; the next one hears it too."""
        writer = pair.start("writer", "--lines")
        assert writer.stdin
        writer.stdin.write(b"one\n")
        writer.stdin.flush()
        wait_until(lambda: (status := pair.status()) and status["header"]["head"] == 1)
        end(writer, signal.SIGKILL)
        reader = pair.start("reader", "--quiet", *options)
        if "--follow" in options:
            assert reader.stderr and reader.stdout
            assert (reader.stdout.readline(), reader.stderr.readline().decode()) == (b"one\n", broken_off(0))
            assert pair.write("two").code == 0
        read = finish(reader)
        assert read.code == 1, read
        if "--follow" in options:
            assert (read.out, read.err) == (b"two\n", "")
        else:
            assert (read.out, read.err) == (b"one\n", broken_off(0))
        if objects_of(pair):  # kept, or left to a writer that was still about to leave
            assert options != ["--count", "1"]
            read = pair.read("--quiet")
            assert (read.code, read.out, read.err) == (1, b"", broken_off(1 if "--follow" in options else 0))
        assert objects_of(pair) == []

    @ending_signals
    def test_one_of_two_writers_ended(self, pair: Pair, number: signal.Signals) -> None:
        """The other one's goodbye does not stand for its own."""
        leaver, stayer = pair.start("writer", "--lines"), pair.start("writer", "--lines")
        reader = pair.start("reader", "--quiet")
        assert leaver.stdin and stayer.stdin and reader.stdout
        for writer, line in ((leaver, b"one\n"), (stayer, b"two\n")):
            assert writer.stdin
            writer.stdin.write(line)
            writer.stdin.flush()
            assert reader.stdout.readline() == line
        end(leaver, number)
        assert finish(stayer, b"three\n").code == 0
        read = finish(reader)
        assert (read.code, read.out, read.err) == (1, b"three\n", broken_off(2))
        assert objects_of(pair) == []

    @ending_signals
    def test_reader_ended_while_the_ring_is_full(self, pair: Pair, number: signal.Signals) -> None:
        """The writer waits on, and the next reader gets all that the first one had not put out: no whole record."""
        data = given(pair, 2**18).read_bytes()
        writer = pair.start("writer", *ONE_SLOT, "--file", given(pair, 2**18))
        first = pair.start("reader")
        wait_until(lambda: sleeps_on(pair, "empty_slots") and first_is_stuck(pair, first.pid))
        ended = end(first, number)
        wait_until(lambda: sleeps_on(pair, "empty_slots"))
        second = pair.read("--quiet")
        assert (finish(writer).code, second.code) == (0, 1)
        assert second.err == headless(0, len(ended.out))
        assert ended.out + second.out == data

    @ending_signals
    @pytest.mark.parametrize("source", ["--file", "--lines"])
    def test_reader_ended_inside_a_slot(self, pair: Pair, source: str, number: signal.Signals) -> None:
        """It waits inside write(2): what the pipe took of the slot is committed, to the byte.

        The next reader begins inside a record, or a line, and says in which and where.
        """
        path = given(pair, 2**20)
        with path.open("rb") as file:
            arguments = {"--file": ("--file", path), "--lines": ("--lines",)}[source]
            assert finish(pair.start("writer", *arguments, stdin=file)).code == 0
        child = pair.start("reader")
        wait_until(lambda: is_full(child.stdout) and state_of(child.pid) == "S", "a full pipe")
        ended, read = end(child, number), pair.read("--quiet")
        assert (ended.code, read.code) == (128 + number, 1), (ended, read)
        assert 0 < len(ended.out) < 2**18, "less than a slot"
        before = ended.out.split(b"\n") if source == "--lines" else [ended.out]
        assert read.err == headless(len(before) - 1, len(before[-1]))
        assert ended.out + read.out == path.read_bytes()

    @ending_signals
    def test_follower_ended_with_nothing_to_read(self, pair: Pair, number: signal.Signals) -> None:
        """A signal is how --follow ends: it leaves no channel in which nothing is and nobody writes."""
        follower = pair.start("reader", "--follow")
        assert pair.write("hello").code == 0
        wait_until(lambda: sleeps_on(pair, "full_slots") and not value_of(pair, "writers"))
        ended = end(follower, number)
        assert (ended.code, ended.out) == (128 + number, b"hello\n"), ended
        assert segments(pair) == []


def first_is_stuck(pair: Pair, pid: int) -> bool:
    """Whether the reader sleeps with its turn taken and a full slot before it: its output takes no more."""
    return is_taken(pair, "reader_turn") and state_of(pid) == "S" and not sleeps_on(pair, "full_slots")


def test_second_hangup(pair: Pair) -> None:
    """A window that closes sends SIGHUP twice, from the kernel and from the shell: the second one harms nothing."""
    with writer_reading_its_input(pair) as child:
        with shut_doorway(pair):
            child.send_signal(signal.SIGHUP)
            wait_until(lambda: not is_caught(child.pid, signal.SIGHUP), "the first signal's arrival")
            child.send_signal(signal.SIGHUP)
        done = finish(child)
    assert (done.code, done.err) == (128 + signal.SIGHUP, "writer: ended by SIGHUP\n")
    assert segments(pair) == []


def is_caught(pid: int, number: int) -> bool:
    """Whether the process has a handler for this signal (SigCgt of proc_pid_status(5))."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_nohup(pair: Pair, program: str) -> None:
    """A program started with nohup outlives its terminal."""
    if not shutil.which("nohup"):
        pytest.skip("install coreutils: nohup is missing")
    immune = pair.under("nohup").start(program, *(["--lines"] if program == "writer" else []))
    if program == "writer":
        wait_until(lambda: segments(pair))
    else:
        wait_until(lambda: stands_at_doorway(pair, immune.pid))
    immune.send_signal(signal.SIGHUP)
    other = pair.start("reader") if program == "writer" else pair.start("writer", "hello")
    done = finish(immune, b"hello\n" if program == "writer" else None)
    peer = finish(other)
    assert (done.code, peer.code) == (0, 0), (done, peer)
    assert (peer if program == "writer" else done).out == b"hello\n"


def test_stopped_reader_goes_on(pair: Pair) -> None:
    """SIGSTOP cannot be caught at all; after SIGCONT everything is as before."""
    data = given(pair, 2**18).read_bytes()
    writer = pair.start("writer", *ONE_SLOT, "--file", given(pair, 2**18))
    reader = pair.start("reader")
    wait_until(lambda: sleeps_on(pair, "empty_slots"))
    reader.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(reader.pid) == "T")
    os.kill(reader.pid, signal.SIGCONT)
    read, written = finish(reader), finish(writer)
    assert (read.code, written.code, read.out) == (0, 0, data)


@pytest.mark.parametrize(("sent", "left"), [(b"", []), (b"unread\n", ["segment", *SEMAPHORES])], ids=["over", "unread"])
def test_reader_ended_as_soon_as_it_is_attached(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, sent: bytes, left: list[str]
) -> None:
    """It leaves like any other: what is over (and was kept) it removes, and it is attached to nothing any more."""

    def interrupted(*_: object) -> None:
        raise Interrupted(signal.SIGINT)

    assert pair.write("--lines", stdin=sent or b"read\n").code == 0
    if not sent:
        assert pair.read("--keep").code == 0
    monkeypatch.setattr(sys, "argv", pair.command("reader", "--quiet")[1:])
    monkeypatch.setattr(Talk, "attached", interrupted)
    with pytest.raises(Interrupted):
        reader.main(Talk("reader"))
    assert objects_of(pair) == left
    assert_in_order(pair)
    if left:
        assert pair.read().out == sent
