"""The POSIX calls one by one: what each does, what it reports to the listener, each errno it can be made to give."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from common.channel.listener import Call, Listener
from common.errors import CallFailed
from common.ipc import posix_calls
from common.ipc.posix_calls import Flock, PosixCalls, Semaphore, ShmStat
from common.layout import PAGE
from tests.faults.tools import private_mounts
from tests.helpers import PATIENCE, ROOT, is_root, wait_until
from tests.in_process import NOBODY, as_nobody, ignore, in_thread, python, run_python

needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user: run the tests as root")

SHM = Path("/dev/shm")
NO_FD = 2**20 - 1
# glibc has one limit for all names, and the kernel another: a semaphore's file has four letters before its name.
TOO_LONG, TOO_LONG_FOR_A_SEMAPHORE = "/" + "x" * 256, "/" + "x" * 252


class Recorder(Listener):
    """Hears every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.call = self.calls.append


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    """A name that no other test has, for an object and for a semaphore; both are removed, and nothing is left."""
    status = tmp_path.stat()
    name = f"/test-{status.st_dev:x}-{status.st_ino:x}"
    yield name
    for path in (SHM / name[1:], Path(posix_calls.semaphore_path(name))):
        path.unlink(missing_ok=True)
    assert not list(SHM.glob(f"*{name[1:]}*"))


@pytest.fixture
def posix() -> PosixCalls:
    """Nobody listens."""
    return PosixCalls()


@pytest.fixture
def fd(posix: PosixCalls, name: str) -> Iterator[int]:
    """An object of two pages, mode 0640, open to read and write."""
    fd = posix.create_segment(name, 0o640)
    posix.set_size(fd, 2 * PAGE)
    yield fd
    with suppress(OSError):
        os.close(fd)


@pytest.fixture
def semaphore(posix: PosixCalls, name: str) -> Iterator[Semaphore]:
    """A semaphore with two tokens, mode 0640."""
    semaphore = posix.create_semaphore(name, 0o640, 2)
    yield semaphore
    with suppress(AttributeError):
        posix.close_semaphore(semaphore)


def failure(call: Callable[[], object]) -> tuple[str, str]:
    """The name of the call that fails and its errno's."""
    with pytest.raises(CallFailed) as error:
        call()
    return error.value.name, errno.errorcode[error.value.errno or 0]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Every file that is opened in the block is one too many."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# shm_open, shm_unlink, close


def test_a_new_object_is_empty_and_as_it_was_asked_for(posix: PosixCalls, name: str) -> None:
    fd = posix.create_segment(name, 0o640)
    stat = posix.stat_segment(fd)
    assert (stat.size, stat.mode, stat.links) == (0, 0o640, 1)
    assert (stat.uid, stat.gid) == (os.geteuid(), os.getegid())
    assert not os.get_inheritable(fd)
    posix.close_segment(fd)


def test_the_umask_takes_from_an_object_until_its_mode_is_set(posix: PosixCalls, name: str) -> None:
    with umask(0o027):
        fd = posix.create_segment(name, 0o666)
        assert posix.stat_segment(fd).mode == 0o640
        posix.set_mode(fd, 0o666)
    assert posix.stat_segment(fd).mode == 0o666
    posix.close_segment(fd)


def test_shm_open_eexist(posix: PosixCalls, fd: int, name: str) -> None:
    assert failure(lambda: posix.create_segment(name, 0o600)) == ("shm_open", "EEXIST")


def test_an_object_is_found_by_its_name(posix: PosixCalls, fd: int, name: str) -> None:
    for readonly in (False, True):
        found = posix.open_segment(name, readonly=readonly)
        assert posix.stat_segment(found).ino == posix.stat_segment(fd).ino
        assert fcntl.fcntl(found, fcntl.F_GETFL) & os.O_ACCMODE == (os.O_RDONLY if readonly else os.O_RDWR)
        posix.close_segment(found)


def test_shm_open_enoent(posix: PosixCalls, name: str) -> None:
    assert failure(lambda: posix.open_segment(name)) == ("shm_open", "ENOENT")
    assert failure(lambda: posix.remove_segment(name)) == ("shm_unlink", "ENOENT")


@pytest.mark.parametrize(("bad", "number"), [("/a/b", "EINVAL"), ("/", "EINVAL"), (TOO_LONG, "ENAMETOOLONG")])
def test_names_that_no_object_can_have(posix: PosixCalls, bad: str, number: str) -> None:
    assert failure(lambda: posix.create_segment(bad, 0o600)) == ("shm_open", number)
    assert failure(lambda: posix.open_segment(bad)) == ("shm_open", number)


