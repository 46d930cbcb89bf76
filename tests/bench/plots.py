"""A report as pictures: throughput by size, the latency of a line, the cost by number of processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.report import Report, Result, percentile

COLOURS = {"System V": "C0", "POSIX": "C1", "cat | cat": "C2", "dd": "C3"}
MIB = 2**20
SHARES = [step / 2 for step in range(201)]  # percent: finer than anybody sees


def draw(report: Report, directory: Path) -> list[Path]:
    """One SVG for each picture that the report has figures for."""
    import matplotlib

    matplotlib.use("Agg")
    # The same report gives the same bytes, and text that can be searched.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "axes.spines.top": False})
    directory.mkdir(parents=True, exist_ok=True)
    rows = {row.name: row for row in report.results}
    streams = [row for row in report.results if row.name.startswith("stream")]
    pictures = []
    if streams:
        pictures.append(_save(directory / "throughput.svg", report, lambda axes: throughput(axes, streams)))
    if "typed line" in rows:
        pictures.append(_save(directory / "latency.svg", report, lambda axes: latency(axes, rows["typed line"])))
    if "many" in rows:
        pictures.append(_save(directory / "processes.svg", report, lambda axes: processes(axes, rows["many"])))
    return pictures


def _save(path: Path, report: Report, fill: Any) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    fill(axes)
    axes.grid(alpha=0.3)
    figure.text(0.01, -0.03, f"{report.command}, {report.date}, {report.machine}", fontsize=7)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)
    return path


def throughput(axes: Any, rows: Sequence[Result]) -> None:
    """MiB/s against the size of the file, and where the pair overtakes a pipe."""
    for column, colour in COLOURS.items():
        points = [(row.size, row.columns[column].samples) for row in rows if row.figure(column)]
        if not points:
            continue
        rates = [[size / MIB / second for second in samples] for size, samples in points]
        sizes = [size / MIB for size, _ in points]
        axes.plot(sizes, [percentile(rate, 50) for rate in rates], marker="o", color=colour, label=column)
        axes.fill_between(sizes, list(map(min, rates)), list(map(max, rates)), color=colour, alpha=0.15)
    crossing = crossing_point(rows, "System V", "cat | cat")
    if crossing:
        label = f"from {crossing / MIB:.0f} MiB on quicker than a pipe"
        axes.axvline(crossing / MIB, color="grey", linestyle="--", label=label)
    axes.set(xscale="log", yscale="log", xlabel="file, MiB", ylabel="MiB/s, with start-up", title="File to /dev/null")
    axes.set_xticks([row.size / MIB for row in rows], [f"{row.size / MIB:g}" for row in rows])
    axes.legend()


def crossing_point(rows: Sequence[Result], one: str, other: str) -> float | None:
    """The size from which on `one` takes less time than `other`, between two measured sizes; None if nowhere."""
    points = []
    for row in sorted(rows, key=lambda row: row.size):
        own, its = row.figure(one), row.figure(other)
        if own and its:
            points.append((math.log(row.size), math.log(own / its)))
    for (size, slower), (next_size, next_slower) in itertools.pairwise(points):
        if slower > 0 >= next_slower:
            return math.exp(size + (next_size - size) * slower / (slower - next_slower))
    return None


def latency(axes: Any, row: Result) -> None:
    """How many of the lines have arrived after so long."""
    for column in row.columns:
        samples = row.columns[column].samples
        if samples:
            label = f"{column}: p99 {percentile(samples, 99):.0f} us"
            axes.plot([percentile(samples, share) for share in SHARES], SHARES, color=COLOURS[column], label=label)
    axes.axhline(99, color="grey", linestyle=":")
    axes.set(xscale="log", xlabel="us", ylabel="% of the lines have arrived", title="One typed line, in to out")
    axes.legend()


def processes(axes: Any, row: Result) -> None:
    """What the same lines cost when more programs share the work."""
    counts = [int(column.split()[0]) for column in row.columns if row.figure(column)]
    samples = [column.samples for column in row.columns.values() if column.samples]
    middle = [percentile(some, 50) for some in samples]
    spread = [
        [at - min(some) for at, some in zip(middle, samples, strict=True)],
        [max(some) - at for at, some in zip(middle, samples, strict=True)],
    ]
    axes.errorbar(counts, middle, yerr=spread, marker="o", capsize=4)
    axes.set_ylim(bottom=0)
    axes.set_xticks(counts)
    axes.set(xlabel="writers, and as many readers", ylabel="s for all lines, with start-up", title=row.title)
