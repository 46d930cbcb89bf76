"""Starting a program that does not run on at once: on hold, stopped at a moment, or line by line."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import termios
from collections.abc import Sequence

from tests.crash.stepper import stepped
from tests.e2e.watch import state_of
from tests.helpers import Finished, Pair, finish, wait_until

Child = subprocess.Popen[bytes]


def hold(pair: Pair, program: str, *arguments: object) -> Child:
    """A process that stops itself, and becomes `program` when it is continued."""
    return pair.under("sh", "-c", 'kill -STOP $$; exec "$@"', "sh").start(program, *arguments)


def start_together(children: Sequence[Child]) -> list[Finished]:
    """The starting gun for processes on hold; how each of them ended."""
    wait_until(lambda: all(state_of(child.pid) == "T" for child in children), "everybody's being on hold")
    for child in children:
        child.send_signal(signal.SIGCONT)
    return [finish(child) for child in children]


def start_stopped(pair: Pair, moment: str, program: str, *arguments: object) -> Child:
    """A program that stopped itself (SIGSTOP) at this moment of tests.crash.stepper, or never came to it and ended."""
    child = stepped(pair, "--stop", moment).start(program, *arguments)
    wait_until(lambda: state_of(child.pid) in "TZ", "the stop")
    return child


class SingleStepped:
    """A program that cannot run on while nobody listens: its --trace=all goes into a pipe with room for one line."""

    def __init__(self, pair: Pair, program: str, *arguments: object) -> None:
        self._pipe, its_end = os.pipe2(os.O_DIRECT)  # each write is a packet, and each packet takes a page
        fcntl.fcntl(its_end, fcntl.F_SETPIPE_SZ, 4096)
        self.child = pair.start(program, "--trace=all", *arguments, stderr=its_end)
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
