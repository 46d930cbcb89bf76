"""Sinks: short writes, non-blocking descriptors, full disks, and what is out when a write is interrupted."""

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
from types import FrameType
from typing import Any, cast

import pytest

from common.channel.listener import Listener
from common.channel.patience import Patience
from common.cli import descriptors, sinks
from common.cli.descriptors import Descriptor
from common.cli.sinks import FileSink, StreamSink, open_output
from common.errors import ChannelError
from tests.helpers import PATIENCE, wait_until
from tests.in_process import Died, in_thread
from tests.pipes import a_pipe, is_asleep


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with a_pipe() as ends:
        yield ends


# Streams


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


PATIENT = Patience(PATIENCE, Listener())


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

    monkeypatch.setattr(sinks, "MAX_FRAGMENT", 4)
    monkeypatch.setattr(os, "write", write)
    StreamSink(9).write(memoryview(b"123456789"))
    assert asked == [4, 4, 1]


def test_write_of_nothing_writes_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    StreamSink(writing).write(memoryview(b""))  # EPIPE, were there a write
    os.close(writing)


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
    """The pipe was full before."""
    is_ready, begun = Descriptor.is_ready, threading.Event()

    def telling(output: Descriptor, seconds: float) -> bool:
        begun.set()
        return is_ready(output, seconds)

    def interrupt() -> None:
        assert begun.wait(PATIENCE)
        interrupt_when_asleep(deadly_signal)

    sink = StreamSink(pipe[1])
    full = capacity(pipe)
    sink.write(memoryview(bytes(full)))
    monkeypatch.setattr(Descriptor, "is_ready", telling)
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
    """A trace function that raises Died before the `number`-th bytecode instruction of sinks.py and descriptors.py."""
    instructions = itertools.count(1)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in (sinks.__file__, descriptors.__file__):
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
    monkeypatch.setattr(sinks, "MAX_FRAGMENT", 4)
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
    sink = open_output(str(path), PATIENT)
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
    sink = open_output(str(path), PATIENT)
    status = path.stat()
    assert isinstance(sink, FileSink)
    assert (sink.size, sink.identity, sink.settled) == (10, (status.st_dev, status.st_ino), False)
    assert path.read_bytes() == b"0123456789"
    sink.cut(4)
    sink.write(memoryview(b"NEW"))
    assert (path.read_bytes(), sink.size) == (b"0123NEW", 7)


@pytest.fixture(params=["--output", ">"])
def half_written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[StreamSink, Path]]:
    """A sink that has put 8 bytes into a file, and that file."""
    path = tmp_path / "output"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    sink = FileSink(descriptor, "O") if request.param == "--output" else StreamSink(descriptor, "O")
    sink.cut(0)
    sink.write(memoryview(b"8 bytes\n"))
    yield sink, path
    os.close(descriptor)


@pytest.mark.parametrize("left", [0, 7])
def test_an_output_that_others_cut_is_not_written_on(half_written: tuple[StreamSink, Path], left: int) -> None:
    """What comes next would leave a hole before it."""
    sink, path = half_written
    os.truncate(path, left)
    with pytest.raises(ChannelError) as error:
        sink.write(memoryview(b"more"))
    assert str(error.value) == (
        f"O was changed while it was written: it has {left} bytes, not the 8 that were received"
    )
    assert (path.read_bytes(), sink.size) == (b"8 bytes\n"[:left], 8)


def test_an_output_to_which_others_append_is_written_on(half_written: tuple[StreamSink, Path]) -> None:
    """Nothing of ours is lost by that yet; of --output close() says it."""
    sink, path = half_written
    with path.open("ab") as file:
        file.write(b"theirs")
    sink.write(memoryview(b"ours"))
    assert path.read_bytes() == b"8 bytes\nours" + b"theirs"[4:]


def test_what_is_appended_may_be_cut(tmp_path: Path) -> None:
    """As a log that is rotated (O_APPEND): each write goes to the end, wherever that is."""
    path = tmp_path / "output"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sink = StreamSink(descriptor)
    sink.write(memoryview(b"8 bytes\n"))
    os.truncate(path, 0)
    sink.write(memoryview(b"more"))
    os.close(descriptor)
    assert (path.read_bytes(), sink.size) == (b"more", 12)


def test_an_output_file_is_made_with_the_users_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        open_output(str(tmp_path / "output"), PATIENT)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "output").stat().st_mode) == 0o640


def test_an_output_that_is_no_regular_file_is_a_stream() -> None:
    sink = open_output(os.devnull, PATIENT)
    assert type(sink) is StreamSink
    sink.write(memoryview(b"gone"))


def test_an_output_cannot_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_output(str(tmp_path), PATIENT)


def test_an_output_in_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        open_output(str(tmp_path / "nowhere" / "output"), PATIENT)
    assert error.value.filename == str(tmp_path / "nowhere" / "output")
