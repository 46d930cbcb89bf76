"""A death is not an end: a reader ends with 0 only if every writer said goodbye and it received whole records."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.crash.doomed import RING, run_doomed, start_doomed, tear_writer
from tests.crash.driver import CONTENT, SLOT_SIZE
from tests.e2e.watch import attached, shut_doorway
from tests.helpers import PATIENCE, Finished, Pair, finish, wait_until


def broken_off(where: str, writers: str = "1 writer") -> str:
    return f"reader: the channel is broken off: {writers} stopped before the end; {where}\n"


TORN_BEFORE = "reader: another reader met 1 torn record in this channel\n"


def kill_between_two_records(pair: Pair) -> None:
    """A writer of lines has sent two and waits for the next one, when kill -9 comes."""
    writer = pair.start("writer", "--lines", *RING)
    assert writer.stdin
    writer.stdin.write(b"one\ntwo\n")
    writer.stdin.flush()
    wait_until(lambda: (status := pair.status()) and status["header"]["head"], "the two lines")
    writer.kill()
    assert writer.wait(PATIENCE) == -signal.SIGKILL


def assert_broken_off(received: Finished, out: bytes, where: str) -> None:
    assert (received.code, received.out, received.err) == (1, out, broken_off(where)), received


def test_a_writer_killed_between_two_records(pair: Pair) -> None:
    kill_between_two_records(pair)
    assert_broken_off(pair.read("--quiet"), b"one\ntwo\n", "all that was sent has arrived, up to record 1")
    assert pair.status() is None


def test_yes_is_killed_and_the_reader_lives(pair: Pair, tmp_path: Path) -> None:
    """`yes | writer.py --lines`: what arrived is whole lines, and not taken for all of them."""
    output = tmp_path / "output"
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        writer = pair.start("writer", "--lines", "--quiet", *RING, stdin=yes.stdout)
        reader = pair.start("reader", "--quiet", "--output", output)
        wait_until(lambda: output.exists() and output.stat().st_size > 10 * SLOT_SIZE, "some lines")
        writer.kill()
        received = finish(reader)
        yes.kill()
    # Inside a record or not: a slot of lines is one commit.
    assert received.code == 1 and received.err.startswith("reader: the channel is broken off: 1 writer "), received
    assert set(output.read_bytes().splitlines(keepends=True)) == {b"y\n"}


@pytest.mark.parametrize("moment", ["send:1", "_publish:1", "begin:1"])
def test_a_writer_of_a_file_killed_before_its_first_fragment(pair: Pair, content: Path, moment: str) -> None:
    run_doomed(pair, moment, "writer", "--file", content, *RING)
    assert_broken_off(pair.read("--quiet"), b"", "nothing was sent")


def test_a_message_killed_before_its_only_fragment(pair: Pair) -> None:
    run_doomed(pair, "send:1", "writer", "hello", *RING)
    assert_broken_off(pair.read("--quiet"), b"", "nothing was sent")


def test_a_writer_killed_when_its_place_is_noted_and_not_yet_counted(pair: Pair, content: Path) -> None:
    """It has joined: the reader neither waits for a writer nor takes the others for all of them."""
    assert pair.write("before", *RING).code == 0
    run_doomed(pair, "__set__:9", "writer", "--file", content)  # eight stores make the note, the ninth counts it
    status = pair.status()
    assert status and status["header"]["writers_joined"] == 1
    assert_broken_off(pair.read("--quiet"), b"before\n", "all that was sent has arrived, up to record 0")


def test_two_of_three_writers_are_killed(pair: Pair) -> None:
    for moment in ("send:1", "leave:1"):
        run_doomed(pair, moment, "writer", "killed", *RING)
    assert pair.write("whole").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out) == (1, b"killed\nwhole\n"), received
    assert received.err == broken_off("all that was sent has arrived, up to record 1", "2 writers")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_writer_has_not_said_all(pair: Pair, number: signal.Signals) -> None:
    writer = pair.start("writer", "--lines", *RING)
    assert writer.stdin
    writer.stdin.write(b"one\n")
    writer.stdin.flush()
    wait_until(lambda: (status := pair.status()) and status["header"]["head"], "the line")
    writer.send_signal(number)
    assert finish(writer).code == 128 + number
    assert_broken_off(pair.read("--quiet"), b"one\n", "all that was sent has arrived, up to record 0")


def test_a_writer_whose_input_failed_has_not_said_all(pair: Pair) -> None:
    """Nothing is mapped at address 0, so reading one's own memory from there is an I/O error."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("there is no /proc/self/mem here")
    assert pair.write("before", *RING).code == 0
    assert pair.write("--file", "/proc/self/mem").code == 1
    assert_broken_off(pair.read("--quiet"), b"before\n", "all that was sent has arrived, up to record 0")


def test_a_writer_killed_after_its_goodbye_is_not_missed(pair: Pair) -> None:
    run_doomed(pair, "_is_last_out:1", "writer", "hello", *RING)
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, b"hello\n", ""), received


# What the reader's options make of it


