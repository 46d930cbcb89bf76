"""What an exercise is: a task, and what is true once a shell command has done it.

The command runs in a scene that was made for it, and that goes with it, as an experiment does (common/lab/runner.py).
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

from common.ipc.calls import key_text
from common.lab.calls import Lab
from common.lab.experiment import Experiment, Observed, Unobserved, Value
from common.lab.programs import Process
from common.lab.runner import Outcome, perform

_PATIENCE = 30  # seconds for one run of an answer


class TimeIsOver(Unobserved):
    """The command runs for too long."""


def _time_is_over(number: int, frame: object) -> None:
    raise TimeIsOver(f"{_PATIENCE} s are over, and your command has not ended")


@contextlib.contextmanager
def looking_for(what: str) -> Iterator[None]:
    """Whoever waits in here in vain hears for what."""
    try:
        yield
    except TimeIsOver:
        raise Unobserved(f"looked for {what}; {_PATIENCE} s are over, and there was none") from None


class Answer:
    """The command that is to do it: it finds in its environment what the task names."""

    def __init__(self, lab: Lab, command: str) -> None:
        self._lab, self._command = lab, command

    def start(self, **variables: object) -> Process:
        """Run it beside us, for a limited time.

        `python` is the one that we run with, which has sysv_ipc and posix_ipc.
        """
        given = {name: str(value) for name, value in variables.items()}
        self._lab.note(f"$ export {' '.join(f'{name}={shlex.quote(value)}' for name, value in given.items())}")
        self._lab.note(f"$ {self._command}")
        signal.alarm(_PATIENCE)
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return Process(
            self._lab, "your command", ["sh", "-c", self._command], env={**os.environ, "PATH": path, **given}
        )

    def run(self, **variables: object) -> str:
        """Run it to its end; what it says."""
        return "\n".join(self.start(**variables).end())


Check = Callable[[Lab, Answer], Observed]


class Exercise(NamedTuple):
    """One exercise, which is known by its number."""

    task: str
    check: Check
    promised: Mapping[str, Value]


EXERCISES: list[Exercise] = []


def exercise(*promised: str) -> Callable[[Check], Check]:
    """Make the function that stands below an exercise; its task is its docstring, `promised` must all be true."""

    def register(check: Check) -> Check:
        EXERCISES.append(Exercise(inspect.getdoc(check) or "", check, dict.fromkeys(promised, True)))
        return check

    return register


class _Log:
    """A page that is kept: it is shown when the answer is wrong."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def line(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()

    def heading(self, text: str) -> None:
        self.line(f"\n{text}")


def check(number: int, command: str) -> tuple[Outcome, str]:
    """Try an answer: what was observed, and all that happened, as text."""
    one = EXERCISES[number - 1]

    def observe(lab: Lab) -> Observed:
        signal.signal(signal.SIGALRM, _time_is_over)
        return one.check(lab, Answer(lab, command))

    tried = Experiment(f"exercise {number}", one.task, observe, one.promised, "", ())
    with tempfile.TemporaryFile("w+") as file:
        outcome = perform(tried, _Log(file))
        file.seek(0)
        return outcome, file.read().strip("\n")


def key_of(lab: Lab) -> str:
    """The key that a task calls $KEY."""
    return key_text(lab.key)