def test_shm_open_eloop(posix: PosixCalls, name: str) -> None:
    (SHM / name[1:]).symlink_to("nowhere")
    assert failure(lambda: posix.open_segment(name)) == ("shm_open", "ELOOP")


def test_shm_open_emfile(posix: PosixCalls, fd: int, name: str) -> None:
    with no_descriptors():
        assert failure(lambda: posix.open_segment(name)) == ("shm_open", "EMFILE")


@needs_root
def test_another_users_object(posix: PosixCalls, fd: int, name: str) -> None:
    with as_nobody():
        assert failure(lambda: posix.open_segment(name)) == ("shm_open", "EACCES")
        assert failure(lambda: posix.open_segment(name, readonly=True)) == ("shm_open", "EACCES")
        assert failure(lambda: posix.remove_segment(name)) == ("shm_unlink", "EACCES")
        assert failure(lambda: posix.set_mode(fd, 0o640)) == ("fchmod", "EPERM")
        assert failure(lambda: posix.set_owner(fd, uid=NOBODY)) == ("fchown", "EPERM")


@needs_root
def test_whoever_may_only_read_reads_only(posix: PosixCalls, fd: int, name: str) -> None:
    posix.set_mode(fd, 0o644)
    with as_nobody():
        assert failure(lambda: posix.open_segment(name)) == ("shm_open", "EACCES")
        posix.close_segment(posix.open_segment(name, readonly=True))


def test_shm_unlink_frees_the_name_at_once_and_the_memory_with_the_last_mapping(
    posix: PosixCalls, fd: int, name: str
) -> None:
    mapping = posix.map_segment(fd, 2 * PAGE)
    posix.remove_segment(name)
    assert posix.stat_segment(fd).links == 0
    assert failure(lambda: posix.open_segment(name)) == ("shm_open", "ENOENT")
    posix.close_segment(fd)
    mapping.memory[0] = 1
    posix.unmap_segment(mapping)


def test_what_is_not_open_is_ebadf(posix: PosixCalls) -> None:
    for call, called in (
        (lambda: posix.close_segment(NO_FD), "close"),
        (lambda: posix.set_size(NO_FD, PAGE), "ftruncate"),
        (lambda: posix.reserve(NO_FD, PAGE), "posix_fallocate"),
        (lambda: posix.map_segment(NO_FD, PAGE), "mmap"),
        (lambda: posix.stat_segment(NO_FD), "fstat"),
        (lambda: posix.set_mode(NO_FD, 0o600), "fchmod"),
        (lambda: posix.set_owner(NO_FD), "fchown"),
        (lambda: posix.try_lock(NO_FD, 0, exclusive=True), "fcntl"),
        (lambda: posix.unlock(NO_FD, 0), "fcntl"),
        (lambda: posix.is_locked(NO_FD, 0, exclusive=True), "fcntl"),
    ):
        assert failure(call) == (called, "EBADF")


# ftruncate, posix_fallocate


