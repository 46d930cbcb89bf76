"""Each mechanism delivers what was sent, in two processes of which nothing stays, however they end."""

from __future__ import annotations

import os
import random
import signal
import socket
from pathlib import Path

import posix_ipc  # type: ignore[import-not-found, unused-ignore]
import pytest

from tests.bench.comparison.measure import BOUNCE, PLAN, SIZES, Task, expect, fits, measure
from tests.bench.comparison.pairs import run_pair
from tests.bench.mechanisms import MECHANISMS
from tests.bench.mechanisms.posix_queue import PosixQueue
from tests.bench.mechanisms.tcp import Tcp
from tests.bench.mechanisms.way import Way

# In a worker of xdist a second thread waits for word from the others; from 3.12 on, fork warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded")

TINY = [Task(size, 3) for size, _ in PLAN]

every_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)


def blocks(size: int) -> list[bytes]:
    """More than there are slots, each another."""
    return [random.Random(number).randbytes(size) for number in range(19)]


@every_mechanism
def test_every_block_arrives_whole_and_a_byte_bounces(mechanism: type[Way], directory: Path) -> None:
    sizes = [size for size in SIZES if fits(mechanism, size)]

    def receive(way: Way, size: int) -> bytes:
        pieces: list[bytes] = []
        way.receive(memoryview(bytearray(size)), lambda piece: pieces.append(bytes(piece)))
        return b"".join(pieces)

    def produce(there: Way, back: Way) -> list[bytes]:
        for size in sizes:
            for block in blocks(size):
                there.send(block)
        answers = []
        for number in range(256):
            there.send(bytes([number]))
            answers.append(receive(back, 1))
        return answers

    def consume(there: Way, back: Way) -> list[bytes]:
        wrong = [b"%d bytes" % size for size in sizes if [receive(there, size) for _ in range(19)] != blocks(size)]
        for _ in range(256):
            back.send(receive(there, 1))
        return wrong

    bounced, wrong = run_pair(mechanism, directory, produce, consume)
    assert wrong == []
    assert bounced == [bytes([number]) for number in range(256)]


@every_mechanism
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_a_process_that_is_killed_leaves_nothing(mechanism: type[Way], role: str, directory: Path) -> None:
    def die(there: Way, back: Way) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def go_on(there: Way, back: Way) -> None:
        signal.pause()  # for ever, but for its parent

    with pytest.raises(EOFError):
        run_pair(mechanism, directory, *((die, go_on) if role == "producer" else (go_on, die)))


@every_mechanism
def test_every_task_that_fits_is_measured(mechanism: type[Way], directory: Path) -> None:
    figures = measure(mechanism, directory, TINY)
    assert list(figures) == [size for size in (*SIZES, BOUNCE) if fits(mechanism, size)]
    assert all(figure.seconds > 0 and figure.wake_ups >= 0 for figure in figures.values())


def test_a_small_block_over_tcp_waits_for_no_acknowledgement(directory: Path) -> None:
    def is_set(there: Way, back: Way) -> int:
        assert isinstance(there, Tcp)
        return there.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert run_pair(Tcp, directory, is_set, lambda there, back: 0)[0]


def test_the_name_of_a_posix_queue_is_gone_at_once(directory: Path) -> None:
    queue = PosixQueue(directory, 0).queue
    with pytest.raises(posix_ipc.ExistentialError):
        posix_ipc.MessageQueue(queue.name)
    queue.close()


def test_the_consumer_notices_a_wrong_byte() -> None:
    look = expect(bytes(range(64)) * 2)
    look(bytes(range(64)))
    with pytest.raises(ValueError, match="changed"):
        look(bytes(63) + b"\1")
