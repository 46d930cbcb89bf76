"""What the channel notes as received into an output is never emptied, and never taken for another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.doomed import RING, run_doomed
from tests.crash.driver import CONTENT
from tests.helpers import Finished, Pair

HOLDS = (
    "reader: the output already holds what was received from this channel ({} bytes): add --resume to continue it;"
    " another --output gets only the rest\n"
)
OTHER = "reader: cannot resume this output: it is not the one that the last reader was writing"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where a reader writes it; not there yet."""
    return tmp_path / "output"


def send(pair: Pair, *words: str) -> None:
    for word in words:
        assert pair.write(word, *RING).code == 0


def assert_refused(done: Finished, error: str) -> None:
    assert done.code == 1 and done.err.startswith(error) and len(done.err.splitlines()) == 1, done


def test_between_two_records_an_output_is_continued_or_refused(pair: Pair, output: Path) -> None:
    """`W a; W b; W c; R --count 1 --output o; R --output o`."""
    send(pair, "a", "b", "c")
    assert pair.read("--count", 1, "--output", output).code == 0
    assert_refused(pair.read("--quiet", "--output", output), HOLDS.format(2))
    assert output.read_bytes() == b"a\n"
    done = pair.read("--quiet", "--output", output, "--resume")
    assert (done.code, done.err, output.read_bytes()) == (0, "", b"a\nb\nc\n"), done


def test_keep_twice_leaves_the_output_as_it_is(pair: Pair, output: Path) -> None:
    send(pair, "a", "b")
    assert pair.read("--keep", "--output", output).code == 0
    assert_refused(pair.read("--quiet", "--keep", "--output", output), HOLDS.format(4))
    assert output.read_bytes() == b"a\nb\n"
    assert pair.read("--keep", "--output", output, "--resume").code == 0
    assert output.read_bytes() == b"a\nb\n"
    send(pair, "c")
    assert pair.read("--output", output, "--resume").code == 0
    assert output.read_bytes() == b"a\nb\nc\n"


def test_another_output_begins_empty(pair: Pair, output: Path, tmp_path: Path) -> None:
    """What is in it was not received from this channel: it is replaced, as by any other program."""
    send(pair, "a", "b")
    assert pair.read("--count", 1, "--output", output).code == 0
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    assert pair.read("--output", other).code == 0
    assert (output.read_bytes(), other.read_bytes()) == (b"a\n", b"b\n")


@pytest.mark.parametrize("damage", ["deleted", "shorter", "longer"])
def test_resume_at_the_end_looks_at_the_output(pair: Pair, content: Path, output: Path, damage: str) -> None:
    """Nothing is left to read: 0 would say that all of it is in the output. The channel stays, to be asked again."""
    assert pair.write("--file", content, *RING).code == 0
    assert pair.read("--keep", "--output", output).code == 0
    kept = {"deleted": b"", "shorter": CONTENT[:-1], "longer": CONTENT + b"!"}[damage]
    if damage == "deleted":
        output.unlink()
    else:
        output.write_bytes(kept)
    done = pair.read("--quiet", "--output", output, "--resume")
    assert done.code == 1 and "received" in done.err and len(done.err.splitlines()) == 1, done
    assert output.read_bytes() == kept
    output.write_bytes(CONTENT)
    if damage != "deleted":  # then it is another file, unless it got the same inode
        assert pair.read("--keep", "--output", output, "--resume").code == 0
    assert pair.read().code == 0
    assert pair.status() is None


def test_resume_of_a_reader_that_died_before_it_removed_the_channel(pair: Pair, content: Path, output: Path) -> None:
    assert pair.write("--file", content, *RING).code == 0
    run_doomed(pair, "_finish_if_over:1", "reader", "--output", output)
    done = pair.read("--quiet", "--output", output, "--resume")
    assert (done.code, done.err, output.read_bytes()) == (0, "", CONTENT), done
    assert pair.status() is None


def test_a_log_is_continued_in_the_next_channel(pair: Pair, output: Path) -> None:
    """Nobody has received anything of it, so nothing can be missing: `R --follow --output log --resume` appends."""
    for words in (["one"], ["two", "three"], ["four"]):
        send(pair, *words)
        done = pair.read("--quiet", "--follow", "--output", output, "--resume", "--count", len(words))
        assert (done.code, done.err) == (0, ""), done
        assert pair.status() is None
    assert output.read_bytes() == b"one\ntwo\nthree\nfour\n"


def test_a_file_that_is_sent_again_is_not_appended(pair: Pair, content: Path, output: Path) -> None:
    """Its writer died before its goodbye, and the reader ended the channel: nothing remembers what was received."""
    run_doomed(pair, "leave:1", "writer", "--file", content, *RING)
    done = pair.read("--quiet", "--output", output)
    assert (done.code, output.read_bytes()) == (1, CONTENT), done
    assert pair.write("--file", content, "--resume", *RING).code == 0
    done = pair.read("--quiet", "--output", output, "--resume")
    assert done.code == 1 and "cannot resume this output" in done.err, done
    assert output.read_bytes() == CONTENT
    assert pair.read("--quiet").out == CONTENT


def test_a_log_is_not_continued_behind_what_somebody_else_received(pair: Pair, output: Path) -> None:
    output.write_bytes(b"one\n")
    send(pair, "two", "three")
    assert pair.read("--count", 1).out == b"two\n"
    assert_refused(pair.read("--quiet", "--output", output, "--resume"), OTHER)
    assert output.read_bytes() == b"one\n"
    assert pair.read("--quiet").out == b"three\n"


@pytest.mark.parametrize("to_file", [False, True], ids=["stream", "file"])
def test_a_dead_readers_note_does_not_outlive_its_fragment(
    pair: Pair, output: Path, tmp_path: Path, to_file: bool
) -> None:
    """It dies between its note and the tail; another reader receives that record, which is then not in both."""
    send(pair, "a", "b", "c")
    run_doomed(pair, "__set__:2", "reader", "--output", output)  # the first store is the turn's, the second the tail
    status = pair.status()
    assert status and output.read_bytes() == b"a\n" and status["header"]["tail"] == 0
    if to_file:
        other = tmp_path / "other"
        assert pair.read("--count", 1, "--output", other).code == 0
        assert other.read_bytes() == b"a\n"
    else:
        assert pair.read("--count", 1).out == b"a\n"
    assert_refused(pair.read("--quiet", "--output", output, "--resume"), OTHER)
    done = pair.read("--quiet")
    assert (done.code, done.out, output.read_bytes()) == (0, b"b\nc\n", b"a\n"), done
