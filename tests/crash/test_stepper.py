"""What the sweep rests on: on this Python, too, each line is a step, and a kill at a step comes before its line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.crash import stepper
from tests.crash.doomed import run_doomed
from tests.helpers import ROOT, Pair, keys_of, left_behind

# Lines that every Python counts alike; beside each, the steps at which it is executed.
LINES = """\
def outer():
    total = 0                    # 1
    for number in range(2):      # 2 5 8
        total += inner(number)   # 3 6
    try:                         # 9
        raise ValueError         # 10
    except ValueError:           # 11
        total += 1               # 12
    finally:
        total += 1               # 13
    if total == 3:               # 14
        return total             # 15
    return 0

def inner(number):
    return number                # 4 7
"""

# Runs a program, notes the function of each step, and says them at its end.
NOTE_STEPS = """\
import json, sys
from tests.crash import stepper
functions = []
stepper.install(lambda step, frame: functions.append(frame.f_code.co_name))
try:
    stepper.run(sys.argv[2], sys.argv[3:])
finally:
    sys.settrace(None)
    print(json.dumps(functions))
"""


def test_each_line_is_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tmp_path / "lines.py")
    functions: dict[str, Any] = {}
    exec(compile(LINES, path, "exec"), functions)
    monkeypatch.setattr(stepper, "_WATCHED", (path,))
    steps: dict[int, int] = {}

    def note(step: int, frame: FrameType) -> bool:
        steps[step] = frame.f_lineno
        return False

    tracing = sys.gettrace()
    try:
        stepper.install(note)
        functions["outer"]()
    finally:
        sys.settrace(tracing)
    expected = {
        int(step): number
        for number, line in enumerate(LINES.splitlines(), 1)
        for step in line.partition("# ")[2].split()
    }
    assert steps == expected


def steps_of(pair: Pair, program: str, *arguments: object) -> list[str]:
    """The function that each step of a program is in, from its first to its last."""
    noting = pair.under(sys.executable, "-c", NOTE_STEPS, PYTHONPATH=str(ROOT))
    done = noting.run(program, "--quiet", *arguments)
    assert done.code == 0, done
    steps: list[str] = json.loads(done.out.splitlines()[-1])
    return steps


def test_killed_at_the_first_step(pair: Pair) -> None:
    """Nothing has happened yet."""
    run_doomed(pair, "1", "writer", "hello")
    assert not left_behind(keys_of(pair.key_path))


def test_killed_at_the_last_step(pair: Pair) -> None:
    """Everything has; and one that is to be killed a step later survives."""
    steps = steps_of(pair, "writer", "hello")
    assert pair.write("--remove").code == 0
    assert len(steps) > 500 and len(set(steps)) > 50, steps
    run_doomed(pair, str(len(steps)), "writer", "--quiet", "hello")
    assert pair.read("--quiet").out == b"hello\n"
    assert stepper.stepped(pair, str(len(steps) + 1)).write("--quiet", "hello").code == 0
    assert pair.read("--quiet").out == b"hello\n"


def test_a_kill_comes_before_what_the_line_does(pair: Pair) -> None:
    """Killed as it begins to publish, its record is not there; at its last step it is."""
    steps = steps_of(pair, "writer", "hello")
    assert pair.write("--remove").code == 0
    heads = []
    for step in (steps.index("_publish") + 1, len(steps)):
        run_doomed(pair, str(step), "writer", "--quiet", "hello")
        status = pair.status()
        assert status
        heads.append(status["header"]["head"])
        assert pair.write("--remove").code == 0
    assert heads == [0, 1]
