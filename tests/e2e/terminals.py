"""Programs on a terminal: each gets a pseudo-terminal of its own, at which the test types and reads."""

from __future__ import annotations

import os
import shlex

import pexpect

from tests.helpers import PATIENCE, Pair, wait_until

SHELL_PROMPT = "ready$ "


class Terminals:
    """Opens terminals for one pair; `close` hangs up those that are still open."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._opened: list[pexpect.spawn] = []

    def run(self, program: str, *arguments: object, term: str = "xterm") -> pexpect.spawn:
        """`program` alone at a terminal."""
        return self._open(self._pair.command(program, *arguments), term)

    def shell(self) -> pexpect.spawn:
        """A shell with job control, at its prompt."""
        shell = self._open(["sh", "-i"])
        shell.expect_exact(SHELL_PROMPT)
        return shell

    def run_in_shell(self, program: str, *arguments: object) -> tuple[pexpect.spawn, int]:
        """`program` in the foreground of such a shell, and its pid."""
        shell = self.shell()
        words = ["sh", "-c", 'echo "pid=$$."; exec "$@"', "sh", *self._pair.command(program, *arguments)]
        shell.sendline(shlex.join(words))
        shell.expect(r"pid=(\d+)\.")
        return shell, int(shell.match[1])

    def close(self) -> None:
        """Hang up, and kill what does not go."""
        for terminal in self._opened:
            terminal.close(force=True)

    def _open(self, command: list[str], term: str = "xterm") -> pexpect.spawn:
        terminal = pexpect.spawn(
            command[0],
            command[1:],
            cwd=str(self._pair.directory),
            # ENV names a start file of sh; a person's own must not matter here.
            env={**os.environ, "TERM": term, "PS1": SHELL_PROMPT, "ENV": ""},
            dimensions=(24, 250),
            encoding="utf-8",
            timeout=PATIENCE,
        )
        terminal.delaybeforesend = None
        terminal.ptyproc.delayafterclose = 0
        self._opened.append(terminal)
        return terminal


def exit_code(terminal: pexpect.spawn) -> int:
    """Wait for the end of the program at this terminal. Whatever it still said is in `terminal.before`."""
    terminal.expect(pexpect.EOF)
    wait_until(lambda: not terminal.isalive(), "the end of the program")
    code: int = terminal.exitstatus
    return code


def exit_code_in_shell(shell: pexpect.spawn) -> int:
    """Wait for the end of the foreground program of this shell. Whatever it still said is in `shell.before`."""
    shell.expect_exact(SHELL_PROMPT)
    said = shell.before
    shell.sendline("echo code=$?.")
    shell.expect(r"code=(\d+)\.")
    shell.before = said
    return int(shell.match[1])


def hang_up(terminal: pexpect.spawn) -> int:
    """Close the window of this terminal: the kernel sends SIGHUP. The exit code of what ran in it."""
    terminal.ptyproc.fileobj.close()
    wait_until(lambda: not terminal.isalive(), "the end of the program")
    code: int = terminal.exitstatus
    return code
