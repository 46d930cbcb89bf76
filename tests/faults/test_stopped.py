"""A peer that is stopped (SIGSTOP), dead in the doorway, or in it for ever: --timeout is the way out, with 124."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.watch import state_of
from tests.faults.tools import RING, SLOTS, Transfer
from tests.helpers import PATIENCE, Pair, finish, wait_until
from tests.in_process import FAMILIES, place_of, remove_objects

SOON = 0.3  # of --timeout, seconds


@contextmanager
def stop(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a program for the block; afterwards it goes on."""
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(child.pid) == "T", "the stop")
    yield
    child.send_signal(signal.SIGCONT)


def test_a_stopped_reader(pair: Pair) -> None:
    """It is stopped in its turn; the writer gives up, and with --resume completes the record when it goes on."""
    transfer = Transfer(pair)
    assert pair.write("--quiet", "first", *RING).code == 0
    reader = transfer.start_reader("--follow", "--count", 2, "--timeout", PATIENCE)
    wait_until(lambda: transfer.unread() == 0, "the first record's arrival")
    with stop(reader):
        done = pair.write("--quiet", "--file", transfer.source, "--timeout", SOON)
    assert (done.code, done.err) == (
        124,
        f"writer: gave up after {SOON} s of waiting for room: all {SLOTS} slots are full, and pid {reader.pid}"
        " (stopped) has the turn to read\n",
    )
    assert pair.write("--quiet", "--file", transfer.source, "--resume", "--timeout", PATIENCE).code == 0
    ended = finish(reader)
    assert (ended.code, ended.err) == (0, "")
    assert transfer.output.read_bytes() == b"first\n" + transfer.data
    remove_objects(place_of(pair.key_path), FAMILIES[pair.ipc])  # --follow leaves the channel to further writers


def test_a_stopped_writer(pair: Pair) -> None:
    """The reader gives up; the writer goes on, and the next reader takes the output to its end."""
    transfer = Transfer(pair)
    writer = transfer.start_writer("--timeout", PATIENCE)
    with stop(writer):
        done = transfer.read("--timeout", SOON)
        assert (done.code, done.err) == (
            124,
            f"reader: gave up after {SOON} s of waiting for data, and pid {writer.pid} (stopped) has the turn to"
            " write\n",
        )
        assert transfer.unread() == 0
    last = transfer.read("--resume")
    assert (last.code, last.err) == (0, "")
    assert finish(writer).code == 0
    assert transfer.output.read_bytes() == transfer.data


COMMANDS = [
    ("writer", "--quiet", "more"),
    ("writer", "--quiet", "--remove"),
    ("writer", "--quiet", "--chmod", "0600"),
    ("reader", "--quiet"),
    ("reader", "--quiet", "--status"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_somebody_stands_in_the_doorway_for_ever(pair: Pair, command: tuple[str, ...]) -> None:
    assert pair.write("--quiet", "kept").code == 0
    with open(pair.key_path) as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        done = pair.run(*command, "--timeout", SOON)
    assert (done.code, done.err) == (
        124,
        f"{command[0]}: gave up after {SOON} s of waiting for the lock on {pair.key_path}, which another process"
        " holds\n",
    )
    assert pair.read("--quiet").out == b"kept\n"


HOLDER = """
import fcntl, signal, sys
door = open(sys.argv[1])
fcntl.flock(door, fcntl.LOCK_EX)
print(flush=True)
signal.pause()
"""


def test_a_killed_holder_leaves_the_doorway_open(pair: Pair) -> None:
    """kill -9 inside: the kernel drops the lock with the process, and who waits at the door goes in."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(pair.key_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        writer = pair.start("writer", "through")
        assert writer.stderr
        said = writer.stderr.readline()
        while b"waiting for the lock" not in said:
            said = writer.stderr.readline()
            assert said, "the writer did not wait"
        holder.kill()
    assert finish(writer).code == 0
    assert pair.read("--quiet").out == b"through\n"
