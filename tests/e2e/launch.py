"""Starting a program through another one: a shell that redirects, nohup, a process on hold."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import termios
from collections.abc import Sequence
from typing import Any

from tests.e2e.watch import state_of
from tests.helpers import ROOT, Finished, Pair, finish, wait_until

Child = subprocess.Popen[bytes]


def start_command(pair: Pair, words: Sequence[str], stdin: int = subprocess.PIPE) -> Child:
    """Start a command whose standard output and error are pipes. The caller kills it, whatever happens."""
    return subprocess.Popen(words, cwd=pair.directory, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def hold(pair: Pair, program: str, *arguments: object) -> Child:
    """A process that stops itself, and becomes `program` when it is continued."""
    return start_command(pair, ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *pair.command(program, *arguments)])


def start_together(children: Sequence[Child]) -> list[Finished]:
    """The starting gun for processes on hold; how each of them ended."""
    try:
        wait_until(lambda: all(state_of(child.pid) == "T" for child in children), "everybody's being on hold")
        for child in children:
            child.send_signal(signal.SIGCONT)
        return [finish(child) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


class Stopping(Pair):
    """The programs, each of which stops itself (SIGSTOP) once, at the `moment` of tests.crash.stepper."""

    def __init__(self, pair: Pair, moment: str) -> None:
        super().__init__(pair.key_path, pair.directory)
        self._moment = moment

    def command(self, program: str, *arguments: object) -> list[str]:
        python, *words = super().command(program, *arguments)
        return [python, "-m", "tests.crash.stepper", "--stop", self._moment, *words]

    def start(self, program: str, *arguments: object, **popen: Any) -> Child:
        """Start it and wait until it stands; one that never comes to that moment has ended."""
        child = super().start(program, *arguments, **{"env": {**os.environ, "PYTHONPATH": str(ROOT)}, **popen})
        wait_until(lambda: state_of(child.pid) in "TZ", "the stop")
        return child


class SingleStepped:
    """A program that cannot run on while nobody listens: its --trace goes into a pipe with room for one line."""

    def __init__(self, pair: Pair, program: str, *arguments: object) -> None:
        self._pipe, its_end = os.pipe2(os.O_DIRECT)  # each write is a packet, and each packet takes a page
        fcntl.fcntl(its_end, fcntl.F_SETPIPE_SZ, 4096)
        self.child = pair.start(program, "--trace", *arguments, stderr=its_end)
        os.close(its_end)

    def line(self) -> str:
        """The next line; "" at the end of the program."""
        return os.read(self._pipe, 4096).decode()

    def step(self, lines: int) -> str:
        """Hear so many lines and wait until it stands again; the last of them, "" when it has ended before.

        It then has put down one line more, and cannot get rid of the next one.
        """
        said = ""
        for _ in range(lines):
            said = self.line()
        wait_until(lambda: state_of(self.child.pid) == "Z" or (self._has_spoken() and state_of(self.child.pid) == "S"))
        return said

    def run_to_the_end(self) -> Finished:
        """Let it go on without a stop."""
        said = ""
        while line := self.line():
            said += line
        os.close(self._pipe)
        done = finish(self.child)
        return Finished(done.code, done.out, said)

    def _has_spoken(self) -> bool:
        waiting = bytearray(4)
        fcntl.ioctl(self._pipe, termios.FIONREAD, waiting)
        return any(waiting)
