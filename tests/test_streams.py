"""Sources and sinks: short reads and writes, non-blocking descriptors, lines split at awkward places, odd files."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import resource
import signal
import stat
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from common.channel.write import Source, WriteEnd
from common.cli import streams
from common.cli.streams import FileSink, FileSource, MessageSource, StreamSink, open_output, read_into, read_some
from common.layout import UNKNOWN
from tests.helpers import PATIENCE, wait_until
from tests.in_process import Died, in_thread

ROOM = 8  # bytes in the slots of Recorder


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends; a test may have closed either of them."""
    ends = os.pipe()
    yield ends
    for end in ends:
        close(end)


def close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def drain(source: Source, room: int = ROOM) -> bytes:
    """All that a source gives, into room for `room` bytes at a time."""
    data = b""
    slot = bytearray(room)
    while length := source.fill(memoryview(slot)):
        data += slot[:length]
    return data


def is_asleep(thread: threading.Thread) -> bool:
    """Whether the thread sleeps in the kernel."""
    return Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0] == "S"


# Reading


READERS = pytest.mark.parametrize(
    "read",
    [lambda fd: read_some(fd, 100), lambda fd: bytes((room := bytearray(100))[: read_into(fd, memoryview(room))])],
    ids=["read_some", "read_into"],
)


@READERS
def test_a_read_gives_what_there_is(pipe: tuple[int, int], read: Callable[[int], bytes]) -> None:
    os.write(pipe[1], b"short")
    assert read(pipe[0]) == b"short"


@READERS
def test_a_read_at_the_end_gives_nothing(pipe: tuple[int, int], read: Callable[[int], bytes]) -> None:
    os.close(pipe[1])
    assert read(pipe[0]) == b""


@READERS
def test_a_read_from_a_nonblocking_descriptor_waits(pipe: tuple[int, int], read: Callable[[int], bytes]) -> None:
    os.set_blocking(pipe[0], False)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read(pipe[0])), daemon=True)
    reader.start()
    wait_until(lambda: is_asleep(reader), "the reader asleep")
    os.write(pipe[1], b"late")
    reader.join(PATIENCE)
    assert got == [b"late"]


# Writing


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "nonblocking"])
def test_write_writes_far_more_than_a_pipe_holds(pipe: tuple[int, int], blocking: bool) -> None:
    data = os.urandom(1_000_003)
    os.set_blocking(pipe[1], blocking)

    def read_all() -> bytes:
        got = b""
        while piece := os.read(pipe[0], 100_000):
            got += piece
        return got

    with in_thread(read_all) as received:
        StreamSink(pipe[1]).write(memoryview(data))
        os.close(pipe[1])
        assert received() == data


