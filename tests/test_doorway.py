"""The doorway: one process at a time, no signal inside, and the kernel opens it when its holder dies."""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.channel.listener import Listener, Reason
from common.channel.patience import Patience
from common.errors import TimedOut
from common.ipc.doorway import FlockDoorway
from tests.helpers import PATIENCE
from tests.in_process import Heard, in_thread, python, run_python

HOLD = """
import sys
from common.channel.listener import Listener
from common.channel.patience import Patience
from common.ipc.doorway import FlockDoorway
with FlockDoorway(sys.argv[1], Patience(None, Listener())):
    print("inside", flush=True)
    sys.stdin.read()
"""


class StillClosed(Exception):
    """What the tests' doorways raise instead of waiting for somebody inside."""


class Ear(Listener):
    """Hands what it hears of a wait to `waits`, which refuses to wait unless the test says otherwise."""

    def __init__(self, waits: Callable[[Reason, float], None] | None = None) -> None:
        self._waits = waits

    def wait(self, reason: Reason, seconds: float) -> None:
        if self._waits is None:
            raise StillClosed
        self._waits(reason, seconds)


def open_doorway(path: Path, listener: Listener | None = None) -> FlockDoorway:
    """With all the patience there is; what the listener raises ends a wait."""
    return FlockDoorway(str(path), Patience(None, listener or Ear()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch()
    return path


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, inside the doorway until its standard input is closed."""
    with python(HOLD, path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        yield child
        child.kill()


@pytest.fixture
def door(path: Path) -> Iterator[FlockDoorway]:
    door = open_doorway(path)
    yield door
    door.close()


def is_open(path: Path) -> bool:
    """Whether somebody new can come in."""
    door = open_doorway(path)
    try:
        with door:
            return True
    except StillClosed:
        return False
    finally:
        door.close()


def blocked() -> set[int]:
    """The signals that this thread holds back."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_nobody_is_inside_at_first(path: Path) -> None:
    assert is_open(path)


def test_one_process_is_inside_at_a_time(holder: subprocess.Popen[str], path: Path) -> None:
    assert not is_open(path)
    holder.communicate(timeout=PATIENCE)
    assert is_open(path)


def test_a_killed_holder_opens_it(holder: subprocess.Popen[str], path: Path) -> None:
    holder.kill()
    holder.wait(PATIENCE)
    assert is_open(path)


def test_who_waits_comes_in_when_the_holder_leaves(holder: subprocess.Popen[str], path: Path) -> None:
    def leave(reason: Reason, seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            assert holder.stdin is not None
            holder.stdin.close()

    waited: list[float] = []
    door = open_doorway(path, Ear(leave))
    with door:
        assert len(waited) >= 3
        assert 0 <= waited[0] <= waited[1] <= waited[2]
    door.close()


def test_who_waits_says_for_what(holder: subprocess.Popen[str], path: Path) -> None:
    def note(reason: Reason, seconds: float) -> None:
        reasons.append(reason)
        raise StillClosed

    reasons: list[Reason] = []
    door = open_doorway(path, Ear(note))
    with pytest.raises(StillClosed), door:
        pass
    door.close()
    assert reasons == [Reason(f"waiting for the lock on {path}, which another process holds", missing=True)]


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_who_has_waited_long_enough_gives_up(holder: subprocess.Popen[str], path: Path, timeout: float) -> None:
    heard = Heard()
    door = FlockDoorway(str(path), Patience(timeout, heard))
    said = f"gave up after {timeout:g} s of waiting for the lock on {path}, which another process holds"
    with pytest.raises(TimedOut) as gave_up, door:
        pass
    door.close()
    assert str(gave_up.value) == said
    assert bool(heard.reasons) is bool(timeout)
    assert not blocked()


def test_two_doors_of_one_process_exclude_each_other_too(path: Path, door: FlockDoorway) -> None:
    with door:
        assert not is_open(path)
    assert is_open(path)


def test_it_can_be_entered_again(path: Path, door: FlockDoorway) -> None:
    for _ in range(3):
        with door:
            pass
    assert is_open(path)


def test_an_exception_inside_opens_it_again(path: Path, door: FlockDoorway) -> None:
    with pytest.raises(ZeroDivisionError), door:
        raise ZeroDivisionError
    assert is_open(path)
    assert not blocked()


def test_different_paths_have_different_doors(tmp_path: Path, door: FlockDoorway) -> None:
    (tmp_path / "another").touch()
    with door:
        assert is_open(tmp_path / "another")


def test_a_directory_can_be_the_path(tmp_path: Path) -> None:
    assert is_open(tmp_path)


def test_a_file_that_we_may_only_read_can_be_the_path(path: Path) -> None:
    path.chmod(0o444)
    assert is_open(path)


@pytest.mark.parametrize(
    ("name", "number"), [("nowhere", errno.ENOENT), ("key/inside", errno.ENOTDIR), ("x" * 300, errno.ENAMETOOLONG)]
)
def test_a_path_that_cannot_be_opened(path: Path, name: str, number: int) -> None:
    with pytest.raises(OSError) as error:
        open_doorway(path.parent / name)
    assert (error.value.errno, error.value.filename) == (number, str(path.parent / name))


def test_a_deleted_path_still_excludes_those_who_had_it(path: Path, door: FlockDoorway) -> None:
    other = open_doorway(path)
    before = door.identity()
    path.unlink()
    with door:
        with pytest.raises(StillClosed), other:
            pass
        assert door.identity() == other.identity() == before
    with other:
        pass
    other.close()


def test_its_identity_is_that_of_the_path(path: Path, door: FlockDoorway) -> None:
    assert door.identity() == (path.stat().st_dev, path.stat().st_ino)


# What is said


class Noting(Ear):
    """Notes whether the doorway is open, and whether signals are held back, when it hears of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.heard: list[tuple[str, bool, bool]] = []

    def hold(self) -> None:
        self.heard.append(("hold", is_open(self.path), bool(blocked())))

    def release(self) -> None:
        self.heard.append(("release", is_open(self.path), bool(blocked())))


HEARD = [("hold", False, True), ("release", True, False)]


@pytest.fixture
def listener(path: Path) -> Noting:
    return Noting(path)


def test_a_listener_is_held_inside(path: Path, listener: Noting) -> None:
    with open_doorway(path, listener):
        pass
    assert listener.heard == HEARD


def test_a_listener_is_released_behind_an_exception(path: Path, listener: Noting) -> None:
    with pytest.raises(ZeroDivisionError), open_doorway(path, listener):
        raise ZeroDivisionError
    assert listener.heard == HEARD


def test_a_listener_is_released_behind_a_signal_that_waited(path: Path, listener: Noting) -> None:
    def strike(*_: object) -> None:
        raise StillClosed

    before = signal.signal(signal.SIGTERM, strike)
    try:
        with pytest.raises(StillClosed), open_doorway(path, listener):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert listener.heard == HEARD


def test_a_listener_is_not_held_outside(holder: subprocess.Popen[str], path: Path, listener: Noting) -> None:
    with pytest.raises(StillClosed), open_doorway(path, listener):
        pass
    assert listener.heard == []


# Signals


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
each_signal = pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """The signals that would have ended us."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda n, frame: numbers.append(n)) for number in ENDING}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@each_signal
def test_a_signal_waits_until_we_are_out(door: FlockDoorway, caught: list[int], number: signal.Signals) -> None:
    with door:
        signal.raise_signal(number)
        assert caught == []
    assert caught == [number]


@each_signal
def test_a_signal_is_not_held_back_while_we_wait_outside(
    holder: subprocess.Popen[str], path: Path, caught: list[int], number: signal.Signals
) -> None:
    def interrupt(reason: Reason, waited: float) -> None:
        signal.raise_signal(number)
        assert caught == [number]
        raise StillClosed

    door = open_doorway(path, Ear(interrupt))
    with pytest.raises(StillClosed), door:
        pass
    door.close()
    assert not blocked()


@each_signal
def test_a_signal_that_was_blocked_before_stays_blocked(path: Path, number: signal.Signals) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        door = open_doorway(path)
        with door:
            pass
        assert blocked() == {number}
        door.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_sigterm_in_the_doorway_ends_the_program_behind_it(path: Path) -> None:
    code = """
import os, signal, sys
from common.channel.listener import Listener
from common.channel.patience import Patience
from common.ipc.doorway import FlockDoorway
with FlockDoorway(sys.argv[1], Patience(None, Listener())):
    os.kill(os.getpid(), signal.SIGTERM)
    os.write(1, b"still inside")
os.write(1, b", never here")
"""
    assert run_python(code, path) == "still inside"


def test_it_excludes_threads_of_one_process(path: Path, door: FlockDoorway) -> None:
    with door, in_thread(lambda: is_open(path)) as opened:
        assert not opened()