def test_a_size_takes_no_memory_until_it_is_reserved(posix: PosixCalls, fd: int) -> None:
    assert (posix.stat_segment(fd).size, os.fstat(fd).st_blocks) == (2 * PAGE, 0)
    posix.reserve(fd, 2 * PAGE)
    assert (posix.stat_segment(fd).size, os.fstat(fd).st_blocks) == (2 * PAGE, 2 * PAGE // 512)


def test_sizes_that_no_object_can_have(posix: PosixCalls, fd: int, name: str) -> None:
    assert failure(lambda: posix.set_size(fd, -1)) == ("ftruncate", "EINVAL")
    assert failure(lambda: posix.reserve(fd, 0)) == ("posix_fallocate", "EINVAL")
    readonly = posix.open_segment(name, readonly=True)
    assert failure(lambda: posix.set_size(readonly, PAGE)) == ("ftruncate", "EINVAL")
    assert failure(lambda: posix.reserve(readonly, PAGE)) == ("posix_fallocate", "EBADF")
    posix.close_segment(readonly)


@pytest.mark.parametrize("size", [2**50, 2**63 - 1, 2**63, 2**70])
def test_posix_fallocate_enospc(posix: PosixCalls, fd: int, size: int) -> None:
    assert failure(lambda: posix.reserve(fd, size)) == ("posix_fallocate", "ENOSPC")
    assert posix.stat_segment(fd).size == 2 * PAGE


FULL = """
from common.errors import CallFailed
from common.ipc.posix_calls import PosixCalls
posix = PosixCalls()
fd = posix.create_segment("/first", 0o600)
for call in (
    lambda: posix.reserve(fd, 2**20),
    lambda: [posix.create_segment(f"/{n}", 0o600) for n in range(9)],
    lambda: posix.create_semaphore("/a", 0o600, 0),
):
    try:
        call()
    except CallFailed as error:
        print(error.name, error.errno)
"""


def test_a_full_file_system_is_enospc_in_every_call_that_takes_room() -> None:
    mount = 'mount -t tmpfs -o size=64k,nr_inodes=6 none /dev/shm && exec "$@"'
    words = [*private_mounts(), "sh", "-c", mount, "sh", sys.executable, "-c", FULL]
    said = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["posix_fallocate", "28", "shm_open", "28", "sem_open", "28"]


# mmap, munmap


def test_mapped_twice_it_is_the_same_memory(posix: PosixCalls, fd: int) -> None:
    one, other = posix.map_segment(fd, 2 * PAGE), posix.map_segment(fd, 2 * PAGE)
    assert (one.memory.format, one.memory.nbytes, bytes(one.memory)) == ("B", 2 * PAGE, bytes(2 * PAGE))
    one.memory[5] = 77
    assert other.memory[5] == 77
    assert one.address != other.address
    posix.unmap_segment(one)
    posix.unmap_segment(other)


def test_an_onlookers_memory_cannot_be_written_to(posix: PosixCalls, fd: int, name: str) -> None:
    readonly = posix.open_segment(name, readonly=True)
    mapping = posix.map_segment(readonly, PAGE, readonly=True)
    assert mapping.memory.readonly
    with pytest.raises(TypeError):
        mapping.memory[0] = 1
    assert failure(lambda: posix.map_segment(readonly, PAGE)) == ("mmap", "EACCES")
    posix.unmap_segment(mapping)
    posix.close_segment(readonly)


def mapped(address: int) -> bool:
    return re.search(f"^{address:x}-", Path("/proc/self/maps").read_text(), re.MULTILINE) is not None


def test_what_is_unmapped_is_out_of_reach(posix: PosixCalls, fd: int) -> None:
    mapping = posix.map_segment(fd, 2 * PAGE)
    assert mapped(mapping.address)
    posix.unmap_segment(mapping)
    assert not mapped(mapping.address)
    with pytest.raises(ValueError):
        mapping.memory[0]
    with pytest.raises(ValueError):
        posix.unmap_segment(mapping)


@pytest.mark.parametrize(("size", "number"), [(0, "EINVAL"), (2**62, "ENOMEM"), (2**70, "ENOMEM")])
def test_sizes_that_cannot_be_mapped(posix: PosixCalls, fd: int, size: int, number: str) -> None:
    assert failure(lambda: posix.map_segment(fd, size)) == ("mmap", number)


# fstat, fchmod, fchown


def test_fstat(posix: PosixCalls, fd: int) -> None:
    now = int(time.time())
    stat = posix.stat_segment(fd)
    assert stat._replace(ino=0, access_time=0, modify_time=0, change_time=0) == ShmStat(
        uid=os.geteuid(),
        gid=os.getegid(),
        mode=0o640,
        size=2 * PAGE,
        links=1,
        ino=0,
        access_time=0,
        modify_time=0,
        change_time=0,
    )
    assert all(type(value) is int for value in stat[:-1])
    assert all(now - PATIENCE < moment <= now for moment in stat[-4:-1])


def test_each_time_is_where_it_belongs(posix: PosixCalls, fd: int) -> None:
    os.utime(fd, (1.5, 2.5))
    stat = posix.stat_segment(fd)
    assert (stat.access_time, stat.modify_time) == (1, 2)
    assert stat.change_time > 2


@pytest.mark.parametrize("mode", [0o600, 0o666, 0o400, 0o777])
def test_fchmod_changes_the_mode_and_nothing_else(posix: PosixCalls, fd: int, mode: int) -> None:
    before = posix.stat_segment(fd)
    posix.set_mode(fd, mode)
    assert posix.stat_segment(fd)._replace(change_time=0) == before._replace(mode=mode, change_time=0)


@needs_root
@pytest.mark.parametrize("change", [{"uid": NOBODY}, {"gid": NOBODY}, {"uid": 1, "gid": 2}, {}], ids=str)
def test_fchown_changes_what_it_is_given(posix: PosixCalls, fd: int, change: dict[str, int]) -> None:
    before = posix.stat_segment(fd)
    posix.set_owner(fd, **change)
    assert posix.stat_segment(fd)._replace(change_time=0) == before._replace(change_time=0)._replace(**change)


# sem_open, sem_close, sem_unlink


@pytest.mark.parametrize("mask", [0, 0o077, 0o777])
def test_a_new_semaphore_has_its_value_and_exactly_its_mode(posix: PosixCalls, name: str, mask: int) -> None:
    with umask(mask):
        semaphore = posix.create_semaphore(name, 0o666, 7)
    assert (posix.semaphore_value(semaphore), posix.stat_semaphore(name).mode) == (7, 0o666)
    posix.close_semaphore(semaphore)


def test_sem_open_eexist(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    assert failure(lambda: posix.create_semaphore(name, 0o600, 0)) == ("sem_open", "EEXIST")
    assert (posix.semaphore_value(semaphore), posix.stat_semaphore(name).mode) == (2, 0o640)


def test_a_semaphore_is_found_by_its_name(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    found = posix.open_semaphore(name)
    assert (found.name, found.address) == (name, semaphore.address), "one process has one of each"
    posix.close_semaphore(found)
    assert posix.semaphore_value(semaphore) == 2, "closed as often as it was opened"


def test_sem_open_enoent(posix: PosixCalls, name: str) -> None:
    assert failure(lambda: posix.open_semaphore(name)) == ("sem_open", "ENOENT")
    assert failure(lambda: posix.remove_semaphore(name)) == ("sem_unlink", "ENOENT")
    assert failure(lambda: posix.stat_semaphore(name)) == ("lstat", "ENOENT")
    assert failure(lambda: posix.set_semaphore_mode(name, 0o600)) == ("chmod", "ENOENT")
    assert failure(lambda: posix.set_semaphore_owner(name)) == ("lchown", "ENOENT")


@pytest.mark.parametrize(
    ("bad", "number"), [("/a/b", "EINVAL"), ("/", "EINVAL"), (TOO_LONG_FOR_A_SEMAPHORE, "ENAMETOOLONG")]
)
def test_names_that_no_semaphore_can_have(posix: PosixCalls, bad: str, number: str) -> None:
    allowed = {("sem_open", number), ("sem_open", "EINVAL")}  # glibc 2.34 and later find it too long themselves
    assert failure(lambda: posix.create_semaphore(bad, 0o600, 0)) in allowed
    assert failure(lambda: posix.open_semaphore(bad)) in allowed


def test_sem_open_einval_for_a_file_that_is_too_short(posix: PosixCalls, name: str) -> None:
    path = Path(posix_calls.semaphore_path(name))
    for size in (0, 31):
        path.write_bytes(bytes(size))
        assert failure(lambda: posix.open_semaphore(name)) == ("sem_open", "EINVAL")
        assert str(path) not in Path("/proc/self/maps").read_text()


def test_sem_open_eloop(posix: PosixCalls, name: str) -> None:
    Path(posix_calls.semaphore_path(name)).symlink_to("nowhere")
    assert failure(lambda: posix.open_semaphore(name)) == ("sem_open", "ELOOP")
    assert posix.stat_semaphore(name).links == 1


@pytest.mark.parametrize("value", [2**31, 2**32, 2**32 + 1])
def test_sem_open_einval_for_a_value_that_no_semaphore_can_have(posix: PosixCalls, name: str, value: int) -> None:
    assert failure(lambda: posix.create_semaphore(name, 0o600, value)) == ("sem_open", "EINVAL")


def test_sem_open_emfile(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    with no_descriptors():
        assert failure(lambda: posix.open_semaphore(name)) == ("sem_open", "EMFILE")


@needs_root
def test_another_users_semaphore(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    posix.set_semaphore_mode(name, 0o644)
    with as_nobody():
        assert failure(lambda: posix.open_semaphore(name)) == ("sem_open", "EACCES"), "to read is not enough"
        assert failure(lambda: posix.remove_semaphore(name)) == ("sem_unlink", "EACCES")
        assert failure(lambda: posix.set_semaphore_mode(name, 0o644)) == ("chmod", "EPERM")
        assert failure(lambda: posix.set_semaphore_owner(name, uid=NOBODY)) == ("lchown", "EPERM")
        assert posix.stat_semaphore(name).mode == 0o644


@needs_root
def test_a_semaphores_owner(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    before = posix.stat_semaphore(name)
    posix.set_semaphore_owner(name, NOBODY, NOBODY)
    after = posix.stat_semaphore(name)
    assert after._replace(change_time=0) == before._replace(uid=NOBODY, gid=NOBODY, change_time=0)


def test_a_semaphore_goes_on_without_its_name(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    posix.remove_semaphore(name)
    assert failure(lambda: posix.open_semaphore(name)) == ("sem_open", "ENOENT")
    posix.release_semaphore(semaphore)
    assert posix.semaphore_value(semaphore) == 3


def test_a_closed_semaphore_is_an_error_and_no_crash(posix: PosixCalls, semaphore: Semaphore) -> None:
    posix.close_semaphore(semaphore)
    for call in (
        lambda: posix.try_semaphore(semaphore),
        lambda: posix.release_semaphore(semaphore),
        lambda: posix.wait_semaphore(semaphore, 0),
        lambda: posix.semaphore_value(semaphore),
        lambda: posix.close_semaphore(semaphore),
    ):
        with pytest.raises(AttributeError):
            call()


def test_sem_close_einval(posix: PosixCalls, name: str) -> None:
    assert failure(lambda: posix.close_semaphore(Semaphore(name, PAGE))) == ("sem_close", "EINVAL")


# sem_post, sem_trywait, sem_clockwait


def test_tokens_are_taken_while_there_are_any(posix: PosixCalls, semaphore: Semaphore) -> None:
    assert [posix.try_semaphore(semaphore) for _ in range(3)] == [True, True, False]
    posix.release_semaphore(semaphore)
    assert posix.try_semaphore(semaphore)


@pytest.mark.parametrize("value", [posix_calls.SEM_VALUE_MAX - 1, posix_calls.SEM_VALUE_MAX])
def test_a_full_semaphore_stays_full(posix: PosixCalls, name: str, value: int) -> None:
    semaphore = posix.create_semaphore(name, 0o600, value)
    posix.release_semaphore(semaphore)
    assert posix.semaphore_value(semaphore) == posix_calls.SEM_VALUE_MAX
    posix.close_semaphore(semaphore)


def test_a_wait_takes_a_token_that_is_there(posix: PosixCalls, semaphore: Semaphore) -> None:
    assert posix.wait_semaphore(semaphore, PATIENCE)
    assert posix.semaphore_value(semaphore) == 1


@pytest.fixture
def empty(posix: PosixCalls, name: str) -> Iterator[Semaphore]:
    """A semaphore without tokens."""
    semaphore = posix.create_semaphore(name, 0o600, 0)
    yield semaphore
    posix.close_semaphore(semaphore)


@pytest.mark.parametrize("timeout", [0, 0.001, 0.2])
def test_a_wait_ends_with_its_timeout(posix: PosixCalls, empty: Semaphore, timeout: float) -> None:
    start = time.monotonic()
    assert not posix.wait_semaphore(empty, timeout)
    assert timeout <= time.monotonic() - start < PATIENCE / 2


@pytest.mark.parametrize("verb", ["release_semaphore", "wait_semaphore"])
def test_an_overwritten_semaphore_is_einval(posix: PosixCalls, empty: Semaphore, name: str, verb: str) -> None:
    """With a word that ends nobody; those that would, tests/fuzz/test_scribbler.py has for processes of its own."""
    with open(posix_calls.semaphore_path(name), "r+b") as file:
        file.seek(8)
        file.write(bytes(1))
    arguments = () if verb == "release_semaphore" else (0.001,)
    with pytest.raises(CallFailed) as caught:
        getattr(posix, verb)(empty, *arguments)
    assert caught.value.errno == errno.EINVAL


def has_waiter(name: str) -> bool:
    """glibc counts its sleepers in the second half of the semaphore's first eight bytes."""
    return Path(posix_calls.semaphore_path(name)).read_bytes()[4:8] != bytes(4)


def test_a_waiter_is_woken_by_a_token(posix: PosixCalls, empty: Semaphore, name: str) -> None:
    with in_thread(lambda: posix.wait_semaphore(empty, PATIENCE)) as woken:
        wait_until(lambda: has_waiter(name), "a waiter")
        posix.release_semaphore(empty)
        assert woken()
    assert posix.semaphore_value(empty) == 0


@contextmanager
def disturbed(name: str, handler: Callable[..., object]) -> Iterator[None]:
    """`handler` hears a signal as soon as somebody waits for a token, and again until the block is over."""
    before = signal.signal(signal.SIGUSR1, handler)
    me, over = threading.get_ident(), threading.Event()

    def disturb() -> None:
        wait_until(lambda: has_waiter(name), "a waiter")
        while not over.wait(0.01):
            signal.pthread_kill(me, signal.SIGUSR1)

    with in_thread(disturb):
        try:
            yield
        finally:
            over.set()
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_ends_a_wait_without_a_token(empty: Semaphore, name: str) -> None:
    heard = Recorder()
    with disturbed(name, ignore):
        assert not PosixCalls(heard).wait_semaphore(empty, PATIENCE)
    assert [call.errno for call in heard.calls] == [errno.EINTR]


class Stop(Exception):
    """What the handler raises."""


def test_a_wait_that_a_handler_ends_is_reported(empty: Semaphore, name: str) -> None:
    heard = Recorder()
    stopped: list[None] = []

    def stop(*_: object) -> None:
        if not stopped:  # the next signal may come before the first is caught
            stopped.append(None)
            raise Stop

    with disturbed(name, stop), pytest.raises(Stop):
        PosixCalls(heard).wait_semaphore(empty, PATIENCE)
    assert [(call.name, call.result, call.errno) for call in heard.calls] == [("sem_clockwait", -1, errno.EINTR)]


# The clock


def test_a_wait_goes_by_the_clock_that_nobody_can_set(empty: Semaphore) -> None:
    heard = Recorder()
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert not PosixCalls(heard).wait_semaphore(empty, 0.1)
    end = time.clock_gettime(time.CLOCK_MONOTONIC)
    ((name, (address, clock, until), result, number),) = heard.calls
    assert (name, address, clock) == ("sem_clockwait", empty.address, time.CLOCK_MONOTONIC)
    assert (result, number) == (-1, errno.ETIMEDOUT)
    assert start + 0.1 <= until <= end


SLEEP = """
import sys
from common.ipc.posix_calls import PosixCalls
posix = PosixCalls()
posix.wait_semaphore(posix.open_semaphore(sys.argv[1]), 0.05)
"""


def test_the_kernel_is_not_asked_to_wait_by_the_time_of_day(empty: Semaphore, name: str) -> None:
    if not shutil.which("strace"):
        pytest.skip("what the kernel is asked shows strace: install it")
    words = ["strace", "-e", "trace=futex", sys.executable, "-c", SLEEP, name]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    waits = [line for line in done.stderr.splitlines() if "ETIMEDOUT" in line]
    assert waits and not [line for line in waits if "CLOCK_REALTIME" in line]


OLD_LIBC = """
import ctypes, sys, time
class Old(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "sem_clockwait":
            raise AttributeError(name)
        return super().__getattr__(name)
ctypes.CDLL = Old
from common.channel.listener import Listener
from common.ipc.posix_calls import PosixCalls
heard = Listener()
posix = PosixCalls(heard)
semaphore = posix.open_semaphore(sys.argv[1])
calls, start = [], time.time()
heard.call = calls.append
print(posix.wait_semaphore(semaphore, 0.1))
end = time.time()
posix.release_semaphore(semaphore)
print(posix.wait_semaphore(semaphore, 60))
first, _, second = calls
print(first.name, first.errno, second.errno, start + 0.1 <= first.arguments[1] <= end)
"""


def test_an_old_libc_waits_by_the_time_of_day(empty: Semaphore, name: str) -> None:
    said = ["False", "True", "sem_timedwait", str(errno.ETIMEDOUT), "0", "True"]
    assert run_python(OLD_LIBC, name).split() == said


# The locks


def test_an_exclusive_lock_excludes_everybody_else(posix: PosixCalls, fd: int, name: str) -> None:
    other = posix.open_segment(name)
    assert posix.try_lock(fd, 7, exclusive=True)
    assert posix.try_lock(fd, 7, exclusive=True), "ours already"
    assert not posix.try_lock(other, 7, exclusive=True)
    assert not posix.try_lock(other, 7, exclusive=False)
    assert posix.try_lock(other, 6, exclusive=True) and posix.try_lock(other, 8, exclusive=True)
    posix.unlock(fd, 7)
    assert posix.try_lock(other, 7, exclusive=True)
    posix.close_segment(other)


def test_a_shared_lock_excludes_only_an_exclusive_one(posix: PosixCalls, fd: int, name: str) -> None:
    other = posix.open_segment(name, readonly=True)
    assert posix.try_lock(fd, 7, exclusive=False)
    assert posix.try_lock(other, 7, exclusive=False), "whoever may only read may share"
    assert not posix.try_lock(fd, 7, exclusive=True)
    posix.unlock(other, 7)
    assert posix.try_lock(fd, 7, exclusive=True), "ours changes kind"
    assert not posix.try_lock(other, 7, exclusive=False)
    posix.close_segment(other)


@pytest.mark.parametrize(
    ("held", "exclusive", "refused"),
    [
        *((None, True, False), (None, False, False)),
        *((True, True, True), (True, False, True)),
        *((False, True, True), (False, False, False)),
    ],
)
def test_whether_somebody_else_has_a_lock(
    posix: PosixCalls, fd: int, name: str, held: bool | None, exclusive: bool, refused: bool
) -> None:
    onlooker = posix.open_segment(name, readonly=True)
    if held is not None:
        assert posix.try_lock(fd, 7, exclusive=held)
    assert posix.is_locked(onlooker, 7, exclusive=exclusive) is refused
    assert not posix.is_locked(onlooker, 6, exclusive=exclusive)
    assert not posix.is_locked(fd, 7, exclusive=exclusive), "our own does not count"
    posix.close_segment(onlooker)


def test_an_exclusive_lock_takes_the_right_to_write(posix: PosixCalls, fd: int, name: str) -> None:
    readonly = posix.open_segment(name, readonly=True)
    assert failure(lambda: posix.try_lock(readonly, 7, exclusive=True)) == ("fcntl", "EBADF")
    posix.close_segment(readonly)


def test_a_lock_lives_as_long_as_the_last_descriptor_and_mapping(posix: PosixCalls, fd: int, name: str) -> None:
    onlooker = posix.open_segment(name, readonly=True)
    assert posix.try_lock(fd, 7, exclusive=True)
    mapping, copy = posix.map_segment(fd, PAGE), os.dup(fd)
    posix.close_segment(fd)
    assert posix.is_locked(onlooker, 7, exclusive=False)
    os.close(copy)
    assert posix.is_locked(onlooker, 7, exclusive=False)
    posix.unmap_segment(mapping)
    assert not posix.is_locked(onlooker, 7, exclusive=True)
    posix.close_segment(onlooker)


HOLD = """
import sys
from common.ipc.posix_calls import PosixCalls
posix = PosixCalls()
fd = posix.open_segment(sys.argv[1])
mapping = posix.map_segment(fd, 4096)
print(posix.try_lock(fd, 7, exclusive=sys.argv[2] == "exclusive"), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["exclusive", "shared"])
def test_the_kernel_drops_the_lock_of_a_killed_process(posix: PosixCalls, fd: int, name: str, kind: str) -> None:
    with python(HOLD, name, kind) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        assert posix.is_locked(fd, 7, exclusive=True)
        assert not posix.try_lock(fd, 7, exclusive=True)
        holder.kill()
    assert not posix.is_locked(fd, 7, exclusive=True)
    assert posix.try_lock(fd, 7, exclusive=True)


def test_nobody_gives_back_the_token_of_a_killed_process(posix: PosixCalls, semaphore: Semaphore, name: str) -> None:
    take = "from common.ipc.posix_calls import PosixCalls as P\nimport os, sys\np = P()\n"
    run_python(take + "p.try_semaphore(p.open_semaphore(sys.argv[1])); os.kill(os.getpid(), 9)", name)
    assert posix.semaphore_value(semaphore) == 1


# What the listener hears


def test_every_call_on_an_object_is_reported_with_its_arguments(name: str) -> None:
    heard = Recorder()
    posix = PosixCalls(heard)
    fd = posix.create_segment(name, 0o600)
    posix.set_size(fd, PAGE)
    posix.reserve(fd, PAGE)
    posix.set_mode(fd, 0o640)
    posix.set_owner(fd, gid=os.getegid())
    stat = posix.stat_segment(fd)
    mapping = posix.map_segment(fd, PAGE)
    posix.unmap_segment(mapping)
    readonly = posix.open_segment(name, readonly=True)
    again = posix.map_segment(readonly, PAGE, readonly=True)
    posix.unmap_segment(again)
    posix.close_segment(readonly)
    posix.remove_segment(name)
    posix.close_segment(fd)
    assert heard.calls == [
        Call("shm_open", (name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), fd, 0),
        Call("ftruncate", (fd, PAGE), 0, 0),
        Call("posix_fallocate", (fd, 0, PAGE), 0, 0),
        Call("fchmod", (fd, 0o640), 0, 0),
        Call("fchown", (fd, -1, os.getegid()), 0, 0),
        Call("fstat", (fd, stat), 0, 0),
        Call("mmap", (None, PAGE, 3, 1, fd, 0), mapping.address, 0),
        Call("munmap", (mapping.address, PAGE), 0, 0),
        Call("shm_open", (name, os.O_RDONLY, 0), readonly, 0),
        Call("mmap", (None, PAGE, 1, 1, readonly, 0), again.address, 0),
        Call("munmap", (again.address, PAGE), 0, 0),
        Call("close", (readonly,), 0, 0),
        Call("shm_unlink", (name,), 0, 0),
        Call("close", (fd,), 0, 0),
    ]


def test_every_call_on_a_semaphore_is_reported_with_its_arguments(name: str) -> None:
    heard = Recorder()
    posix = PosixCalls(heard)
    semaphore = posix.create_semaphore(name, 0o640, 1)
    address, path, seen = semaphore.address, f"/dev/shm/sem.{name[1:]}", semaphore.seen
    posix.release_semaphore(semaphore)
    assert [posix.try_semaphore(semaphore) for _ in range(3)] == [True, True, False]
    assert posix.semaphore_value(semaphore) == 0
    stat = posix.stat_semaphore(name)
    posix.set_semaphore_owner(name, os.geteuid())
    after = PosixCalls().stat_semaphore(name)
    posix.close_semaphore(posix.open_semaphore(name))
    posix.remove_semaphore(name)
    PosixCalls().close_semaphore(semaphore)
    assert heard.calls == [
        Call("sem_open", (name, os.O_CREAT | os.O_EXCL, 0o640, 1), address, 0),
        Call("chmod", (path, 0o640), 0, 0),
        Call("lstat", (path, seen), 0, 0),
        Call("sem_post", (address,), 0, 0),
        Call("sem_trywait", (address,), 0, 0),
        Call("sem_trywait", (address,), 0, 0),
        Call("sem_trywait", (address,), -1, errno.EAGAIN),
        Call("sem_getvalue", (address, 0), 0, 0),
        Call("lstat", (path, stat), 0, 0),
        Call("lchown", (path, os.geteuid(), -1), 0, 0),
        Call("sem_open", (name, 0), address, 0),
        Call("lstat", (path, after), 0, 0),
        Call("sem_close", (address,), 0, 0),
        Call("sem_unlink", (name,), 0, 0),
    ]


def test_a_full_semaphore_is_reported_with_its_errno(name: str) -> None:
    heard = Recorder()
    posix = PosixCalls(heard)
    semaphore = posix.create_semaphore(name, 0o600, posix_calls.SEM_VALUE_MAX)
    posix.release_semaphore(semaphore)
    posix.close_semaphore(semaphore)
    assert Call("sem_post", (semaphore_address(heard),), -1, errno.EOVERFLOW) in heard.calls


def semaphore_address(heard: Recorder) -> int:
    return next(call.result for call in heard.calls if call.name == "sem_open")


def test_every_call_on_a_lock_is_reported_with_its_arguments(posix: PosixCalls, fd: int, name: str) -> None:
    heard = Recorder()
    listened = PosixCalls(heard)
    other = posix.open_segment(name)
    assert listened.try_lock(fd, 7, exclusive=True)
    assert not listened.try_lock(other, 7, exclusive=False)
    assert listened.is_locked(other, 7, exclusive=False)
    listened.unlock(fd, 7)
    assert not listened.is_locked(other, 7, exclusive=False)
    posix.close_segment(other)
    assert heard.calls == [
        Call("fcntl", (fd, fcntl.F_OFD_SETLK, Flock(fcntl.F_WRLCK, 0, 7, 1, 0)), 0, 0),
        Call("fcntl", (other, fcntl.F_OFD_SETLK, Flock(fcntl.F_RDLCK, 0, 7, 1, 0)), -1, errno.EAGAIN),
        Call("fcntl", (other, fcntl.F_OFD_GETLK, Flock(fcntl.F_WRLCK, 0, 7, 1, -1)), 0, 0),
        Call("fcntl", (fd, fcntl.F_OFD_SETLK, Flock(fcntl.F_UNLCK, 0, 7, 1, 0)), 0, 0),
        Call("fcntl", (other, fcntl.F_OFD_GETLK, Flock(fcntl.F_UNLCK, 0, 7, 1, 0)), 0, 0),
    ]


def test_failed_calls_are_reported_too(name: str) -> None:
    heard = Recorder()
    posix = PosixCalls(heard)
    for call in (
        lambda: posix.open_segment(name),
        lambda: posix.stat_segment(NO_FD),
        lambda: posix.map_segment(NO_FD, PAGE),
        lambda: posix.open_semaphore(name),
        lambda: posix.stat_semaphore(name),
        lambda: posix.try_lock(NO_FD, 7, exclusive=True),
    ):
        failure(call)
    assert heard.calls == [
        Call("shm_open", (name, os.O_RDWR, 0), -1, errno.ENOENT),
        Call("fstat", (NO_FD, None), -1, errno.EBADF),
        Call("mmap", (None, PAGE, 3, 1, NO_FD, 0), -1, errno.EBADF),
        Call("sem_open", (name, 0), -1, errno.ENOENT),
        Call("lstat", (f"/dev/shm/sem.{name[1:]}", None), -1, errno.ENOENT),
        Call("fcntl", (NO_FD, fcntl.F_OFD_SETLK, Flock(fcntl.F_WRLCK, 0, 7, 1, 0)), -1, errno.EBADF),
    ]


# The package that may not be there


@pytest.mark.parametrize("family", ["sysv", "posix"])
def test_without_its_library_there_is_one_line_that_says_what_to_do(family: str) -> None:
    """And to which Python, which another one may stand in for: where that behind .venv cannot be reached."""
    code = f"import sys; sys.modules['{family}_ipc'] = None; import common.ipc.{family}_calls"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{family}_ipc is not installed for this Python, {sys.executable}: run ./run_demo.sh")
    assert done.stderr.count("\n") == 1
