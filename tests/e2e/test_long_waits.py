"""A wait of some seconds is never silent: for what, who has it, whether he is stopped or gone, and on which channel."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.launch import Child
from tests.e2e.watch import is_taken, key_of, sleeps_on, state_of
from tests.families import only, slow_over_posix
from tests.helpers import PATIENCE, Pair, finish, wait_until

ONE_SLOT = ("--slots", 1, "--slot-size", "4K")
SET_VALUE = "import sys, sysv_ipc; sysv_ipc.Semaphore(int(sys.argv[1])).value = int(sys.argv[2])"


@contextmanager
def stopped(child: Child) -> Iterator[str]:
    """Stop a program for the block; how others name it meanwhile."""
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(child.pid) == "T", "the stop")
    yield f"pid {child.pid} (stopped)"
    child.send_signal(signal.SIGCONT)


def set_value(pair: Pair, project_id: int, value: int) -> str:
    """Somebody's SETVAL; how others name him, who ends with it."""
    words = [sys.executable, "-c", SET_VALUE, str(key_of(pair, project_id)), str(value)]
    with subprocess.Popen(words) as somebody:
        assert somebody.wait() == 0
    return f"pid {somebody.pid} (which is no more)"


WRITER_TURN, READER_TURN, WRITERS = 4, 5, 6  # the project ids of channel 0


def start(pair: Pair, program: str, *arguments: object) -> Child:
    """A program that will wait, but not for ever."""
    return pair.start(program, "--timeout", PATIENCE, *arguments)


def hear(pair: Pair, child: Child, text: str) -> None:
    """Wait until a program says that it waits: the text, and on which channel."""
    assert child.stderr
    family = ", --ipc posix" if pair.ipc == "posix" else ""
    where = f"; key {key_of(pair, 1) & 0xFFFFFFFF:#010x}, {pair.key_path}, channel 0{family}\n"
    said = [child.stderr.readline().decode()]
    while said[-1].partition(": ")[2] != text + where:
        assert said[-1], f"ended before it said {text + where!r}: {said}"
        said.append(child.stderr.readline().decode())


def assert_ends(child: Child, out: bytes = b"", stdin: bytes | None = None) -> None:
    """It goes on and ends well, and has no more to say about waiting."""
    done = finish(child, stdin)
    assert (done.code, done.out) == (0, out), done
    assert "waiting" not in done.err


def writer_in_its_turn(pair: Pair) -> Child:
    """It reads its input."""
    writer = pair.start("writer", "--quiet", *ONE_SLOT)
    wait_until(lambda: is_taken(pair, "writer_turn") and state_of(writer.pid) == "S", "the turn")
    return writer


def reader_in_its_turn(pair: Pair) -> Child:
    """It has read the first of two records, and waits for the second."""
    assert pair.write("--quiet", *ONE_SLOT, "first").code == 0
    reader = pair.start("reader", "--quiet", "--follow", "--count", 2)
    wait_until(lambda: sleeps_on(pair, "full_slots"), "the turn")
    return reader


@slow_over_posix
def test_a_reader_behind_a_stopped_writer(pair: Pair) -> None:
    writer = writer_in_its_turn(pair)
    reader = start(pair, "reader")
    with stopped(writer) as somebody:
        hear(pair, reader, f"waiting for data, and {somebody} has the turn to write")
    assert_ends(writer, stdin=b"hello\n")
    assert_ends(reader, b"hello\n")


@slow_over_posix
def test_a_writer_behind_a_stopped_reader(pair: Pair) -> None:
    reader = reader_in_its_turn(pair)
    with stopped(reader) as somebody:
        writer = start(pair, "writer", "--file", "/dev/stdin")
        assert writer.stdin
        writer.stdin.write(bytes(3 * 4096))
        writer.stdin.close()
        writer.stdin = None
        hear(pair, writer, f"waiting for room: the only slot is full, and {somebody} has the turn to read")
    assert_ends(reader, b"first\n" + bytes(3 * 4096))
    assert_ends(writer)


@slow_over_posix
def test_a_writer_that_waits_for_a_stopped_reader_to_read_it_all(pair: Pair) -> None:
    reader = reader_in_its_turn(pair)
    with stopped(reader) as somebody:
        writer = start(pair, "writer", "--wait", "second")
        hear(pair, writer, f"waiting until all is read, and {somebody} has the turn to read")
    assert_ends(reader, b"first\nsecond\n")
    assert_ends(writer)


@slow_over_posix
def test_a_writer_behind_a_stopped_writer(pair: Pair) -> None:
    first = writer_in_its_turn(pair)
    with stopped(first) as somebody:
        second = start(pair, "writer", "second")
        hear(pair, second, f"waiting for our turn, which {somebody} has")
    first_out = pair.start("reader", "--quiet")
    assert_ends(first, stdin=b"first\n")
    assert_ends(second)
    assert_ends(first_out, b"first\nsecond\n")


@slow_over_posix
def test_a_writer_behind_an_idle_writer(pair: Pair) -> None:
    """Who is neither stopped nor gone is only named."""
    first, second = writer_in_its_turn(pair), start(pair, "writer", "second")
    hear(pair, second, f"waiting for our turn, which pid {first.pid} has")
    reader = pair.start("reader", "--quiet")
    assert_ends(first, stdin=b"first\n")
    assert_ends(second)
    assert_ends(reader, b"first\nsecond\n")


@only("sysv", "SETVAL is System V's: nobody takes a lock for others")
def test_a_turn_that_somebody_took_with_setval(pair: Pair) -> None:
    assert pair.write("first").code == 0
    somebody = set_value(pair, READER_TURN, 0)
    reader = start(pair, "reader")
    set_by_hand = "the kernel gives back what the dead had, so somebody set this"
    typed = f"`writer.py --remove --key-path {pair.key_path}`"
    assert "(which is no more)" in somebody
    hear(pair, reader, f"waiting for our turn, which {somebody} has; {set_by_hand}; {typed} ends the channel")
    set_value(pair, READER_TURN, 1)
    assert_ends(reader, b"first\n")


@only("sysv", "SETVAL is System V's: nobody takes a lock for others")
def test_writers_that_somebody_counted_with_setval(pair: Pair) -> None:
    assert pair.write("first").code == 0
    set_value(pair, WRITERS, 1)
    reader = start(pair, "reader")
    hear(pair, reader, "waiting for data; a writer is there, and sends nothing")
    set_value(pair, WRITERS, 0)
    done = finish(reader)
    assert (done.code, done.out) == (0, b"first\n")


@pytest.mark.slow
def test_a_reader_between_two_lines_hears_it_once(pair: Pair) -> None:
    """Somebody types slowly: the second long wait for him is no news."""
    writer = pair.start("writer", "--quiet", "--lines")
    reader = start(pair, "reader")
    assert writer.stdin and reader.stdout
    hear(pair, reader, "waiting for data; a writer is there, and sends nothing")
    writer.stdin.write(b"one\n")
    writer.stdin.flush()
    assert reader.stdout.readline() == b"one\n"
    # The clock is another reader, whose wait is as long.
    other = start(pair, "reader")
    hear(pair, other, f"waiting for our turn, which pid {reader.pid} has")
    assert_ends(writer, stdin=b"two\n")
    done = finish(reader), finish(other)
    assert sorted(one.out for one in done) == [b"", b"two\n"]
    assert "waiting" not in done[0].err
