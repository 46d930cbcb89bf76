"""The comparison as a person reads it: what was fast, what a block cost, and why."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.words import plural
from tests.bench.comparison.calls import Counts
from tests.bench.comparison.measure import BOUNCE, KIB, SIZES, Figure, Results, fits
from tests.bench.mechanisms import MECHANISMS
from tests.bench.mechanisms.bare import Bare
from tests.bench.mechanisms.pipe import Pipe
from tests.bench.mechanisms.ring import Ring
from tests.bench.mechanisms.way import Way

BAR = 9  # characters of the longest one
MIB = 1024 * KIB
COLUMNS = (*SIZES, BOUNCE)
COSTED = (4 * KIB, MIB, BOUNCE)  # what the second table is about
NOTHING = "-"
SHOWN = (Pipe, Bare, Ring)  # by whose figures the reasons are shown


def show(console: Console, results: Results, counts: Counts | None, uncounted: str) -> None:
    """Both tables, what is missing in them, and the reasons. `uncounted` says why there are no `counts`."""
    console.print("MiB a second in blocks of a size, and round trips a second of one byte that bounces:\n")
    console.print(speed_table(results, "#" if console.options.ascii_only else "█"))
    for line in missing(results):
        console.print(line)
    console.print("\nWhat a block, or a round trip, costs both processes together:\n")
    console.print(cost_table(results, counts))
    console.print("strace counted the calls." if counts else f"{uncounted}: the calls are those of one that fits.")
    console.print(f"Wake-ups are of a process that slept. Medians of {plural(results.rounds, 'round')}.")
    for paragraph in why(results, counts):
        console.print(f"\n{paragraph}")


def size_name(size: int) -> str:
    """As a heading."""
    if size == BOUNCE:
        return "bounce"
    return f"{size} B" if size < KIB else f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"


def speed(figure: Figure, size: int) -> float:
    """MiB a second, or round trips a second."""
    return (size / MIB if size else 1) / figure.seconds


def ranking(results: Results, size: int) -> list[str]:
    """The names of those that move such a block, the fastest first."""
    able = [name for name, figures in results.figures.items() if size in figures]
    return sorted(able, key=lambda name: results.figures[name][size].seconds)


def speed_table(results: Results, character: str) -> Table:
    """Each cell a figure with its bar; the longest bar of a column is its fastest."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("", *map(size_name, COLUMNS)):
        table.add_column(heading)
    best = {size: speed(results.figures[name][size], size) for size in COLUMNS for name in ranking(results, size)[:1]}

    def cell(figures: dict[int, Figure], size: int) -> Text:
        if size not in figures:
            return Text(NOTHING)
        value = speed(figures[size], size)
        bar = character * max(round(BAR * value / best[size]), 1)
        return Text.assemble(short(value), "\n", (bar, "green"))

    for mechanism in MECHANISMS:
        figures = results.figures.get(mechanism.name, {})
        table.add_row(mechanism.name, *(cell(figures, size) for size in COLUMNS))
    return table


def missing(results: Results) -> Iterator[str]:
    """What stands behind each "-"."""
    for mechanism in MECHANISMS:
        if mechanism.name in results.refused:
            yield f"{NOTHING} {mechanism.name} cannot run here: {results.refused[mechanism.name]}"
        elif not fits(mechanism, max(SIZES)):
            limit = mechanism.limit()
            assert limit
            yield f"{NOTHING} {mechanism.name}: {limit.size} bytes at most in one message ({limit.file})"


def cost_table(results: Results, counts: Counts | None) -> Table:
    """Copies, system calls and wake-ups of both processes together, of one block and of one round trip."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("\ncopies")
    for what in ("calls", "wake-ups"):
        for number, size in enumerate(COSTED):
            table.add_column(f"{'' if number else what}\n{size_name(size)}", justify="right")
    for mechanism in MECHANISMS:
        figures = results.figures.get(mechanism.name, {})
        calls = [calls_of(mechanism, size, counts) for size in COSTED]
        woken = [figures[size].wake_ups if size in figures else None for size in COSTED]
        table.add_row(mechanism.name, mechanism.copies, *map(short, (*calls, *woken)))
    return table


def calls_of(mechanism: type[Way], size: int, counts: Counts | None) -> float | None:
    """The system calls of a block or a round trip, as counted or as documented."""
    if counts is not None:
        return counts.get((mechanism.name, size))
    return {4 * KIB: mechanism.calls, BOUNCE: 2 * mechanism.calls}.get(size)


def short(value: float | None) -> str:
    """As many digits as mean something."""
    return NOTHING if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def why(results: Results, counts: Counts | None) -> Iterator[str]:
    """Where shared memory wins and where it does not, with the figures of this run."""
    yield (
        "Why: a pipe, a FIFO, a socket or a queue copies a block twice, into memory of the kernel and out of it. In"
        " shared memory the producer's own copy into a slot is the only one: the consumer looks at the bytes where they"
        " are. And slots hold as much as one likes, so that nobody has to sleep until the other has made room."
    )
    if any(mechanism.name not in results.figures for mechanism in SHOWN):
        return
    calls = [short(calls_of(mechanism, 4 * KIB, counts)) for mechanism in SHOWN]
    pipe, bare, ring = (results.figures[mechanism.name] for mechanism in SHOWN)
    yield (
        f"{_told(ring[MIB], pipe[MIB])} 1 MiB takes {time_of(bare[MIB])} through a bare segment, {time_of(ring[MIB])}"
        f" through our ring and {time_of(pipe[MIB])} through a pipe, whose 64 KiB are filled and emptied again and"
        f" again, with {short(pipe[MIB].wake_ups)} wake-ups for the block; our ring has {short(ring[MIB].wake_ups)}."
    )
    yield (
        f"It does not win with small blocks. A pipe needs {calls[0]} system calls for 4 KiB, and the same calls make"
        f" one side wait for the other. Memory makes nobody wait, semaphores do: a bare segment needs {calls[1]} calls,"
        f" and our ring {calls[2]} and Python around them, so that any number can take part and each may be killed at"
        f" any instant. 64 B take {time_of(pipe[64])} through a pipe, {time_of(bare[64])} through a bare segment and"
        f" {time_of(ring[64])} through our ring."
    )
    yield (
        "Nor in latency. A byte that bounces is all waiting and no copying: the other process has to be"
        " woken whatever carries the byte, and what counts is how much is done around that, and whether both run on one"
        f" core: {time_of(pipe[BOUNCE])} to and fro through pipes, {time_of(bare[BOUNCE])} through bare segments,"
        f" {time_of(ring[BOUNCE])} through our rings."
    )
    for mechanism in (Bare, Ring):
        places = ", ".join(f"{size_name(size)} {place(results, size, mechanism.name)}" for size in COLUMNS)
        yield f"Places of the {mechanism.name.removeprefix('our ')} in this run: {places}."


def _told(ring: Figure, pipe: Figure) -> str:
    """The first sentence on large blocks, as this run has it."""
    if ring.seconds < pipe.seconds:
        return "It tells with large blocks."
    return "With large blocks it should tell, and in this run does not: was the machine busy?"


def time_of(figure: Figure) -> str:
    """The time of one block or round trip."""
    return f"{short(figure.seconds * 1e6)} us"


def place(results: Results, size: int, name: str) -> str:
    """As "2 of 5", 1 being the fastest."""
    names = ranking(results, size)
    return f"{names.index(name) + 1} of {len(names)}"
