"""A pipe behind standard error that takes no more: who stands at it does so outside, and one signal ends him."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess

import pytest

from tests.e2e.launch import SingleStepped, start_stopped
from tests.e2e.test_signals import assert_in_order
from tests.e2e.watch import segments, state_of
from tests.helpers import PATIENCE, Pair, finish, wait_until

ending_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])

# The last word outside the doorway: who then stands has been inside, and cannot say what it did there.
BEFORE_JOINING, BEFORE_LEAVING = "writer: key", "writer: sent 1 record"


def step_to(stepped: SingleStepped, beginning: str) -> str:
    """Hear the lines up to the first one with this beginning; what was said."""
    said = ""
    while True:
        line = stepped.step(1)
        assert line, said
        said += line
        if line.startswith(beginning):
            return said


def any_numbers(text: str) -> str:
    """The text without what differs between two runs: ids, the nonce, addresses, seconds."""
    return re.sub(r"\b[0-9a-f]{16}\b|0x[0-9a-f]+|\d+(\.\d+)?( [kM]?B/s)?", "N", text)


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_at_every_line_of_the_trace_the_doorway_is_open(pair: Pair, program: str) -> None:
    if program == "reader":
        assert pair.write("hello").code == 0
    stepped = SingleStepped(pair, program, *(["hello"] if program == "writer" else []))
    lines = 0
    while stepped.step(1):
        lines += 1
        with open(pair.key_path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it stands inside
    assert lines > 25
    assert stepped.run_to_the_end().code == 0
    if program == "writer":
        assert pair.read().out == b"hello\n"


@pytest.mark.parametrize("moment", [BEFORE_JOINING, BEFORE_LEAVING], ids=["joining", "leaving"])
def test_others_pass_and_the_whole_trace_comes_in_the_end(pair: Pair, moment: str) -> None:
    expected = pair.write("--trace=all", "hello").err
    if pair.ipc == "posix" and moment == BEFORE_JOINING:  # the other one's turn ends first and leaves a token behind
        expected = re.sub(r"(sem_getvalue\(.*\n)sem_post\(.*\n(writer: sent)", r"\1\2", expected)
    if moment == BEFORE_JOINING:  # the other one's record was the first, whose number is taken in the doorway
        expected = re.sub(r"flock\(.*, LOCK_EX.*\nflock\(.*, LOCK_UN.*\n", "", expected, count=1)
    assert pair.write("--remove").code == 0
    stepped = SingleStepped(pair, "writer", "hello")
    said = step_to(stepped, moment)
    assert pair.write("--quiet", "other").code == 0
    read = pair.read("--quiet", "--count", 1)
    assert (read.code, read.out) == (0, b"other\n" if moment == BEFORE_JOINING else b"hello\n")
    done = stepped.run_to_the_end()
    assert done.code == 0
    assert any_numbers(said + done.err) == any_numbers(expected)
    assert pair.read("--quiet").out == (b"hello\n" if moment == BEFORE_JOINING else b"other\n")


@ending_signals
@pytest.mark.parametrize(
    ("moment", "left"), [(BEFORE_JOINING, False), (BEFORE_LEAVING, True)], ids=["joining", "leaving"]
)
def test_one_signal_ends_it(pair: Pair, moment: str, left: bool, number: signal.Signals) -> None:
    """Nobody hears its last words, and it does not wait for long until somebody does."""
    stepped = SingleStepped(pair, "writer", "hello")
    step_to(stepped, moment)
    stepped.child.send_signal(number)
    assert stepped.child.wait(PATIENCE) == 128 + number
    assert_in_order(pair)
    assert bool(segments(pair)) is left
    if left:
        assert pair.read().out == b"hello\n"


@ending_signals
def test_one_signal_ends_it_in_its_last_words(pair: Pair, number: signal.Signals) -> None:
    """An error that nobody hears."""
    pipe, its_end = full_pipe()
    child = pair.start("writer", "--quiet", "--file", "no such file", stderr=its_end)
    os.close(its_end)
    wait_until(lambda: writes_to_standard_error(child), "the last words")
    child.send_signal(number)
    assert child.wait(PATIENCE) == 128 + number
    os.close(pipe)


def full_pipe() -> tuple[int, int]:
    """Both ends of a pipe that takes nothing more."""
    pipe, its_end = os.pipe()
    os.write(its_end, bytes(fcntl.fcntl(its_end, fcntl.F_SETPIPE_SZ, 4096)))
    return pipe, its_end


def writes_to_standard_error(child: subprocess.Popen[bytes]) -> bool:
    """Whether it sleeps in a write(2) to descriptor 2 (proc_pid_syscall(5))."""
    with open(f"/proc/{child.pid}/syscall") as file:
        words = file.read().split()
    return words[1:2] == ["0x2"] and state_of(child.pid) == "S"


@ending_signals
def test_a_signal_that_came_inside_loses_no_word(pair: Pair, number: signal.Signals) -> None:
    """It raises as it is let through; what was noted inside is said once, and before the last words."""
    writer = start_stopped(pair, "_initialise:1", "writer", "--trace=all", "hello")
    with pytest.raises(BlockingIOError), open(pair.key_path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    writer.send_signal(number)
    writer.send_signal(signal.SIGCONT)
    done = finish(writer)
    assert done.code == 128 + number
    lines = done.err.splitlines()
    create, remove = {"sysv": ("IPC_CREAT", "IPC_RMID"), "posix": ("O_CREAT", "_unlink")}[pair.ipc]
    assert len({line for line in lines if create in line}) == done.err.count(create) == 6
    assert [line.partition(" = ")[2] for line in lines if re.search(f"{remove}.* = ", line)] == ["0"] * 6, (
        "it took back what it made"
    )
    assert lines[-1] == f"writer: ended by {number.name}"
    assert segments(pair) == []