@pytest.mark.parametrize("at_once", [1, 2, 3, 6, 7])
def test_write_goes_on_after_a_short_write(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    pieces: list[bytes] = []

    def short_write(descriptor: int, data: memoryview) -> int:
        pieces.append(bytes(data[:at_once]))
        return len(pieces[-1])

    monkeypatch.setattr(os, "write", short_write)
    StreamSink(9).write(memoryview(b"abcdef"))
    assert b"".join(pieces) == b"abcdef"
    assert len(pieces) == -(-6 // at_once)


def test_write_never_asks_for_more_than_one_write_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def write(descriptor: int, data: memoryview) -> int:
        asked.append(len(data))
        return len(data)

    monkeypatch.setattr(streams, "MAX_FRAGMENT", 4)
    monkeypatch.setattr(os, "write", write)
    StreamSink(9).write(memoryview(b"123456789"))
    assert asked == [4, 4, 1]


def test_write_of_nothing_writes_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    StreamSink(writing).write(memoryview(b""))  # EPIPE, were there a write
    os.close(writing)


# Sources


@pytest.mark.parametrize("message", [b"", b"x", b"exactly8", b"one more than eight"])
def test_a_message_source_gives_its_message(message: bytes) -> None:
    source = MessageSource(message)
    assert (source.total, source.identity) == (len(message), None)
    assert drain(source) == message


def test_a_message_source_fills_its_room_and_no_more() -> None:
    room = bytearray(b"........")
    source = MessageSource(b"0123456789")
    assert (source.fill(memoryview(room)), bytes(room)) == (8, b"01234567")
    assert (source.fill(memoryview(room)), bytes(room)) == (2, b"89234567")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file with ten bytes in it."""
    path = tmp_path / "input"
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_file_source_knows_its_size_and_identity(file: int) -> None:
    source = FileSource(file, "input")
    status = os.fstat(file)
    assert (source.total, source.file) == (10, (status.st_dev, status.st_ino))
    assert source.identity == (status.st_dev, status.st_ino, status.st_mtime_ns)
    assert drain(source) == b"0123456789"


@pytest.mark.parametrize(("position", "total"), [(0, 10), (4, 6), (10, 0), (99, 0)])
def test_a_file_source_begins_where_the_descriptor_stands(file: int, position: int, total: int) -> None:
    os.lseek(file, position, os.SEEK_SET)
    source = FileSource(file, "input")
    assert source.total == total
    assert drain(source) == b"0123456789"[position:]


@pytest.mark.parametrize(("position", "skip"), [(0, 0), (0, 3), (4, 0), (4, 3), (4, 6)])
def test_a_file_source_skips_from_where_it_began(file: int, position: int, skip: int) -> None:
    os.lseek(file, position, os.SEEK_SET)
    source = FileSource(file, "input")
    source.skip_to(skip)
    assert drain(source) == b"0123456789"[position + skip :]


def test_an_empty_file_is_read_like_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as empty:
        source = FileSource(empty.fileno(), "empty")
        assert (source.total, drain(source)) == (UNKNOWN, b"")


def test_a_file_in_proc_is_read_to_its_end_though_its_size_is_0() -> None:
    expected = Path("/proc/version").read_bytes()
    with open("/proc/version", "rb", buffering=0) as file:
        assert os.fstat(file.fileno()).st_size == 0
        source = FileSource(file.fileno(), "/proc/version")
        assert (source.total, drain(source)) == (UNKNOWN, expected)


def stat_fields(status: os.stat_result) -> dict[str, int]:
    return {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}


@pytest.mark.parametrize(("claimed", "total"), [(10, 10), (11, UNKNOWN), (4096, UNKNOWN)])
def test_a_file_without_the_last_byte_that_it_claims_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, file: int, claimed: int, total: int
) -> None:
    """Those in /sys claim a page."""
    true = os.fstat(file)
    monkeypatch.setattr(os, "fstat", lambda _: SimpleNamespace(**{**stat_fields(true), "st_size": claimed}))
    source = FileSource(file, "input")
    assert (source.total, drain(source)) == (total, b"0123456789")


def test_a_pipe_has_no_known_size_and_cannot_be_resumed(pipe: tuple[int, int]) -> None:
    source = FileSource(pipe[0], "standard input")
    assert source.total == UNKNOWN
    source.skip_to(0)
    with pytest.raises(OSError, match="Illegal seek"):
        source.skip_to(1)


def test_a_source_that_fails_names_its_file(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError) as error:
        FileSource(directory, "the input").fill(memoryview(bytearray(1)))
    os.close(directory)
    assert error.value.filename == "the input"


# Lines


class Recorder:
    """The writing end that send_lines sees; what it sends, one tuple a call."""

    def __init__(self) -> None:
        self.ring = SimpleNamespace(fragment_size=ROOM)
        self.sent: list[tuple[str, bytes, int]] = []

    def send_lines(self, lines: memoryview, count: int, *, file: tuple[int, int] | None, verify: bool) -> None:
        assert len(lines) <= ROOM
        self.sent.append(("lines", bytes(lines), count))

    def send(self, source: Source, *, verify: bool) -> None:
        self.sent.append(("record", drain(source), 1))


def send_lines(monkeypatch: pytest.MonkeyPatch, chunks: list[bytes]) -> list[tuple[str, bytes, int]]:
    """What send_lines makes of an input that comes in these chunks, one a read."""
    waiting = list(chunks)

    def read(descriptor: int, size: int, name: str) -> bytes:
        chunk = waiting.pop(0) if waiting else b""
        if len(chunk) > size:
            waiting.insert(0, chunk[size:])
        return chunk[:size]

    monkeypatch.setattr(streams, "read_some", read)
    end = Recorder()
    streams.send_lines(cast(WriteEnd, end), 0)
    return end.sent


@pytest.mark.parametrize(
    ("chunks", "sent"),
    [
        ([], []),
        ([b"a\n"], [("lines", b"a\n", 1)]),
        ([b"\n"], [("lines", b"\n", 1)]),
        ([b"a\n\nb\n"], [("lines", b"a\n\nb\n", 3)]),
        # Split in a line, before its newline, behind it
        ([b"a\nbc", b"d\n"], [("lines", b"a\n", 1), ("lines", b"bcd\n", 1)]),
        ([b"ab", b"\n"], [("lines", b"ab\n", 1)]),
        ([b"ab\n", b"cd\n"], [("lines", b"ab\n", 1), ("lines", b"cd\n", 1)]),
        ([b"a", b"b", b"c", b"\n"], [("lines", b"abc\n", 1)]),
        # A last line without its newline
        ([b"a\nb"], [("lines", b"a\n", 1), ("record", b"b", 1)]),
        ([b"b"], [("record", b"b", 1)]),
        # As long as a slot, with the newline and without
        ([b"1234567\n"], [("lines", b"1234567\n", 1)]),
        ([b"12345678\n"], [("record", b"12345678\n", 1)]),
        ([b"12345678"], [("record", b"12345678", 1)]),
        ([b"1234", b"5678", b"\na\n"], [("record", b"12345678\n", 1), ("lines", b"a\n", 1)]),
        # Longer than a slot; what is read behind its newline is not lost
        ([b"a" * 20 + b"\nb\nc"], [("record", b"a" * 20 + b"\n", 1), ("lines", b"b\n", 1), ("record", b"c", 1)]),
        ([b"a" * 15 + b"\n"], [("record", b"a" * 15 + b"\n", 1)]),
        ([b"a" * 16 + b"\n"], [("record", b"a" * 16 + b"\n", 1)]),
        ([b"a" * 20], [("record", b"a" * 20, 1)]),
        ([b"a" * 9 + b"\n" + b"b" * 9 + b"\n"], [("record", b"a" * 9 + b"\n", 1), ("record", b"b" * 9 + b"\n", 1)]),
        # A whole line in front of one that fills the slot
        ([b"a\n" + b"b" * 10 + b"\n"], [("lines", b"a\n", 1), ("record", b"b" * 10 + b"\n", 1)]),
        ([b"\0\xff\n\r\n"], [("lines", b"\0\xff\n\r\n", 2)]),
    ],
    ids=str,
)
def test_lines(monkeypatch: pytest.MonkeyPatch, chunks: list[bytes], sent: list[tuple[str, bytes, int]]) -> None:
    assert send_lines(monkeypatch, chunks) == sent


def test_lines_split_at_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"one\n\n" + b"long" * 5 + b"\ntwo\nlast"
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            sent = send_lines(monkeypatch, [c for c in (text[:first], text[first:second], text[second:]) if c])
            assert b"".join(data for _, data, _ in sent) == text
            assert [data.count(b"\n") for kind, data, count in sent if kind == "lines"] == [
                count for kind, _, count in sent if kind == "lines"
            ]
            assert sum(count for _, _, count in sent) == 5


def test_the_prompt_comes_before_each_read(pipe: tuple[int, int]) -> None:
    typed = [b"one\n", b"two\n"]

    def prompt() -> None:
        if typed:
            os.write(pipe[1], typed.pop(0))
        else:
            os.close(pipe[1])
        prompts.append(len(end.sent))

    prompts: list[int] = []
    end = Recorder()
    streams.send_lines(cast(WriteEnd, end), pipe[0], prompt=prompt)
    assert prompts == [0, 1, 2]


@pytest.mark.parametrize("text", [b"a\nb\n", b"a" * 50 + b"\nb\n", b"a" * 50], ids=["lines", "long line", "no end"])
def test_a_read_takes_no_memory_for_a_whole_slot(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], text: bytes
) -> None:
    """read(2) into new bytes takes all that it asks for; a slot may be a gigabyte."""
    asked: list[int] = []
    true_read = os.read

    def read(descriptor: int, size: int) -> bytes:
        asked.append(size)
        return true_read(descriptor, min(size, ROOM))

    class Roomy(Recorder):
        def send(self, source: Source, *, verify: bool) -> None:
            self.sent.append(("record", drain(source, 1000), 1))

    monkeypatch.setattr(streams, "AT_ONCE", ROOM)
    monkeypatch.setattr(os, "read", read)
    os.write(pipe[1], text)
    os.close(pipe[1])
    end = Roomy()
    end.ring.fragment_size = 2**30
    streams.send_lines(cast(WriteEnd, end), pipe[0])
    assert b"".join(data for _, data, _ in end.sent) == text
    assert max(asked) <= ROOM


# Sinks


def test_a_stream_sink_writes_and_counts(pipe: tuple[int, int]) -> None:
    sink = StreamSink(pipe[1])
    sink.write(memoryview(b"one"))
    sink.write(memoryview(b"two"))
    sink.cut(0)  # in vain: a stream cannot be taken back
    assert (os.read(pipe[0], 100), sink.size, sink.identity, sink.settled) == (b"onetwo", 6, None, False)


def test_a_sink_whose_reader_is_gone_is_a_broken_pipe_with_a_name(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    sink = StreamSink(pipe[1])
    with pytest.raises(BrokenPipeError) as error:
        sink.write(memoryview(b"x"))
    assert (error.value.filename, sink.size) == ("standard output", 0)


def test_a_full_disk_is_an_error_with_a_name() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left") as error:
        StreamSink(descriptor, "/dev/full").write(memoryview(b"x"))
    os.close(descriptor)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, "/dev/full")


# How much is out, whatever interrupts a write


@pytest.fixture
def deadly_signal() -> Iterator[signal.Signals]:
    """A signal whose handler raises Died."""

    def die(*_: object) -> None:
        raise Died

    before = signal.signal(signal.SIGUSR1, die)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


def interrupt_when_asleep(number: signal.Signals) -> None:
    """Send it to the main thread, once that sleeps in the kernel."""
    main = threading.main_thread()
    wait_until(lambda: is_asleep(main), "the main thread asleep")
    signal.pthread_kill(cast(int, main.ident), number)


def read_all(descriptor: int) -> bytes:
    """All that a pipe holds now."""
    os.set_blocking(descriptor, False)
    data = b""
    while True:
        try:
            data += os.read(descriptor, 2**20)
        except BlockingIOError:
            return data


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "nonblocking"])
@pytest.mark.parametrize("before", [0, 100], ids=["in_the_middle", "with_an_earlier_write"])
def test_the_size_is_true_when_a_signal_ends_a_write_to_a_full_pipe(
    pipe: tuple[int, int], deadly_signal: signal.Signals, blocking: bool, before: int
) -> None:
    """A blocked write(2) then returns what the pipe took, and the handler runs before anybody can look at that."""
    data = os.urandom(1_000_003)
    os.set_blocking(pipe[1], blocking)
    sink = StreamSink(pipe[1])
    sink.write(memoryview(data[:before]))

    def interrupt() -> None:
        wait_until(lambda: left_in_pipe(pipe[0]) >= capacity(pipe) - 4096, "a full pipe")
        interrupt_when_asleep(deadly_signal)

    with in_thread(interrupt) as interrupted:
        with pytest.raises(Died):
            sink.write(memoryview(data)[before:])
        interrupted()
    out = read_all(pipe[0])
    assert capacity(pipe) - 4096 <= sink.size == len(out)
    assert out == data[: len(out)]


def test_the_size_is_true_when_a_signal_ends_a_write_of_which_nothing_is_out(
    pipe: tuple[int, int], deadly_signal: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) fails with EINTR: the pipe was full before."""
    write, begun = os.write, threading.Event()

    def telling_write(descriptor: int, data: memoryview) -> int:
        begun.set()
        return write(descriptor, data)

    def interrupt() -> None:
        assert begun.wait(PATIENCE)
        interrupt_when_asleep(deadly_signal)

    sink = StreamSink(pipe[1])
    full = capacity(pipe)
    sink.write(memoryview(bytes(full)))
    monkeypatch.setattr(os, "write", telling_write)
    with in_thread(interrupt) as interrupted:
        with pytest.raises(Died):
            sink.write(memoryview(b"more"))
        interrupted()
    assert (sink.size, len(read_all(pipe[0]))) == (full, full)


def left_in_pipe(descriptor: int) -> int:
    """How many bytes nobody has read yet; pipe(7), FIONREAD."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def capacity(pipe: tuple[int, int]) -> int:
    return fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ)


def dying_at(number: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that raises Died before the `number`-th bytecode instruction executed in streams.py."""
    instructions = itertools.count(1)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != streams.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(instructions) == number:
            raise Died
        return trace

    # Python 3.12 looks for opcodes only where some frame has wanted them before it is told to trace.
    sys._getframe().f_trace_opcodes = True
    return trace


def test_the_size_is_true_between_any_two_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs a signal's handler between two of them, so that is where it may raise."""
    monkeypatch.setattr(streams, "MAX_FRAGMENT", 4)
    tracing = sys.gettrace()
    sizes = []
    for number in itertools.count(1):
        read_end, write_end = os.pipe()
        sink = StreamSink(write_end)
        try:
            sys.settrace(dying_at(number))
            sink.write(memoryview(b"ten bytes!"))
        except Died:
            sizes.append(sink.size)
        else:
            break
        finally:
            sys.settrace(tracing)
            assert sink.size == left_in_pipe(read_end)
            os.close(read_end)
            os.close(write_end)
    assert sizes == sorted(sizes)
    # Dozens of instructions from each write to the next, on any Python; were they lines, they would be a few.
    assert set(sizes) == {0, 4, 8, 10} and all(sizes.count(size) > 20 for size in set(sizes)), sizes


def test_the_size_of_a_file_is_true_when_the_disk_is_full(tmp_path: Path) -> None:
    """A limit on the size of files does what a full disk does: a short write, then an error (setrlimit(2))."""
    path = tmp_path / "output"
    path.write_bytes(b"0123456789")
    sink = open_output(str(path))
    sink.cut(4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write(memoryview(b"ABCDEF"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.read_bytes(), sink.size) == (b"0123ABC", 7)
    sink.write(memoryview(b"DEF"))
    assert (path.read_bytes(), sink.size) == (b"0123ABCDEF", 10)


# Outputs


def test_an_output_file_is_untouched_until_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_bytes(b"0123456789")
    sink = open_output(str(path))
    status = path.stat()
    assert isinstance(sink, FileSink)
    assert (sink.size, sink.identity, sink.settled) == (10, (status.st_dev, status.st_ino), False)
    assert path.read_bytes() == b"0123456789"
    sink.cut(4)
    sink.write(memoryview(b"NEW"))
    assert (path.read_bytes(), sink.size) == (b"0123NEW", 7)


def test_an_output_file_is_made_with_the_users_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        open_output(str(tmp_path / "output"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "output").stat().st_mode) == 0o640


def test_an_output_that_is_no_regular_file_is_a_stream() -> None:
    sink = open_output(os.devnull)
    assert type(sink) is StreamSink
    sink.write(memoryview(b"gone"))


def test_an_output_cannot_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_output(str(tmp_path))


def test_an_output_in_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        open_output(str(tmp_path / "nowhere" / "output"))
    assert error.value.filename == str(tmp_path / "nowhere" / "output")
