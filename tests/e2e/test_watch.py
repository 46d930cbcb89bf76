"""reader.py --watch on a terminal: the picture lives, the keys work, and the terminal is given back as it was."""

from __future__ import annotations

import os
import re
import signal
import termios
import time
from collections.abc import Callable
from typing import Any

import pexpect
import pytest

from tests.e2e.terminals import SHELL_PROMPT, Terminals, exit_code, exit_code_in_shell, hang_up
from tests.e2e.watch import names_of, sleeps_on, state_of
from tests.families import only
from tests.helpers import PATIENCE, ROOT, Pair, finish, wait_until

TAKEN, GIVEN_BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # xterm: the second screen, no cursor; and back
FRAME = re.compile(r"\x1b\[H(.*?)\x1b\[J", re.DOTALL)


def next_frame(terminal: pexpect.spawn, shows: Callable[[list[str]], Any] = bool) -> list[str]:
    """The lines of the next frame of which `shows` is true, without their colours."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        terminal.expect(FRAME)
        lines = [re.sub(r"\x1b\[[\d;]*[mK]", "", line) for line in re.split(r"\r+\n", terminal.match[1])]
        if shows(lines):
            return lines
    raise AssertionError(f"no frame shows it; the last one: {lines}")


def shows(text: str) -> Callable[[list[str]], bool]:
    """Whether this text stands anywhere in a frame, however it is broken into lines."""
    return lambda lines: "".join(text.split()) in "".join("".join(lines).split())


def modes_of(terminal: pexpect.spawn) -> list[Any]:
    return termios.tcgetattr(terminal.child_fd)


@pytest.fixture
def watch(terminals: Terminals) -> pexpect.spawn:
    """The program at a terminal of 80x24, of which a frame was seen."""
    terminal = terminals.run("reader", "--watch")
    terminal.setwinsize(24, 80)
    next_frame(terminal)
    return terminal


class TestThePicture:
    def test_none_yet_and_there_and_gone_and_there_again(self, watch: pexpect.spawn, pair: Pair) -> None:
        for text in ("hello", "again"):
            next_frame(watch, shows(f"waiting: {names_of(pair).find}("))
            pair.write(text)
            frame = next_frame(watch, shows("record 0, whole"))
            assert [line.split()[:3] for line in frame if line.startswith(("tail", "head"))] == [
                ["tail", "0", "full"],
                ["head", "1", "free"],
            ]
            assert pair.read().out == f"{text}\n".encode()

    def test_a_slot_that_is_filled_published_read_and_freed(self, watch: pexpect.spawn, pair: Pair) -> None:
        reader = pair.start("reader", "--follow")
        next_frame(watch, shows("waiting: "))
        writer = pair.start("writer")
        next_frame(watch, shows(f"0 being filled pid {writer.pid}"))
        assert writer.stdin and reader.stdout
        writer.stdin.write(b"one fragment")
        writer.stdin.flush()
        next_frame(watch, shows(f"both 1 being filled pid {writer.pid}"))
        frame = next_frame(watch, shows("so far 1 published (head), 1 consumed (tail)"))
        assert shows(f"writing pid {writer.pid} reading pid {reader.pid} writers 1 alive")(frame)
        if pair.ipc == "sysv":
            assert shows("asleep 1 reader for data")(frame)
        assert finish(writer).code == 0
        next_frame(watch, shows("writers 0 alive; 1 joined, 1 left"))
        assert pair.write("--remove").code == 0
        finish(reader)

    def test_whole_at_80_by_24(self, watch: pexpect.spawn, pair: Pair) -> None:
        writer = pair.start("writer", "--file", "/dev/zero")
        wait_until(lambda: sleeps_on(pair, "empty_slots"))
        frame = next_frame(watch, lambda lines: len(lines) == 24 and shows("unread 8: full")(lines))
        assert max(map(len, frame)) <= 80
        named = [line.split()[0] for line in frame]
        labels = [
            "channel",
            "slots",
            "both",
            "so",
            "writing",
            "reading",
            "writers",
            "asleep",
            "verdict",
            "rate",
            "segment",
            "size",
            "owner",
            "changed",
        ]
        assert [label for label in labels if label not in named] == []
        assert shows(f"pid {writer.pid} 524288 B record 0 from byte 524288 ")(frame), frame
        writer.kill()
        finish(writer)
        assert pair.write("--remove").code == 0

    def test_as_large_as_its_window_is_now(self, watch: pexpect.spawn, pair: Pair) -> None:
        pair.write("hello")
        next_frame(watch, shows("record 0, whole"))
        watch.setwinsize(12, 40)
        frame = next_frame(watch, lambda lines: lines[-1] == "(a larger window shows more)")
        assert len(frame) == 12 and max(map(len, frame)) <= 40
        watch.setwinsize(50, 200)
        frame = next_frame(watch, lambda lines: "" in lines)
        assert shows("tail 0 full")(frame) and max(map(len, frame)) > 80
        watch.setwinsize(24, 80)
        frame = next_frame(watch, lambda lines: max(map(len, lines)) <= 80)
        assert len(frame) <= 24
        assert pair.read().code == 0

    @pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8", "NO_COLOR": "1"}], ids=str)
    def test_in_ascii_and_without_colours(
        self, terminals: Terminals, pair: Pair, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        pair.write("hello")
        watch = terminals.run("reader", "--watch")
        frame = next_frame(watch, shows("record 0, whole"))
        assert "".join(frame).isascii() is (environment["LC_ALL"] == "C")
        coloured = re.search(r"\x1b\[[\d;]*m", watch.match[1])
        assert bool(coloured) is ("NO_COLOR" not in environment)
        assert pair.read().code == 0


def given_back(watch: pexpect.spawn) -> None:
    """What is said last, on the first screen."""
    assert watch.before.count(GIVEN_BACK) == 1 and TAKEN not in watch.before


class TestLeaving:
    """The terminal is as it was: the screen, the cursor, and the modes."""

    @pytest.fixture
    def shell(self, terminals: Terminals) -> tuple[pexpect.spawn, int, list[Any]]:
        """A shell in which it runs, its pid, and the modes from before."""
        before = modes_of(terminals.shell())
        shell, pid = terminals.run_in_shell("reader", "--watch")
        shell.expect_exact(TAKEN)
        next_frame(shell)
        assert modes_of(shell) != before, "keys are read as they are pressed"
        return shell, pid, before

    Shell = tuple[pexpect.spawn, int, list[Any]]

    @pytest.mark.parametrize("key", ["q", "Q", "xyzq"])
    def test_by_key(self, shell: Shell, key: str) -> None:
        terminal, _, before = shell
        terminal.send(key)
        assert exit_code_in_shell(terminal) == 0
        given_back(terminal)
        assert modes_of(terminal) == before
        assert terminal.before.rpartition(GIVEN_BACK)[2] == "", "nothing is said"

    def test_by_ctrl_c(self, shell: Shell) -> None:
        terminal, _, before = shell
        terminal.sendcontrol("c")
        assert exit_code_in_shell(terminal) == 128 + signal.SIGINT
        given_back(terminal)
        assert terminal.before.rpartition(GIVEN_BACK)[2] == "reader: ended by SIGINT\r\n"
        assert modes_of(terminal) == before

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_by_a_signal(self, shell: Shell, number: signal.Signals) -> None:
        terminal, pid, before = shell
        os.kill(pid, number)
        assert exit_code_in_shell(terminal) == 128 + number
        given_back(terminal)
        assert modes_of(terminal) == before

    @pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM])
    def test_by_a_signal_that_says_nothing(self, shell: Shell, number: signal.Signals) -> None:
        """Ctrl-\\ is a key like others; it dies of what came."""
        terminal, pid, before = shell
        if number == signal.SIGQUIT:
            terminal.sendcontrol("\\")
        else:
            os.kill(pid, number)
        assert exit_code_in_shell(terminal) == 128 + number
        given_back(terminal)
        assert modes_of(terminal) == before

    def test_what_is_ignored_stays_so(self, terminals: Terminals, pair: Pair) -> None:
        shell = terminals.shell()
        shell.sendline(f"(trap '' QUIT; {' '.join(pair.command('reader', '--watch'))})")
        next_frame(shell)
        shell.sendcontrol("\\")
        next_frame(shell)
        next_frame(shell)
        shell.send("q")
        assert exit_code_in_shell(shell) == 0

    def test_with_the_window(self, watch: pexpect.spawn) -> None:
        assert hang_up(watch) == 128 + signal.SIGHUP

    @pytest.mark.parametrize("how", ["ctrl-z", signal.SIGTSTP, signal.SIGSTOP])
    def test_for_a_while(self, shell: Shell, how: str | signal.Signals) -> None:
        """Ctrl-Z and fg; SIGSTOP leaves no time to give anything back, but afterwards all is as before, too."""
        terminal, pid, before = shell
        for _ in range(2):
            if isinstance(how, signal.Signals):
                os.kill(pid, how)
            else:
                terminal.sendcontrol("z")
            terminal.expect_exact(SHELL_PROMPT)
            assert state_of(pid) == "T"
            if how != signal.SIGSTOP:
                given_back(terminal)
                assert modes_of(terminal) == before
            terminal.sendline("fg")
            terminal.expect_exact(TAKEN)
            next_frame(terminal)
        terminal.send("q")
        assert exit_code_in_shell(terminal) == 0
        given_back(terminal)
        assert modes_of(terminal) == before

    def test_a_job_that_is_stopped_and_killed_leaves_the_terminal_alone(self, shell: Shell) -> None:
        terminal, pid, before = shell
        terminal.sendcontrol("z")
        terminal.expect_exact(SHELL_PROMPT)
        os.kill(pid, signal.SIGTERM)
        terminal.sendline("kill -CONT %1")
        terminal.expect_exact("reader: ended by SIGTERM")
        assert GIVEN_BACK not in terminal.before
        wait_until(lambda: not os.path.exists(f"/proc/{pid}") or state_of(pid) == "Z", "its end")
        assert modes_of(terminal) == before


def test_in_the_background_it_leaves_the_terminal_to_the_shell(terminals: Terminals, pair: Pair) -> None:
    shell = terminals.shell()
    before = modes_of(shell)
    shell.sendline(" ".join([*pair.command("reader", "--quiet", "--watch"), "& echo pid=$!."]))
    shell.expect(r"pid=(\d+)\.")
    pid = int(shell.match[1])
    shell.sendline("echo some; echo more")
    shell.expect_exact("some\r\nmore\r\n")
    pair.write("hello")
    wait_until(lambda: state_of(pid) == "S")
    assert modes_of(shell) == before and TAKEN not in shell.before
    shell.sendline("fg")
    shell.expect_exact(TAKEN)
    next_frame(shell, shows("record 0, whole"))
    shell.send("q")
    assert exit_code_in_shell(shell) == 0
    assert modes_of(shell) == before
    assert pair.read().code == 0


STOPPED_INSIDE = """
import os, signal, sys
import common.show.status as status
from common.cli.run import run
from reader import main
look = status.read_status
def stopped(objects):
    os.kill(os.getpid(), signal.SIGTSTP)
    return look(objects)
