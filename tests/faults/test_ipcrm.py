"""`ipcrm`, or `rm` in /dev/shm, of one object of a channel: with nobody near it, or under programs that use it.

Whoever needs the object ends with 1 and one line, the others go on; what was committed is never lost: the next
start makes the semaphores anew, and --resume completes the record. Only the segment takes its data along.
"""

from __future__ import annotations

import fcntl
import re
import subprocess

import pytest

from common.layout import SEMAPHORES
from tests.e2e.watch import is_taken, objects_of, sleeps_on, value_of
from tests.faults.tools import SLOT_SIZE, SLOTS, Transfer, remove
from tests.helpers import PATIENCE, Finished, Pair, finish, wait_until
from tests.said import broken_off, headless, semaphore_removed, unfinished

every_semaphore = pytest.mark.parametrize("name", SEMAPHORES)

WAS_REMOVED = "the channel, or this part of it, was removed by `--remove` or ipcrm"
TOOL = {"sysv": "ipcrm", "posix": "rm"}
LOST_IT = (
    "ENOENT (No such file or directory): the channel has lost this semaphore ({}); end every program that uses"
    " the channel and start again, as the user who made it: the first to start makes the semaphores anew,"
    " and no record is lost"
)


def complains(program: str, name: str, error: str) -> bool:
    """Whether `error` is the one line of a program that waited, or of one that was just using the semaphore."""
    return error == semaphore_removed(program, name) or said(program, error)


def said(program: str, error: str) -> bool:
    """Whether `error` is the one line about a semaphore that is gone; none at all is no complaint."""
    line = rf"{program}: sem(op|timedop|ctl)\(.*\): (EIDRM|EINVAL) \(.*\): {re.escape(WAS_REMOVED)}; .*\n"
    return bool(re.fullmatch(line, error))


@every_semaphore
@pytest.mark.parametrize("first", ["writer", "reader"])
def test_a_semaphore_while_nobody_runs(pair: Pair, name: str, first: str) -> None:
    """The next start, of either program, makes all five anew and says so; nothing is lost."""
    assert pair.write("--quiet", "kept").code == 0
    remove(pair, name)
    expected = b"kept\n"
    if first == "writer":
        done = pair.write("more")
        assert "made all five anew, nothing is lost" in done.err, done
        expected += b"more\n"
    done = pair.read()
    assert (done.code, done.out) == (0, expected), done
    assert ("made all five anew, nothing is lost" in done.err) == (first == "reader")


@every_semaphore
def test_a_semaphore_under_a_writer_that_waits_for_room(pair: Pair, name: str) -> None:
    transfer = Transfer(pair)
    writer = transfer.start_writer()
    remove(pair, name)
    done = finish(writer)
    assert (done.code, done.err) == (1, semaphore_removed("writer", name))
    transfer.assert_completed_by_resume()
    assert not objects_of(pair)


@every_semaphore
def test_a_semaphore_under_a_reader_that_waits_for_data(pair: Pair, name: str) -> None:
    """The reader ends. Its writer, which is not waiting, keeps others out for as long as it stays; nothing is lost."""
    writer = pair.start("writer", "--quiet", "--lines")
    assert writer.stdin
    writer.stdin.write(b"before\n")
    writer.stdin.flush()
    reader = pair.start("reader", "--quiet", "--timeout", PATIENCE)
    assert reader.stdout
    arrived = reader.stdout.readline()
    wait_until(lambda: sleeps_on(pair, "full_slots"))
    remove(pair, name)
    received = finish(reader)
    assert (received.code, received.out, received.err) == (1, b"", semaphore_removed("reader", name))
    newcomer = pair.read("--quiet")
    assert newcomer.code == 1 and newcomer.err.endswith(f"{LOST_IT.format(TOOL[pair.ipc])}\n"), newcomer
    sent = finish(writer, b"after\n")
    assert sent.code == 0 or complains("writer", name, sent.err), sent
    rest = pair.read("--quiet")
    arrived += rest.out
    # With an exit code of 1 a line may have arrived or not, as the writer may have found out before it or behind it.
    assert arrived == b"before\nafter\n" or (sent.code == 1 and arrived == b"before\n"), (sent, arrived)
    if arrived == b"before\n" or rest.code:
        assert (sent.code, rest.code, rest.err) == (1, 1, broken_off(arrived.count(b"\n") - 1))
    assert not objects_of(pair)


@every_semaphore
def test_a_semaphore_under_a_writer_that_waits_for_its_turn(pair: Pair, name: str) -> None:
    """The one that has the turn, in the middle of a pipe that says nothing, is not waiting for us."""
    holder = pair.start("writer", "--quiet")
    assert holder.stdin
    holder.stdin.write(b"begun")
    holder.stdin.flush()
    wait_until(lambda: (status := pair.status()) and status["header"]["head"] == 1)
    waiter = pair.start("writer", "--quiet", "hello")
    wait_until(lambda: sleeps_on(pair, "writer_turn"))
    remove(pair, name)
    done = finish(waiter)
    assert (done.code, done.err) == (1, semaphore_removed("writer", name))
    ended = finish(holder, b"")
    assert ended.code == 0 or complains("writer", name, ended.err), ended
    assert pair.write("--quiet", "again").code == 0
    rest = pair.read("--quiet")
    assert (rest.code, rest.out) == (1, b"begunagain\n"), "the waiter had not said what it had to"
    assert not objects_of(pair)


