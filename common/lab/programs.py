"""The programs that an experiment starts: the classic pair, and ours. What they say is shown among the calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.lab.calls import SEMCTL, Lab, die_with, libc
from common.lab.experiment import Unobserved
from common.lab.own import note_started

LAB = Path(__file__).parent
CLASSIC = ord("X")  # the classic pair's argument of ftok; neither a channel of ours has it nor Lab.new_key
_PATIENCE = 30.0  # seconds; what takes longer hangs


class Process:
    """A program that runs beside the experiment, and no longer than it; what it says is shown."""

    def __init__(self, lab: Lab, name: str, command: list[str], **popen: Any) -> None:
        parent = os.getpid()
        self._lab, self._name = lab, name
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: die_with(parent, signal.SIGKILL),
            **popen,
        )
        note_started(lab.scratch, self._child.pid)
        assert self._child.stdin and self._child.stdout
        self._input, self._output = self._child.stdin, self._child.stdout

    def hear(self, words: str) -> None:
        """Wait until it says so. Raises Unobserved when it has ended and did not."""
        said = "nothing"
        while words not in (line := self._output.readline()):
            if not line:
                raise Unobserved(
                    f"looked for {words!r} in what {self._name} says; it has ended, and said {said} at last"
                )
            self._show(line)
            said = repr(line.rstrip())
        self._show(line)

    def feed(self, text: str) -> None:
        """Hand it over, and leave its standard input open."""
        self._input.write(text)
        self._input.flush()

    def type(self, text: str) -> None:
        """Type a line, and leave its standard input open."""
        self._lab.note(f"< {text}")
        self.feed(f"{text}\n")

    def end(self) -> list[str]:
        """Close its standard input and wait for its end; the lines that it has said since."""
        said = self._child.communicate(timeout=_PATIENCE)[0].splitlines()
        return [line for line in said if self._show(line)]

    def has_ended(self) -> bool:
        """Whether it has, without waiting for it."""
        return self._child.poll() is not None

    def kill(self) -> None:
        """kill -9."""
        self._lab.note(f"# kill -9 {self._name}")
        self._child.kill()
        self._child.communicate()

    def _show(self, line: str) -> bool:
        """Of a traceback only the last line, which says what went wrong."""
        shown = not line.startswith(("Traceback", " "))
        if shown:
            self._lab.note(f"> {line.rstrip()}")
        return shown


class Program(Process):
    """One of the classic pair or of ours: "classic_writer", "reader" and so on.

    `path` is what its keys are made of: the experiment's directory, or a file "key..." in it; `typed` is its input.
    """

    def __init__(self, lab: Lab, name: str, *options: str, path: Path | None = None, typed: str = "") -> None:
        path, classic = path or lab.scratch, name.startswith("classic_")
        arguments = [str(path)] if classic else ["--key-path", str(path), *options]
        file = (LAB if classic else LAB.parents[1]) / f"{name}.py"
        lab.note(f"$ {f'echo {typed} | ' if typed else ''}{' '.join((file.name, *arguments))}")
        itself = "/proc/self/exe"  # the interpreter's path may be closed to a user that we have become
        super().__init__(lab, file.name, [sys.executable, str(file), *arguments], executable=itself)
        if typed:
            self.feed(f"{typed}\n")


def run(lab: Lab, name: str, *options: str, typed: str = "", path: Path | None = None) -> list[str]:
    """Run a program to its end; the lines that it says."""
    return Program(lab, name, *options, path=path, typed=typed).end()


def found(lab: Lab, path: Path | None = None) -> tuple[Any, Any]:
    """The ids of the classic pair's segment and semaphore."""
    key = lab.make_key(str(path or lab.scratch), CLASSIC)
    return lab.shmget(key, 0, 0), lab.semget(key, 0, 0)


def our_key(lab: Lab, number: int = 1) -> int:
    """The key of our channel 0: 1 for its segment, 2 to 6 for its semaphores."""
    key: int = lab.make_key(str(lab.scratch), number)
    return key


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition that another process brings about. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about")
        time.sleep(0.002)


def asleep(lab: Lab, semid: int, process: Process | None = None) -> int:
    """Wait until one sleeps until this semaphore has a token, or this process has ended; how many sleep."""

    def sleeps_or_ended() -> bool:
        return libc.semctl(semid, 0, SEMCTL["GETNCNT"]) > 0 or (process is not None and process.has_ended())

    wait_until(sleeps_or_ended, "a process asleep")
    sleepers: int = lab.semctl(semid, 0, "GETNCNT")
    return sleepers
