"""A peer that scribbles over the segment, or forges tokens, while a real transfer runs.

Promised, whatever it stores and whenever: both programs end (with --timeout: by themselves), with 0, 1 or 124, after
at most one line of error, without a traceback, a signal's death or more memory than an honest transfer takes.

Promised of --verify: every byte of a fragment that a reader puts out is the byte that the writer summed, and the
fragments of a record follow on without a gap or a repeat. So a reader's 0 means the right bytes unless the scribbler
forges a checksum, or moves head or tail to the border of a record, where nothing but head and tail says what was sent.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from common.layout import SEMAPHORES
from tests.helpers import PATIENCE, ROOT, Finished, Pair, finish, wait_until
from tests.in_process import place_of, remove_objects, sysv

SIZE = 8 * 2**20
SOON = 3.0  # seconds without progress, after which a program with a dead peer gives up
SEMVMX = 32767
MEMORY_LIMIT = 64 * 2**20  # of data; an honest transfer takes about 10 MiB


class Transfer:
    """A file on its way from a writer, which is blocked by the full ring, to a reader that is yet to start."""

    def __init__(self, pair: Pair, timeout: float) -> None:
        self._pair, self._timeout = pair, timeout
        self.source, self.output = pair.directory / "source", pair.directory / "output"
        self.source.write_bytes(Random(1).randbytes(SIZE))
        self._writer = self._start("writer", "--file", self.source, "--verify", "--slots", 4, "--slot-size", "16K")
        self.place = place_of(pair.key_path)
        self.shmid: int = wait_until(self._full, "a full ring")

    def _start(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        child = self._pair.start(program, "--quiet", "--timeout", self._timeout, *arguments, stdin=None)
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
        return child

    def _full(self) -> int | None:
        status = self._pair.status()
        return status["segment"]["id"] if status and status["header"]["unread"] == 4 else None

    def run(self) -> tuple[Finished, Finished]:
        """Start the reader and see how both end."""
        reader = self._start("reader", "--output", self.output)
        return finish(self._writer), finish(reader)

    def arrived(self) -> bool:
        return self.output.read_bytes() == self.source.read_bytes()


@pytest.fixture
def leftovers(pair: Pair) -> Iterator[None]:
    """What a hostile process leaves of the channel is removed after the test."""
    yield
    remove_objects(place_of(pair.key_path))


@contextmanager
def hostile(module: str, *arguments: object) -> Iterator[None]:
    """Run a hostile process beside the block."""
    words = [sys.executable, "-m", f"tests.fuzz.{module}", *map(str, arguments)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def assert_clear(done: Finished) -> None:
    assert done.code in (0, 1, 124), done
    assert done.err.count("\n") == bool(done.code), done
    assert "MemoryError" not in done.err, done


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("region", ["header", "counters", "slots", "payload"])
def test_a_scribbler_under_a_transfer(pair: Pair, leftovers: None, region: str, seed: int) -> None:
    transfer = Transfer(pair, SOON)
    with hostile("scribbler", transfer.shmid, region, seed):
        writer, reader = transfer.run()
    assert_clear(writer)
    assert_clear(reader)
    if reader.code == 0 and region in ("slots", "payload"):
        assert transfer.arrived()


def assert_arrives(transfer: Transfer) -> None:
    writer, reader = transfer.run()
    assert (writer.code, reader.code) == (0, 0), (writer, reader)
    assert transfer.arrived()


@pytest.mark.parametrize("kind", ["_slots", "_turn"])
def test_tokens_forged_in_a_loop(pair: Pair, kind: str) -> None:
    transfer = Transfer(pair, PATIENCE)
    with hostile("forger", pair.key_path, *(name for name in SEMAPHORES if name.endswith(kind))):
        assert_arrives(transfer)


def test_an_honest_transfer_stays_within_the_limits(pair: Pair) -> None:
    assert_arrives(Transfer(pair, PATIENCE))


@pytest.mark.parametrize("value", [SEMVMX - 1, SEMVMX])
@pytest.mark.parametrize("name", SEMAPHORES[:4])
def test_values_near_semvmx(pair: Pair, name: str, value: int) -> None:
    """A semaphore that is full already; its own next token would be beyond SEMVMX (ERANGE)."""
    transfer = Transfer(pair, PATIENCE)
    key = transfer.place.semaphore_keys[SEMAPHORES.index(name)]
    sysv.set_semaphore_value(sysv.open_semaphore(key), value)
    assert_arrives(transfer)


@pytest.mark.parametrize("value", [1, SEMVMX - 1, SEMVMX])
def test_a_forged_writer_is_waited_for(pair: Pair, leftovers: None, value: int) -> None:
    """To the reader there is a live writer that sends nothing: it gives up by --timeout, and has lost nothing."""
    assert pair.write("kept").code == 0
    sysv.set_semaphore_value(sysv.open_semaphore(place_of(pair.key_path).semaphore_keys[4]), value)
    done = pair.read("--quiet", "--timeout", 0.3)
    assert (done.code, done.out) == (124, b"kept\n")
    assert done.err == "reader: gave up after 0.3 s of waiting for data; a writer is there, and sends nothing\n"
