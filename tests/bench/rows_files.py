"""The rows of files: to /dev/null, to another file, from a pipe and into one, with checksums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.bench import textbook
from tests.bench.driver import Row, Sample
from tests.bench.report import Goal
from tests.bench.stage import BLOCKS, GIB, KIB, MIB, Child, Stage, seconds
from tests.helpers import Pair

SMALL_BLOCK = KIB  # of the textbook's pair; a 32nd of the file is enough, and is counted 32 times
PART = 32
ALIKE = Goal("POSIX", "System V", at_most=1.1)


def rows(stage: Stage) -> list[Row]:
    """In the order of their files' sizes, so that the large file only grows."""
    amounts = stage.amounts
    return [
        *(stream(stage, size) for size in amounts.curve),
        large_stream(stage),
        checksums(stage),
        from_a_pipe(stage),
        into_a_pipe(stage),
        file_to_file(stage),
        largest_stream(stage),
    ]


def size_name(size: int) -> str:
    """Such as: 64 MiB."""
    unit, name = next((unit, name) for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size >= unit)
    return f"{size / unit:g} {name}"


def stream(stage: Stage, size: int) -> Row:
    """One point of the curve."""
    title = f"{size_name(size)} to /dev/null"
    return Row(f"stream {size}", title, "s", _stream_columns(stage, size), [ALIKE], size)


def large_stream(stage: Stage) -> Row:
    """The row with every rival."""
    size = stage.amounts.large
    small = f"C, {SMALL_BLOCK} bytes"
    goals = [
        Goal("cat | cat", "System V", at_least=13),
        Goal("System V", "dd", at_most=1.5),
        Goal("C, best block", "System V", at_least=1),
        Goal(small, "System V", at_least=300),
        ALIKE,
    ]
    columns = {
        **_stream_columns(stage, size),
        "C, best block": lambda: seconds(partial(textbook.start, stage, stage.file(size), _best_c_block(stage, size))),
        small: lambda: [PART * seconds(partial(textbook.start, stage, stage.file(size // PART), SMALL_BLOCK))[0]],
    }
    return Row(f"stream {size}", f"{size_name(size)} to /dev/null", "s", columns, goals, size)


def largest_stream(stage: Stage) -> Row:
    """Where the start-up no longer counts."""
    size = stage.amounts.largest
    goals = [Goal("System V", "dd", at_most=1.2), ALIKE]
    return Row(f"stream {size}", f"{size_name(size)} to /dev/null", "s", _stream_columns(stage, size), goals, size)


def _stream_columns(stage: Stage, size: int) -> dict[str, Sample]:
    def pair(ours: Pair) -> list[float]:
        path = stage.file(size)
        return seconds(lambda: [stage.start(ours, "writer", "--file", path), stage.start(ours, "reader")])

    def dd() -> list[float]:
        block = best_block(stage, "dd to /dev/null", lambda block: _dd(stage, stage.file(size), "/dev/null", block))
        return seconds(lambda: _dd(stage, stage.file(size), "/dev/null", block))

    return {
        **_families(stage, pair),
        "cat | cat": lambda: seconds(partial(stage.pipe, ["cat", stage.file(size)], ["cat"])),
        "dd": dd,
    }


def _families(stage: Stage, sample: Callable[[Pair], list[float]]) -> dict[str, Sample]:
    return {name: partial(sample, pair) for name, pair in stage.pairs.items()}


def _dd(stage: Stage, source: Path, target: object, block: int) -> list[Child]:
    return [stage.spawn("dd", f"if={source}", f"of={target}", f"bs={block}", "status=none")]


def _best_c_block(stage: Stage, size: int) -> int:
    return best_block(stage, "C", lambda block: textbook.start(stage, stage.file(size), block))


def best_block(stage: Stage, purpose: str, start: Callable[[int], Sequence[Child]]) -> int:
    """The block size with which it is quickest, found out once, in three tries of each."""
    if purpose not in stage.blocks:
        tries = [(seconds(partial(start, block))[0], block) for _ in range(3) for block in BLOCKS]
        stage.blocks[purpose] = min(tries)[1]
    return stage.blocks[purpose]


def checksums(stage: Stage) -> Row:
    """--verify: what zlib's CRC-32 costs, once on each side."""
    size, ours = stage.amounts.large, stage.pairs["System V"]

    def sample(*options: str) -> list[float]:
        path = stage.file(size)
        return seconds(lambda: [stage.start(ours, "writer", *options, "--file", path), stage.start(ours, "reader")])

    columns: dict[str, Sample] = {"with": partial(sample, "--verify"), "without": sample}
    return Row("verify", f"--verify, {size_name(size)}", "s", columns, [Goal("with", "without", at_most=2.3)], size)


def _against_three_cats(stage: Stage, name: str, title: str, pair: Callable[[Pair], list[float]]) -> Row:
    """What has a pipe on one side of the segment, against `cat FILE | cat | cat`."""
    size = stage.amounts.large
    columns = {
        **_families(stage, pair),
        "cat | cat": lambda: seconds(partial(stage.pipe, ["cat", stage.file(size)], ["cat"], ["cat"])),
    }
    goals = [Goal("cat | cat", "System V", at_least=1.8), ALIKE]
    return Row(name, f"{title}, {size_name(size)}", "s", columns, goals, size)


def from_a_pipe(stage: Stage) -> Row:
    """cat FILE | writer.py, and a reader to /dev/null."""
    size = stage.amounts.large

    def pair(ours: Pair) -> list[float]:
        writer = ours.command("writer", "--quiet")
        path = stage.file(size)
        return seconds(lambda: [*stage.pipe(["cat", path], writer), stage.start(ours, "reader")])

    return _against_three_cats(stage, "from a pipe", "producer | writer", pair)


def into_a_pipe(stage: Stage) -> Row:
    """writer.py --file, and reader.py | cat."""
    size = stage.amounts.large

    def pair(ours: Pair) -> list[float]:
        reader = ours.command("reader", "--quiet")
        path = stage.file(size)
        return seconds(lambda: [stage.start(ours, "writer", "--file", path), *stage.pipe(reader, ["cat"])])

    return _against_three_cats(stage, "into a pipe", "reader | consumer", pair)


def file_to_file(stage: Stage) -> Row:
    """Into a new file each time."""
    size = stage.amounts.large

    def into_output(start: Callable[[Path], Sequence[Child]]) -> list[float]:
        stage.file(size)  # now: what it takes is not part of the sample
        output = stage.output(size)
        try:
            return seconds(partial(start, output))
        finally:
            output.unlink(missing_ok=True)

    def pair(ours: Pair) -> list[float]:
        path = stage.file(size)
        return into_output(
            lambda output: [
                stage.start(ours, "writer", "--file", path),
                stage.start(ours, "reader", "--output", output),
            ]
        )

    def dd() -> list[float]:
        def start(block: int) -> list[Child]:
            return _dd(stage, stage.file(size), stage.output(size), block)

        block = best_block(stage, "dd to a file", start)
        return into_output(lambda output: _dd(stage, stage.file(size), output, block))

    def cats(output: Path) -> list[Child]:
        with output.open("wb") as stream:
            return stage.pipe(["cat", stage.file(size)], ["cat"], stdout=stream.fileno())

    goals = [Goal("System V", "dd", at_most=1.1), Goal("System V", "cat | cat", at_most=0.5), ALIKE]
    columns = {**_families(stage, pair), "dd": dd, "cat | cat": lambda: into_output(cats)}
    return Row("file to file", f"{size_name(size)}, file to file", "s", columns, goals, size)
