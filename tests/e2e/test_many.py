"""Many writers and readers on one channel: no record is torn, doubled or lost, and each writer's order holds."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence

import pytest

from tests.e2e.watch import attached
from tests.helpers import Pair, finish, wait_until

SLOT = 4096
SMALL_RING = ("--slots", 2, "--slot-size", "4K")


def lines_of(writer: int, count: int = 300) -> list[bytes]:
    """`count` different lines that name their writer and number; every 50th is longer than two slots."""
    sizes = (2 * SLOT + number if number % 50 == 7 else number * 37 % 301 for number in range(count))
    return [b"%d %d %s\n" % (writer, number, b"x" * size) for number, size in enumerate(sizes)]


def start_writer(pair: Pair, name: int, lines: Sequence[bytes], *options: object) -> subprocess.Popen[bytes]:
    """A writer that sends these lines out of a file."""
    path = pair.directory / f"lines{name}"
    path.write_bytes(b"".join(lines))
    with path.open("rb") as file:
        return pair.start("writer", "--lines", *options, stdin=file)


def assert_all_arrived(sent: Sequence[Sequence[bytes]], outputs: Sequence[bytes]) -> None:
    """Every line came out once and whole, and each reader got each writer's lines in their order."""
    received = [output.splitlines(keepends=True) for output in outputs]
    assert sorted(line for output in received for line in output) == sorted(line for lines in sent for line in lines)
    for output in received:
        for writer in range(len(sent)):
            numbers = [int(line.split()[1]) for line in output if int(line.split()[0]) == writer]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize(("writers", "readers"), [(3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("ring", [(), SMALL_RING], ids=["default ring", "small ring"])
def test_lines(pair: Pair, writers: int, readers: int, ring: Sequence[object]) -> None:
    sent = [lines_of(writer) for writer in range(writers)]
    # It writes nothing and stays: so the channel is not over before everybody has joined.
    host = pair.start("writer", "--lines", *ring)
    takers = [pair.start("reader", "--output", pair.directory / f"taken{number}") for number in range(readers)]
    wait_until(lambda: attached(pair) == 1 + readers, "the readers' joining")
    sources = [start_writer(pair, number, lines, *ring) for number, lines in enumerate(sent)]
    codes = [finish(source).code for source in sources] + [finish(host, b"").code]
    codes += [finish(taker).code for taker in takers]
    assert codes == [0] * len(codes)
    assert_all_arrived(sent, [(pair.directory / f"taken{number}").read_bytes() for number in range(readers)])


def test_three_readers_share_the_lines_of_one_writer(pair: Pair) -> None:
    """With --count each takes its part, out of the middle of a packed slot too; together they have all of them."""
    sent = lines_of(0)
    writer = start_writer(pair, 0, sent)
    takers = [pair.start("reader", "--count", 100, "--output", pair.directory / f"taken{n}") for n in range(3)]
    assert [finish(process).code for process in (writer, *takers)] == [0] * 4
    outputs = [(pair.directory / f"taken{number}").read_bytes() for number in range(3)]
    assert [output.count(b"\n") for output in outputs] == [100] * 3
    assert_all_arrived([sent], outputs)


def test_files_travel_whole(pair: Pair) -> None:
    """Six writers at once, each with a file of many slots, and two readers: no file is mixed with another."""
    files = [random.Random(number).randbytes(20 * SLOT + number) for number in range(6)]
    # It writes nothing and stays: so the channel is not over before the slowest writer has joined.
    host = pair.start("writer", "--lines", *SMALL_RING)
    wait_until(lambda: attached(pair) == 1, "the host's joining")
    writers = []
    for number, data in enumerate(files):
        (pair.directory / f"file{number}").write_bytes(data)
        writers.append(pair.start("writer", *SMALL_RING, "--file", pair.directory / f"file{number}"))
    takers = [pair.start("reader", "--count", 3, "--output", pair.directory / f"taken{n}") for n in range(2)]
    assert [finish(process).code for process in (*writers, *takers)] == [0] * 8
    assert finish(host, b"").code == 0
    taken = [(pair.directory / f"taken{number}").read_bytes() for number in range(2)]
    assert sorted(split_into(files, taken[0]) + split_into(files, taken[1])) == list(range(6))


def split_into(files: Sequence[bytes], data: bytes) -> list[int]:
    """Which of the files `data` consists of, back to back. Raises StopIteration when it is anything else."""
    numbers = []
    while data:
        numbers.append(next(number for number, file in enumerate(files) if data.startswith(file)))
        data = data[len(files[numbers[-1]]) :]
    return numbers
