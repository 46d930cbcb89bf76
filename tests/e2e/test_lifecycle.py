"""How channels come and go: racing first starts, removal under a user, and the memory that outlives its key."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sysv_ipc

from common.ipc.sysv_calls import SHM_RDONLY
from tests.e2e.launch import hold, start_stopped, start_together
from tests.e2e.watch import (
    SHM_DEST,
    Facts,
    is_taken,
    left_of,
    segment,
    segment_file,
    segments,
    sleeps_on,
    stands_at_doorway,
    state_of,
    value_of,
)
from tests.families import families, only, slow_over_posix
from tests.helpers import Finished, Pair, finish, wait_until
from tests.in_process import sysv

CHANNELS = range(32)


def only_segment(pair: Pair) -> Facts:
    """The one segment with the key of channel 0."""
    row: Facts
    (row,) = wait_until(lambda: segments(pair), "the segment")
    return row


class TestSimultaneousStart:
    """Everybody starts at the same instant: nobody fails, and nothing is left."""

    @slow_over_posix
    @pytest.mark.parametrize("first", ["writer", "reader"])
    def test_a_pair_on_every_channel(self, pair: Pair, first: str) -> None:
        """All 32 channels of a key path, in both orders: 64 pairs."""
        writers = [hold(pair, "writer", "--channel", n, f"hello {n}") for n in CHANNELS]
        readers = [hold(pair, "reader", "--channel", n) for n in CHANNELS]
        in_order = zip(writers, readers, strict=True) if first == "writer" else zip(readers, writers, strict=True)
        start = [child for both in in_order for child in both]
        done = dict(zip(start, start_together(start), strict=True))
        assert [one for one in done.values() if one.code] == []
        assert [done[reader].out for reader in readers] == [b"hello %d\n" % n for n in CHANNELS]
        assert left_of(pair) == []

    @slow_over_posix
    @pytest.mark.parametrize("first", ["writer", "reader"])
    def test_50_pairs_on_one_channel(self, pair: Pair, first: str) -> None:
        """Each reader takes one message. The channel may be over, and made anew, any number of times.

        --follow: a reader that finds the channel over before it had a message waits for the next one.
        """
        writers = [hold(pair, "writer", f"hello {n}") for n in range(50)]
        readers = [hold(pair, "reader", "--follow", "--count", 1) for n in range(50)]
        in_order = zip(writers, readers, strict=True) if first == "writer" else zip(readers, writers, strict=True)
        start = [child for both in in_order for child in both]
        done = dict(zip(start, start_together(start), strict=True))
        assert [one for one in done.values() if one.code] == []
        assert sorted(done[reader].out for reader in readers) == sorted(b"hello %d\n" % n for n in range(50))
        assert left_of(pair) == []

    @families("attempt", range(3), posix=[0])
    def test_writers_race_to_create_one_channel(self, pair: Pair, attempt: int) -> None:
        """One of them creates it, the others open it, and all of the data is there."""
        done = start_together([hold(pair, "writer", "--slots", 32, f"hello {n}") for n in range(16)])
        assert [one for one in done if one.code] == []
        assert sum(": created " in one.err for one in done) == 1
        assert sum(": opened " in one.err for one in done) == 15
        assert sorted(pair.read().out.splitlines()) == sorted(b"hello %d" % n for n in range(16))

    def test_one_exclusive_writer_wins(self, pair: Pair) -> None:
        done = start_together([hold(pair, "writer", "--exclusive", "--quiet", f"hello {n}") for n in range(10)])
        assert sorted(one.code for one in done) == [0] + [1] * 9
        assert all(": EEXIST (File exists)" in one.err and one.err.count("\n") == 1 for one in done if one.code)
        winner = next(number for number, one in enumerate(done) if not one.code)
        assert pair.read().out == b"hello %d\n" % winner


@slow_over_posix
@pytest.mark.parametrize(("where", "least"), [("write_lines", 25), ("release", 2)], ids=["call", "open doorway"])
def test_writer_leaves_at_any_step_of_the_reader(pair: Pair, where: str, least: int) -> None:
    """Whichever call of the reader it falls on: the data arrives, and one of the two removes the channel.

    Each call is told to write_lines(), in the doorway too; release() is told that the doorway has opened.
    """
    step = 1
    while leave_at(pair, f"{where}:{step}"):
        assert left_of(pair) == [], f"the writer left when the reader was at {where}:{step}"
        step += 1
    assert step > least, "the reader's calls were not seen"


def leave_at(pair: Pair, moment: str) -> bool:
    """Let a writer leave while a reader is stopped at this moment of its; False when it never comes to it."""
    writer = pair.start("writer", "--lines")
    assert writer.stdin and writer.stderr
    writer.stdin.write(b"hello\n")
    writer.stdin.flush()
    wait_until(lambda: value_of(pair, "full_slots"), "the line's arrival in the segment")
    reader = start_stopped(pair, moment, "reader", "--trace=all", "--count", 1)
    stopped = reader.poll() is None
    writer.stdin.close()
    writer.stdin = None
    while b"sent 1 record" not in writer.stderr.readline():
        pass
    wait_until(lambda: writer.poll() is not None or stands_at_doorway(pair, writer.pid))
    reader.send_signal(signal.SIGCONT)
    read, written = finish(reader), finish(writer)
    assert (read.code, read.out, written.code) == (0, b"hello\n", 0), (moment, read, written)
    return stopped


def shmid_of(pair: Pair) -> int:
    """The id of the one segment, of System V."""
    return int(only_segment(pair).id)


class TestDeferredRemoval:
    """IPC_RMID frees the key at once and the memory at the last detach; shm_unlink the name."""

    @only("sysv", "nothing leads to an unlinked object any more: tests/test_posix.py has what becomes of it")
    def test_an_observer_keeps_the_memory(self, pair: Pair) -> None:
        pair.write("-n", "the old data")
        shmid = shmid_of(pair)
        observer = sysv.attach_segment(shmid, flags=SHM_RDONLY)
        assert pair.write("--remove").code == 0
        row = segment(shmid)
        assert row and row["perms"] & SHM_DEST and row["key"] == 0 and row["nattch"] == 1
        assert segments(pair) == []
        # The key is free: a new channel, while the old memory is still there.
        assert pair.write("-n", "the new data").code == 0
        assert shmid_of(pair) != shmid
        assert pair.read().out == b"the new data"
        assert b"the old data" in bytes(memoryview(observer))
        sysv.detach_segment(observer)
        assert segment(shmid) is None

    @only("sysv", "ipcs shows the objects of System V alone")
    def test_ipcs_says_dest(self, pair: Pair) -> None:
        if not shutil.which("ipcs"):
            pytest.skip("install util-linux: ipcs is missing")
        pair.write("hello")
        shmid = shmid_of(pair)
        observer = sysv.attach_segment(shmid)
        pair.write("--remove")
        rows = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout.splitlines()
        (row,) = (row.split() for row in rows if row.split()[1:2] == [str(shmid)])
        assert row[0] == "0x00000000" and row[-1] == "dest"
        sysv.detach_segment(observer)

    def test_a_stopped_reader_keeps_the_memory(self, pair: Pair) -> None:
        """It hears of the removal when it goes on, and with it the last of the memory goes."""
        pair.write("old")
        reader = pair.start("reader", "--follow", "--quiet")
        wait_until(lambda: sleeps_on(pair, "full_slots"))
        found = only_segment(pair).id
        reader.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(reader.pid) == "T")
        assert pair.write("--remove").code == 0
        if pair.ipc == "posix":
            assert f"{segment_file(pair)} (deleted)" in Path(f"/proc/{reader.pid}/maps").read_text()
        else:
            row = segment(found)
            assert row and row["perms"] & SHM_DEST and row["key"] == 0
        assert pair.write("new").code == 0
        reader.send_signal(signal.SIGCONT)
        done = finish(reader)
        assert (done.code, done.out) == (1, b"old\n"), done
        assert_said_removed(done)
        assert segment(found) is None
        assert pair.read().out == b"new\n"


def by_option(pair: Pair) -> None:
    assert pair.write("--remove").code == 0


def by_hand(pair: Pair) -> None:
    """What `ipcrm -m`, or `rm` in /dev/shm, does: the segment alone, not the semaphores."""
    if pair.ipc == "posix":
        segment_file(pair).unlink()
    else:
        sysv_ipc.remove_shared_memory(shmid_of(pair))


def assert_said_removed(done: Finished) -> None:
    assert done.code == 1, done
    assert done.err.count("\n") == 1, done
    assert "the channel was removed" in done.err or ("the channel" in done.err and "was removed" in done.err), done


@pytest.mark.parametrize("remove", [by_option, by_hand])
class TestRemovedUnderAUser:
    """One clear line and code 1; the semaphores are not left behind."""

    Remove = Callable[[Pair], None]

    def test_waiting_reader(self, pair: Pair, remove: Remove) -> None:
        pair.write("hello")
        reader = pair.start("reader", "--follow", "--quiet")
        wait_until(lambda: sleeps_on(pair, "full_slots"))
        remove(pair)
        done = finish(reader)
        assert done.out == b"hello\n"
        assert_said_removed(done)
        assert left_of(pair) == []

    def test_waiting_writer(self, pair: Pair, remove: Remove) -> None:
        (pair.directory / "given").write_bytes(bytes(9000))
        arguments = ("--slots", 1, "--slot-size", "4K", "--file", pair.directory / "given")
        writer = pair.start("writer", "--quiet", *arguments)
        wait_until(lambda: sleeps_on(pair, "empty_slots"))
        remove(pair)
        assert_said_removed(finish(writer))
        assert left_of(pair) == []

    def test_writer_that_waits_until_all_is_read(self, pair: Pair, remove: Remove) -> None:
        writer = pair.start("writer", "--quiet", "--wait", "hello")
        wait_until(lambda: (status := pair.status()) and status["header"]["unread"] == 1)
        remove(pair)
        assert_said_removed(finish(writer))
        assert left_of(pair) == []

    def test_writer_that_reads_its_input(self, pair: Pair, remove: Remove) -> None:
        """What it puts into a segment that nobody can find any more is lost: that is no success."""
        writer = pair.start("writer", "--quiet")
        wait_until(lambda: is_taken(pair, "writer_turn") and state_of(writer.pid) == "S")
        remove(pair)
        assert_said_removed(finish(writer, b"too late\n"))
        assert left_of(pair) == []

    def test_writer_between_two_lines(self, pair: Pair, remove: Remove) -> None:
        writer = pair.start("writer", "--quiet", "--lines")
        assert writer.stdin
        writer.stdin.write(b"in time\n")
        writer.stdin.flush()
        wait_until(lambda: (status := pair.status()) and status["header"]["unread"] == 1)
        remove(pair)
        assert_said_removed(finish(writer, b"too late\n"))
        assert left_of(pair) == []


def test_remove_says_what_was_lost(pair: Pair) -> None:
    for word in ("one", "two", "three"):
        pair.write(word)
    found = only_segment(pair).id
    gone = {"sysv": f"marked segment {found} for removal: it is gone", "posix": f"unlinked object {found}: it is gone"}[
        pair.ipc
    ]
    done = pair.write("--remove")
    assert (done.code, done.out) == (0, b"")
    assert f"removed 5 semaphores, {gone}; 3 slots unread" in done.err, done
    assert left_of(pair) == []


def test_channels_are_apart(pair: Pair) -> None:
    """Two channels of one key path share nothing."""
    pair.write("--channel", 0, "zero")
    pair.write("--channel", 31, "thirty-one")
    assert pair.read("--channel", 31).out == b"thirty-one\n"
    assert pair.read("--channel", 0).out == b"zero\n"
