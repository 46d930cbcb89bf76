"""Runs a program and kills it, kill -9, at a line of our choice: every place where a process can die is a line.

    python -m tests.crash.stepper 700 python writer.py hello          dies before the 700th line that it executes
    python -m tests.crash.stepper _publish:3 python writer.py hello   dies as it enters _publish for the third time
    python -m tests.crash.stepper --stop 700 python writer.py hello   stops there (SIGSTOP), until it is continued

Counted are the lines inside functions of the program and of common/; what an import executes touches no IPC object.
The program runs as __main__ in this process, so the kill is its own death: no handler, no `finally`, no flush. Which
Python its command line names does not matter: it is this one.
"""

from __future__ import annotations

import inspect
import os
import runpy
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.helpers import ROOT, Pair

# Decides at each line, by its number and its frame, whether to die before it.
Strike = Callable[[int, FrameType], bool]

_WATCHED = (str(ROOT / "common") + os.sep, str(ROOT / "writer.py"), str(ROOT / "reader.py"))


def at_step(number: int) -> Strike:
    """Die before the `number`-th line, counted from 1."""
    return lambda step, _: step == number


def at_call(function: str, nth: int) -> Strike:
    """Die at the first line of the `nth` call of the function of this name."""
    calls: list[FrameType] = []

    def strike(_: int, frame: FrameType) -> bool:
        if frame.f_code.co_name == function and not (calls and calls[-1] is frame):
            calls.append(frame)
        return len(calls) == nth

    return strike


def in_call(function: str, nth: int, number: int) -> Strike:
    """Die before the `number`-th line that the `nth` call of this function executes, itself or in what it calls."""
    calls: list[FrameType] = []
    lines = 0

    def strike(_: int, frame: FrameType) -> bool:
        nonlocal lines
        caller: FrameType | None = frame
        while caller and caller.f_code.co_name != function:
            caller = caller.f_back
        if caller and not (calls and calls[-1] is caller):
            calls.append(caller)
        inside = caller is not None and len(calls) == nth
        lines += inside
        return inside and lines == number

    return strike


def once(strike: Strike) -> Strike:
    """Strike at the first line only: who is stopped goes on."""
    struck = False

    def first(step: int, frame: FrameType) -> bool:
        nonlocal struck
        struck, before = struck or strike(step, frame), struck
        return struck and not before

    return first


def parse_strike(text: str) -> Strike:
    """A step, "700", or a call, "_publish:3"."""
    function, _, number = text.rpartition(":")
    return at_call(function, int(number)) if function else at_step(int(number))


def install(strike: Strike, said: int | None = None, by: int = signal.SIGKILL) -> None:
    """From the next call on, ask `strike` before each line; the line we die at is written to descriptor `said`.

    `by` is the signal; a handler for it runs before that line.
    """
    step = 0

    def line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal step
        if event == "line":
            step += 1
            if strike(step, frame):
                if said is not None:
                    code = frame.f_code
                    where = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
                    os.write(said, f"killed at step {step}, {where}\n".encode())
                os.kill(os.getpid(), by)
        return line

    def call(frame: FrameType, _: str, __: object) -> Any:
        code = frame.f_code
        # Only functions have optimised locals: module and class bodies are what an import executes.
        return line if code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(_WATCHED) else None

    sys.settrace(call)


def run(program: str, arguments: list[str]) -> None:
    """Run the program as if it had been started with these arguments. Raises SystemExit."""
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


def stepped(pair: Pair, *moment: str) -> Pair:
    """The programs of `pair` under this one; the moment as on the command line."""
    return pair.under(sys.executable, "-m", "tests.crash.stepper", *moment, PYTHONPATH=str(ROOT))


if __name__ == "__main__":
    stop = sys.argv[1] == "--stop"
    moment, _, program, *words = sys.argv[1 + stop :]
    if stop:
        install(once(parse_strike(moment)), by=signal.SIGSTOP)
    else:
        install(parse_strike(moment))
    run(program, words)
