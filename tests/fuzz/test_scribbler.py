"""A peer that scribbles over the segment, or forges tokens, while a real transfer runs.

Promised, whatever it stores and whenever: both programs end (with --timeout: by themselves), with 0, 1 or 124, after
at most one line of error beside those that tell what is lost, without a traceback, a signal's death or more memory than
an honest transfer takes.

Promised of --verify: every byte of a fragment that a reader puts out is the byte that the writer summed, and the
fragments of a record follow on without a gap or a repeat. So a reader's 0 means the right bytes unless the scribbler
forges a checksum, or moves head or tail to the border of a record, where nothing but head and tail says what was sent.

test_ends.py makes the same lies at each step of the protocol, over objects in a bytearray. What it cannot show is here:
real processes, with the kernel's objects, and stores between any two instructions.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from common.ipc.posix_calls import semaphore_path
from common.ipc.posix_objects import segment_name
from common.ipc.posix_roles import WRITERS
from common.ipc.posix_semaphores import named_after
from common.layout import SEMAPHORES
from tests.families import only
from tests.helpers import PATIENCE, ROOT, Finished, Pair, finish, wait_until
from tests.in_process import FAMILIES, POSIX, fill, place_of, posix, remove_objects

SIZE = 8 * 2**20
SOON = 3.0  # seconds without progress, after which a program with a dead peer gives up
MEMORY_LIMIT = 64 * 2**20  # of data; an honest transfer takes about 10 MiB


class Transfer:
    """A file on its way from a writer, which is blocked by the full ring, to a reader that is yet to start."""

    def __init__(self, pair: Pair, timeout: float) -> None:
        self._pair, self._timeout = pair, timeout
        self.source, self.output = pair.directory / "source", pair.directory / "output"
        self.source.write_bytes(Random(1).randbytes(SIZE))
        self._writer = self._start("writer", "--file", self.source, "--verify", "--slots", 4, "--slot-size", "16K")
        wait_until(self._full, "a full ring")

    def _start(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        child = self._pair.start(program, "--quiet", "--timeout", self._timeout, *arguments, stdin=None)
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
        return child

    def _full(self) -> bool:
        status = self._pair.status()
        return bool(status and status["header"]["unread"] == 4)

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
    remove_objects(place_of(pair.key_path), FAMILIES[pair.ipc])


@contextmanager
def hostile(pair: Pair, module: str, *arguments: object) -> Iterator[None]:
    """Run a hostile process beside the block."""
    words = [sys.executable, "-m", f"tests.fuzz.{module}", pair.ipc, *map(str, (pair.key_path, *arguments))]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


# What a reader tells of what is missing, a line for each, before it ends with 1.
LOST = ("another reader met ", "the channel is broken off: ", " is torn: ", " comes without its first ")


def assert_clear(done: Finished, program: str) -> None:
    assert done.code in (0, 1, 124), done
    lines = done.err.splitlines()
    assert bool(lines) == bool(done.code), done
    assert all(line.startswith(f"{program}: ") for line in lines), done
    assert sum(not any(lost in line for lost in LOST) for line in lines) <= 1, done
    assert "MemoryError" not in done.err, done


@pytest.mark.parametrize("region", ["header", "counters", "slots"])
def test_a_scribbler_under_a_transfer(pair: Pair, leftovers: None, region: str) -> None:
    transfer = Transfer(pair, SOON)
    with hostile(pair, "scribbler", region):
        writer, reader = transfer.run()
    assert_clear(writer, "writer")
    assert_clear(reader, "reader")
    if reader.code == 0 and region == "slots":
        assert transfer.arrived()


def assert_arrives(transfer: Transfer) -> None:
    writer, reader = transfer.run()
    assert (writer.code, reader.code) == (0, 0), (writer, reader)
    assert transfer.arrived()


def test_tokens_forged_in_a_loop(pair: Pair) -> None:
    transfer = Transfer(pair, PATIENCE)
    with hostile(pair, "forger", *SEMAPHORES[:4]):
        assert_arrives(transfer)


def test_semaphores_that_are_full(pair: Pair) -> None:
    """The next token of each would be beyond SEMVMX (ERANGE), or SEM_VALUE_MAX (EOVERFLOW)."""
    transfer = Transfer(pair, PATIENCE)
    for name in SEMAPHORES[:4]:
        fill(place_of(pair.key_path), FAMILIES[pair.ipc], name)
    assert_arrives(transfer)


@only("posix", "a semaphore of System V is in the kernel's memory")
@pytest.mark.parametrize("kind", [5, 0x7F], ids=["would sleep for ever", "would abort"])
def test_a_semaphore_that_is_overwritten(pair: Pair, leftovers: None, kind: int) -> None:
    """The word that tells the kernel how to sleep on it. Whoever sleeps sees it when it wakes, at its heartbeat."""
    transfer = Transfer(pair, PATIENCE)
    (name,) = (name for role, name in named_after(segment_name(place_of(pair.key_path))) if role == "empty_slots")
    with open(semaphore_path(name), "r+b") as file:
        file.seek(8)
        file.write(bytes([kind]))
    writer, reader = transfer.run()
    assert_clear(writer, "writer")
    assert_clear(reader, "reader")
    assert {writer.code, reader.code} == {1}


@contextmanager
def forged_writer(pair: Pair) -> Iterator[None]:
    """A presence that nobody is behind: as many tokens as can be, and over POSIX, where they say nothing, a lock."""
    place, family = place_of(pair.key_path), FAMILIES[pair.ipc]
    fill(place, family, "writers")
    if family is not POSIX:
        yield
        return
    fd = posix.open_segment(segment_name(place))
    assert posix.try_lock(fd, WRITERS, exclusive=False)
    yield
    posix.close_segment(fd)


def test_a_forged_writer_is_waited_for(pair: Pair, leftovers: None) -> None:
    """To the reader there is a live writer that sends nothing: it gives up by --timeout, and has lost nothing."""
    assert pair.write("kept").code == 0
    with forged_writer(pair):
        assert pair.write("this, too").code == 0
        done = pair.read("--quiet", "--timeout", 0.3)
    assert (done.code, done.out) == (124, b"kept\nthis, too\n")
    assert done.err == "reader: gave up after 0.3 s of waiting for data; a writer is there, and sends nothing\n"
