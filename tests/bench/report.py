"""What a run has measured: figures, targets, verdicts, and the same as JSON. This file measures and draws nothing."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Goal(NamedTuple):
    """A target for the figure of the column `over`, against that of `under` unless this is "".

    The two are divided, or subtracted if it is a `difference`. `at_most` or `at_least` is the limit; with neither, the
    value is only shown.
    """

    over: str
    under: str = ""
    at_most: float | None = None
    at_least: float | None = None
    statistic: str = "median"
    difference: bool = False

    def is_met(self, value: float) -> bool:
        """Whether the value keeps the limit."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    @property
    def limit(self) -> str:
        """Such as: <= 1.2; "" if there is none."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"


class Spent(NamedTuple):
    """What all programs of one sample together took: seconds of CPU, and how often one of them went to sleep."""

    user: float
    system: float
    sleeps: float


@dataclass
class Column:
    """All samples of one column, in the unit of its row, and what each round spent; or why there are none.

    `missing` says what this machine lacks, `failed` what went wrong.
    """

    samples: list[float] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)
    missing: str = ""
    failed: str = ""


@dataclass
class Result:
    """One row of the benchmark, measured. `size` is the bytes that each sample moves, 0 where that means nothing."""

    name: str
    title: str
    unit: str
    size: int
    columns: dict[str, Column]
    goals: list[Goal]

    def figure(self, column: str, statistic: str = "median") -> float | None:
        """What stands for a column's samples; None if there are none."""
        samples = self.columns[column].samples
        return STATISTICS[statistic](samples) if samples else None

    def spent(self, column: str) -> Spent | None:
        """The medians of what a column's rounds spent; None if there are none."""
        rounds = self.columns[column].spent
        return Spent(*map(statistics.median, zip(*rounds, strict=True))) if rounds else None

    def value(self, goal: Goal) -> float | None:
        """What is compared with the target; None if a column is missing."""
        over = self.figure(goal.over, goal.statistic)
        if over is None or not goal.under:
            return over
        under = self.figure(goal.under, goal.statistic)
        if under is None:
            return None
        return over - under if goal.difference else over / under

    def verdict(self, goal: Goal) -> str:
        """One of "met", "shown" (no limit), "MISSED", "MISSED: why" for a column that failed, or "not run: why"."""
        used = [self.columns[name] for name in (goal.over, goal.under) if name]
        for column in used:
            if column.failed:
                return f"MISSED: {column.failed}"
        for column in used:
            if column.missing:
                return f"not run: {column.missing}"
        value = self.value(goal)
        if value is None:
            return "not run: no sample"
        if not goal.limit:
            return "shown"
        return "met" if goal.is_met(value) else "MISSED"


@dataclass
class Report:
    """A whole run. `notes` are what it found out on the way, such as the best block sizes."""

    date: str
    machine: str
    command: str
    rounds: int
    results: list[Result] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def missed(self) -> list[str]:
        """The titles of the rows that have a target which is not met, each once."""
        return [row.title for row in self.results if any(row.verdict(goal).startswith("MISSED") for goal in row.goals)]

    def to_json(self) -> str:
        """All samples, and for each goal its value and verdict, which from_json works out anew."""
        document = dataclasses.asdict(self)
        for row, result in zip(document["results"], self.results, strict=True):
            row["goals"] = [
                {**goal._asdict(), "value": result.value(goal), "verdict": result.verdict(goal)}
                for goal in result.goals
            ]
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What to_json wrote. Raises ValueError, KeyError or TypeError for anything else."""
        document = json.loads(text)
        return cls(**{**document, "results": [_result(row) for row in document["results"]]})


def _result(row: Mapping[str, Any]) -> Result:
    columns = {name: Column(**column) for name, column in row["columns"].items()}
    for column in columns.values():
        column.spent = [Spent(*spent) for spent in column.spent]
    goals = [Goal(**{name: goal[name] for name in Goal._fields}) for goal in row["goals"]]
    return Result(**{**row, "columns": columns, "goals": goals})


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent of all do not exceed."""
    ordered = sorted(samples)
    below = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(below), 1) - 1]


STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "p99": lambda samples: percentile(samples, 99),
}
