"""A class looks on: --slow and --pause-at, and a side that is killed at each step. Nothing is lost by it."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common.channel.listener import Step
from tests.e2e.terminals import Terminals, exit_code
from tests.e2e.watch import objects_of, state_of
from tests.helpers import Finished, Pair, finish

WRITER = ("join", "take-turn", "wait-slot", "fill", "publish", "give-turn", "leave", "remove")
READER = ("join", "take-turn", "wait-data", "read", "put-out", "commit", "free", "give-turn", "remove", "leave")
SLOT_SIZE = 4096
CONTENT = bytes(range(256)) * (2 * SLOT_SIZE // 256) + b"the rest"  # three slots

every_step = pytest.mark.parametrize(
    ("program", "step"),
    [*(("writer", step) for step in WRITER), *(("reader", step) for step in READER)],
)


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    path = tmp_path / "sent"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def received(tmp_path: Path) -> Path:
    return tmp_path / "received"


def assert_paused(child: subprocess.Popen[bytes], step: str) -> str:
    """Read on until it says that it is paused, and how to go on; all that it said."""
    assert child.stderr
    said, step = "", step.partition(":")[0]
    while f"paused before {step}, pid {child.pid}: `kill -CONT {child.pid}` goes on" not in said:
        line = child.stderr.readline().decode()
        assert line, said
        said += line
    return said


def pause(pair: Pair, program: str, step: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A program without a terminal that has come to this step."""
    child = pair.under("setsid").start(program, "--pause-at", step, *arguments)
    assert_paused(child, step)
    return child


def send_to_the_step(pair: Pair, step: str, sent: Path, received: Path) -> subprocess.Popen[bytes]:
    """A writer that is paused before this step; that it removes takes a reader that does not."""
    writer = pair.under("setsid").start(
        "writer", "--file", sent, "--slot-size", SLOT_SIZE, "--pause-at", step, *["--wait"] * (step == "remove")
    )
    if step == "remove":
        assert pair.read("--quiet", "--keep", "--count", 1, "--output", received).code == 0
    assert_paused(writer, step)
    return writer


def receive_to_the_step(pair: Pair, step: str, sent: Path, received: Path) -> subprocess.Popen[bytes]:
    """A reader that is paused before this step: all is in the channel, its writer gone."""
    assert pair.write("--quiet", "--file", sent, "--slot-size", SLOT_SIZE).code == 0
    return pause(pair, "reader", step, "--output", received)


COME_TO = {"writer": send_to_the_step, "reader": receive_to_the_step}


def test_each_step_is_named_here() -> None:
    assert set(WRITER) | set(READER) == {step.value for step in Step}


