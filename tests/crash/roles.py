"""Who dies, and what must still be true afterwards: one function a role.

Each takes a stage and the moment of the kill, and returns whether the victim was killed (it may end before).
Which exit code is right follows from what the victim had done: the header that it leaves tells it, and Stage says
whether that header is true. What must hold after every role, a fresh start and nothing left behind, is Stage.finish.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from unittest import mock

from common.cli import sinks
from common.layout import FINISHED, OPEN
from tests.crash.driver import CONTENT, SLOT_SIZE, Channel, Child, Stage
from tests.crash.stepper import Strike, at_call
from tests.helpers import wait_until

Role = Callable[[Stage, Strike], bool]

# Room for everything, so that a writer ends without a reader; and so little that both must run at once.
WIDE = ("--slots", 16, "--slot-size", SLOT_SIZE)
NARROW = ("--slots", 2, "--slot-size", SLOT_SIZE)

FRAGMENTS = -(-len(CONTENT) // SLOT_SIZE)

LINES = b"".join(b"line %d " % number + b"." * 700 + b"\n" for number in range(12))
LONG_LINE = b"long " + b"=" * (2 * SLOT_SIZE) + b"\n"


def writer_creates(stage: Stage, strike: Strike) -> bool:
    """A writer that makes the channel: its record is there whole or not at all."""
    return _kill_and_go_on(stage, strike, b"", *WIDE)


def _kill_and_go_on(stage: Stage, strike: Strike, before: bytes, *arguments: object) -> bool:
    """The reader ends with 1 when the victim had joined and not left, whatever else came of it."""
    killed = stage.kill(strike, "writer", "hello", *arguments)
    owed = stage.check_goodbye(stage.children[-1])
    channel = _open_channel(stage)
    published = channel is not None and channel.head > before.count(b"\n")
    assert killed or (published and not owed)
    stage.run("writer", "after")
    assert stage.read(code=1 if owed else 0) == before + (b"hello\n" if published else b"") + b"after\n"
    assert ("broken off: 1 writer stopped" in stage.children[-1].said) == bool(owed)
    return killed


def _open_channel(stage: Stage) -> Channel | None:
    """The channel that the next writer will join, None when it will make one."""
    channel = stage.header()
    return channel if channel and channel.state == OPEN else None


def writer_joins(stage: Stage, strike: Strike) -> bool:
    """A writer that finds a channel: what was in it stays, its own record is there whole or not at all."""
    stage.run("writer", "before", *WIDE)
    return _kill_and_go_on(stage, strike, b"before\n")


def writer_of_a_file(stage: Stage, strike: Strike) -> bool:
    """A file of several fragments, resumed: all of it arrives, once, and the resumed one has said goodbye for both."""
    return _kill_and_resume_writer(stage, strike)


def _kill_and_resume_writer(stage: Stage, strike: Strike, *resume: str) -> bool:
    killed = stage.kill(strike, "writer", "--file", stage.input, *WIDE, *resume)
    stage.run("writer", "--file", stage.input, "--resume", *WIDE)
    assert stage.read() == CONTENT
    return killed


def writer_resumes(stage: Stage, strike: Strike) -> bool:
    """The one that resumes dies too, and is resumed."""
    assert stage.kill(at_call("_publish", 3), "writer", "--file", stage.input, *WIDE)
    return _kill_and_resume_writer(stage, strike, "--resume")


def writer_without_resume(stage: Stage, strike: Strike) -> bool:
    """Another writer goes on: whole fragments of the torn record arrive, then the reader says so and reads on."""
    killed = stage.kill(strike, "writer", "--file", stage.input, *WIDE)
    victim = stage.children[-1]
    owed, begun, torn = stage.check_goodbye(victim), _begun(stage), stage.unfinished()
    assert torn == (begun not in (b"", CONTENT)) and (owed or not torn)
    assert killed or (begun == CONTENT and not owed)
    stage.run("writer", "after")
    said = stage.run("reader", "--output", stage.output, code=1 if owed else 0)
    assert stage.output.read_bytes() == begun + b"after\n"
    assert (f"record 0 is torn: its writer, pid {victim.pid}, stopped after {len(begun)} bytes" in said) == torn, said
    # A torn record tells of its writer by itself.
    assert ("broken off: 1 writer stopped" in said) == (bool(owed) and not torn), said
    return killed


def _begun(stage: Stage) -> bytes:
    """As much of CONTENT as its writer has published in a new channel."""
    channel = _open_channel(stage)
    return CONTENT[: channel.head * SLOT_SIZE] if channel else b""


def writer_passed_over(stage: Stage, strike: Strike) -> bool:
    """Another one goes on, and only then is the file sent with --resume: as new, for it is not the last record.

    Where nothing of it had been published, that settles the missing goodbye, whoever got its record's number.
    """
    killed = stage.kill(strike, "writer", "--file", stage.input, "--slots", 32, "--slot-size", SLOT_SIZE)
    owed, begun = stage.check_goodbye(stage.children[-1]), _begun(stage)
    stage.run("writer", "after", "--slots", 32, "--slot-size", SLOT_SIZE)
    stage.run("writer", "--file", stage.input, "--resume")
    assert stage.read(code=1 if owed and begun else 0) == begun + b"after\n" + CONTENT
    return killed


def writer_of_lines(stage: Stage, strike: Strike) -> bool:
    """Lines: those that arrive are the first ones, each whole, but for the long one that was being sent."""
    lines = stage.directory / "lines"
    lines.write_bytes(LINES + LONG_LINE + LINES)
    killed = stage.kill(strike, "writer", "--lines", *WIDE, stdin=lines)
    owed, torn = stage.check_goodbye(stage.children[-1]), stage.unfinished()
    assert owed or not torn
    stage.run("writer", "after")
    received = stage.read(code=1 if owed else 0).removesuffix(b"after\n")
    assert (LINES + LONG_LINE + LINES).startswith(received), received
    assert killed or (received == LINES + LONG_LINE + LINES and not owed)
    # The end of a long line is a fragment of its own: it can be missing when every byte is there.
    assert torn or not received or received.endswith(b"\n")
    assert ("is torn: its writer" in stage.children[-1].said) == torn, stage.children[-1].said
    return killed


def writer_with_a_live_reader(stage: Stage, strike: Strike) -> bool:
    """The reader waits for slots while the writer dies; a resumed writer, or both resumed, complete the file."""
    reader = stage.start("reader", "--output", stage.output, "--resume")
    killed = stage.kill(strike, "writer", "--file", stage.input, *NARROW)
    writer = stage.start("writer", "--file", stage.input, "--resume", *NARROW)
    _receive_until_over(stage, writer, reader)
    assert stage.output.read_bytes() == CONTENT
    return killed


def _receive_until_over(stage: Stage, writer: Child, reader: Child) -> None:
    """Start a second reader when the first came to the end before the writer was there again.

    None of them may give up: with --resume they wait for a writer that resumes.
    """
    for _ in range(3):
        assert reader.wait() == 0, reader.said
        wait_until(lambda: writer.ended or stage.header(), "a channel, or the writer's end")
        if writer.ended and not stage.header():
            assert writer.wait() == 0, writer.said
            return
        if stage.output.read_bytes() == CONTENT:
            stage.output.unlink()  # nothing remembered that all had arrived, so the writer sends all of it again
        reader = stage.start("reader", "--output", stage.output, "--resume")
    raise AssertionError(f"the transfer does not come to an end: {reader.said}")


def reader_to_a_pipe(stage: Stage, strike: Strike) -> bool:
    """Nothing that was committed is lost; the fragment in hand may come twice, as a stream cannot be taken back."""
    _fill(stage)
    killed = stage.kill(strike, "reader", stdout=stage.output)
    first = stage.output.read_bytes() if stage.output.exists() else b""
    whole = CONTENT + b"hello\n"
    second = b""
    if not _is_over(stage):
        channel = _open_channel(stage)
        headless = channel is not None and 0 < channel.tail < FRAGMENTS
        second = stage.read(code=1 if headless else 0)
        assert ("record 0 comes without its first" in stage.children[-1].said) == headless, stage.children[-1].said
    assert whole.startswith(first) and whole.endswith(second)
    assert 0 <= len(first) + len(second) - len(whole) <= (SLOT_SIZE if killed else 0)
    return killed


def reader_to_a_file(stage: Stage, strike: Strike) -> bool:
    """Two records into a file, resumed: exactly what was sent."""
    _fill(stage)
    return _kill_and_resume_reader(stage, strike)


def reader_resumes(stage: Stage, strike: Strike) -> bool:
    """The one that resumes dies too, and is resumed."""
    _fill(stage)
    assert stage.kill(at_call("note", 4), "reader", "--output", stage.output)
    return _kill_and_resume_reader(stage, strike, "--resume")


def _fill(stage: Stage) -> None:
    stage.run("writer", "--file", stage.input, *WIDE)
    stage.run("writer", "hello")


def _kill_and_resume_reader(stage: Stage, strike: Strike, *resume: str) -> bool:
    killed = stage.kill(strike, "reader", "--output", stage.output, *resume)
    if not _is_over(stage):
        stage.run("reader", "--output", stage.output, "--resume")
    assert stage.output.read_bytes() == CONTENT + b"hello\n"
    return killed


def reader_of_a_torn_record(stage: Stage, strike: Strike) -> bool:
    """The reader that met it dies: the one that resumes says so, too, and ends with 1."""
    assert stage.kill(at_call("_publish", 3), "writer", "--file", stage.input, *WIDE)
    stage.run("writer", "after")
    killed = stage.kill(strike, "reader", "--output", stage.output, code=1)
    if not _is_over(stage):
        channel = _open_channel(stage)
        assert channel and channel.torn >= (channel.tail > 2), "the tail has passed a torn record that is not counted"
        said = stage.run("reader", "--output", stage.output, "--resume", code=1)
        # Counted twice when its reader died between the count and the tail.
        told = "record 0 is torn: " in said or "another reader met 1 torn record in" in said or "2 torn records" in said
        assert told and "broken off" not in said, said
    assert stage.output.read_bytes() == CONTENT[: 2 * SLOT_SIZE] + b"after\n"
    return killed


def interrupted_reader_of_a_file(stage: Stage, strike: Strike) -> bool:
    """A file of several fragments."""
    stage.run("writer", "--file", stage.input, *WIDE)
    return _interrupt_reader(stage, strike, CONTENT)


def interrupted_reader_of_checksums(stage: Stage, strike: Strike) -> bool:
    """The same, put out from the copy that was checked."""
    stage.run("writer", "--verify", "--file", stage.input, *WIDE)
    return _interrupt_reader(stage, strike, CONTENT)


def interrupted_reader_of_lines(stage: Stage, strike: Strike) -> bool:
    """Many lines in each of three slots."""
    _fill_with_lines(stage)
    return _interrupt_reader(stage, strike, LINES)


def interrupted_reader_of_some_lines(stage: Stage, strike: Strike) -> bool:
    """One that stops after a line inside the second slot."""
    _fill_with_lines(stage)
    return _interrupt_reader(stage, strike, LINES, "--count", 7)


def _fill_with_lines(stage: Stage) -> None:
    lines = stage.directory / "lines"
    lines.write_bytes(LINES)
    stage.run("writer", "--lines", *WIDE, stdin=lines)


def _interrupt_reader(stage: Stage, strike: Strike, whole: bytes, *arguments: object) -> bool:
    """It puts a slot into a pipe in several writes: what is out is committed to the byte, the next one has the rest."""
    pipe = stage.directory / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with mock.patch.object(sinks, "MAX_FRAGMENT", SLOT_SIZE // 2 - 1):
            struck = stage.interrupt(strike, "reader", *arguments, stdout=pipe)
        died = stage.children[-1].wait() == -signal.SIGINT
        first = os.read(descriptor, len(whole) + 1)
    finally:
        os.close(descriptor)
    channel = stage.header()
    second = stage.read(code=1 if _stopped_inside(first, whole, channel.tail) else 0) if channel else b""
    assert first + second == whole, f"{len(first)} + {len(second)} bytes, not {len(whole)}"
    assert not (died and first), "a reader that has begun must hear the signal"
    return struck


def _stopped_inside(first: bytes, whole: bytes, tail: int) -> bool:
    """Whether a reader that put `first` out has left the rest of a line, or of the file, to the next one."""
    if whole == LINES:
        return bool(first) and not first.endswith(b"\n")
    return bool(first) and tail < FRAGMENTS


def _is_over(stage: Stage) -> bool:
    """Whether a reader has come to the end: removed the channel, or died while it did."""
    header = stage.header()
    return header is None or header.state == FINISHED


def reader_with_a_live_writer(stage: Stage, strike: Strike) -> bool:
    """The writer waits for room while the reader dies; a resumed reader completes the file."""
    writer = stage.start("writer", "--file", stage.input, *NARROW)
    wait_until(stage.header, "the channel")
    killed = stage.kill(strike, "reader", "--output", stage.output)
    if not (killed and _is_over(stage)):
        reader = stage.start("reader", "--output", stage.output, "--resume") if killed else stage.children[-1]
        assert reader.wait() == 0, reader.said
    assert writer.wait() == 0, writer.said
    assert stage.output.read_bytes() == CONTENT
    return killed


def remover(stage: Stage, strike: Strike) -> bool:
    """`writer --remove`: the channel is there as it was, or gone."""
    stage.run("writer", "hello", *WIDE)
    killed = stage.kill(strike, "writer", "--remove")
    stage.run("writer", "after")
    assert stage.read() in ((b"hello\nafter\n", b"after\n") if killed else (b"after\n",))
    return killed


def remover_under_a_waiting_writer(stage: Stage, strike: Strike) -> bool:
    """The one who waits goes on, or hears that the channel was removed."""
    waiting = stage.start("writer", "--wait", "hello", *WIDE)
    wait_until(lambda: channel.head if (channel := stage.header()) else 0, "the record")
    killed = stage.kill(strike, "writer", "--remove")
    stage.run("writer", "after")
    received = stage.read()
    assert received in ((b"hello\nafter\n", b"after\n") if killed else (b"after\n",))
    removed = received == b"after\n"
    assert waiting.wait() == removed, waiting.said
    assert ("the channel was removed" in waiting.said) == removed, waiting.said
    return killed


def reader_clears_a_half_made_channel(stage: Stage, strike: Strike) -> bool:
    """A creator died with three semaphores made; the reader that clears them dies too."""
    assert stage.kill(at_call("create_semaphore", 4), "writer", "hello")
    killed = stage.kill(strike, "reader", "--timeout", 0, code=124)
    stage.run("writer", "after")
    assert stage.read() == b"after\n"
    return killed


def writer_clears_a_half_removed_channel(stage: Stage, strike: Strike) -> bool:
    """A reader died with two semaphores removed; the writer that clears the others dies too."""
    stage.run("writer", "before")
    assert stage.kill(at_call("remove_semaphore", 3), "reader")
    return writer_creates(stage, strike)


ROLES: dict[str, Role] = {
    role.__name__: role
    for role in (
        writer_creates,
        writer_joins,
        writer_of_a_file,
        writer_resumes,
        writer_without_resume,
        writer_passed_over,
        writer_of_lines,
        writer_with_a_live_reader,
        reader_to_a_pipe,
        reader_to_a_file,
        reader_resumes,
        reader_of_a_torn_record,
        reader_with_a_live_writer,
        remover,
        remover_under_a_waiting_writer,
        reader_clears_a_half_made_channel,
        writer_clears_a_half_removed_channel,
    )
}

INTERRUPTIONS: dict[str, Role] = {
    role.__name__: role
    for role in (
        interrupted_reader_of_a_file,
        interrupted_reader_of_checksums,
        interrupted_reader_of_lines,
        interrupted_reader_of_some_lines,
    )
}
