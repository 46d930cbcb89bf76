"""What a figure is, what is marked, and what of it stands in a file: no clock and no process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench import plots, table
from tests.bench.report import Column, Goal, Report, Result, Spent, percentile

MIB = 2**20


def result(goals: Sequence[Goal], **samples: list[float]) -> Result:
    columns = {name: Column(figures) for name, figures in samples.items()}
    return Result("name", "title", "s", MIB, columns, list(goals))


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (100, 100)], ids=str)
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == expected


def test_a_percentile_of_one_sample_is_this_sample() -> None:
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal("ours", "theirs", at_most=2), 2.0, "met"),
        (Goal("ours", "theirs", at_most=1.9), 2.0, "MISSED"),
        (Goal("theirs", "ours", at_least=0.5), 0.5, "met"),
        (Goal("theirs", "ours", at_least=0.6), 0.5, "MISSED"),
        (Goal("ours", "theirs", at_most=6, statistic="p99"), 5.5, "met"),
        (Goal("ours", "theirs", at_most=3, difference=True), 3.0, "met"),
        (Goal("ours", "theirs", at_most=2.9, difference=True), 3.0, "MISSED"),
        (Goal("ours", at_most=5.9), 6.0, "MISSED"),
        (Goal("ours", "theirs"), 2.0, "shown"),
        (Goal("ours", "nobody", at_most=2), None, "not run: no compiler"),
        (Goal("broken", "theirs", at_most=2), None, "MISSED: no end"),
        (Goal("broken", "nobody", at_most=2), None, "MISSED: no end"),
    ],
    ids=str,
)
def test_a_target_that_is_missed_is_marked(goal: Goal, value: float | None, verdict: str) -> None:
    row = result([goal], ours=[22.0, 1.0, 6.0], theirs=[3.0, 4.0, 2.0])
    row.columns |= {"nobody": Column(missing="no compiler"), "broken": Column(failed="no end")}
    assert row.value(goal) == pytest.approx(value)
    assert row.verdict(goal) == verdict
    report = Report("today", "a machine", "a command", 3, [row])
    assert report.missed() == (["title"] if "MISSED" in verdict else [])
    assert (f"**{verdict}**" in table.markdown(report)) == ("MISSED" in verdict)
    assert table.lines_of(row)[0][-1] == verdict


def test_a_report_survives_json() -> None:
    row = result([Goal("a | b", at_most=2)], **{"a | b": [1.0, 2.5]})
    row.columns["a | b"].spent = [Spent(0.5, 0.25, 7)]
    row.columns["none"] = Column(missing="no compiler")
    report = Report("today", "a machine", "a command", 3, [row], {"dd": "64 KiB"})
    assert Report.from_json(report.to_json()) == report


def test_what_was_spent_is_shown_where_a_target_is_missed() -> None:
    row = result([Goal("a", at_most=2)], a=[1.0, 3.0, 2.5])
    row.columns["a"].spent = [Spent(1, 10, 5), Spent(3, 30, 7), Spent(2, 20, 6)]
    row.columns["none"] = Column(missing="no compiler")
    assert table.spent([row]) == [("title", "a", "2.5 s", "2.00 s", "20.00 s", "6")]
    assert table.spent([result([Goal("a", at_most=3)], a=[1.0])]) == []


def test_the_tables_stand_between_the_marks_of_a_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}old\n{table.END}behind\n")
    report = Report("today", "a machine", "a command", 3, [result([Goal("a", "a", at_most=2)], a=[1.0])])
    for _ in range(2):
        table.rewrite(readme, report)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("behind\n") and "old" not in text
    assert text.count("| title | a 1 s (1 - 1) | a 1 s (1 - 1) | 1.00 | <= 2 | met |") == 1
    readme.write_text("no marks\n")
    with pytest.raises(ValueError, match="has not both marks"):
        table.rewrite(readme, report)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([4.0, 1.0], [1.0, 4.0], 2.0),  # as much too slow at 1 MiB as it is quicker at 4 MiB
        ([4.0, 4.0], [1.0, 4.0], 4.0),
        ([4.0, 4.0], [1.0, 1.0], None),
        ([1.0, 1.0], [4.0, 4.0], None),
    ],
)
def test_the_crossing_point_is_where_both_take_as_long(
    ours: list[float], theirs: list[float], expected: float | None
) -> None:
    rows = [result([], ours=[one], theirs=[other]) for one, other in zip(ours, theirs, strict=True)]
    rows[1].size = 4 * MIB
    found = plots.crossing_point(rows, "ours", "theirs")
    assert found == (None if expected is None else pytest.approx(expected * MIB))
