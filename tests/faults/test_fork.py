"""A fork in the middle of a transfer: what a child that inherits the attachment, and perhaps the doorway, can hold.

What holds: a child by fork(2) keeps the segment attached, and nothing else. The turns and the presence are the
parent's alone (semadj is not inherited, semop(2)), so they are free when the parent dies, child or no child. A child
that execs keeps nothing at all. Only a fork inside the doorway, whose parent is then killed in there, keeps that
shut until the child ends, because the flock belongs to the open file that both share: --timeout is the way out.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.watch import attached, is_taken, value_of
from tests.faults.tools import SLOTS, Transfer, patched
from tests.helpers import PATIENCE, Pair, finish, wait_until

# At SIGUSR1 the program forks; the child lets go of its standard streams, says its pid and sleeps.
FORKING = """
import os, signal
def fork(*_):
    if not os.fork():
        for number in (0, 1, 2):
            os.close(number)
        BECOME
        with open(PID_FILE + "~", "w") as file:
            file.write(str(os.getpid()))
        os.rename(PID_FILE + "~", PID_FILE)
        signal.pause()
        os._exit(0)
signal.signal(signal.SIGUSR1, fork)
"""
# As above, inside the doorway and at once; then the parent dies there.
FORKING_INSIDE = (
    FORKING
    + """
import fcntl
flock = fcntl.flock
def lock_and_die(file, operation):
    flock(file, operation)
    if operation & fcntl.LOCK_EX:
        fork()
        while not os.path.exists(PID_FILE):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
fcntl.flock = lock_and_die
"""
)
EXEC = """with open(PID_FILE, "w") as file:
            file.write(str(os.getpid()))
        os.execvp("sleep", ["sleep", "1000"])"""


class Child:
    """The forked child of a patched program."""

    def __init__(self, pair: Pair, code: str, become: str = "pass") -> None:
        self._pid_file = pair.directory / "child"
        code = code.replace("BECOME", become).replace("PID_FILE", repr(str(self._pid_file)))
        self.parent = patched(pair, code)

    @property
    def pid(self) -> int:
        return int(wait_until(lambda: self._pid_file.exists() and self._pid_file.read_text(), "the fork"))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not _alive(self.pid), "the child's death")


def _alive(pid: int) -> bool:
    """Whether it is there and no zombie, which nobody may have collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def child(pair: Pair) -> Iterator[Child]:
    forked = Child(pair, FORKING)
    yield forked
    forked.kill()


def test_the_parent_goes_on(pair: Pair, child: Child) -> None:
    """The channel is removed at its end all the same; its memory goes with the child."""
    transfer = Transfer(pair)
    writer = transfer.start_writer("--timeout", PATIENCE, by=child.parent)
    writer.send_signal(signal.SIGUSR1)
    assert _alive(child.pid)
    # nattch counts the child; over POSIX it lets go of the lock, see PosixObjects.drop_in_child.
    assert attached(pair) == {"sysv": 2, "posix": 1}[pair.ipc]
    reader = transfer.read("--timeout", PATIENCE)
    assert (reader.code, finish(writer).code) == (0, 0)
    assert transfer.output.read_bytes() == transfer.data
    assert pair.status() is None
    assert _alive(child.pid)
    assert pair.write("--quiet", "next").code == 0
    assert pair.read("--quiet").out == b"next\n"


def test_the_parent_is_killed_in_its_turn(pair: Pair, child: Child) -> None:
    """The turn is free although the child lives, and the record is completed."""
    transfer = Transfer(pair)
    writer = transfer.start_writer(by=child.parent)
    writer.send_signal(signal.SIGUSR1)
    assert _alive(child.pid)
    writer.kill()
    writer.wait()
    assert (is_taken(pair, "writer_turn"), value_of(pair, "writers")) == (False, 0)
    transfer.assert_completed_by_resume()
    assert _alive(child.pid)


def test_a_child_that_execs_holds_nothing(pair: Pair) -> None:
    """As any subprocess does: shmat(2) says that exec detaches, and the doorway's file is closed by it."""
    transfer = Transfer(pair)
    child = Child(pair, FORKING, EXEC)
    writer = transfer.start_writer(by=child.parent)
    writer.send_signal(signal.SIGUSR1)
    try:
        wait_until(lambda: "sleep" in Path(f"/proc/{child.pid}/comm").read_text(), "the exec")
        assert attached(pair) == 1
        assert str(pair.key_path) not in [os.readlink(link) for link in Path(f"/proc/{child.pid}/fd").iterdir()]
        assert transfer.unread() == SLOTS
        assert transfer.read().code == 0
        assert finish(writer).code == 0
    finally:
        child.kill()


def test_a_fork_inside_the_doorway(pair: Pair) -> None:
    """Its parent is killed there; whoever comes next waits until the child is gone too, and loses nothing."""
    assert pair.write("--quiet", "kept").code == 0
    child = Child(pair, FORKING_INSIDE)
    assert child.parent.read("--quiet").code == -signal.SIGKILL
    try:
        waited = pair.read("--quiet", "--timeout", 0.3)
        assert waited.code == 124
        assert "waiting for the lock on" in waited.err
    finally:
        child.kill()
    assert pair.read("--quiet").out == b"kept\n"