@every_step
def test_whoever_is_killed_at_a_step_loses_nothing(
    pair: Pair, program: str, step: str, sent: Path, received: Path
) -> None:
    """The next start goes on, and the doorway is open meanwhile: nobody is held up there by the pause."""
    child = COME_TO[program](pair, step, sent, received)
    with open(pair.key_path) as doorway:
        fcntl.flock(doorway, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child.kill()
    assert finish(child).code == -signal.SIGKILL
    if program == "writer":
        assert pair.write("--quiet", "--file", sent, "--resume").code == 0
        if step != "remove":  # where all is read, the writer that says its goodbye removes
            assert pair.read("--quiet", "--output", received).code == 0
    elif step != "leave":  # the reader that leaves has removed all
        assert pair.read("--quiet", "--output", received, "--resume").code == 0
    assert received.read_bytes() == CONTENT
    assert objects_of(pair) == []


@every_step
def test_whoever_goes_on_at_a_step_comes_to_its_end(
    pair: Pair, program: str, step: str, sent: Path, received: Path
) -> None:
    """SIGCONT ends each pause."""
    child = COME_TO[program](pair, step, sent, received)
    assert go_on(child, step).code == 0
    if program == "writer" and step != "remove":
        assert pair.read("--quiet", "--output", received).code == 0
    assert received.read_bytes() == CONTENT
    assert objects_of(pair) == []


def go_on(child: subprocess.Popen[bytes], step: str) -> Finished:
    """Send SIGCONT at each pause, to the end."""
    assert child.stderr
    child.send_signal(signal.SIGCONT)
    for line in child.stderr:
        if f"paused before {step}".encode() in line:
            child.send_signal(signal.SIGCONT)
    return finish(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("program", "step"), [("writer", "publish:2"), ("reader", "commit"), ("reader", "give-turn")])
def test_a_signal_ends_a_pause_tidily(
    pair: Pair, program: str, step: str, number: signal.Signals, sent: Path, received: Path
) -> None:
    child = COME_TO[program](pair, step, sent, received)
    child.send_signal(number)
    done = finish(child)
    assert (done.code, done.err.splitlines()[-1]) == (128 + number, f"{program}: ended by {number.name}")
    assert f"{program}: leave: " in done.err and "detached" in done.err
    if program == "writer":
        assert pair.write("--quiet", "--file", sent, "--resume").code == 0
        assert pair.read("--quiet", "--output", received).code == 0
    elif step != "give-turn":  # behind all that there was: whoever is last removes
        assert pair.read("--quiet", "--output", received, "--resume").code == 0
    assert received.read_bytes() == CONTENT


def test_a_signal_that_came_before_is_not_waited_for_at_the_steps_behind(pair: Pair) -> None:
    writer = pair.start("writer", "--pause-at", "leave")
    assert writer.stderr
    while b"fill" not in writer.stderr.readline():
        pass
    writer.send_signal(signal.SIGINT)
    assert finish(writer).code == 128 + signal.SIGINT
    assert objects_of(pair) == []


def test_the_other_sides_patience_goes_on(pair: Pair, sent: Path) -> None:
    writer = pause(pair, "writer", "publish", "--file", sent)
    done = pair.read("--timeout", 0.3)
    assert (done.code, f"pid {writer.pid} has the turn to write" in done.err) == (124, True)
    writer.kill()
    finish(writer)
    assert pair.write("--quiet", "--remove").code == 0


def steps_in(done: Finished) -> list[str]:
    names = {step.value for step in Step}
    words = (line.split(": ")[1] for line in done.err.splitlines())
    return [word for word in words if word in names]


def test_slow_says_each_step_and_waits_before_it(pair: Pair) -> None:
    began = time.monotonic()
    written, read = pair.write("--slow", 0.02, "hello"), pair.read("--slow", 0.02)
    assert steps_in(written) == list(WRITER[:-1])
    assert steps_in(read) == [*READER[:-2], "take-turn", "wait-data", *READER[-2:]]
    assert time.monotonic() - began >= 0.02 * len(steps_in(written) + steps_in(read))
    assert "writer: publish: store head 0 -> 1: from now on readers see slot 0, 6 bytes\n" in written.err
    assert " load " not in read.err, "what the steps say is not said twice"
    assert read.out == b"hello\n"
    assert objects_of(pair) == []


def test_quiet_says_no_step_but_how_to_go_on(pair: Pair) -> None:
    writer = pair.under("setsid").start("writer", "--quiet", "--slow", 0, "--pause-at", "publish", "hello")
    assert assert_paused(writer, "publish").count("\n") == 1
    assert go_on(writer, "publish").err == ""
    assert pair.read("--quiet").out == b"hello\n"


@pytest.mark.parametrize(("program", "first"), [("writer", "publish"), ("reader", "commit")])
def test_it_pauses_at_each_step_that_is_named(pair: Pair, program: str, first: str) -> None:
    pair.write("--quiet", "hello")
    child = pair.under("setsid").start(
        program, "--quiet", "--pause-at", first, "--pause-at", "leave", *["more"] * (program == "writer")
    )
    assert_paused(child, first)
    child.send_signal(signal.SIGCONT)
    assert_paused(child, "leave")
    assert go_on(child, "leave").code == 0
    if program == "writer":
        assert pair.read("--quiet").code == 0


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_help_lists_the_steps(pair: Pair, program: str) -> None:
    done = pair.run(program, "--pause-at", "help")
    listed = [line.split()[0] for line in done.out.decode().splitlines() if line.startswith("  ")]
    assert (done.code, done.err, listed) == (0, "", list({"writer": WRITER, "reader": READER}[program]))


def test_enter_goes_on_and_what_is_typed_besides_is_said_to_go_nowhere(pair: Pair, terminals: Terminals) -> None:
    writer = terminals.run("writer", "--pause-at", "publish")
    writer.sendline("hello")
    writer.expect(r"paused before publish, pid \d+: Enter or `kill -CONT \d+` goes on")
    writer.sendline("too early")
    writer.expect("'too early' was typed in a pause and goes nowhere; Enter alone goes on")
    writer.sendline("")
    writer.expect("writer: give-turn")
    writer.sendline("again")
    writer.expect("paused before publish")
    os.kill(writer.pid, signal.SIGCONT)
    writer.expect("writer: give-turn")
    writer.sendeof()
    assert exit_code(writer) == 0
    assert pair.read("--quiet").out == b"hello\nagain\n"


def test_enter_goes_on_where_standard_input_is_the_data(pair: Pair, terminals: Terminals, sent: Path) -> None:
    shell = terminals.shell()
    shell.sendline(f"cat {sent} | {shlex.join(pair.command('writer', '--pause-at', 'publish', '--slot-size', '64K'))}")
    for _ in range(2):  # the end of a pipe is a fragment of its own
        shell.expect("paused before publish, pid")
        shell.sendline("")
    shell.expect("slots to be read")
    assert pair.read("--quiet").out == CONTENT


def test_a_pause_in_the_background_is_not_stopped_by_the_terminal(pair: Pair, terminals: Terminals) -> None:
    """A read of it would be SIGTTIN, and the shell's Stopped."""
    shell = terminals.shell()
    command = shlex.join(pair.command("writer", "--pause-at", "publish", "hello"))
    shell.sendline(f"{command} &")
    shell.expect(r"paused before publish, pid (\d+): `kill -CONT")
    pid = int(shell.match[1])
    assert state_of(pid) == "S"
    shell.sendline(f"kill -CONT {pid}")
    shell.expect("1 slot to be read")
    assert pair.read("--quiet").out == b"hello\n"


def test_a_terminal_at_its_end_is_asked_no_more(pair: Pair, terminals: Terminals) -> None:
    writer = terminals.run("writer", "--pause-at", "publish", "hello")
    writer.expect("paused before publish")
    writer.sendeof()
    writer.expect(rf"Enter is heard no more; `kill -CONT {writer.pid}` goes on")
    os.kill(writer.pid, signal.SIGCONT)
    assert exit_code(writer) == 0
    assert pair.read("--quiet").out == b"hello\n"
