"""Resume, exactly once: whoever dies in the middle of a record, what arrives is what was sent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.crash.doomed import RING, run_doomed, tear_reader, tear_writer
from tests.crash.driver import CONTENT, SLOT_SIZE
from tests.helpers import Finished, Pair, finish, plain, wait_until

HALF = 2 * SLOT_SIZE  # where the torn record of most tests ends

REFUSED = "writer: this is not the file to resume: {}; `writer.py --remove` gives up what was begun, then send it anew"
BROKEN_OFF = (
    "reader: the channel is broken off: 1 writer stopped before the end; all that was sent has arrived, up to record {}"
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where a reader writes it; not there yet."""
    return tmp_path / "output"


def make_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def errors(done: Finished) -> list[str]:
    """What a failed program says when it is --quiet."""
    assert done.code == 1, done
    return done.err.splitlines()


def the_error(done: Finished) -> str:
    """The one line of it."""
    (line,) = errors(done)
    return line


def change(path: Path, content: bytes) -> None:
    """Write into the same inode, as somebody does a second later: no test waits until the clock shows it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.truncate()
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


# The writer


def test_writer_resumes_at_the_first_byte_not_committed(pair: Pair, content: Path) -> None:
    tear_writer(pair, content, 2)
    resumed = pair.write("--file", content, "--resume")
    assert resumed.code == 0, resumed
    assert f"sent 1 record, {len(CONTENT) - HALF} bytes" in resumed.err
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, CONTENT, ""), received


def test_several_resumes_in_a_row(pair: Pair, content: Path) -> None:
    tear_writer(pair, content, 1)
    for _ in range(3):
        tear_writer(pair, content, 1, "--resume")
    assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, CONTENT), received


@pytest.mark.parametrize("others", [0, 2])
def test_torn_record_without_resume_is_reported_and_passed_over(pair: Pair, content: Path, others: int) -> None:
    """`others` whole records before it: it is named by its number. That its writer is missing is said by that, too."""
    for _ in range(others):
        assert pair.write("whole", *RING).code == 0
    pid = tear_writer(pair, content, 2)
    assert pair.write("next").code == 0
    received = pair.read("--quiet")
    assert received.out == b"whole\n" * others + CONTENT[:HALF] + b"next\n"
    torn = f"reader: record {others} is torn: its writer, pid {pid}, stopped after {HALF} bytes, and another went on"
    assert errors(received) == [torn]


def test_writer_that_died_with_nothing_committed_leaves_no_torn_record(pair: Pair, content: Path) -> None:
    tear_writer(pair, content, 0)
    assert pair.write("next").code == 0
    received = pair.read("--quiet")
    assert (the_error(received), received.out) == (BROKEN_OFF.format(0), b"next\n")


@pytest.mark.parametrize("size", [0, HALF - 1, HALF, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1])
def test_another_file_is_refused(pair: Pair, content: Path, tmp_path: Path, size: int) -> None:
    """And it owes nothing: only the one whose record it is can take the dead writer's place."""
    tear_writer(pair, content, 2)
    other = make_file(tmp_path / "other", bytes(size))
    error = the_error(pair.write("--quiet", "--file", other, "--resume"))
    assert error == REFUSED.format("record 0 was begun from another one")
    assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, CONTENT, ""), received