def test_keep_says_so_once_and_removes_nothing(pair: Pair) -> None:
    kill_between_two_records(pair)
    assert_broken_off(pair.read("--quiet", "--keep"), b"one\ntwo\n", "all that was sent has arrived, up to record 1")
    assert_broken_off(pair.read("--quiet", "--keep"), b"", "all that was sent has arrived, up to record 1")
    assert_broken_off(pair.read("--quiet"), b"", "all that was sent has arrived, up to record 1")


def test_count_is_reached_before_the_end(pair: Pair) -> None:
    """Who stops before the end has seen none: whoever comes to it is told."""
    kill_between_two_records(pair)
    first = pair.read("--quiet", "--count", 1)
    assert (first.code, first.out, first.err) == (0, b"one\n", ""), first
    assert_broken_off(pair.read("--quiet", "--count", 1), b"two\n", "all that was sent has arrived, up to record 1")
    assert pair.status() is None


def test_follow_says_so_goes_on_and_ends_with_1(pair: Pair, tmp_path: Path) -> None:
    said = tmp_path / "said"
    kill_between_two_records(pair)
    with said.open("wb") as stderr:
        reader = pair.start("reader", "--quiet", "--follow", "--count", 3, stderr=stderr)
    wait_until(lambda: said.read_text() == broken_off("all that was sent has arrived, up to record 1"), "what it says")
    assert pair.write("three").code == 0
    received = finish(reader)
    assert (received.code, received.out) == (1, b"one\ntwo\nthree\n"), received
    assert said.read_text() == broken_off("all that was sent has arrived, up to record 1"), "it is said once"
    pair.write("--remove")  # it stays when the reader left before the last writer


@pytest.mark.parametrize("moment", ["send:1", "_publish:1", "_publish:3", "leave:1"])
def test_resume_waits_and_a_writer_that_resumes_settles_it(
    pair: Pair, content: Path, tmp_path: Path, moment: str
) -> None:
    said, output = tmp_path / "said", tmp_path / "output"
    with said.open("wb") as stderr:
        reader = pair.start("reader", "--output", output, "--resume", stderr=stderr)
    run_doomed(pair, moment, "writer", "--file", content, *RING)
    wait_until(lambda: "waiting for `writer.py --file PATH --resume" in said.read_text(), "what it waits for")
    assert pair.write("--file", content, "--resume").code == 0
    assert finish(reader).code == 0, said.read_text()
    assert output.read_bytes() == CONTENT
    assert pair.status() is None


@pytest.mark.parametrize("moment", ["send:1", "_publish:1", "_publish:3", "leave:1"])
def test_a_writer_that_resumes_later_settles_it(pair: Pair, content: Path, moment: str) -> None:
    run_doomed(pair, moment, "writer", "--file", content, *RING)
    for _ in range(2):
        run_doomed(pair, "send:1", "writer", "--file", content, "--resume")
    assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, CONTENT, ""), received


@pytest.mark.parametrize("again", [False, True])
def test_a_writer_that_died_when_it_looked_again_is_missed(pair: Pair, content: Path, again: bool) -> None:
    """All of the file is sent, and one that resumes is killed before it finds that; the next one settles it."""
    assert pair.write("--file", content, *RING).code == 0
    run_doomed(pair, "send:1", "writer", "--file", content, "--resume")
    if again:
        assert pair.write("--file", content, "--resume").code == 0
    received = pair.read("--quiet")
    missed = "" if again else broken_off("all that was sent has arrived, up to record 0")
    assert (received.code, received.out, received.err) == (0 if again else 1, CONTENT, missed), received


def test_resume_does_not_take_the_place_of_a_living_writer(pair: Pair, content: Path) -> None:
    """It waits for its turn: two goodbyes of one place would stand for that of another writer, which died."""
    assert pair.write("before", *RING).code == 0
    first = pair.start("writer", "--quiet", "--file", content, "--slots", 8, "--slot-size", SLOT_SIZE)
    wait_until(lambda: (status := pair.status()) and status["header"]["writers_joined"] == 2, "the first one")
    assert pair.write("--file", content, "--resume").code == 0
    assert finish(first).code == 0
    run_doomed(pair, "send:1", "writer", "hello")
    received = pair.read("--quiet")
    assert received.code == 1 and received.out.startswith(b"before\n" + CONTENT), received


@pytest.mark.parametrize("resume", [(), ("--resume",)], ids=["plain", "resume"])
def test_nobody_waits_for_what_cannot_be_resumed(pair: Pair, tmp_path: Path, resume: tuple[str, ...]) -> None:
    """Lines are not resumed: with --resume, too, the reader ends."""
    kill_between_two_records(pair)
    output = tmp_path / "output"
    received = pair.read("--quiet", "--output", output, *resume)
    assert (received.code, received.err) == (1, broken_off("all that was sent has arrived, up to record 1")), received
    assert output.read_bytes() == b"one\ntwo\n"


