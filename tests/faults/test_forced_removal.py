"""kernel.shm_rmid_forced = 1: the kernel destroys a segment, and what is in it, at its last detach.

A writer that would leave unread data behind alone stays until it is read; whoever loses some all the same says so.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.families import only
from tests.faults.tools import private_ipc
from tests.helpers import Finished, Pair, finish, wait_until

pytestmark = only("sysv", "shm_rmid_forced is about segments of System V")

WAITS = (
    "writer: kernel.shm_rmid_forced is 1: the kernel destroys a segment with its last detach, and what is in it;"
    " waiting until all is read\n"
)
WENT = "kernel.shm_rmid_forced is 1: 1 unread slot went with the last detach, which was ours\n"


class Forced(Pair):
    """The programs in the IPC namespace of another process, where the kernel is so strict."""

    def objects(self) -> list[str]:
        """The rows of the kernel's tables there, which only a process of that namespace is shown."""
        rows: list[str] = []
        for table in ("shm", "sem"):
            command = [*self._prefix, "cat", f"/proc/sysvipc/{table}"]
            rows += subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
        return rows

    def wait_for_head(self, head: int) -> None:
        wait_until(lambda: (status := self.status()) and status["header"]["head"] == head, f"head {head}")

    def start_waiting_writer(self, *arguments: object) -> subprocess.Popen[bytes]:
        """A writer that has said all, and why it stays."""
        writer = self.start("writer", "--quiet", *arguments)
        assert writer.stderr and writer.stderr.readline().decode() == WAITS
        return writer


@pytest.fixture
def forced(pair: Pair) -> Iterator[Forced]:
    """Both programs where shm_rmid_forced is 1; nothing may be left there either."""
    command = private_ipc()
    if not shutil.which("nsenter"):
        pytest.skip("joining a private IPC namespace needs nsenter: install util-linux")
    script = "echo 1 > /proc/sys/kernel/shm_rmid_forced && echo ready && exec cat"
    holder = subprocess.Popen([*command, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdin and holder.stdout
        if holder.stdout.readline() != b"ready\n":
            pytest.skip("kernel.shm_rmid_forced cannot be set here: run the container with `--privileged`")
        inside = Forced(pair.key_path, pair.directory, ["nsenter", f"--ipc=/proc/{holder.pid}/ns/ipc"])
        yield inside
        assert inside.objects() == []
    finally:
        holder.communicate()


def test_a_writer_stays_until_all_is_read(forced: Forced) -> None:
    writer = forced.start_waiting_writer("hello")
    assert writer.poll() is None
    read = forced.read("--quiet")
    assert (read.code, read.out, read.err) == (0, b"hello\n", "")
    written = finish(writer)
    assert (written.code, written.err) == (0, "")


def test_the_lines_of_a_writer_too(forced: Forced) -> None:
    """Nobody knew yet that they are waited for when the input ended."""
    writer = forced.start("writer", "--quiet", "--lines")
    written_by = writer.stdin
    assert written_by and writer.stderr
    written_by.write(b"one\ntwo\n")
    written_by.close()
    writer.stdin = None
    assert writer.stderr.readline().decode() == WAITS
    assert forced.read("--quiet", "--count", 1).out == b"one\n"
    read = forced.read("--quiet")
    assert (read.code, read.out, read.err) == (0, b"two\n", "")
    assert finish(writer).code == 0


def test_nothing_to_wait_for(forced: Forced) -> None:
    """What is read already, or was never said, keeps nobody."""
    written = forced.write("--quiet", "--lines", stdin=b"")
    assert (written.code, written.err) == (0, "")
    assert forced.objects() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_writer_that_is_interrupted_says_what_is_lost(forced: Forced, number: signal.Signals) -> None:
    writer = forced.start_waiting_writer("hello")
    writer.send_signal(number)
    done = finish(writer)
    assert (done.code, done.err) == (128 + number, f"writer: {WENT}writer: ended by {number.name}\n")


def test_what_is_lost_is_not_to_be_read(forced: Forced) -> None:
    """Whoever hears of the loss hears of no slots that wait, and of nothing to go on with."""
    writer = forced.start("writer", "hello")
    assert writer.stderr
    while (line := writer.stderr.readline().decode()) != WAITS:
        assert line
    writer.send_signal(signal.SIGINT)
    done = finish(writer)
    assert (done.code, done.err) == (128 + signal.SIGINT, f"writer: {WENT}writer: ended by SIGINT\n")


def test_what_is_lost_cannot_be_resumed(forced: Forced) -> None:
    (forced.directory / "record").write_bytes(bytes(8192))
    writer = forced.start("writer", "--slots", 1, "--slot-size", "4K", "--file", "record")
    forced.wait_for_head(1)
    writer.send_signal(signal.SIGINT)
    done = finish(writer)
    summary, rest = done.err.partition("writer: sent 0 records, 4096 bytes")[2].split("\n", 1)
    assert not summary or summary.startswith(" in "), "the time, of what took a while"
    assert (done.code, rest) == (128 + signal.SIGINT, f"writer: {WENT}writer: ended by SIGINT\n")


def test_a_writer_whose_patience_ends_says_what_is_lost(forced: Forced) -> None:
    done = forced.write("--quiet", "--timeout", 0, "hello")
    gave_up = "writer: gave up after 0 s of waiting until all is read, and nobody is reading; start `reader.py`\n"
    assert (done.code, done.err) == (124, f"{WAITS}writer: {WENT}{gave_up}")


def test_a_reader_that_has_enough_and_is_the_last(forced: Forced) -> None:
    """The writers that kept the rest for others were killed."""
    data = bytes(3 * 2**20)  # far more than a pipe holds
    (forced.directory / "record").write_bytes(data)
    writers = [forced.start_waiting_writer("--file", "record")]
    fragments = 6  # of 512 KiB
    forced.wait_for_head(fragments)
    writers.append(forced.start("writer", "--quiet", "--wait", "rest"))
    forced.wait_for_head(fragments + 1)
    reader = forced.start("reader", "--quiet", "--count", 1)
    wait_until(lambda: (status := forced.status()) and status["semaphores"]["reader_turn"]["value"] == 0)
    for writer in writers:
        writer.kill()
        writer.wait()
    read: Finished = finish(reader)
    assert (read.code, read.out, read.err) == (1, data, f"reader: {WENT}")