@pytest.mark.parametrize("size", [0, HALF - 1, HALF, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_file_of_another_size_is_refused(pair: Pair, content: Path, size: int) -> None:
    """It is the same inode, with the modification time that it had."""
    tear_writer(pair, content, 2)
    before = content.stat()
    change(content, bytes(size))
    os.utime(content, ns=(before.st_atime_ns, before.st_mtime_ns))
    error = the_error(pair.write("--quiet", "--file", content, "--resume"))
    shown = size or "unknown"  # one that claims to be empty may be one of those in /proc that do not tell their size
    assert error == REFUSED.format(f"its size is {shown}, and record 0 stopped after {HALF} bytes of {len(CONTENT)}")
    assert pair.write("--remove").code == 0


def test_a_file_that_was_changed_in_place_is_refused(pair: Pair, content: Path) -> None:
    """The same inode and the same size: half of the old and half of the new would be a file that never was."""
    tear_writer(pair, content, 2, "--slots", 16)
    change(content, CONTENT[::-1])
    error = the_error(pair.write("--quiet", "--file", content, "--resume"))
    assert error == REFUSED.format("it was changed after record 0 was begun from it")
    assert pair.write("--file", content).code == 0  # as the message says
    received = pair.read("--quiet")
    assert received.out == CONTENT[:HALF] + CONTENT[::-1]
    assert "record 0 is torn" in the_error(received)


def test_a_file_made_anew_with_the_same_inode_is_sent_as_new(pair: Pair, content: Path) -> None:
    """`head > chunk; writer.py --file chunk --resume; rm chunk` in a loop: ext4 gives the next one the same inode."""
    chunks = [bytes([letter]) * len(CONTENT) for letter in b"abc"]
    for chunk in chunks:
        change(content, chunk)
        sent = pair.write("--file", content, "--resume", "--slots", 32, "--slot-size", SLOT_SIZE)
        assert sent.code == 0 and "sent 1 record" in sent.err, sent
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, b"".join(chunks), ""), received


def tear_pipe_writer(pair: Pair) -> None:
    """A record of unknown size, torn at HALF."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin
        cat.stdin.write(CONTENT[: 3 * SLOT_SIZE])
        cat.stdin.close()
        run_doomed(pair, "_publish:3", "writer", *RING, stdin=cat.stdout)


@pytest.mark.parametrize("size", [0, HALF - 1, 3 * SLOT_SIZE, len(CONTENT)])
def test_a_record_that_came_from_a_pipe_is_not_resumed(pair: Pair, tmp_path: Path, size: int) -> None:
    """A pipe cannot be read again, and no file shows that it has the same bytes, however well it begins."""
    tear_pipe_writer(pair)
    other = make_file(tmp_path / "other", CONTENT[:size])
    error = the_error(pair.write("--quiet", "--file", other, "--resume"))
    assert error == REFUSED.format("record 0 is a message, a line or from a pipe, which cannot be read again")
    assert pair.write("next").code == 0
    received = pair.read("--quiet")
    assert "record 0 is torn" in the_error(received)
    assert received.out == CONTENT[:HALF] + b"next\n"


def test_a_pipe_cannot_be_resumed(pair: Pair, content: Path, tmp_path: Path) -> None:
    """It cannot be read again from the middle."""
    tear_writer(pair, content, 2)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = pair.start("writer", "--quiet", "--file", fifo, "--resume")
    with fifo.open("wb"):
        assert the_error(finish(writer)) == REFUSED.format("record 0 was begun from another one")
    assert pair.write("--remove").code == 0


def test_nothing_to_resume_is_success_and_sends_nothing_twice(pair: Pair, content: Path) -> None:
    assert pair.write("--file", content, *RING).code == 0
    for _ in range(2):
        assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, CONTENT), received


def test_writer_that_died_after_its_last_commit_has_nothing_to_resume(pair: Pair, content: Path) -> None:
    run_doomed(pair, "leave:1", "writer", "--file", content, *RING)
    assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, CONTENT), received


def test_another_file_of_the_same_size_is_not_taken_for_sent(pair: Pair, content: Path, tmp_path: Path) -> None:
    assert pair.write("--file", content, "--slots", 16, "--slot-size", SLOT_SIZE).code == 0
    other = make_file(tmp_path / "other", CONTENT[::-1])
    run_doomed(pair, "_publish:1", "writer", "--file", other)
    assert pair.write("--file", other, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, CONTENT + CONTENT[::-1]), received


def test_a_file_noted_and_not_begun_is_not_taken_for_the_lines_that_got_its_number(pair: Pair, tmp_path: Path) -> None:
    """Its writer dies before its first fragment; another one's lines, just as many bytes, get that record number."""
    given = make_file(tmp_path / "given", b"of the file\n")
    run_doomed(pair, "_free_slot:1", "writer", "--file", given, *RING)
    assert pair.write("--lines", stdin=b"of a line..\n").code == 0
    assert pair.write("--file", given, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, b"of a line..\nof the file\n"), received


def test_another_file_of_the_size_of_the_torn_one_is_refused(pair: Pair, content: Path, tmp_path: Path) -> None:
    tear_writer(pair, content, 2)
    other = make_file(tmp_path / "other", CONTENT[::-1])
    error = the_error(pair.write("--quiet", "--file", other, "--resume"))
    assert error == REFUSED.format("record 0 was begun from another one")
    assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, CONTENT), received


@pytest.mark.parametrize("kind", ["line", "message"])
def test_a_torn_line_or_message_is_not_continued_from_a_file(pair: Pair, tmp_path: Path, kind: str) -> None:
    """Not even from the file that was sent just before, and is as long as the whole of it."""
    text = b"x" * (3 * SLOT_SIZE) + b"\n"
    given = make_file(tmp_path / "given", text)
    assert pair.write("--file", given, *RING).code == 0
    if kind == "line":
        with given.open("rb") as stdin:
            run_doomed(pair, "_publish:2", "writer", "--lines", stdin=stdin)
    else:
        run_doomed(pair, "_publish:2", "writer", text[:-1].decode())
    error = the_error(pair.write("--quiet", "--file", given, "--resume"))
    assert error == REFUSED.format("record 1 is a message, a line or from a pipe, which cannot be read again")
    assert pair.write("--remove").code == 0


