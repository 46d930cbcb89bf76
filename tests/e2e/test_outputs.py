"""Two readers at one output, and an output that is the input or the key path: refused before a byte of it is lost."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.launch import Child
from tests.e2e.watch import objects_of, sleeps_on
from tests.families import families
from tests.helpers import Finished, Pair, finish, wait_until

INODE = " (or remove it, if the file that was sent is gone and this one has its inode)"
LOCKED = "EWOULDBLOCK (flock): another reader is writing this file; name another --output"
# Of lines, and longer than a pipe holds, so that nobody has read it all before somebody else looks.
DATA = b"".join(b"line %d\n" % number for number in range(40_000))


def assert_refused(done: Finished, line: str) -> None:
    assert (done.code, done.out, done.err) == (1, b"", f"reader: {line}\n")


def assert_nothing_left(pair: Pair) -> None:
    assert objects_of(pair) == []


class TestTwoReadersAtOneOutput:
    """The first one has it alone for as long as it lives; the second is refused in one line."""

    @pytest.fixture
    def output(self, pair: Pair) -> Path:
        return pair.directory / "output"

    @pytest.fixture
    def writer(self, pair: Pair) -> Child:
        """It has sent one line and has another one to say."""
        writer = pair.start("writer", "--quiet", "--lines")
        assert writer.stdin
        writer.stdin.write(b"one\n")
        writer.stdin.flush()
        return writer

    def first_has_received(self, pair: Pair, output: Path, first: Child) -> None:
        wait_until(lambda: output.exists() and output.read_bytes() == b"one\n" and sleeps_on(pair, "full_slots"))
        assert first.poll() is None

    @contextmanager
    def opened(self, output: Path, flags: int = 0) -> Iterator[int]:
        """As a shell opens it for `reader > OUTPUT`."""
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | flags, 0o666)
        yield descriptor
        os.close(descriptor)

    @pytest.mark.parametrize("options", [[], ["--resume"], ["--follow"], ["--keep"], ["--count", "1"]], ids=str)
    def test_by_name(self, pair: Pair, output: Path, writer: Child, options: list[str]) -> None:
        first = pair.start("reader", "--quiet", "--output", output)
        self.first_has_received(pair, output, first)
        second = pair.read("--quiet", "--output", output, *options)
        assert_refused(second, f"{output}: {LOCKED}")
        assert output.read_bytes() == b"one\n"
        assert (finish(writer, b"two\n").code, finish(first).code) == (0, 0)
        assert output.read_bytes() == b"one\ntwo\n"
        assert_nothing_left(pair)

    def test_by_another_name(self, pair: Pair, output: Path, writer: Child) -> None:
        """A hard link and a symbolic link are the same file."""
        first = pair.start("reader", "--quiet", "--output", output)
        self.first_has_received(pair, output, first)
        hard, symbolic = output.with_name("hard"), output.with_name("symbolic")
        hard.hardlink_to(output)
        symbolic.symlink_to(output)
        for name in (hard, symbolic):
            assert_refused(pair.read("--quiet", "--output", name), f"{name}: {LOCKED}")
        assert (finish(writer, b"two\n").code, finish(first).code) == (0, 0)
        assert output.read_bytes() == b"one\ntwo\n"

    def test_by_redirection(self, pair: Pair, output: Path, writer: Child) -> None:
        """`reader > output` twice; only what the second shell itself has emptied (not here) is beyond our reach."""
        with self.opened(output, os.O_TRUNC) as descriptor:
            first = pair.start("reader", "--quiet", stdout=descriptor)
        self.first_has_received(pair, output, first)
        with self.opened(output) as descriptor:
            second = pair.read("--quiet", stdout=descriptor)
        assert_refused(second, f"standard output: {LOCKED}")
        assert (finish(writer, b"two\n").code, finish(first).code) == (0, 0)
        assert output.read_bytes() == b"one\ntwo\n"

    @pytest.mark.parametrize("by_name", ["first", "second"])
    def test_by_name_and_by_redirection(self, pair: Pair, output: Path, writer: Child, by_name: str) -> None:
        def start(named: bool) -> Child:
            if named:
                return pair.start("reader", "--quiet", "--output", output)
            with self.opened(output) as descriptor:
                return pair.start("reader", "--quiet", stdout=descriptor)

        first = start(by_name == "first")
        self.first_has_received(pair, output, first)
        second = finish(start(by_name == "second"))
        assert_refused(second, f"{output if by_name == 'second' else 'standard output'}: {LOCKED}")
        assert (finish(writer, b"two\n").code, finish(first).code) == (0, 0)
        assert output.read_bytes() == b"one\ntwo\n"

    def test_appending_is_for_everybody(self, pair: Pair, output: Path) -> None:
        """`reader >> output` twice: each write(2) goes behind all others, so nobody loses anything."""
        writer = pair.start("writer", "--quiet", "--lines")
        assert writer.stdin
        readers = []
        for _ in range(2):
            with self.opened(output, os.O_APPEND) as descriptor:
                readers.append(pair.start("reader", "--quiet", stdout=descriptor))
        wait_until(lambda: sleeps_on(pair, "full_slots") and sleeps_on(pair, "reader_turn"), "both readers")
        ended = finish(writer, DATA)
        assert [child.code for child in (ended, *map(finish, readers))] == [0, 0, 0]
        assert sorted(output.read_bytes().splitlines()) == sorted(DATA.splitlines())
        assert_nothing_left(pair)

    @pytest.mark.parametrize("dead", ["killed", "at its end"])
    def test_the_lock_goes_with_the_reader(self, pair: Pair, output: Path, writer: Child, dead: str) -> None:
        first = pair.start("reader", "--quiet", "--output", output, *(["--count", 1] if dead == "at its end" else []))
        if dead == "killed":
            self.first_has_received(pair, output, first)
            first.kill()
        finish(first)
        second = pair.start("reader", "--quiet", "--output", output, "--resume")
        assert finish(writer, b"two\n").code == 0
        done = finish(second)
        assert (done.code, done.err) == (0, "")
        assert output.read_bytes() == b"one\ntwo\n"
        assert_nothing_left(pair)

    def test_a_device_is_for_everybody(self, pair: Pair, writer: Child) -> None:
        """Two readers into one /dev/null are nobody's loss."""
        readers = [pair.start("reader", "--quiet", "--output", "/dev/null") for _ in range(2)]
        wait_until(lambda: sleeps_on(pair, "full_slots") and sleeps_on(pair, "reader_turn"))
        assert finish(writer, b"two\n").code == 0
        assert [finish(reader).code for reader in readers] == [0, 0]
        assert_nothing_left(pair)


