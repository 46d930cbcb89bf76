"""Started with a standard stream closed (`<&-`, `>&-`, `2>&-`): no file gets what was meant for another."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.watch import segments
from tests.helpers import Finished, Pair, finish

CLOSED = "EBADF (Bad file descriptor): it is closed; redirect it to a file or a pipe"


def run_closed(pair: Pair, redirections: str, program: str, *arguments: object) -> Finished:
    """Run the program as a shell does with these redirections; the streams that stay open are empty or pipes."""
    shell = pair.under("sh", "-c", f'exec "$@" {redirections}', "sh")
    return finish(shell.start(program, *arguments, stdin=subprocess.DEVNULL))


ALL = "<&- >&- 2>&-"


class TestWriter:
    def test_closed_input(self, pair: Pair) -> None:
        """Without a stand-in for it, the key path would be read."""
        done = run_closed(pair, "<&-", "writer", "--quiet")
        assert (done.code, done.err) == (1, f"writer: standard input: {CLOSED}\n")
        assert segments(pair) == []

    def test_message_needs_none_of_them(self, pair: Pair) -> None:
        done = run_closed(pair, ALL, "writer", "hello")
        assert (done.code, done.out) == (0, b"")
        read = pair.read()
        assert (read.code, read.out) == (0, b"hello\n"), "what it says must not become data"


class TestReader:
    def test_closed_output(self, pair: Pair) -> None:
        """Without a stand-in for it, the record would be written to the key path, and be gone."""
        pair.write("hello")
        done = run_closed(pair, ">&-", "reader", "--quiet")
        assert (done.code, done.out, done.err) == (1, b"", f"reader: standard output: {CLOSED}\n")
        assert pair.read().out == b"hello\n", "nothing was lost"

    def test_closed_output_and_error(self, pair: Pair) -> None:
        """There is nobody to tell, but the code still says it."""
        pair.write("hello")
        assert run_closed(pair, ">&- 2>&-", "reader").code == 1
        assert pair.read().out == b"hello\n"

    def test_needs_only_its_output(self, pair: Pair) -> None:
        pair.write("hello")
        done = run_closed(pair, "<&- 2>&-", "reader")
        assert (done.code, done.out) == (0, b"hello\n")

    @pytest.mark.parametrize("redirections", ["2>&-", ALL])
    def test_file_gets_the_data_alone(self, pair: Pair, tmp_path: Path, redirections: str) -> None:
        """Without a stand-in for standard error, the --output file would get the messages."""
        pair.write("hello")
        taken = tmp_path / "taken"
        done = run_closed(pair, redirections, "reader", "--output", taken)
        assert (done.code, done.out) == (0, b"")
        assert taken.read_bytes() == b"hello\n"

    def test_status(self, pair: Pair) -> None:
        pair.write("hello")
        done = run_closed(pair, "<&- >&-", "reader", "--status")
        assert (done.code, done.err) == (1, f"reader: standard output: {CLOSED}\n")
        assert pair.read().out == b"hello\n"

    def test_status_for_somebody_who_left(self, pair: Pair) -> None:
        """`reader.py --status | true`: as quiet an end as that of the data."""
        pair.write("hello")
        status = pair.start("reader", "--status", "--json")
        assert status.stdout
        status.stdout.close()
        status.stdout = None
        done = finish(status)
        assert (done.code, done.err) == (0, "")
        pair.read()

    @pytest.mark.parametrize("arguments", [[], ["--status"]])
    def test_full_device(self, pair: Pair, arguments: list[str]) -> None:
        pair.write("hello")
        done = run_closed(pair, "> /dev/full", "reader", "--quiet", *arguments)
        assert done.code == 1
        assert done.err.startswith("reader: standard output: ENOSPC (No space left on device)")
        assert done.err.count("\n") == 1
        assert ("go on" in done.err) == (not arguments), "one who only looked has nothing to go on with"
        assert pair.read().out == b"hello\n", "nothing was lost"


def test_terminal_that_is_gone(pair: Pair) -> None:
    """Standard error is a pipe that nobody reads: what cannot be said is no failure."""
    writer = pair.start("writer")
    assert writer.stderr
    writer.stderr.close()
    writer.stderr = None
    assert finish(writer, b"hello").code == 0
    assert pair.read().out == b"hello"
