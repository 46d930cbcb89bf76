"""Two terminals: lines go over as they are typed; job control and resizing disturb nobody; a progress bar appears."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from common.cli.tally import ERASE_LINE
from tests.e2e.terminals import SHELL_PROMPT, Terminals, exit_code, exit_code_in_shell, hang_up
from tests.e2e.watch import names_of, objects_of, shut_doorway, sleeps_on, stands_at_doorway, state_of
from tests.helpers import PATIENCE, Pair, finish, plain, wait_until
from tests.said import broken_off

BAR = "\u2501"  # what rich draws its bars with
HIDE_CURSOR = "\x1b[?25l"


class TestLiveLines:
    @pytest.mark.parametrize("first", ["writer", "reader"])
    def test_each_line_arrives_when_enter_is_pressed(self, terminals: Terminals, first: str) -> None:
        second = "reader" if first == "writer" else "writer"
        opened = {program: terminals.run(program) for program in (first, second)}
        writer, reader = opened["writer"], opened["reader"]
        for line in ("first", "", "third one"):
            writer.expect_exact("> ")
            writer.sendline(line)
            reader.expect_exact(f"{line}\r\n")
        writer.expect_exact("> ")
        writer.sendcontrol("d")
        assert (exit_code(writer), exit_code(reader)) == (0, 0)
        assert "sent 3 records, 17 bytes" in writer.before
        assert "received 3 records, 17 bytes" in reader.before

    def test_the_prompt_says_how_to_end(self, terminals: Terminals, pair: Pair) -> None:
        writer = terminals.run("writer")
        writer.expect_exact("type: one record a line, Ctrl-D ends")
        writer.expect_exact("> ")
        writer.sendcontrol("d")
        assert exit_code(writer) == 0
        assert "sent 0 records, 0 bytes" in writer.before
        calls = names_of(pair)
        last = f"writer: {calls.remove}, {calls.detach}: removed the channel: nothing is left\r\n"
        assert writer.before.endswith(last), "nobody said anything"
        assert objects_of(pair) == []

    def test_quiet_has_no_prompt(self, terminals: Terminals, pair: Pair) -> None:
        writer = terminals.run("writer", "--quiet")
        writer.sendline("hello")
        writer.sendcontrol("d")
        assert exit_code(writer) == 0
        assert writer.before == "hello\r\n", "only the terminal's own echo"
        assert pair.read().out == b"hello\n"

    def test_line_without_enter(self, terminals: Terminals, pair: Pair) -> None:
        """Ctrl-D behind unfinished text hands it over; the second one is the end of input."""
        writer = terminals.run("writer")
        writer.expect_exact("> ")
        writer.send("no newline")
        writer.sendcontrol("d")
        writer.sendcontrol("d")
        assert exit_code(writer) == 0
        assert pair.read().out == b"no newline"

    def test_three_people_type_to_one_reader(self, terminals: Terminals, pair: Pair) -> None:
        writers = [terminals.run("writer") for _ in range(3)]
        for writer in writers:
            writer.expect_exact("> ")
        reader = terminals.run("reader")
        for round_number in range(3):
            for number, writer in enumerate(writers):
                line = f"line {round_number} of writer {number}"
                writer.sendline(line)
                reader.expect_exact(f"{line}\r\n")
        for writer in writers:
            assert reader.isalive()
            writer.sendcontrol("d")
            assert exit_code(writer) == 0
        assert exit_code(reader) == 0
        assert "received 9 records" in reader.before


def press_ctrl_z_and_say_fg(shell: pexpect.spawn, pid: int) -> None:
    """Stop the foreground program and go on with it."""
    shell.sendcontrol("z")
    shell.expect_exact(SHELL_PROMPT)
    assert state_of(pid) == "T"
    shell.sendline("fg")
    wait_until(lambda: state_of(pid) != "T", "the continuation")


def resize(shell: pexpect.spawn, pid: int) -> None:
    """Make the window another size, and another: SIGWINCH."""
    for columns in (80, 132, 40, 200):
        shell.setwinsize(50, columns)


@pytest.mark.parametrize("disturb", [press_ctrl_z_and_say_fg, resize])
class TestDisturbedWhileBlocked:
    """Ctrl-Z and fg, or a new window size: a blocked program goes on as if nothing had happened."""

    Disturb = Callable[[pexpect.spawn, int], None]

    def test_writer_at_its_prompt(self, terminals: Terminals, pair: Pair, disturb: Disturb) -> None:
        shell, pid = terminals.run_in_shell("writer")
        for line in ("one", "two"):
            shell.expect_exact("> ")
            disturb(shell, pid)
            shell.sendline(line)
        shell.expect_exact("> ")
        disturb(shell, pid)
        shell.sendcontrol("d")
        assert exit_code_in_shell(shell) == 0
        assert "sent 2 records, 8 bytes" in shell.before
        assert pair.read().out == b"one\ntwo\n"

    def test_writer_that_waits_for_room(
        self, terminals: Terminals, pair: Pair, tmp_path: Path, disturb: Disturb
    ) -> None:
        (tmp_path / "given").write_bytes(b"x" * 8192)
        arguments = ("--slots", 1, "--slot-size", "4K", "--file", tmp_path / "given")
        shell, pid = terminals.run_in_shell("writer", *arguments)
        for _ in range(3):
            wait_until(lambda: sleeps_on(pair, "empty_slots"))
            disturb(shell, pid)
        assert pair.read().out == b"x" * 8192
        assert exit_code_in_shell(shell) == 0
        assert "sent 1 record, 8192 bytes" in shell.before

    def test_reader_that_waits_for_data(self, terminals: Terminals, pair: Pair, disturb: Disturb) -> None:
        writer = pair.start("writer", "--lines")
        shell, pid = terminals.run_in_shell("reader")
        for _ in range(3):
            wait_until(lambda: sleeps_on(pair, "full_slots"))
            disturb(shell, pid)
        assert finish(writer, b"hello\n").code == 0
        assert exit_code_in_shell(shell) == 0
        assert "hello\r\n" in shell.before
        assert "received 1 record, 6 bytes" in shell.before

    @pytest.mark.parametrize("program", ["writer", "reader"])
    def test_at_the_doorway(self, terminals: Terminals, pair: Pair, program: str, disturb: Disturb) -> None:
        message = ["hello"] if program == "writer" else []
        with shut_doorway(pair):
            shell, pid = terminals.run_in_shell(program, *message)
            for _ in range(3):
                wait_until(lambda: stands_at_doorway(pair, pid))
                disturb(shell, pid)
        said = pair.read().out.decode() if program == "writer" else pair.write("hello").err
        assert exit_code_in_shell(shell) == 0
        assert "hello" in (said if program == "writer" else shell.before)

    def test_reader_that_waits_for_a_channel(self, terminals: Terminals, pair: Pair, disturb: Disturb) -> None:
        shell, pid = terminals.run_in_shell("reader")
        for _ in range(3):
            wait_until(lambda: stands_at_doorway(pair, pid))
            disturb(shell, pid)
        assert pair.write("hello").code == 0
        assert exit_code_in_shell(shell) == 0
        assert "hello\r\n" in shell.before


class TestProgressBar:
    """On a terminal a transfer of more than a second gets a progress bar; the data never mixes with it."""

    @staticmethod
    def feed(pair: Pair, seconds: float, until: Callable[[], bool]) -> bytes:
        """Write lines into the channel for at least `seconds`, and until `until()`; return them."""
        writer = pair.start("writer", "--lines", "--quiet")
        assert writer.stdin
        began, sent = time.monotonic(), b""
        while time.monotonic() - began < seconds or not until():
            writer.stdin.write(b"a line\n")
            writer.stdin.flush()
            sent += b"a line\n"
            time.sleep(0.01)  # the pace of a producer, not a wait
            assert time.monotonic() - began < PATIENCE, "no bar, or none that moves"
        assert finish(writer).code == 0
        return sent

    @staticmethod
    def moving(terminal: pexpect.spawn) -> Callable[[], bool]:
        """A condition: this terminal has shown a bar with one figure, and then with another."""
        figures = set[str]()

        def moves() -> bool:
            if terminal.expect([pexpect.TIMEOUT, rf"{BAR}[^\r]*?(\d[\d.]*)/\? "], timeout=0):
                figures.add(terminal.match[1])
            return len(figures) > 1

        return moves

    def test_appears_after_a_second(self, terminals: Terminals, pair: Pair, tmp_path: Path) -> None:
        reader = terminals.run("reader", "--output", tmp_path / "taken")
        reader.logfile_read = screen = io.StringIO()
        sent = self.feed(pair, 0, self.moving(reader))
        assert exit_code(reader) == 0
        # SIGSTOP and SIGKILL leave no time to show it again.
        assert BAR in screen.getvalue() and HIDE_CURSOR not in screen.getvalue()
        assert f"received {sent.count(10)} records, {len(sent)} bytes" in reader.before
        assert (tmp_path / "taken").read_bytes() == sent

    def test_of_a_writer(self, terminals: Terminals, pair: Pair, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        reader = pair.start("reader", "--output", tmp_path / "taken")
        writer = terminals.run("writer", "--file", tmp_path / "fifo")
        with (tmp_path / "fifo").open("wb", buffering=0) as fifo:
            began, sent, moves = time.monotonic(), 0, self.moving(writer)
            while not moves():
                sent += fifo.write(b"a line\n")
                time.sleep(0.01)  # the pace of a producer, not a wait
                assert time.monotonic() - began < PATIENCE, "no bar, or none that moves"
        assert exit_code(writer) == 0
        assert f"sent 1 record, {sent} bytes" in writer.before
        assert finish(reader).code == 0
        assert (tmp_path / "taken").stat().st_size == sent

    def test_a_line_takes_its_place(self, terminals: Terminals, pair: Pair, tmp_path: Path) -> None:
        """What is said while the bar stands begins where it began."""
        reader = terminals.run("reader", "--follow", "--output", tmp_path / "taken")
        self.feed(pair, 0, self.moving(reader))
        reader.expect_exact("reader: waiting for a writer; start `writer.py")
        assert reader.before.endswith(ERASE_LINE)
        reader.sendcontrol("c")
        assert exit_code(reader) == 128 + signal.SIGINT

    @pytest.mark.parametrize("option", ["--no-progress", "--quiet"])
    def test_can_be_left_out(self, terminals: Terminals, pair: Pair, tmp_path: Path, option: str) -> None:
        reader = terminals.run("reader", "--output", tmp_path / "taken", option)
        sent = self.feed(pair, 1.5, lambda: True)
        assert exit_code(reader) == 0
        assert BAR not in reader.before
        assert (tmp_path / "taken").read_bytes() == sent

    def test_not_without_a_terminal(self, pair: Pair) -> None:
        reader = pair.start("reader", stdout=subprocess.DEVNULL)
        self.feed(pair, 1.5, lambda: True)
        read = finish(reader)
        assert read.code == 0
        assert BAR not in read.err and "\x1b" not in read.err


def test_ctrl_c_on_the_writer(terminals: Terminals, pair: Pair) -> None:
    """The lines typed so far reach the reader; unlike Ctrl-D it is no end, and the reader says so."""
    reader = pair.start("reader", "--quiet")
    writer = terminals.run("writer")
    writer.expect_exact("> ")
    writer.sendline("hello")
    writer.expect_exact("head 0 -> 1")
    writer.expect_exact("> ")
    writer.sendcontrol("c")
    assert exit_code(writer) == 128 + signal.SIGINT
    said = writer.before.splitlines()
    assert said[0].startswith("^Cwriter: sent 1 record, 6 bytes")
    assert re.fullmatch(
        rf"writer: {names_of(pair).detach}: detached; (1 slot to be read|all of it is read);"
        " the rest was not sent: start `writer.py` again with it",
        plain(said[1]),
    )
    assert said[2:] == ["writer: ended by SIGINT"]
    read = finish(reader)
    assert (read.code, read.out, read.err) == (1, b"hello\n", broken_off(0))
    assert objects_of(pair) == []


def test_ctrl_c_on_the_reader(terminals: Terminals, pair: Pair) -> None:
    """The writer carries on; what it sends waits for the next reader."""
    writer = pair.start("writer", "--lines")
    reader = terminals.run("reader")
    wait_until(lambda: sleeps_on(pair, "full_slots"))
    reader.sendcontrol("c")
    assert exit_code(reader) == 128 + signal.SIGINT
    said = reader.before.splitlines()[-3:]
    assert said[0].startswith("^Creader: received 0 records, 0 bytes")
    again = f"`reader.py {'--ipc posix ' if pair.ipc == 'posix' else ''}--key-path {pair.key_path}`"
    assert said[1] == f"reader: {names_of(pair).detach}: detached; all of it is read; {again} goes on"
    assert said[2] == "reader: ended by SIGINT"
    assert finish(writer, b"hello\n").code == 0
    assert pair.read().out == b"hello\n"


def test_window_closed_on_the_writer(terminals: Terminals, pair: Pair) -> None:
    """SIGHUP comes with a terminal that is gone: the reader gets every line, and hears that there is no goodbye."""
    reader = pair.start("reader", "--quiet")
    writer = terminals.run("writer")
    writer.expect_exact("> ")
    writer.sendline("hello")
    writer.expect_exact("> ")
    assert hang_up(writer) == 128 + signal.SIGHUP
    read = finish(reader)
    assert (read.code, read.out, read.err) == (1, b"hello\n", broken_off(0))
    assert objects_of(pair) == []