class TestTheOutputIsTheInput:
    """The source would be emptied while it is sent. Refused, as cp does; the record stays for another reader."""

    @pytest.fixture
    def path(self, pair: Pair) -> Path:
        path = pair.directory / "file"
        path.write_bytes(DATA)
        return path

    def start_writer(self, pair: Pair, how: str, path: Path) -> Child:
        if how == "--file":
            return pair.start("writer", "--quiet", "--file", path)
        with path.open("rb") as file:
            return pair.start("writer", "--quiet", *(["--lines"] if how == "--lines" else []), stdin=file)

    def read_into(self, pair: Pair, how: str, path: Path) -> Finished:
        """A reader whose output is that very file."""
        if how == "1<>":
            with path.open("r+b") as file:
                return finish(pair.start("reader", "--quiet", stdout=file))
        if how == ">>":
            with path.open("ab") as file:
                return finish(pair.start("reader", "--quiet", stdout=file))
        name = path
        if how != "--output":
            name = path.with_name("link")
            name.hardlink_to(path) if how == "hard link" else name.symlink_to(path)
        return pair.read("--quiet", "--output", name)

    @families(
        "source, output",
        list(itertools.product(["--file", "<", "--lines"], ["--output", "hard link", "symbolic link", "1<>", ">>"])),
        posix=[("--file", "hard link"), ("--lines", "1<>")],
    )
    def test_is_refused(self, pair: Pair, path: Path, source: str, output: str) -> None:
        writer = self.start_writer(pair, source, path)
        refused = self.read_into(pair, output, path)
        assert_refused(refused, "record 0 is the output itself: name another --output" + INODE)
        assert path.read_bytes() == DATA
        assert finish(writer).code == 0
        read = pair.read("--quiet")
        assert (read.code, read.out, read.err) == (0, DATA, "")
        assert_nothing_left(pair)

    @pytest.mark.parametrize("options", [["--follow"], ["--keep"], ["--count", "1"], ["--resume"]], ids=str)
    def test_is_refused_with_options(self, pair: Pair, path: Path, options: list[str]) -> None:
        assert finish(self.start_writer(pair, "--file", path)).code == 0
        refused = pair.read("--quiet", "--output", path, *options)
        assert refused.code == 1 and len(refused.err.splitlines()) == 1, refused
        assert path.read_bytes() == DATA
        assert pair.read("--quiet").out == DATA

    def test_is_refused_when_it_comes_later(self, pair: Pair, path: Path) -> None:
        """The record before it would have emptied the file, while its writer is still sending it."""
        assert pair.write("--quiet", "--slots", 2, "--slot-size", "4K", "first").code == 0
        writer = self.start_writer(pair, "--file", path)
        wait_until(lambda: sleeps_on(pair, "empty_slots"), "a full ring")
        refused = pair.read("--quiet", "--output", path)
        assert_refused(refused, "record 1 is the output itself: name another --output" + INODE)
        assert path.read_bytes() == DATA
        read = pair.read("--quiet")
        assert (finish(writer).code, read.code, read.out) == (0, 0, b"first\n" + DATA)

    def test_is_refused_when_its_writer_waits_for_its_turn(self, pair: Pair, path: Path) -> None:
        holder = pair.start("writer", "--quiet")
        assert holder.stdin
        holder.stdin.write(b"begun")
        holder.stdin.flush()
        wait_until(lambda: (status := pair.status()) and status["header"]["head"] == 1)
        writer = self.start_writer(pair, "--file", path)
        wait_until(lambda: sleeps_on(pair, "writer_turn"))
        refused = pair.read("--quiet", "--output", path)
        assert_refused(refused, "the output is the file that a writer has come to send: name another --output" + INODE)
        assert path.read_bytes() == DATA
        assert (finish(holder, b"").code, finish(writer).code) == (0, 0)
        assert pair.read("--quiet").out == b"begun" + DATA

    def test_a_copy_is_no_input(self, pair: Pair, path: Path) -> None:
        copy = path.with_name("copy")
        copy.write_bytes(DATA)
        assert finish(self.start_writer(pair, "--file", path)).code == 0
        assert pair.read("--quiet", "--output", copy).code == 0
        assert path.read_bytes() == copy.read_bytes() == DATA


