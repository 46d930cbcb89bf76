"""Reading through descriptors: short reads, non-blocking ones, and the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from common.cli.descriptors import read_into, read_some
from tests.helpers import PATIENCE, wait_until
from tests.pipes import a_pipe, is_asleep


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with a_pipe() as ends:
        yield ends


READERS = pytest.mark.parametrize(
    "read",
    [lambda fd: read_some(fd, 100), lambda fd: bytes((room := bytearray(100))[: read_into(fd, memoryview(room))])],
    ids=["read_some", "read_into"],
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
