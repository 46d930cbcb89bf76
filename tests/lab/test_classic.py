"""The classic pair (common/lab/classic_*.py), as a person types it in two terminals."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import ROOT, Pair, finish, ipc_table, keys_of, left_behind, wait_until

LAB = ROOT / "common/lab"


def start(pair: Pair, program: str) -> subprocess.Popen[bytes]:
    return pair.spawn([sys.executable, str(LAB / f"classic_{program}.py"), str(pair.key_path)])


@pytest.mark.parametrize("first", ["writer", "reader"])
def test_a_message_goes_from_one_to_the_other_and_nothing_is_left(pair: Pair, first: str) -> None:
    """The message typed before the reader starts, or while it waits."""
    writer = start(pair, "writer")
    assert writer.stdout and writer.stdin
    writer.stdout.readline()
    assert writer.stdout.readline() == b"writer: type the message\n"
    if first == "writer":
        assert finish(writer, b"hello\n").out == b"writer: it is in the segment\n"
        done = finish(start(pair, "reader"))
    else:
        reader = start(pair, "reader")
        keys = keys_of(pair.key_path)
        wait_until(lambda: [row["nattch"] for row in ipc_table("shm") if row["key"] in keys] == [2], "both attached")
        writer.stdin.write(b"hello\n")
        assert finish(writer).code == 0
        done = finish(reader)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().splitlines()[-1] == "reader: it says 'hello'"
    assert not left_behind(keys_of(pair.key_path))


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_it_is_about_thirty_lines(program: str) -> None:
    assert len((LAB / f"classic_{program}.py").read_text().splitlines()) <= 35
