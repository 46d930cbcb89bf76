"""Each System V call that our programs make fails once, in turn: one line, code 1, and the channel is not spoilt.

strace makes the N-th call of a kind fail, for every N that a good run has. The real kernel refuses few of them, but
what a program does then should not depend on which.
"""

from __future__ import annotations

import pytest

from tests.helpers import Finished, Pair
from tests.lab.shell import ended, start, strace

# An errno that the kernel has for this call; glibc's semop is the system call semtimedop.
CALLS = [
    ("shmget", "EACCES"),
    ("shmat", "ENOMEM"),
    ("shmctl", "EIDRM"),
    ("shmdt", "EINVAL"),
    ("semget", "EACCES"),
    pytest.param("semctl", "EACCES", marks=pytest.mark.slow),  # the reader makes it so often
    ("semtimedop", "EACCES"),
]


@pytest.mark.parametrize(("call", "errno"), CALLS)
@pytest.mark.parametrize("program", ["writer", "reader"])
def test_a_call_that_fails_is_one_line_and_spoils_nothing(pair: Pair, program: str, call: str, errno: str) -> None:
    for number in range(1, _calls_of_a_good_run(pair, program, call) + 1):
        done = _run(pair, program, "-e", f"trace={call}", "-e", f"inject={call}:error={errno}:when={number}")
        where = f"{call} number {number} of {program}: {done}"
        assert done.code in (0, 1), where
        assert done.err.count("\n") == done.code, where  # --quiet says nothing but errors, and an error is one line
        assert done.code == 0 or f": {errno}" in done.err, where
        assert pair.write("--quiet", "again").code == 0, where
        received = done.out + pair.read("--quiet").out
        assert received in (b"again\n", b"hello\nagain\n", b"hello\nhello\nagain\n"), where
        assert program == "writer" or received != b"again\n", f"lost: {where}"
        assert pair.status() is None, where


def _run(pair: Pair, program: str, *options: str) -> Finished:
    """One program with a message to send, or to receive, under strace."""
    if program == "reader":
        assert pair.write("hello").code == 0
    arguments = ("hello",) if program == "writer" else ()
    return ended(start(pair.under(*strace("-o", "log", *options)), program, "--quiet", *arguments))


def _calls_of_a_good_run(pair: Pair, program: str, call: str) -> int:
    assert _run(pair, program, "-e", f"trace={call}").code == 0
    if program == "writer":
        assert pair.read().code == 0
    return len((pair.directory / "log").read_text().splitlines())
