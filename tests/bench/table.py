"""A report as tables: on a terminal, and as Markdown between two marks in README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.report import Goal, Report, Result

HEADINGS = ("what", "figure", "against", "ratio", "target", "")
CURVE = ("file", "System V", "POSIX", "cat | cat", "dd")
SPENT = ("what", "column", "median", "user", "system", "sleeps")
BEGIN, END = "<!-- figures: written by --readme -->\n", "<!-- end of figures -->\n"
README = Path(__file__).with_name("README.md")


def lines_of(row: Result) -> list[tuple[str, ...]]:
    """One line for each target, in the order of HEADINGS."""
    return [
        (
            row.title if goal is row.goals[0] else "",
            _figure(row, goal.over, goal.statistic),
            _figure(row, goal.under, goal.statistic) if goal.under else "",
            _value(row, goal),
            goal.limit,
            row.verdict(goal),
        )
        for goal in row.goals
    ]


def _figure(row: Result, column: str, statistic: str) -> str:
    """The column's name, what stands for its samples, and from where to where they go."""
    figure, samples = row.figure(column, statistic), row.columns[column].samples
    if figure is None:
        return column
    kind = "" if statistic == "median" else f" {statistic}"
    unit = f" {row.unit}" if row.unit else ""
    return f"{column}{kind} {_digits(figure)}{unit} ({_digits(min(samples))} - {_digits(max(samples))})"


def _digits(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


def _value(row: Result, goal: Goal) -> str:
    value = row.value(goal)
    if value is None:
        return ""
    if goal.difference:
        return f"+{value:.1f} {row.unit}"
    return f"{value:.2f}" if goal.under else f"{value:.2g} {row.unit}".rstrip()


def curve(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """MiB/s for each size of file, in the order of CURVE."""
    return [
        (row.title.removesuffix(" to /dev/null"), *(_rate(row, column) for column in CURVE[1:]))
        for row in results
        if row.name.startswith("stream")
    ]


def _rate(row: Result, column: str) -> str:
    figure = row.figure(column)
    return "not run" if figure is None else f"{row.size / 2**20 / figure:.0f}"


def spent(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """What every column of a row with a missed target spent, in the order of SPENT."""
    lines: list[tuple[str, ...]] = []
    for row in results:
        missed = any(row.verdict(goal).startswith("MISSED") for goal in row.goals)
        for column in row.columns if missed else ():
            took, cost = row.figure(column), row.spent(column)
            if took is not None and cost:
                figures = (f"{_digits(took)} {row.unit}", f"{cost.user:.2f} s", f"{cost.system:.2f} s")
                lines.append((row.title, column, *figures, f"{cost.sleeps:.0f}"))
    return lines


def show(report: Report) -> None:
    """The tables on the terminal; what misses its target stands out."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    table = Table(title=f"{report.machine}, {report.date}: {report.command}", caption=caption(report))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in report.results:
        for number, line in enumerate(lines_of(row), start=1):
            style = "red" if "MISSED" in line[-1] else "yellow" if "not run" in line[-1] else ""
            table.add_row(*line, style=style, end_section=number == len(row.goals))
    console.print(table)
    for title, headings, lines in (
        ("to /dev/null, MiB/s", CURVE, curve(report.results)),
        ("what all programs of one sample took together", SPENT, spent(report.results)),
    ):
        if lines:
            plain = Table(*headings, title=title)
            for line in lines:
                plain.add_row(*line)
            console.print(plain)
    console.print("missed:", *(report.missed() or ["nothing"]), sep="\n  ", soft_wrap=True)


def caption(report: Report) -> str:
    """How the figures came about."""
    blocks = "".join(f"; best block for {purpose}: {size}" for purpose, size in report.notes.items())
    return f"medians of {report.rounds} rounds or more (from the least to the most){blocks}"


def markdown(report: Report) -> str:
    """The same tables for README.md."""
    lines = [line for row in report.results for line in lines_of(row)]
    marked = [(*line[:-1], f"**{line[-1]}**" if "MISSED" in line[-1] else line[-1]) for line in lines]
    return (
        f"`{report.command}`, {report.date}, {report.machine}; {caption(report)}\n\n"
        f"{_markdown_table(HEADINGS, marked)}\nMiB/s to /dev/null, by the size of the file:\n\n"
        f"{_markdown_table(CURVE, curve(report.results))}\nWhere the time goes in the rows that miss a target: the CPU"
        " that all programs of one sample took together, and how often they went to sleep:\n\n"
        f"{_markdown_table(SPENT, spent(report.results))}"
    )


def _markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [headings, ["---"] * len(headings), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def rewrite(readme: Path, report: Report) -> None:
    """Put the report's tables between the marks of a README. Raises ValueError when it has none."""
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} has not both marks, {BEGIN.strip()} and {END.strip()}")
    readme.write_text(f"{before}{BEGIN}\n{markdown(report)}\n{END}{after}")
