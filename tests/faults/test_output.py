"""The reader's output fails: the disk is full, or others cut the file. What was not put out stays in the channel."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.tools import SIZE, Transfer, private_mounts
from tests.helpers import Finished, Pair, finish, wait_until

FULL = (
    "ENOSPC (No space left on device): no room is left on this disk or device; make room and go on, with --resume if it"
    " was --output, with >> if not, or write elsewhere: nothing is lost\n"
)


@pytest.fixture
def device_full() -> Path:
    path = Path("/dev/full")
    if not path.is_char_device():
        pytest.skip("there is no /dev/full here")
    return path


def test_standard_output_is_full(pair: Pair, device_full: Path) -> None:
    assert pair.write("kept").code == 0
    with open(device_full, "wb") as full:
        done = pair.read("--quiet", stdout=full)
    assert (done.code, done.err) == (1, f"reader: standard output: {FULL}")
    assert pair.read("--quiet").out == b"kept\n"


def test_output_is_a_full_device(pair: Pair, device_full: Path) -> None:
    assert pair.write("kept").code == 0
    done = pair.read("--quiet", "--output", device_full)
    assert (done.code, done.err) == (1, f"reader: {device_full}: {FULL}")
    assert pair.read("--quiet").out == b"kept\n"


SMALL_DISK = """
mount -t tmpfs -o size=200k none "$1" || exit 99
shift
"$@"; first=$?
cp "$OUTPUT" "$COPY"
mount -o remount,size=64m "${OUTPUT%/*}" && "$@" --resume; second=$?
cp "$OUTPUT" "$COPY"
exit $((10 * first + second))
"""


def test_a_small_disk_and_then_a_larger_one(pair: Pair) -> None:
    """The reader runs out of space inside a fragment; after room was made --resume completes the file."""
    disk = pair.directory / "disk"
    disk.mkdir()
    transfer = Transfer(pair)
    kept, transfer.output = transfer.output, disk / "output"
    writer = transfer.start_writer()
    mounting = [*private_mounts(), "sh", "-c", SMALL_DISK, "sh", str(disk)]
    inside = pair.under(*mounting, OUTPUT=str(transfer.output), COPY=str(kept))
    done = transfer.read(by=inside)
    assert (done.code, done.err) == (10, f"reader: {transfer.output}: {FULL}")
    assert finish(writer).code == 0
    assert kept.read_bytes() == transfer.data


def test_a_limit_on_the_size_of_files(pair: Pair) -> None:
    """RLIMIT_FSIZE (EFBIG): the disk that is full for one process only, and for which nobody needs root."""
    transfer = Transfer(pair)
    writer = transfer.start_writer()
    limit = 100_000
    reader = pair.start(
        *("reader", "--quiet", "--output", transfer.output),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    done = finish(reader)
    said = f"reader: {transfer.output}: EFBIG (File too large): no file may be that large here (see `ulimit -f`);"
    assert (done.code, done.err) == (
        1,
        f"{said} raise the limit and go on, with --resume if it was --output, with >> if not: nothing is lost\n",
    )
    assert transfer.output.stat().st_size == limit < SIZE
    assert transfer.read("--resume").code == 0
    assert finish(writer).code == 0
    assert transfer.output.read_bytes() == transfer.data


def cut_between_two_lines(pair: Pair, output: Path, start: Callable[[], subprocess.Popen[bytes]]) -> Finished:
    """How a reader ends whose output is emptied by others when the first of two lines is in it."""
    writer = pair.start("writer", "--quiet", "--lines")
    assert writer.stdin
    writer.stdin.write(b"the first\n")
    writer.stdin.flush()
    reader = start()
    wait_until(lambda: output.exists() and output.read_bytes() == b"the first\n", "the first line")
    os.truncate(output, 0)
    assert finish(writer, b"two\n").code == 0
    return finish(reader)


CUT = "was changed while it was written: it has 0 bytes, not the 10 that were received\n"


@pytest.mark.parametrize("named", [True, False], ids=["--output", ">"])
def test_an_output_that_others_cut(pair: Pair, named: bool) -> None:
    """No hole comes before what follows, which stays in the channel."""
    output = pair.directory / "output"

    def start() -> subprocess.Popen[bytes]:
        if named:
            return pair.start("reader", "--quiet", "--output", output)
        with output.open("wb") as file:
            return pair.start("reader", "--quiet", stdout=file)

    done = cut_between_two_lines(pair, output, start)
    assert (done.code, done.err) == (1, f"reader: {output if named else 'standard output'} {CUT}")
    assert output.read_bytes() == b""
    assert pair.read("--quiet").out == b"two\n"


def test_an_output_that_is_appended_to_may_be_cut(pair: Pair) -> None:
    output = pair.directory / "output"

    def start() -> subprocess.Popen[bytes]:
        with output.open("ab") as file:
            return pair.start("reader", "--quiet", stdout=file)

    done = cut_between_two_lines(pair, output, start)
    assert (done.code, done.err) == (0, "")
    assert output.read_bytes() == b"two\n"
