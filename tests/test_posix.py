"""What is POSIX's own: names and the nonce, locks in the place of undo and nattch, files that anybody can remove."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.errors import BadSegment, CallFailed, ChannelError, Gone, NotOurs, NotPermitted
from common.geometry import Geometry
from common.ipc.lifecycle import Wanted, create_channel, find_channel, join_channel, open_channel
from common.ipc.posix_calls import PosixCalls
from common.ipc.posix_objects import PosixObjects, segment_name
from common.ipc.posix_roles import ATTACHED, READER_TURN, WRITER_TURN, WRITERS, Handle
from common.layout import HALF_MADE, MAGIC, PAGE, SEMAPHORES, Header
from tests.helpers import PATIENCE, ROOT, Pair, finish, is_root, locks_on, wait_until
from tests.in_process import (
    POSIX,
    SMALL,
    Local,
    Script,
    as_nobody,
    file_of,
    objects,
    place_of,
    python,
    run_python,
    semaphore_files,
    take_all,
)

ALL = ["segment", *SEMAPHORES]
WANTED = Wanted(SMALL.slot_count, SMALL.slot_size, None, exclusive=False)
root_only = pytest.mark.skipif(not is_root(), reason="another user's rights: only root can take them")


@pytest.fixture
def local(key_path: Path) -> Iterator[Local]:
    with Local(key_path, family=POSIX) as channel:
        yield channel


@pytest.fixture
def posix_pair(key_path: Path, tmp_path: Path) -> Pair:
    return Pair(key_path, tmp_path, ipc="posix")


@contextmanager
def created(key_path: Path) -> Iterator[PosixObjects]:
    made = create_channel(POSIX, place_of(key_path), SMALL, 0o640)
    assert isinstance(made, PosixObjects)
    try:
        yield made
    finally:
        made.remove()
        made.detach()


# Names, sizes and modes


def test_names(key_path: Path) -> None:
    """The object is named after the key, the semaphores after the object and a random number that the header has."""
    with created(key_path) as made, Header(made.memory) as header:
        key = place_of(key_path).segment_key & 0xFFFFFFFF
        assert file_of(key_path).name == f"shmpair-{key:08x}"
        assert header.nonce
        names = {f"sem.shmpair-{key:08x}-{header.nonce:016x}-{role}" for role in SEMAPHORES}
        assert {path.name for path in semaphore_files(key_path)} == names


def test_a_nonce_is_new_each_time(key_path: Path) -> None:
    seen = set()
    for _ in range(3):
        with created(key_path) as made, Header(made.memory) as header:
            seen.add(header.nonce)
    assert len(seen) == 3


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_mode_is_what_was_asked_whatever_the_umask(key_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with created(key_path):
            files = [file_of(key_path), *semaphore_files(key_path)]
            assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o640] * 6
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("geometry", "number"),
    [(Geometry(0, PAGE), errno.EINVAL), (Geometry(2**20, 2**40), errno.ENOSPC), (Geometry(2**32, 2**50), errno.ENOSPC)],
)
def test_a_size_that_cannot_be_leaves_nothing(key_path: Path, geometry: Geometry, number: int) -> None:
    with pytest.raises(CallFailed) as caught:
        create_channel(POSIX, place_of(key_path), geometry, 0o600)
    assert (caught.value.name, caught.value.errno) == ("posix_fallocate", number)
    assert objects(place_of(key_path), POSIX) == []


def test_a_full_dev_shm_is_one_line(posix_pair: Pair) -> None:
    done = posix_pair.write("--slots", 2**32 - 1, "--slot-size", "1G", "hello")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("writer: posix_fallocate(")
    assert "ENOSPC (No space left on device): /dev/shm has not that much room left" in done.err


# Locks in the place of undo and nattch


def test_the_locks_are_on_the_bytes_of_the_fields_that_they_go_with(key_path: Path) -> None:
    with created(key_path) as made, Header(made.memory) as header:
        header.writers_joined, header.writer_pid, header.reader_pid = 1, 2, 3
        at = [made.memory[byte] for byte in (WRITERS, WRITER_TURN, READER_TURN)]
        assert (bytes(made.memory[ATTACHED:8]), at) == (MAGIC, [1, 2, 3])
        header.writer_pid = header.reader_pid = 0


HOLD = """
import sys, time
from common.ipc.lifecycle import open_channel
from tests.in_process import POSIX, place_of
from pathlib import Path
objects = open_channel(POSIX, place_of(Path(sys.argv[1])))
assert objects.writer_turn.acquire(0) and objects.reader_turn.acquire(0)
objects.writers.enter()
print("holding", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_had_were_locks(key_path: Path) -> None:
    with created(key_path) as made:
        with python(HOLD, key_path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "holding\n"
            with Header(made.memory) as header:
                header.writer_pid = child.pid
            assert (made.writer_turn.holder(), made.reader_turn.holder()) == (child.pid, 0)
            assert made.others() is None
            assert [locks_on(file_of(key_path), byte) for byte in (ATTACHED, WRITERS)] == [2, 1]
            child.kill()
            child.wait()
        assert made.others() == 0
        assert [locks_on(file_of(key_path), byte) for byte in (ATTACHED, WRITERS)] == [1, 0]


def test_two_in_one_process_exclude_each_other(key_path: Path) -> None:
    with created(key_path) as made:
        other = open_channel(POSIX, made.place)
        assert other is not None
        assert made.writer_turn.acquire(0)
        assert not other.writer_turn.acquire(0)
        made.writer_turn.release()
        assert other.writer_turn.acquire(PATIENCE)
        other.detach()
        assert made.alone()
        assert made.writer_turn.acquire(0)


def test_a_turn_of_what_has_no_name_any_more_is_gone(key_path: Path) -> None:
    """Its holder has removed the channel, and gives nothing back."""
    with created(key_path) as made:
        other = open_channel(POSIX, made.place)
        assert other is not None
        assert made.reader_turn.acquire(0)
        assert not other.reader_turn.acquire(0.001)
        made.remove()
        with pytest.raises(Gone):
            other.reader_turn.acquire(0.001)
        made.reader_turn.release()
        assert other.reader_turn.acquire(0.001)
        other.detach()


def test_the_count_of_writers_forgets_the_dead_when_the_next_one_comes(key_path: Path) -> None:
    with created(key_path) as made:
        run_python(HOLD.replace("sys.stdin.read()", "import os; os.kill(os.getpid(), 9)"), key_path)
        told = made.describe_semaphore(SEMAPHORES.index("writers"))
        assert (told["value"], told["locked"]) == (0, False)
        made.writers.enter()
        assert POSIX.calls.semaphore_value(made.semaphores.opened[4]) == 1
        assert made.writers.present()
        made.writers.leave()


def test_an_onlooker_takes_no_lock(key_path: Path) -> None:
    with created(key_path) as made:
        seen = find_channel(POSIX, made.place, observe=True)
        assert made.alone()
        assert seen.describe()["attached"] is True
        seen.detach()


def test_a_lock_of_somebody_else_is_refused(key_path: Path) -> None:
    with created(key_path) as made:
        calls = PosixCalls()
        fd = calls.open_segment(made.name)
        assert calls.try_lock(fd, WRITERS, exclusive=True)
        with pytest.raises(CallFailed) as caught:
            made.writers.enter()
        assert (caught.value.name, caught.value.errno) == ("fcntl", errno.EAGAIN)
        calls.close_segment(fd)


def test_a_forked_child_holds_nothing(key_path: Path) -> None:
    with created(key_path) as made:
        assert made.writer_turn.acquire(0)
        made.writers.enter()
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        try:
            fd = os.open(file_of(key_path), os.O_RDWR)
            there = Handle(POSIX.calls, fd, None)
            wait_until(lambda: segment_name(made.place) not in Path(f"/proc/{child}/maps").read_text(), "the unmapping")
            assert there.locked_by_others(WRITER_TURN)  # the parent's, which are unharmed
            calls = POSIX.calls
            calls.unlock_all(made._fd)
            assert not any(there.locked_by_others(byte) for byte in (ATTACHED, WRITERS, WRITER_TURN))
            os.close(fd)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


# What is there and not ours, or not whole


def test_what_has_our_name_and_is_foreign_is_refused(key_path: Path, posix_pair: Pair) -> None:
    file = file_of(key_path)
    file.write_bytes(b"x" * 3 * PAGE)
    done = posix_pair.write("hello")
    assert done.code == 1
    assert "is not a channel of ours: its first bytes are" in done.err
    assert f"if nobody needs it: rm {file}" in done.err
    assert posix_pair.write("--remove").code == 1
    assert file.read_bytes() == b"x" * 3 * PAGE
    file.unlink()


@pytest.mark.parametrize("size", [1, PAGE - 1])
def test_what_is_too_small_for_a_header_is_refused(key_path: Path, posix_pair: Pair, size: int) -> None:
    file = file_of(key_path)
    file.write_bytes(b"x" * size)
    done = posix_pair.read("--timeout", 5)
    assert (done.code, f"its {size} bytes are fewer than a header" in done.err) == (1, True)
    assert posix_pair.read("--status").code == 1
    file.unlink()


def test_the_trace_says_what_kind_of_file_has_our_name(key_path: Path, posix_pair: Pair) -> None:
    os.mkfifo(file_of(key_path))
    assert "st_mode=S_IFIFO|0" in posix_pair.read("--trace", "--status").err
    file_of(key_path).unlink()


@pytest.mark.parametrize("size", [0, 4 * PAGE, 2**40], ids=["no size", "zeros", "a hole"])
def test_what_a_creator_left_before_it_stored_anything_is_cleared(key_path: Path, posix_pair: Pair, size: int) -> None:
    with file_of(key_path).open("wb") as file:
        file.truncate(size)
    assert posix_pair.write("hello").code == 0
    assert posix_pair.read("--quiet").out == b"hello\n"


def test_remove_clears_what_has_no_size(key_path: Path, posix_pair: Pair) -> None:
    file_of(key_path).touch()
    assert posix_pair.write("--remove").code == 0
    assert not file_of(key_path).exists()


def test_what_another_takes_part_in_is_not_left(key_path: Path) -> None:
    """A shared lock, not a pid, says that somebody may still be making it."""
    file_of(key_path).touch()
    fd = os.open(file_of(key_path), os.O_RDWR)
    assert POSIX.calls.try_lock(fd, ATTACHED, exclusive=False)
    with pytest.raises(NotOurs):
        open_channel(POSIX, place_of(key_path))
    os.close(fd)
    assert open_channel(POSIX, place_of(key_path)) is None
    assert not file_of(key_path).exists()


def test_a_half_made_one_is_cleared_with_its_semaphores(key_path: Path) -> None:
    made = create_channel(POSIX, place_of(key_path), SMALL, 0o600)
    with Header(made.memory) as header:
        header.magic = HALF_MADE
        header.set_semaphore_id(4, -1)  # made, and not noted any more
    made.detach()
    assert open_channel(POSIX, place_of(key_path)) is None
    assert objects(place_of(key_path), POSIX) == []


def test_one_truncated_at_rest_is_damaged(local: Local) -> None:
    end = local.writer()
    end.send(Script(b"kept"))
    local.leave(end)
    os.truncate(file_of(Path(local.place.path)), 2 * PAGE)
    with pytest.raises(BadSegment, match="sizes disagree"):
        local.reader()


# Files that anybody can remove


def test_one_made_anew_is_missing_too(key_path: Path) -> None:
    with created(key_path) as made:
        calls = PosixCalls()
        name = made.semaphores.name(0)
        calls.remove_semaphore(name)
        again = calls.create_semaphore(name, 0o600, 0)
        assert made.missing() == "full_slots"
        calls.close_semaphore(again)


def test_a_semaphore_removed_under_a_pair(posix_pair: Pair, key_path: Path) -> None:
    writer = posix_pair.start("writer", "--lines")
    wait_until(posix_pair.status, "the channel")
    semaphore_files(key_path)[0].unlink()
    reader = posix_pair.read()
    assert reader.code == 1
    assert finish(writer, b"kept\n").code == 0
    done = posix_pair.read()
    assert "one of its semaphores had been removed: made all five anew, nothing is lost" in done.err
    assert (done.code, done.out) == (0, b"kept\n")


def test_a_semaphore_removed_while_somebody_waits(posix_pair: Pair, key_path: Path) -> None:
    writer = posix_pair.start("writer", "--lines")
    wait_until(posix_pair.status, "the channel")
    reader = posix_pair.start("reader")
    wait_until(lambda: (posix_pair.status() or {}).get("header", {}).get("reader_pid"), "the reader's turn")
    semaphore_files(key_path)[0].unlink()
    done = finish(reader)
    assert done.code == 1
    assert "EIDRM: semaphore empty_slots was removed while we waited, by ipcrm or rm" in done.err
    assert finish(writer).code == 0
    posix_pair.write("--remove")


def test_the_object_removed_under_both(posix_pair: Pair, key_path: Path) -> None:
    writer = posix_pair.start("writer", "--lines")
    wait_until(posix_pair.status, "the channel")
    reader = posix_pair.start("reader")
    wait_until(lambda: (posix_pair.status() or {}).get("header", {}).get("reader_pid"), "the reader's turn")
    file_of(key_path).unlink()
    done = finish(reader)
    assert (done.code, "EIDRM: the channel was removed while we waited" in done.err) == (1, True)
    finish(writer)
    assert semaphore_files(key_path) == []


def test_orphans_are_removed_on_the_users_word(posix_pair: Pair, key_path: Path) -> None:
    assert posix_pair.write("--quiet", "lost").code == 0
    file_of(key_path).unlink()
    assert len(semaphore_files(key_path)) == 5
    done = posix_pair.write("--remove")
    assert "removed 5 semaphores, whose segment was gone already" in done.err
    assert semaphore_files(key_path) == []


@root_only
def test_orphans_of_another_user_stay(posix_pair: Pair, key_path: Path) -> None:
    posix_pair.write("--quiet", "lost")
    file_of(key_path).unlink()
    theirs = semaphore_files(key_path)[0]
    os.chown(theirs, 65534, 65534)
    done = posix_pair.write("--remove")
    assert (done.code, "it is uid 65534's" in done.err) == (1, True)
    assert len(semaphore_files(key_path)) == 5
    os.chown(theirs, 0, 0)
    posix_pair.write("--remove")


def test_what_bears_our_name_and_not_our_nonce_is_left(posix_pair: Pair, key_path: Path) -> None:
    stray = Path("/dev/shm") / f"sem.{file_of(key_path).name}-{0:016x}-writers"
    stray.write_bytes(bytes(32))
    posix_pair.write("--quiet", "hello")
    done = posix_pair.write("--remove")
    assert (done.code, "the channel does not note it" in done.err) == (1, True)
    assert [path.name for path in semaphore_files(key_path)] == [stray.name]
    assert posix_pair.write("--remove").code == 0
    assert not stray.exists()


def test_a_new_object_with_our_name_is_not_ours_to_remove(key_path: Path) -> None:
    with created(key_path) as made:
        file = file_of(key_path)
        file.unlink()
        assert made.removed()
        file.write_bytes(b"another's")
        made.remove()
        assert file.read_bytes() == b"another's"
        file.unlink()


# The family as a whole


def test_a_channel_from_beginning_to_end(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    writer.send(Script(b"one"))
    writer.send(Script(b"two"))
    local.leave(writer)
    assert take_all(reader) == b"onetwo"
    assert reader.removed
    assert local.objects() == []


@root_only
def test_another_user_may_not_remove(key_path: Path) -> None:
    """The kernel is asked before any state is stored: with what fchmod needs, which is what unlink needs here."""
    with created(key_path) as made:
        made.set_mode(0o666)
        with as_nobody():
            theirs = find_channel(POSIX, made.place, observe=False)
            with pytest.raises(NotPermitted) as caught:
                theirs.check_removable()
            assert (caught.value.name, caught.value.errno, caught.value.owner) == ("fchmod", errno.EPERM, 0)
            with pytest.raises(CallFailed) as refused:
                theirs.remove()
            assert (refused.value.name, refused.value.errno) == ("sem_unlink", errno.EACCES)
            assert theirs.whose() == "it is uid 0's"
            theirs.detach()
        assert objects(made.place, POSIX) == ALL


def test_exclusive_and_mode_are_as_with_system_v(key_path: Path) -> None:
    with created(key_path) as made:
        with pytest.raises(CallFailed) as caught:
            join_channel(POSIX, made.place, WANTED._replace(exclusive=True))
        assert (caught.value.name, caught.value.errno) == ("shm_open", errno.EEXIST)
        with pytest.raises(ChannelError, match="EINVAL: the channel has mode 0640"):
            join_channel(POSIX, made.place, WANTED._replace(mode=0o600))


@pytest.mark.parametrize(("family", "other"), [("sysv", "posix"), ("posix", "sysv")])
def test_the_other_family_is_not_even_imported(pair: Pair, family: str, other: str) -> None:
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print(sorted(sys.modules))"
    )
    pair.ipc = family
    for program, words in (("writer", ["hello"]), ("reader", [])):
        python, *command = pair.command(program, "--quiet", *words)
        done = subprocess.run([python, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=True)
        assert f"common.ipc.{family}_calls" in done.stdout
        assert f"common.ipc.{other}" not in done.stdout
        assert f"{other}_ipc" not in done.stdout


def test_attach_at_is_refused(posix_pair: Pair) -> None:
    for done in (posix_pair.write("--attach-at", "0x7e0000000000", "x"), posix_pair.read("--attach-at", "8192")):
        assert (done.code, "--attach-at is shmat's" in done.err) == (2, True)