def test_nobody_waits_for_a_record_that_another_writer_passed_over(pair: Pair, content: Path, tmp_path: Path) -> None:
    tear_writer(pair, content, 2)
    assert pair.write("next").code == 0
    received = pair.read("--quiet", "--output", tmp_path / "output", "--resume")
    assert received.code == 1 and received.err.startswith("reader: record 0 is torn: "), received
    assert received.err.count("\n") == 1, "its writer is missed once"


@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("options", [(), ("--follow", "--count", 1)], ids=["plain", "follow"])
def test_whoever_finds_it_finished_judges_by_the_same_counts(
    pair: Pair, dies: bool, options: tuple[object, ...]
) -> None:
    """One reader finishes the channel, or dies when it has stored so; the other one waited for its turn."""
    writer = pair.start("writer", "--quiet", "--lines", *RING)
    wait_until(lambda: joined(pair) == 1, "the writer")
    first = start_doomed(pair, "remove:2", "reader") if dies else pair.start("reader", "--quiet")
    wait_until(lambda: (status := pair.status()) and status["header"]["reader_pid"], "its turn")
    second = pair.start("reader", "--quiet", *options)
    wait_until(lambda: joined(pair) == 3, "the other reader")
    writer.kill()
    assert first.wait(PATIENCE) == (-signal.SIGKILL if dies else 1)
    if options:
        wait_until(lambda: not joined(pair), "that it waits for another channel")
        assert pair.write("next").code == 0
    assert_broken_off(finish(second), b"next\n" if options else b"", "nothing was sent")


def joined(pair: Pair) -> int:
    """How many processes have the channel attached and are no longer inside the doorway, where they judge it."""
    with shut_doorway(pair):
        return attached(pair)


# A torn record


@pytest.mark.parametrize("moment", ["release_semaphore:3", "_commit:4", "leave:1"])
def test_the_reader_that_met_a_torn_record_dies(pair: Pair, content: Path, moment: str) -> None:
    """After the tail has passed the record's end, and before it is all over."""
    tear_writer(pair, content, 2)
    assert pair.write("next").code == 0
    run_doomed(pair, moment, "reader", "--keep")
    received = pair.read("--quiet")
    assert (received.code, received.err) == (1, TORN_BEFORE), received


def test_a_torn_record_that_a_reader_with_count_met(pair: Pair, content: Path) -> None:
    tear_writer(pair, content, 2)
    for word in ("one", "two"):
        assert pair.write(word).code == 0
    first = pair.read("--quiet", "--count", 1)
    assert (first.code, first.out[-4:]) == (1, b"one\n"), first
    received = pair.read("--quiet")
    assert (received.code, received.out) == (1, b"two\n"), received
    assert received.err == TORN_BEFORE


# A record whose beginning another reader took


def headless(record: int, size: int) -> str:
    return f"reader: record {record} comes without its first {size} bytes: another reader took them\n"


def test_the_output_of_a_dead_reader_is_moved_away(pair: Pair, content: Path, tmp_path: Path) -> None:
    """`reader.py --output copy`, kill -9, `mv copy copy.1`, the same again: it gets the rest, and says so."""
    copy = tmp_path / "copy"
    assert pair.write("--file", content, *RING).code == 0
    run_doomed(pair, "_commit:3", "reader", "--output", copy)
    copy.rename(tmp_path / "copy.1")
    received = pair.read("--quiet", "--output", copy)
    assert (received.code, received.err) == (1, headless(0, 2 * SLOT_SIZE)), received
    assert copy.read_bytes() == CONTENT[2 * SLOT_SIZE :]


def test_a_living_reader_goes_on_inside_a_record(pair: Pair, content: Path, tmp_path: Path) -> None:
    """It waits for its turn when the one that has it dies in the middle of the second record."""
    for _ in range(2):
        assert pair.write("--file", content, "--slots", 16, "--slot-size", SLOT_SIZE).code == 0
    run_doomed(pair, "_commit:8", "reader")
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (1, CONTENT[SLOT_SIZE:], headless(1, SLOT_SIZE)), received


def test_an_interrupted_reader_leaves_the_rest_of_the_first_slot(pair: Pair, tmp_path: Path) -> None:
    """It blocks inside the first slot, on a pipe that nobody empties: nothing has moved the tail yet."""
    text = b"x" * 300_000
    (tmp_path / "text").write_bytes(text)
    assert pair.write("--file", tmp_path / "text").code == 0
    reader = pair.start("reader", "--quiet", bufsize=0)
    assert reader.stdout
    first = reader.stdout.read(1)
    reader.send_signal(signal.SIGINT)
    ended = finish(reader)
    first += ended.out
    assert ended.code == 128 + signal.SIGINT and 0 < len(first) < 2**18, ended
    received = pair.read("--quiet")
    assert (received.code, first + received.out, received.err) == (1, text, headless(0, len(first))), received


def test_lines_that_begin_where_a_line_begins_are_whole(pair: Pair) -> None:
    assert pair.write("--lines", stdin=b"one\ntwo\nthree\n").code == 0
    assert pair.read("--count", 2).code == 0
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, b"three\n", ""), received