class TestTheOutputIsTheKeyPath:
    """The channel hangs on that file, and writing it is never what was meant."""

    @pytest.fixture
    def key_file(self, pair: Pair) -> Path:
        pair.key_path.write_bytes(b"precious")
        return pair.key_path

    def assert_refused(self, pair: Pair, done: Finished) -> None:
        assert_refused(done, f"{pair.key_path} is the key path: name another output")
        assert pair.key_path.read_bytes() == b"precious"
        read = pair.read("--quiet")
        assert (read.code, read.out) == (0, b"hello\n")

    @families("link", ["", "hard", "symbolic"], posix=["hard"])
    def test_by_name(self, pair: Pair, key_file: Path, link: str) -> None:
        assert pair.write("--quiet", "hello").code == 0
        name = key_file.with_name("link") if link else key_file
        if link == "hard":
            name.hardlink_to(key_file)
        elif link:
            name.symlink_to(key_file)
        self.assert_refused(pair, pair.read("--quiet", "--output", name))

    @families("mode", ["r+b", "ab"], posix=["ab"])
    def test_as_standard_output(self, pair: Pair, key_file: Path, mode: str) -> None:
        assert pair.write("--quiet", "hello").code == 0
        with open(key_file, mode) as file:
            done = finish(pair.start("reader", "--quiet", stdout=file))
        self.assert_refused(pair, done)

    def test_before_anybody_waits(self, pair: Pair, key_file: Path) -> None:
        """It is said at once, not when a channel has come; and the lock on the key path is nobody's obstacle."""
        done = pair.read("--quiet", "--output", key_file)
        assert_refused(done, f"{key_file} is the key path: name another output")
        assert key_file.read_bytes() == b"precious"


