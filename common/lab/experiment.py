"""What an experiment is: a function, what it promises, and what one learns from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from common.lab.calls import Lab

Value = str | int | bool | None
Observed = tuple[Value, ...]  # in the order of what is promised
Function = Callable[[Lab], Observed]


class Unobserved(Exception):
    """There is nothing to observe: what was looked for and what was seen, in words for a person."""


class Experiment(NamedTuple):
    """One experiment, under the name by which a person runs it."""

    name: str
    question: str
    observe: Function
    promised: Mapping[str, Value]
    lesson: str
    needs: tuple[str, ...]

    @property
    def source(self) -> str:
        """The function as it stands in its file, without its decorator."""
        text = inspect.getsource(self.observe)
        return text[text.index("def ") :].rstrip()


EXPERIMENTS: dict[str, Experiment] = {}  # by name, in the order of the lab sheet


def experiment(
    *, promised: Mapping[str, Value], lesson: str, needs: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Make the function that stands below an experiment, named after it; its question is its docstring."""

    def register(observe: Function) -> Function:
        name = observe.__name__.replace("_", "-")
        EXPERIMENTS[name] = Experiment(name, inspect.getdoc(observe) or "", observe, promised, lesson, needs)
        return observe

    return register


def ok(result: Value) -> Value:
    """Of an id, an address or a 0, that the call succeeded; the symbol of its errno stays as it is."""
    return result if isinstance(result, str) else "ok"


def mistake(
    *, promised: Mapping[str, Value], symptom: str, cause: str, cure: str, needs: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """An experiment about a mistake: what one sees, why, and what to do, which is what writer.py and reader.py do."""
    return experiment(promised=promised, lesson=f"Symptom: {symptom}\nCause: {cause}\nCure: {cure}", needs=needs)