def test_an_empty_file_is_not_sent_twice(pair: Pair, tmp_path: Path) -> None:
    """It does not tell its size; that it is all sent, its note tells."""
    empty = make_file(tmp_path / "empty", b"")
    assert pair.write("--file", empty, *RING).code == 0
    again = pair.write("--file", empty, "--resume")
    assert again.code == 0 and "sent 0 records" in again.err, again
    assert "received 1 record, 0 bytes" in pair.read().err


def test_resume_without_a_channel_starts_from_the_first_byte(pair: Pair, content: Path) -> None:
    assert pair.write("--file", content, "--resume", *RING).code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (0, CONTENT), received


def test_record_that_was_given_up_cannot_be_resumed(pair: Pair, content: Path) -> None:
    tear_writer(pair, content, 2)
    run_doomed(pair, "_publish:2", "writer", "next")  # it gives the record up, and dies before its own
    error = the_error(pair.write("--quiet", "--file", content, "--resume"))
    assert f"record 0 was given up after {HALF} bytes" in error
    assert pair.write("--remove").code == 0


# The reader


def test_reader_cuts_the_output_back_and_goes_on(pair: Pair, content: Path, output: Path) -> None:
    assert pair.write("--file", content, *RING).code == 0
    tear_reader(pair, 1, "--output", output)
    assert output.read_bytes() == CONTENT[:HALF], "a fragment more than what is committed"
    resumed = pair.read("--output", output, "--resume")
    assert resumed.code == 0, resumed
    assert output.read_bytes() == CONTENT
    assert f"going on at byte {SLOT_SIZE} of record 0, where another reader stopped" in resumed.err
    assert f"received 1 record, {len(CONTENT) - SLOT_SIZE} bytes" in resumed.err


def test_several_reader_resumes_in_a_row(pair: Pair, content: Path, output: Path) -> None:
    assert pair.write("--file", content, *RING).code == 0
    tear_reader(pair, 1, "--output", output)
    for _ in range(3):
        tear_reader(pair, 1, "--output", output, "--resume")
    resumed = pair.read("--output", output, "--resume")
    assert (resumed.code, output.read_bytes()) == (0, CONTENT), resumed


def test_half_a_fragment_in_the_output_is_cut_off(pair: Pair, content: Path, output: Path) -> None:
    """A write that the kernel cut short leaves less than a fragment behind the last commit."""
    assert pair.write("--file", content, *RING).code == 0
    tear_reader(pair, 1, "--output", output)
    os.truncate(output, SLOT_SIZE + 100)
    assert pair.read("--output", output, "--resume").code == 0
    assert output.read_bytes() == CONTENT


def test_without_resume_a_begun_output_is_not_overwritten(pair: Pair, content: Path, output: Path) -> None:
    assert pair.write("--file", content, *RING).code == 0
    tear_reader(pair, 1, "--output", output)
    error = the_error(pair.read("--quiet", "--output", output))
    assert f"the output already holds what was received from this channel ({SLOT_SIZE} bytes): add --resume" in error
    assert output.read_bytes() == CONTENT[:HALF]
    assert pair.read("--output", output, "--resume").code == 0
    assert output.read_bytes() == CONTENT


def test_another_output_is_not_resumed(pair: Pair, content: Path, output: Path, tmp_path: Path) -> None:
    assert pair.write("--file", content, *RING).code == 0
    tear_reader(pair, 1, "--output", output)
    other = make_file(tmp_path / "other", b"something else")
    assert "cannot resume this output" in the_error(pair.read("--quiet", "--output", other, "--resume"))
    assert other.read_bytes() == b"something else"
    assert pair.read("--output", output, "--resume").code == 0
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [SLOT_SIZE - 1, HALF + 1])
def test_an_output_that_somebody_changed_is_not_resumed(pair: Pair, content: Path, output: Path, size: int) -> None:
    """Shorter than what is committed, or longer than the fragment that the dead reader had in hand."""
    assert pair.write("--file", content, *RING).code == 0
    tear_reader(pair, 1, "--output", output)
    os.truncate(output, size)
    error = the_error(pair.read("--quiet", "--output", output, "--resume"))
    assert f"the output has {size} bytes, but {SLOT_SIZE} were received into it" in error
    assert output.stat().st_size == size
    assert pair.write("--remove").code == 0


def test_reader_resumes_inside_the_second_of_three_records(pair: Pair, content: Path, output: Path) -> None:
    assert pair.write("one", *RING).code == 0
    assert pair.write("--file", content).code == 0
    assert pair.write("three").code == 0
    tear_reader(pair, 3, "--output", output)  # "one" and two fragments
    resumed = pair.read("--output", output, "--resume")
    assert (resumed.code, output.read_bytes()) == (0, b"one\n" + CONTENT + b"three\n"), resumed


