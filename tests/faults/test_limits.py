"""The system has nothing left to give: segments, semaphores, address space. Nothing is left behind, nothing is lost.

Which errno stands for which limit is the business of tests/lab; here it is what becomes of the channel, and that it
goes on as soon as there is room again.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.watch import names_of, objects_of
from tests.families import only
from tests.faults.tools import private_ipc
from tests.helpers import Finished, Pair, finish

# Arguments: the limit's file in /proc/sys/kernel, its exhausted value, and the program's command. The last line of
# output tells the first program's exit code, whether it left any object, and what the second one's was. It is the shell
# that looks, because the kernel's tables show each process those of its own namespace.
EXHAUSTED = """
limit=/proc/sys/kernel/$1; enough=$(cat $limit); exhausted=$2; shift 2
echo "$exhausted" > $limit
"$@" 2>error; first=$?
objects=$(cat /proc/sysvipc/shm /proc/sysvipc/sem | grep -vc key)
echo "$enough" > $limit
"$@" 2>/dev/null; second=$?
printf '[%d, %d, %d]' $first $objects $second
"""


@only("sysv", "/proc/sys/kernel limits System V alone; a full /dev/shm is in tests/test_posix_calls.py")
@pytest.mark.parametrize(
    ("limit", "value", "call"),
    [
        ("shmmax", "8192", "shmget"),
        ("shmall", "2", "shmget"),
        ("shmmni", "0", "shmget"),
        *(("sem", f"32000 1024000000 500 {count}", "semget") for count in range(5)),
    ],
)
def test_a_creation_that_the_limits_refuse(pair: Pair, limit: str, value: str, call: str) -> None:
    """What was made until then is taken back, and the same command works once there is room."""
    pair = pair.under(*private_ipc(), "sh", "-c", EXHAUSTED, "sh", limit, value)
    done = pair.write("--quiet", "kept")
    assert json.loads(done.out) == [1, 0, 0]
    error = (pair.directory / "error").read_text()
    assert error.startswith(f"writer: {call}("), error
    assert error.count("\n") == 1, error


NO_ROOM = "ENOMEM (Cannot allocate memory): there is no room for it in the address space of this process"
NO_MEMORY = "there is no memory left; a smaller --slot-size needs less, see also `ulimit -v` and `ulimit -d`\n"


def _limit(kind: int, size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (size, size))


BIG = 96 * 2**20  # of a slot; without it a program takes far less than that


def test_a_reader_without_room_in_its_address_space(pair: Pair) -> None:
    """The next reader, which has more, gets the record."""
    assert pair.write("--quiet", "--slots", 1, "--slot-size", BIG, "kept").code == 0
    done = finish(pair.start("reader", "--quiet", preexec_fn=_limit(resource.RLIMIT_AS, BIG)))
    assert done.code == 1
    assert done.err.startswith(f"reader: {names_of(pair).attach}("), done
    assert NO_ROOM in done.err, done
    assert pair.read("--quiet").out == b"kept\n"


def test_a_writer_without_room_in_its_address_space(pair: Pair) -> None:
    done = finish(
        pair.start(
            *("writer", "--quiet", "--slots", 1, "--slot-size", BIG, "lost"),
            preexec_fn=_limit(resource.RLIMIT_AS, BIG),
        )
    )
    assert done.code == 1
    assert done.err.startswith(f"writer: {names_of(pair).attach}("), done
    assert NO_ROOM in done.err, done
    assert pair.status() is None


def test_a_writer_without_memory_for_its_checksums(pair: Pair) -> None:
    """--verify puts each fragment aside first, in memory of our own (RLIMIT_DATA)."""
    source = pair.directory / "source"
    with open(source, "wb") as file:
        file.truncate(BIG)
    done = finish(
        pair.start(
            *("writer", "--quiet", "--slots", 1, "--slot-size", BIG, "--verify", "--file", source),
            preexec_fn=_limit(resource.RLIMIT_DATA, BIG // 4),
        )
    )
    assert (done.code, done.err) == (1, f"writer: {NO_MEMORY}")
    assert pair.status() is None


def test_a_reader_without_memory_for_its_checksums(pair: Pair) -> None:
    """It fails before anything went out, and the next reader gets all."""
    source = pair.directory / "source"
    with open(source, "wb") as file:
        file.truncate(BIG)
    assert pair.write("--quiet", "--slots", 1, "--slot-size", BIG, "--verify", "--file", source).code == 0
    done = finish(pair.start("reader", "--quiet", preexec_fn=_limit(resource.RLIMIT_DATA, BIG // 4)))
    assert (done.code, done.out, done.err) == (1, b"", f"reader: {NO_MEMORY}")
    assert pair.read("--quiet").out == bytes(BIG)


def test_lines_through_a_slot_that_fits_but_once(pair: Pair) -> None:
    """The address space has room for the segment, and not for a read as large as its slot; a long line is no more."""
    text = b"a line\n" + b"x" * 3 * 2**20 + b"\n"
    arguments = ("--quiet", "--lines", "--slots", 1, "--slot-size", "1G")
    writer = pair.start("writer", *arguments, preexec_fn=_limit(resource.RLIMIT_AS, 3 * 2**29))
    reader = pair.start("reader", "--quiet", "--output", "output")
    written = finish(writer, text)
    assert (written.code, written.err) == (0, "")
    assert finish(reader).code == 0
    assert (pair.directory / "output").read_bytes() == text


def _few_descriptors(pair: Pair) -> Iterator[Pair]:
    """The pair with ever more files that it may open, from the fewest with which a Python starts at all."""
    for number in range(4, 11):
        limit = ["sh", "-c", f'ulimit -n {number}; exec "$@"', "sh"]
        if not finish(pair.spawn([*limit, sys.executable, "-c", ""])).code:
            yield pair.under(*limit)


def _refused(done: Finished) -> bool:
    """Whether it failed, as it should: with one line that names the limit."""
    if done.code == 0:
        return False
    assert done.code == 1 and done.err.count("\n") == 1 and "EMFILE (Too many open files)" in done.err, done
    assert "Errno" not in done.err and "ulimit -n" in done.err, done
    return True


def test_a_writer_that_may_open_few_files(pair: Pair) -> None:
    refused = []
    for limited in _few_descriptors(pair):
        refused.append(_refused(limited.write("--quiet", "kept")))
        if not refused[-1]:
            assert pair.read("--quiet").out == b"kept\n"
        assert objects_of(pair) == []
    assert set(refused) == ({False} if pair.ipc == "sysv" else {True, False})  # there, what starts a Python is enough


def test_a_reader_that_may_open_few_files(pair: Pair) -> None:
    refused = []
    for limited in _few_descriptors(pair):
        assert pair.write("--quiet", "kept").code == 0
        done = limited.read("--quiet")
        refused.append(_refused(done))
        assert (pair.read("--quiet").out if refused[-1] else done.out) == b"kept\n"
        assert objects_of(pair) == []
    assert set(refused) == ({False} if pair.ipc == "sysv" else {True, False})  # there, what starts a Python is enough
