"""The writer's input fails while it is read: one line, code 1, and a record that --resume can still complete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.watch import objects_of
from tests.faults.tools import SIZE, Transfer, powerless
from tests.helpers import Pair, finish, wait_until
from tests.said import torn, unfinished

SHORTER = SIZE // 2
NOT_THE_FILE = "writer: this is not the file to resume:"
ANEW = "`writer.py --remove` gives up what was begun, then send it anew\n"


def test_input_is_cut_while_it_is_read(pair: Pair) -> None:
    """Another process cuts the file. Written anew it is another one; put back as it was, --resume completes it."""
    transfer = Transfer(pair)
    writer = transfer.start_writer()
    before = transfer.source.stat()
    os.truncate(transfer.source, SHORTER)
    reader = transfer.read()
    done = finish(writer)
    assert (done.code, done.err) == (1, f"writer: the input became shorter: it ended after {SHORTER} of {SIZE} bytes\n")
    assert (reader.code, reader.err) == (1, unfinished(0, writer.pid, SHORTER))
    assert transfer.output.read_bytes() == transfer.data[:SHORTER]
    transfer.source.write_bytes(transfer.data)
    refused = pair.write("--quiet", "--file", transfer.source, "--resume")
    assert (refused.code, refused.err) == (
        1,
        f"{NOT_THE_FILE} it was changed after record 0 was begun from it; {ANEW}",
    )
    os.utime(transfer.source, ns=(before.st_atime_ns, before.st_mtime_ns))
    transfer.assert_completed_by_resume()
    assert objects_of(pair) == []


@pytest.mark.parametrize("long", [False, True], ids=["lines", "a long line"])
def test_lines_that_are_cut_while_they_are_read(pair: Pair, long: bool) -> None:
    """What is missing of a file of lines is no end of it."""
    source, lines = pair.directory / "lines", 1000 * [b"." * 99 + b"\n"]
    source.write_bytes(b"".join(lines).replace(b"\n", b".") if long else b"".join(lines))
    writer = pair.start("writer", "--quiet", "--lines", "--file", source, "--slots", 2, "--slot-size", "4K")
    wait_until(lambda: (status := pair.status()) and status["header"]["unread"] == 2, "a full ring")
    os.truncate(source, 50_000)
    received = pair.read("--quiet")
    done = finish(writer)
    line = "writer: the input became shorter: it ended after 50000 of 100000 bytes\n"
    assert (done.code, done.err, received.code) == (1, line, 1), (done, received)
    assert len(received.out) == 50_000


def test_a_cut_input_cannot_be_resumed(pair: Pair) -> None:
    """It is not the file any more; the record can still be given up by the next writer."""
    transfer = Transfer(pair)
    writer = transfer.start_writer()
    os.truncate(transfer.source, SHORTER)
    transfer.read()
    assert finish(writer).code == 1
    refused = pair.write("--quiet", "--file", transfer.source, "--resume")
    assert (refused.code, refused.err) == (
        1,
        f"{NOT_THE_FILE} its size is {SHORTER}, and record 0 stopped after {SHORTER} bytes of {SIZE}; {ANEW}",
    )
    assert pair.write("--quiet", "next").code == 0
    done = pair.read("--quiet")
    assert (done.code, done.out) == (1, b"next\n")
    assert done.err == torn(0, writer.pid, SHORTER), "which tells of its writer, too"
    assert objects_of(pair) == []


def test_input_gives_eio(pair: Pair) -> None:
    """Nothing is mapped at address 0, so reading one's own memory from there is an I/O error."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("there is no /proc/self/mem here")
    done = pair.write("--quiet", "--file", "/proc/self/mem")
    assert done.code == 1
    assert done.err == (
        "writer: /proc/self/mem: EIO (Input/output error): the device failed; what was committed stays in the channel\n"
    )
    assert pair.status() is None


def test_input_may_not_be_read(pair: Pair) -> None:
    secret = pair.directory / "secret"
    secret.touch(mode=0)
    done = powerless(pair).write("--quiet", "--file", secret)
    assert (done.code, done.err) == (
        1,
        f"writer: {secret}: EACCES (Permission denied): its permissions keep us out; check them, or name another"
        " file\n",
    )
    assert pair.status() is None
