"""Reading through descriptors: short reads, non-blocking ones, and the end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from select import PIPE_BUF
from typing import Any

import pytest

from common.cli.descriptors import Descriptor
from tests.helpers import PATIENCE, wait_until
from tests.pipes import a_pipe, is_asleep


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with a_pipe() as ends:
        yield ends


READERS = pytest.mark.parametrize(
    "read",
    [
        lambda fd: Descriptor(fd, "").read(100),
        lambda fd: bytes((room := bytearray(100))[: Descriptor(fd, "").read_into(memoryview(room))]),
    ],
    ids=["read", "read_into"],
)


@READERS
def test_a_read_gives_what_there_is(pipe: tuple[int, int], read: Callable[[int], bytes]) -> None:
    os.write(pipe[1], b"short")
    assert read(pipe[0]) == b"short"


@READERS
def test_a_read_at_the_end_gives_nothing(pipe: tuple[int, int], read: Callable[[int], bytes]) -> None:
    os.close(pipe[1])
    assert read(pipe[0]) == b""


@READERS
def test_a_read_from_a_nonblocking_descriptor_waits(pipe: tuple[int, int], read: Callable[[int], bytes]) -> None:
    os.set_blocking(pipe[0], False)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read(pipe[0])), daemon=True)
    reader.start()
    wait_until(lambda: is_asleep(reader), "the reader asleep")
    os.write(pipe[1], b"late")
    reader.join(PATIENCE)
    assert got == [b"late"]


class Struck(BaseException):
    """What the handler of a signal raises, as run.py's does."""


_CALL: Callable[[partial[Any]], object] = partial.__call__


def struck(call: Callable[..., object]) -> Callable[..., object]:
    """`call` with a SIGINT just before it: all C, with no line of Python between, in which it would be heard."""

    def strike_and_call(*arguments: object) -> object:
        both: list[partial[Any]] = [partial(os.kill, os.getpid(), signal.SIGINT), partial(call, *arguments)]
        return list(map(_CALL, both))[1]

    return strike_and_call


@pytest.fixture
def sigint() -> Iterator[None]:
    def strike(number: int, frame: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGINT, strike)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("call", ["read", "readv", "write"])
def test_a_signal_just_before_a_call_that_sleeps_ends_it(
    pipe: tuple[int, int], sigint: None, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The kernel has delivered it by then, and wakes nobody for it: the call would sleep until something comes."""
    os.set_blocking(pipe[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe[1], bytes(PIPE_BUF))
    os.set_blocking(pipe[1], True)
    if call != "write":
        os.set_blocking(pipe[0], False)
        with contextlib.suppress(BlockingIOError):
            while os.read(pipe[0], PIPE_BUF):
                pass
        os.set_blocking(pipe[0], True)
    polling = select.poll

    class Poll:
        def __init__(self) -> None:
            poll = polling()
            self.register, self.poll = poll.register, struck(poll.poll)

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(os, call, struck(getattr(os, call)))
    with pytest.raises(Struck):
        if call == "write":
            Descriptor(pipe[1], "", to_write=True).patiently(lambda: os.write(pipe[1], b"x"))
        elif call == "read":
            Descriptor(pipe[0], "").read(1)
        else:
            Descriptor(pipe[0], "").read_into(memoryview(bytearray(1)))