def test_reader_resumes_between_two_lines_of_a_slot(pair: Pair, output: Path) -> None:
    assert pair.write("--lines", stdin=b"one\ntwo\nthree\nfour\n").code == 0
    assert pair.read("--output", output, "--count", 1).code == 0
    assert pair.read("--output", output, "--count", 2, "--resume").code == 0
    resumed = pair.read("--output", output, "--resume")
    assert (resumed.code, output.read_bytes()) == (0, b"one\ntwo\nthree\nfour\n"), resumed


def test_an_output_that_lacks_what_went_to_a_pipe_is_not_resumed(pair: Pair, output: Path) -> None:
    """The second reader took a part of the same slot, so the file of the first no longer has all before the third."""
    assert pair.write("--lines", stdin=b"one\ntwo\nthree\n").code == 0
    assert pair.read("--output", output, "--count", 1).code == 0
    assert pair.read("--count", 1).out == b"two\n"
    error = the_error(pair.read("--quiet", "--output", output, "--resume"))
    assert error.startswith("reader: cannot resume this output: ")
    assert output.read_bytes() == b"one\n"
    assert pair.read("--quiet").out == b"three\n"


def test_a_reader_that_died_between_two_records_lost_nothing(pair: Pair) -> None:
    for word in ("one", "two", "three"):
        assert pair.write(word, *RING).code == 0
    run_doomed(pair, "release_semaphore:1", "reader")
    after = pair.read("--quiet")
    assert (after.code, after.out, after.err) == (0, b"two\nthree\n", ""), after


def test_reader_to_a_pipe_goes_on_where_a_dead_one_stopped(pair: Pair, content: Path, output: Path) -> None:
    """A stream cannot be cut back: the fragment that the dead reader had in hand comes again, and no other."""
    assert pair.write("--file", content, *RING).code == 0
    with output.open("wb") as stream:
        run_doomed(pair, "_commit:2", "reader", stdout=stream)
    assert output.read_bytes() == CONTENT[:HALF]
    after = pair.read("--quiet")
    assert after.out == CONTENT[SLOT_SIZE:]
    assert the_error(after) == f"reader: record 0 comes without its first {SLOT_SIZE} bytes: another reader took them"


# Both


@pytest.mark.parametrize("first", ["writer", "reader"])
def test_both_sides_resumed_at_once(pair: Pair, content: Path, output: Path, first: str) -> None:
    tear_writer(pair, content, 3)
    tear_reader(pair, 1, "--output", output)
    arguments = {"writer": ("--file", content, "--resume"), "reader": ("--output", output, "--resume")}
    second = "reader" if first == "writer" else "writer"
    children = [pair.start(program, *arguments[program]) for program in (first, second)]
    ended = [finish(child) for child in children]
    assert [done.code for done in ended] == [0, 0], ended
    assert output.read_bytes() == CONTENT


def test_resumed_reader_waits_for_the_resumed_writer(pair: Pair, content: Path, output: Path) -> None:
    """However late it comes: the reader has emptied the ring by then, and says what it waits for."""
    tear_writer(pair, content, 3)
    tear_reader(pair, 1, "--output", output)
    said = output.with_name("said")
    with said.open("wb") as stderr:
        reader = pair.start("reader", "--output", output, "--resume", stderr=stderr)
    wait_until(lambda: "--resume` to continue record 0" in plain(said.read_text()), "what it waits for")
    assert pair.write("--file", content, "--resume").code == 0
    assert finish(reader).code == 0
    assert output.read_bytes() == CONTENT


def test_live_reader_of_a_dead_writer_ends_and_leaves_the_channel_for_resume(
    pair: Pair, content: Path, output: Path
) -> None:
    reader = pair.start("reader", "--quiet", "--output", output)
    pid = tear_writer(pair, content, 2)
    error = the_error(finish(reader))
    assert f"record 0 is unfinished: its writer, pid {pid}, stopped after {HALF} bytes" in error
    assert "`writer.py --file PATH --resume` continues it" in error
    assert output.read_bytes() == CONTENT[:HALF]
    assert pair.write("--file", content, "--resume").code == 0
    assert pair.read("--output", output, "--resume").code == 0
    assert output.read_bytes() == CONTENT


def test_live_writer_of_a_dead_reader_goes_on(pair: Pair, content: Path, output: Path) -> None:
    writer = pair.start("writer", "--file", content, "--slots", 2, "--slot-size", SLOT_SIZE)
    wait_until(pair.status, "the channel")
    tear_reader(pair, 2, "--output", output)
    resumed = pair.read("--output", output, "--resume")
    assert (resumed.code, finish(writer).code) == (0, 0), resumed
    assert output.read_bytes() == CONTENT