status.read_status = stopped
sys.exit(run("reader", main))
"""


def test_ctrl_z_in_the_doorway_stops_it_outside(
    terminals: Terminals, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is stopped in there stops everybody who joins or leaves."""
    pair.write("hello")
    (pair.directory / "stopped.py").write_text(STOPPED_INSIDE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shell = terminals.shell()
    python, _, *arguments = pair.command("reader", "--watch")
    shell.sendline(" ".join([python, "stopped.py", *arguments]))
    shell.expect_exact(SHELL_PROMPT)
    assert "Stopped" in shell.before
    assert pair.read("--timeout", PATIENCE / 2).out == b"hello\n"
    shell.sendline("kill -KILL %1; wait %1")


def test_keys_need_a_terminal_and_the_picture_does_not(terminals: Terminals, pair: Pair) -> None:
    shell = terminals.shell()
    shell.sendline(" ".join([*pair.command("reader", "--watch"), "< /dev/null"]))
    next_frame(shell)
    shell.send("q")
    next_frame(shell)
    next_frame(shell)
    shell.sendcontrol("c")
    assert exit_code_in_shell(shell) == 128 + signal.SIGINT


REFUSED = "--watch needs a terminal: standard output is none; `reader.py --status` is one frame of it"


@only("sysv", "no channel is looked for")
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_what_is_no_terminal_is_refused_in_one_line(
    terminals: Terminals, pair: Pair, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if term == "xterm":
        done = pair.read("--watch")
        assert (done.code, done.out, done.err) == (1, b"", f"reader: {REFUSED}\n")
        return
    terminal = terminals.run("reader", "--watch", term=term)
    assert exit_code(terminal) == 1
    dumb = REFUSED.replace("standard output is none", "TERM is dumb, so it cannot place text")
    assert terminal.before.split("`")[0] == f"reader: {dumb}".split("`")[0]