def test_an_output_that_has_the_inode_of_what_was_sent(pair: Pair) -> None:
    """`writer.py --file F; rm F; reader.py --output G`: ext4 gives G the inode of F, and nothing in it is F's."""
    reused = pair.directory / "file"
    reused.write_bytes(DATA)
    assert pair.write("--file", reused).code == 0
    os.truncate(reused, 0)
    done = pair.read("--quiet", "--output", reused)
    assert (done.code, done.err, reused.read_bytes()) == (0, "", DATA), done


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"and more of it")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (os.unlink, "was removed while it was written: what was received is lost with it"),
        (append, "was changed while it was written: it has 18 bytes, not the 8 that were received"),
    ],
    ids=["removed", "longer"],
)
def test_an_output_that_others_spoil_is_no_success(pair: Pair, spoil: Callable[[Path], None], said: str) -> None:
    output = pair.directory / "output"
    done = spoil_between_two_lines(pair, output, ["--output", output], {}, spoil)
    assert_refused(done, f"{output} {said}")


def spoil_between_two_lines(
    pair: Pair, output: Path, arguments: list[object], popen: dict[str, Any], spoil: Callable[[Path], None]
) -> Finished:
    """How a reader of two lines ends when somebody has spoilt its output after the first."""
    writer = pair.start("writer", "--quiet", "--lines")
    assert writer.stdin
    writer.stdin.write(b"one\n")
    writer.stdin.flush()
    reader = pair.start("reader", "--quiet", *arguments, **popen)
    wait_until(lambda: output.exists() and output.read_bytes() == b"one\n", "the first line")
    spoil(output)
    writer.stdin.write(b"two\n")
    assert finish(writer).code == 0
    return finish(reader)


@pytest.mark.parametrize("mode", ["wb", "ab"], ids=[">", ">>"])
def test_a_redirected_output_that_others_remove_is_no_success(pair: Pair, mode: str) -> None:
    output = pair.directory / "output"
    with output.open(mode) as file:
        done = spoil_between_two_lines(pair, output, [], {"stdout": file}, os.unlink)
    assert_refused(done, "standard output was removed while it was written: what was received is lost with it")


def test_a_redirected_output_that_others_cut_in_the_end_is_no_success(pair: Pair) -> None:
    output = pair.directory / "output"
    writer = pair.start("writer", "--quiet", "--lines")
    assert writer.stdin
    writer.stdin.write(b"one\n")
    writer.stdin.flush()
    with output.open("wb") as file:
        reader = pair.start("reader", "--quiet", stdout=file)
    wait_until(lambda: output.read_bytes() == b"one\n", "the first line")
    os.truncate(output, 0)
    assert finish(writer).code == 0
    said = "standard output was changed while it was written: it has 0 bytes, not the 4 that were received"
    assert_refused(finish(reader), said)


def test_an_output_without_a_name_is_not_removed(pair: Pair) -> None:
    """What tmpfile(3) gives has none from the first."""
    assert pair.write("--quiet", "hello").code == 0
    with tempfile.TemporaryFile() as file:
        done = pair.read("--quiet", stdout=file)
        file.seek(0)
        assert (done.code, done.err, file.read()) == (0, "", b"hello\n")