@every_semaphore
def test_a_semaphore_under_a_writer_that_waits_until_all_is_read(pair: Pair, name: str) -> None:
    writer = pair.start("writer", "--quiet", "--wait", "hello")
    wait_until(lambda: (status := pair.status()) and status["header"]["head"] == 1)
    remove(pair, name)
    done = finish(writer)
    assert (done.code, done.err) == (1, semaphore_removed("writer", name, all_sent=True))
    rest = pair.read("--quiet")
    assert (rest.code, rest.out, rest.err) == (0, b"hello\n", ""), "all of it had been said"
    assert not objects_of(pair)


def start_held_up_reader(pair: Pair, transfer: Transfer) -> subprocess.Popen[bytes]:
    """A reader in the middle of a record, at a pipe that is full and that nobody empties yet."""
    reader = pair.start("reader", "--quiet", bufsize=0)
    assert reader.stdout
    in_pipe = fcntl.fcntl(reader.stdout, fcntl.F_GETPIPE_SZ) // SLOT_SIZE
    wait_until(lambda: transfer.position() == (in_pipe + SLOTS, in_pipe), "a full pipe and a full ring")
    return reader


@every_semaphore
def test_a_semaphore_under_a_transfer(pair: Pair, name: str) -> None:
    """Somebody ends with the one line, and the other with it too or because nobody is left to read or to write."""
    transfer = Transfer(pair)
    writer = transfer.start_writer()
    reader = start_held_up_reader(pair, transfer)
    remove(pair, name)
    received = finish(reader)
    if complains("reader", name, received.err):
        writer.terminate()  # unless it has heard as well, it now waits for another reader
    sent = finish(writer)
    heard = complains("writer", name, sent.err)
    # Of POSIX only the name is gone: whoever has the semaphore open goes on, and hears of it if he waits for long.
    assert heard or complains("reader", name, received.err) or pair.ipc == "posix"
    assert heard or sent.err in ("", "writer: ended by SIGTERM\n"), sent
    arrived = received.out
    # A writer that heard first leaves its record unfinished, or whole but without a goodbye: then the reader says so.
    missing = broken_off(0) if arrived == transfer.data else unfinished(0, writer.pid, len(arrived))
    writer_left = heard and received.err == missing
    assert (received.code, received.err) == (0, "") or (
        received.code == 1 and (complains("reader", name, received.err) or writer_left)
    ), received
    if len(arrived) < len(transfer.data):
        again = pair.start("writer", "--quiet", "--file", transfer.source, "--resume")
        wait_until(lambda: again.poll() is not None or value_of(pair, "writers"), "the writer's joining")
        rest = pair.read("--quiet")
        assert (finish(again).code, rest.code) == (0, 1), rest
        assert rest.err == headless(0, len(arrived))
        arrived += rest.out
    elif pair.status():
        assert pair.write("--quiet", "--remove").code == 0
    assert arrived == transfer.data


def test_the_segment_under_a_transfer(pair: Pair) -> None:
    """Whoever has it attached may use it to the end; who cannot says so, and afterwards nothing is left."""
    transfer = Transfer(pair)
    writer = transfer.start_writer("--timeout", PATIENCE)
    reader = start_held_up_reader(pair, transfer)
    remove(pair, "segment")
    received, sent = finish(reader), finish(writer)
    for program, done in (("writer", sent), ("reader", received)):
        assert done.code == 0 or said(program, done.err) or "EIDRM: the channel was removed" in done.err, done
    assert transfer.data.startswith(received.out)
    assert 0 not in (sent.code, received.code) or received.out == transfer.data, (sent, received)
    assert not objects_of(pair)


def test_the_segment_while_nobody_runs(pair: Pair) -> None:
    """It took its proof along, so its semaphores are nobody's; following the advice makes the channel usable."""
    assert pair.write("--quiet", "lost").code == 0
    remove(pair, "segment")
    if pair.ipc == "posix":  # a new one has another nonce in its names, so the old ones are in nobody's way
        assert pair.write("--quiet", "new").code == 0
        assert pair.read("--quiet").out == b"new\n"
        assert objects_of(pair) == list(SEMAPHORES)
        assert_clears_the_semaphores(pair.write("--remove"))
        assert not objects_of(pair)
        return
    refused = pair.write("--quiet", "new")
    line = r"writer: semaphores \d+(, \d+){4} have our keys .* if nobody needs them: `writer.py (.*)` clears them\n"
    advice = re.fullmatch(line, refused.err)
    assert refused.code == 1 and advice, refused
    assert_clears_the_semaphores(pair.write(advice[2]))
    assert not objects_of(pair)
    assert pair.write("--quiet", "new").code == 0
    assert pair.read("--quiet").out == b"new\n"


def assert_clears_the_semaphores(done: Finished) -> None:
    said = "writer: removed 5 semaphores, whose segment was gone already"
    assert (done.code, done.err.splitlines()[1:]) == (0, [said])


def test_the_segment_under_a_reader_that_has_enough(pair: Pair) -> None:
    """It has its record; but the other one is lost with the segment, and that is no success."""
    data = bytes(2**20)  # far more than a pipe holds
    (pair.directory / "record").write_bytes(data)
    assert pair.write("--quiet", "--file", pair.directory / "record").code == 0
    assert pair.write("--quiet", "lost").code == 0
    reader = pair.start("reader", "--quiet", "--count", 1)
    wait_until(lambda: is_taken(pair, "reader_turn"), "the reader's turn")
    remove(pair, "segment")
    done = finish(reader)
    assert (done.code, done.out) == (1, data), done
    assert done.err == (
        "reader: EIDRM: the channel was removed, by `--remove`, ipcrm or rm, with 1 of its slots unread\n"
    )
    assert not objects_of(pair)
