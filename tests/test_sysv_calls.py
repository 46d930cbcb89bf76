"""The System V calls one by one: what each does, what it reports to --trace, each errno it can be made to give.

Errnos that need the whole system's limits (ENOSPC) or a hostile kernel are provoked in tests/lab and tests/faults.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.channel.listener import Call
from common.errors import CallFailed, Gone
from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL, SHM_RDONLY, SHM_RND, SegmentStat, SemaphoreStat
from common.layout import PAGE
from tests.faults.tools import private_ipc, private_mounts
from tests.helpers import PATIENCE, ROOT, is_root, wait_until
from tests.in_process import (
    NOBODY,
    as_nobody,
    by_library,
    ignore,
    in_thread,
    memory_of,
    observing,
    place_of,
    remove_objects,
    run_python,
    sysv,
)

needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user: run the tests as root")

NO_ID = 2**31 - 1


@pytest.fixture
def key(key_path: Path) -> Iterator[int]:
    """A key of our own, for a segment and for a semaphore; both are removed afterwards."""
    yield place_of(key_path).segment_key
    place = place_of(key_path)
    remove_objects(place._replace(semaphore_keys=(place.segment_key, *place.semaphore_keys[1:])))


@pytest.fixture
def shmid(key: int) -> int:
    """A segment of two pages, mode 0640."""
    return sysv.create_segment(key, 2 * PAGE, 0o640)


@pytest.fixture
def semaphore(key: int) -> Any:
    """A semaphore with two tokens, mode 0640."""
    return sysv.create_semaphore(key, 0o640, 2)


def failure(call: Callable[[], object]) -> tuple[str, str]:
    """The name of the call that fails and its errno's."""
    with pytest.raises(CallFailed) as error:
        call()
    return error.value.name, errno.errorcode[error.value.errno or 0]


# ftok


@pytest.mark.parametrize("project_id", [1, 6, 249, 255])
def test_a_key_is_made_of_id_device_and_inode(key_path: Path, project_id: int) -> None:
    status = key_path.stat()
    expected = project_id << 24 | (status.st_dev & 0xFF) << 16 | status.st_ino & 0xFFFF
    assert sysv.make_key(str(key_path), project_id) & 0xFFFFFFFF == expected


@pytest.mark.parametrize(("name", "name_of_errno"), [("nowhere", "ENOENT"), ("key0/x", "ENOTDIR")])
def test_ftok_fails_like_stat(tmp_path: Path, name: str, name_of_errno: str) -> None:
    (tmp_path / "key0").touch()
    assert failure(lambda: sysv.make_key(str(tmp_path / name), 1)) == ("ftok", name_of_errno)


# shmget


def test_a_new_segment_is_zero_and_as_it_was_asked_for(key: int) -> None:
    shmid = sysv.create_segment(key, PAGE + 1, 0o640)
    stat = sysv.stat_segment(shmid)
    assert (stat.size, stat.mode, stat.creator_pid, stat.attached) == (PAGE + 1, 0o640, os.getpid(), 0)
    segment = sysv.attach_segment(shmid)
    with memory_of(segment) as memory:
        assert bytes(memory) == bytes(PAGE + 1)
    sysv.detach_segment(segment)


def test_shmget_eexist(key: int, shmid: int) -> None:
    assert failure(lambda: sysv.create_segment(key, PAGE, 0o600)) == ("shmget", "EEXIST")


def beyond_shmmax() -> int:
    return int(Path("/proc/sys/kernel/shmmax").read_text()) + 1


@pytest.mark.parametrize("size", [lambda: 0, beyond_shmmax, lambda: 2**64 - 1, lambda: 2**64, lambda: 2**64 + PAGE])
def test_shmget_einval_for_a_size_that_no_segment_can_have(key: int, size: Callable[[], int]) -> None:
    assert failure(lambda: sysv.create_segment(key, size(), 0o600)) == ("shmget", "EINVAL")


def test_shmget_enomem(key: int) -> None:
    assert failure(lambda: sysv.create_segment(key, 2**50, 0o600)) == ("shmget", "ENOMEM")


@pytest.mark.parametrize("size", [0, 1, 2 * PAGE])
def test_a_segment_is_found_by_its_key(key: int, shmid: int, size: int) -> None:
    assert sysv.open_segment(key, size) == shmid


def test_shmget_einval_for_more_than_there_is(key: int, shmid: int) -> None:
    assert failure(lambda: sysv.open_segment(key, 2 * PAGE + 1)) == ("shmget", "EINVAL")


def test_shmget_enoent(key: int) -> None:
    assert failure(lambda: sysv.open_segment(key)) == ("shmget", "ENOENT")


@needs_root
def test_shmget_eacces(key: int, shmid: int) -> None:
    with as_nobody():
        assert failure(lambda: sysv.open_segment(key, 0, 0o600)) == ("shmget", "EACCES")
        assert sysv.open_segment(key) == shmid, "nothing is checked without a permission"


# shmat, shmdt


def test_attached_twice_it_is_the_same_memory(shmid: int) -> None:
    first, second = sysv.attach_segment(shmid), sysv.attach_segment(shmid)
    with memory_of(first) as one, memory_of(second) as other:
        one[5] = 77
        assert other[5] == 77
    assert first.address != second.address
    assert sysv.stat_segment(shmid).attached == 2
    sysv.detach_segment(first)
    sysv.detach_segment(second)
    assert sysv.stat_segment(shmid).attached == 0


def free_address(shmid: int) -> int:
    """Where the kernel attached it a moment ago, so there is room."""
    segment = sysv.attach_segment(shmid)
    address: int = segment.address
    sysv.detach_segment(segment)
    return address


def test_shm_rnd_rounds_the_address_down_to_a_page(shmid: int) -> None:
    address = free_address(shmid)
    segment = sysv.attach_segment(shmid, address + 123, SHM_RND)
    assert segment.address == address
    sysv.detach_segment(segment)


def test_shmat_einval_for_an_address_inside_a_page(shmid: int) -> None:
    assert failure(lambda: sysv.attach_segment(shmid, free_address(shmid) + 123)) == ("shmat", "EINVAL")


def test_shmat_einval_for_an_address_in_use(shmid: int) -> None:
    segment = sysv.attach_segment(shmid)
    assert failure(lambda: sysv.attach_segment(shmid, segment.address)) == ("shmat", "EINVAL")
    sysv.detach_segment(segment)


def test_shmat_einval_for_no_segment() -> None:
    assert failure(lambda: sysv.attach_segment(NO_ID)) == ("shmat", "EINVAL")


@needs_root
@pytest.mark.parametrize(("mode", "flags", "allowed"), [(0o600, 0, False), (0o644, 0, False), (0o644, 1, True)])
def test_shmat_eacces(key: int, mode: int, flags: int, allowed: bool) -> None:
    shmid = sysv.create_segment(key, PAGE, mode)
    flags = SHM_RDONLY if flags else 0
    with as_nobody():
        if allowed:
            sysv.detach_segment(sysv.attach_segment(shmid, None, flags))
        else:
            assert failure(lambda: sysv.attach_segment(shmid, None, flags)) == ("shmat", "EACCES")


def test_shmat_enomem(key: int) -> None:
    shmid = sysv.create_segment(key, 2**30, 0o600)  # takes no memory as long as nobody writes into it
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, limits[1]))
    try:
        assert failure(lambda: sysv.attach_segment(shmid)) == ("shmat", "ENOMEM")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_shmdt_einval(shmid: int) -> None:
    segment = sysv.attach_segment(shmid)
    sysv.detach_segment(segment)
    assert failure(lambda: sysv.detach_segment(segment)) == ("shmdt", "EINVAL")


def test_the_size_of_a_segment_that_cannot_be_asked_is_an_error(shmid: int) -> None:
    segment = sysv.attach_segment(shmid)
    sysv.remove_segment(shmid)
    sysv.detach_segment(segment)
    assert failure(lambda: memory_of(segment)) == ("shmctl", "EINVAL")


# shmctl


def test_ipc_stat(key: int, shmid: int) -> None:
    segment = sysv.attach_segment(shmid)
    stat = sysv.stat_segment(shmid)
    sysv.detach_segment(segment)
    uid, gid, pid = os.geteuid(), os.getegid(), os.getpid()
    assert stat._replace(attach_time=0, change_time=0) == SegmentStat(
        key=key,
        uid=uid,
        gid=gid,
        cuid=uid,
        cgid=gid,
        mode=0o640,
        size=2 * PAGE,
        attached=1,
        creator_pid=pid,
        last_pid=pid,
        attach_time=0,
        detach_time=0,
        change_time=0,
    )
    assert stat.attach_time >= stat.change_time > 0
    assert sysv.stat_segment(shmid).detach_time >= stat.attach_time


@pytest.mark.parametrize("mode", [0o600, 0o666, 0o400, 0o777])
def test_ipc_set_changes_the_mode_and_nothing_else(shmid: int, mode: int) -> None:
    before = sysv.stat_segment(shmid)
    sysv.set_segment(shmid, mode=mode)
    after = sysv.stat_segment(shmid)
    assert after._replace(change_time=0) == before._replace(mode=mode, change_time=0)


@needs_root
@pytest.mark.parametrize("change", [{"uid": NOBODY}, {"gid": NOBODY}, {"uid": 1, "gid": 2}], ids=str)
def test_ipc_set_changes_the_owner_and_not_the_creator(shmid: int, change: dict[str, int]) -> None:
    before = sysv.stat_segment(shmid)
    sysv.set_segment(shmid, **change)
    assert sysv.stat_segment(shmid)._replace(change_time=0) == before._replace(change_time=0, **change)


def test_ipc_rmid_frees_the_key_at_once_and_the_memory_with_the_last_detach(key: int, shmid: int) -> None:
    segment = sysv.attach_segment(shmid)
    sysv.remove_segment(shmid)
    assert failure(lambda: sysv.open_segment(key)) == ("shmget", "ENOENT")
    assert sysv.stat_segment(shmid).marked
    with memory_of(segment) as memory:
        memory[0] = 1
    sysv.detach_segment(segment)
    assert failure(lambda: sysv.stat_segment(shmid)) == ("shmctl", "EINVAL")


def test_a_segment_in_use_is_not_marked(shmid: int) -> None:
    assert not sysv.stat_segment(shmid).marked


BY_SHMID = pytest.mark.parametrize(
    "call",
    [sysv.stat_segment, lambda shmid: sysv.set_segment(shmid, mode=0o600), sysv.remove_segment],
    ids=["IPC_STAT", "IPC_SET", "IPC_RMID"],
)


@BY_SHMID
def test_shmctl_of_a_removed_segment_is_gone(shmid: int, call: Callable[[int], object]) -> None:
    sysv.remove_segment(shmid)
    with pytest.raises(Gone) as gone:
        call(shmid)
    assert gone.value.errno in (errno.EINVAL, errno.EIDRM)


@needs_root
def test_shmctl_eacces_for_ipc_stat(shmid: int) -> None:
    with as_nobody():
        assert failure(lambda: sysv.stat_segment(shmid)) == ("shmctl", "EACCES")


@needs_root
@pytest.mark.parametrize(
    "call", [lambda shmid: sysv.set_segment(shmid, mode=0o666), sysv.remove_segment], ids=["IPC_SET", "IPC_RMID"]
)
def test_shmctl_eperm_for_another_user(key: int, call: Callable[[int], object]) -> None:
    shmid = sysv.create_segment(key, PAGE, 0o666)
    before = sysv.stat_segment(shmid)
    with as_nobody():
        assert failure(lambda: call(shmid)) == ("shmctl", "EPERM")
    assert sysv.stat_segment(shmid) == before


# semget


def test_a_new_semaphore_has_its_value_and_its_mode(key: int) -> None:
    semaphore = sysv.create_semaphore(key, 0o640, 7)
    assert (sysv.semaphore_value(semaphore), by_library(semaphore).mode) == (7, 0o640)


def test_semget_eexist(key: int, semaphore: Any) -> None:
    assert failure(lambda: sysv.create_semaphore(key, 0o600, 0)) == ("semget", "EEXIST")


def test_a_semaphore_is_found_by_its_key(key: int, semaphore: Any) -> None:
    assert sysv.open_semaphore(key, 0o600).id == semaphore.id


def test_semget_enoent(key: int) -> None:
    assert failure(lambda: sysv.open_semaphore(key)) == ("semget", "ENOENT")


@needs_root
def test_semget_eacces(key: int, semaphore: Any) -> None:
    with as_nobody():
        assert failure(lambda: sysv.open_semaphore(key, 0o600)) == ("semget", "EACCES")


# semop, semtimedop


def test_tokens_are_taken_while_there_are_any(semaphore: Any) -> None:
    assert [sysv.try_semaphore(semaphore) for _ in range(3)] == [True, True, False]
    sysv.release_semaphore(semaphore)
    assert sysv.try_semaphore(semaphore)


@pytest.mark.parametrize("value", [32766, 32767])
def test_a_full_semaphore_stays_full(semaphore: Any, value: int) -> None:
    sysv.set_semaphore_value(semaphore, value)
    sysv.release_semaphore(semaphore)
    assert sysv.semaphore_value(semaphore) == 32767


def test_a_wait_takes_a_token_that_is_there(semaphore: Any) -> None:
    assert sysv.wait_semaphore(semaphore, PATIENCE)
    assert sysv.semaphore_value(semaphore) == 1


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_wait_ends_with_its_timeout(semaphore: Any, timeout: float) -> None:
    sysv.set_semaphore_value(semaphore, 0)
    assert not sysv.wait_semaphore(semaphore, timeout)


def has_waiter(semaphore: Any) -> bool:
    return bool(by_library(semaphore).waiting_for_nonzero)


def test_a_waiter_is_woken_by_a_token(key: int, semaphore: Any) -> None:
    sysv.set_semaphore_value(semaphore, 0)
    with in_thread(lambda: sysv.wait_semaphore(semaphore, PATIENCE)) as woken:
        wait_until(lambda: has_waiter(semaphore), "a waiter")
        sysv.release_semaphore(sysv.open_semaphore(key))
        assert woken()
    assert sysv.semaphore_value(semaphore) == 0


def test_a_signal_ends_a_wait_without_a_token(semaphore: Any) -> None:
    sysv.set_semaphore_value(semaphore, 0)
    before = signal.signal(signal.SIGUSR1, ignore)
    me, over = threading.get_ident(), threading.Event()

    def disturb() -> None:
        wait_until(lambda: has_waiter(semaphore), "a waiter")
        while not over.wait(0.01):
            signal.pthread_kill(me, signal.SIGUSR1)

    with in_thread(disturb), observing() as calls:
        assert not sysv.wait_semaphore(semaphore, PATIENCE)
        over.set()
    signal.signal(signal.SIGUSR1, before)
    assert [call.errno for call in calls if call.name == "semtimedop"] == [errno.EINTR]


def test_a_waiter_on_a_removed_semaphore_wakes_with_eidrm(key: int, semaphore: Any) -> None:
    sysv.set_semaphore_value(semaphore, 0)
    with in_thread(lambda: sysv.wait_semaphore(semaphore, PATIENCE)) as waited:
        wait_until(lambda: has_waiter(semaphore), "a waiter")
        sysv.remove_semaphore(sysv.open_semaphore(key))
        with pytest.raises(Gone) as gone:
            waited()
    assert gone.value.errno == errno.EIDRM


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (sysv.try_semaphore, "semop"),
        (sysv.release_semaphore, "semop"),
        (lambda semaphore: sysv.wait_semaphore(semaphore, 0), "semtimedop"),
        (sysv.semaphore_value, "semctl"),
        (sysv.semaphore_last_pid, "semctl"),
        (sysv.stat_semaphore, "semctl"),
        (sysv.sleepers_for_tokens, "semctl"),
        (sysv.sleepers_for_zero, "semctl"),
        (lambda semaphore: sysv.set_semaphore_value(semaphore, 1), "semctl"),
        (lambda semaphore: sysv.set_semaphore(semaphore, mode=0o600), "semctl"),
        (sysv.remove_semaphore, "semctl"),
    ],
)
def test_a_removed_semaphore_is_gone(semaphore: Any, call: Callable[[Any], object], name: str) -> None:
    sysv.remove_semaphore(semaphore)
    with pytest.raises(Gone) as gone:
        call(semaphore)
    assert (gone.value.name, gone.value.errno) == (name, errno.EINVAL)


@needs_root
@pytest.mark.parametrize(
    ("call", "name_of_call", "name_of_errno"),
    [
        (sysv.try_semaphore, "semop", "EACCES"),
        (sysv.release_semaphore, "semop", "EACCES"),
        (lambda semaphore: sysv.wait_semaphore(semaphore, 0), "semtimedop", "EACCES"),
        (sysv.semaphore_value, "semctl", "EACCES"),
        (sysv.semaphore_last_pid, "semctl", "EACCES"),
        (sysv.stat_semaphore, "semctl", "EACCES"),
        (sysv.sleepers_for_tokens, "semctl", "EACCES"),
        (sysv.sleepers_for_zero, "semctl", "EACCES"),
        (lambda semaphore: sysv.set_semaphore_value(semaphore, 1), "semctl", "EACCES"),
    ],
)
def test_another_users_semaphore(
    semaphore: Any, call: Callable[[Any], object], name_of_call: str, name_of_errno: str
) -> None:
    with as_nobody():
        assert failure(lambda: call(semaphore)) == (name_of_call, name_of_errno)
    assert sysv.semaphore_value(semaphore) == 2


@needs_root
def test_semctl_eperm_for_another_user(key: int) -> None:
    semaphore = sysv.create_semaphore(key, 0o666, 2)
    with as_nobody():
        assert failure(lambda: sysv.remove_semaphore(semaphore)) == ("semctl", "EPERM")
        assert failure(lambda: sysv.set_semaphore(semaphore, mode=0o600)) == ("semctl", "EPERM")
    assert (sysv.semaphore_value(semaphore), by_library(semaphore).mode) == (2, 0o666)


UNDO = """
import os, sys
from tests.in_process import sysv
semaphore = sysv.open_semaphore(int(sys.argv[1]))
semaphore.undo = sys.argv[2] == "undo"
assert sysv.{take}
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("take", ["try_semaphore(semaphore)", "wait_semaphore(semaphore, 1)"])
@pytest.mark.parametrize(("undo", "left"), [("undo", 2), ("keep", 1)])
def test_the_kernel_undoes_what_a_killed_process_took(
    key: int, semaphore: Any, take: str, undo: str, left: int
) -> None:
    run_python(UNDO.format(take=take), key, undo)
    assert sysv.semaphore_value(semaphore) == left


# semctl


def test_the_last_pid_is_that_of_the_last_operation(semaphore: Any) -> None:
    sysv.try_semaphore(semaphore)
    assert sysv.semaphore_last_pid(semaphore) == os.getpid()


def test_ipc_set_of_a_semaphore(semaphore: Any) -> None:
    sysv.set_semaphore(semaphore, mode=0o600)
    found = by_library(semaphore)
    assert (found.mode, found.uid, found.gid) == (
        0o600,
        os.geteuid(),
        os.getegid(),
    )


@needs_root
def test_ipc_set_of_a_semaphores_owner(semaphore: Any) -> None:
    sysv.set_semaphore(semaphore, uid=NOBODY, gid=NOBODY)
    found = by_library(semaphore)
    assert (found.mode, found.uid, found.gid) == (0o640, NOBODY, NOBODY)


def test_ipc_stat_of_a_semaphore(key: int, semaphore: Any) -> None:
    stat = sysv.stat_semaphore(semaphore)
    uid, gid = os.geteuid(), os.getegid()
    assert stat._replace(change_time=0) == SemaphoreStat(
        key=key,
        uid=uid,
        gid=gid,
        cuid=uid,
        cgid=gid,
        mode=0o640,
        members=1,
        operation_time=0,
        change_time=0,
    )
    sysv.try_semaphore(semaphore)
    stat = sysv.stat_semaphore(semaphore)
    assert (stat.operation_time, stat.change_time > 0) == (by_library(semaphore).o_time, True)
    assert stat.operation_time > 0


def test_ipc_stat_counts_the_members_of_a_set(key: int) -> None:
    ctypes.CDLL(None).semget(ctypes.c_int(key), 3, IPC_CREAT | IPC_EXCL | 0o600)
    assert sysv.stat_semaphore(sysv.open_semaphore(key)).members == 3


@pytest.mark.parametrize(
    ("value", "sleep", "counts"),
    [
        (0, lambda semaphore: sysv.wait_semaphore(semaphore, PATIENCE), (1, 0)),
        (2, lambda semaphore: by_library(semaphore).Z(), (0, 1)),
    ],
    ids=["for a token", "for zero"],
)
def test_sleepers_are_counted(
    key: int, semaphore: Any, value: int, sleep: Callable[[Any], object], counts: tuple[int, int]
) -> None:
    def sleepers() -> tuple[int, int]:
        return sysv.sleepers_for_tokens(semaphore), sysv.sleepers_for_zero(semaphore)

    sysv.set_semaphore_value(semaphore, value)
    assert sleepers() == (0, 0)
    sleeping = sysv.open_semaphore(key)
    with in_thread(lambda: sleep(sleeping)) as woken:
        wait_until(lambda: sleepers() == counts, "a sleeper")
        sysv.set_semaphore_value(semaphore, 0 if value else 1)
        woken()
    assert sleepers() == (0, 0)


def check_segment(shmid: int) -> None:
    sysv.check_segment_removable(shmid, sysv.stat_segment(shmid))


def check_semaphore(semaphore: Any) -> None:
    sysv.check_semaphore_removable(semaphore, sysv.stat_semaphore(semaphore))


OWNERS = [
    (None, None),
    pytest.param(1, 2, marks=needs_root),
    # As somebody reads who has no number in our user namespace; here 65534 is somebody.
    pytest.param(NOBODY, None, marks=needs_root),
    pytest.param(None, NOBODY, marks=needs_root),
]


@pytest.mark.parametrize(("uid", "gid"), OWNERS)
def test_asking_for_the_right_to_remove_changes_nothing(
    key: int, shmid: int, semaphore: Any, uid: int | None, gid: int | None
) -> None:
    sysv.set_segment(shmid, mode=0o604, uid=uid, gid=gid)
    sysv.set_semaphore(semaphore, mode=0o604, uid=uid, gid=gid)
    before = sysv.stat_segment(shmid), sysv.stat_semaphore(semaphore)
    check_segment(shmid)
    check_semaphore(semaphore)
    after = sysv.stat_segment(shmid), sysv.stat_semaphore(semaphore)
    assert [stat._replace(change_time=0) for stat in after] == [stat._replace(change_time=0) for stat in before]


@needs_root
def test_the_right_to_remove_is_refused_with_eperm(key: int) -> None:
    shmid, semaphore = sysv.create_segment(key, PAGE, 0o666), sysv.create_semaphore(key, 0o666, 1)
    with as_nobody():
        assert failure(lambda: check_segment(shmid)) == ("shmctl", "EPERM")
        assert failure(lambda: check_semaphore(semaphore)) == ("semctl", "EPERM")


@pytest.mark.parametrize("owner", [os.geteuid(), NOBODY])
def test_the_right_to_remove_what_is_no_more(shmid: int, semaphore: Any, owner: int) -> None:
    """EINVAL has two meanings here: an owner who is no one, which is an answer, and an id that is no one's."""
    stats = sysv.stat_segment(shmid)._replace(uid=owner), sysv.stat_semaphore(semaphore)._replace(uid=owner)
    sysv.remove_segment(shmid)
    sysv.remove_semaphore(semaphore)
    for check in (
        lambda: sysv.check_segment_removable(shmid, stats[0]),
        lambda: sysv.check_semaphore_removable(semaphore, stats[1]),
    ):
        with pytest.raises(Gone):
            check()


def test_a_removed_semaphore_frees_its_key(key: int, semaphore: Any) -> None:
    sysv.remove_semaphore(semaphore)
    assert failure(lambda: sysv.open_semaphore(key)) == ("semget", "ENOENT")


# What --trace hears


def test_every_call_on_a_segment_is_reported_with_its_arguments(key: int) -> None:
    with observing() as calls:
        shmid = sysv.create_segment(key, PAGE, 0o640)
        sysv.open_segment(key, 1, 0o600)
        segment = sysv.attach_segment(shmid, None, SHM_RDONLY)
        address = segment.address
        sysv.detach_segment(segment)
        sysv.remove_segment(shmid)
    assert calls == [
        Call("shmget", (key, PAGE, 0o1000 | 0o2000 | 0o640), shmid, 0),
        Call("shmget", (key, 1, 0o600), shmid, 0),
        Call("shmat", (shmid, None, 0o10000), address, 0),
        Call("shmdt", (address,), 0, 0),
        Call("shmctl", (shmid, 0, None), 0, 0),
    ]


def test_the_size_of_a_segment_is_asked_with_ipc_stat(shmid: int) -> None:
    segment = sysv.attach_segment(shmid)
    with observing() as calls:
        memory_of(segment).release()
    sysv.detach_segment(segment)
    assert [(call.name, call.arguments[:2], call.arguments[2].size) for call in calls] == [
        ("shmctl", (shmid, 2), 2 * PAGE)
    ]


def test_ipc_set_is_reported_as_a_look_and_a_change(shmid: int) -> None:
    modes: list[int] = []  # as the buffer was at the time of the call
    with observing(lambda call: modes.append(call.arguments[-1].perm.mode)) as calls:
        sysv.set_segment(shmid, mode=0o600)
    assert [(call.name, call.arguments[:-1]) for call in calls] == [("shmctl", (shmid, 2)), ("shmctl", (shmid, 1))]
    assert modes == [0o640, 0o600]


def test_ipc_set_of_a_semaphore_is_reported_as_a_look_and_a_change(semaphore: Any) -> None:
    modes: list[int] = []
    with observing(lambda call: modes.append(call.arguments[-1].perm.mode)) as calls:
        sysv.set_semaphore(semaphore, mode=0o600)
    assert [(call.name, call.arguments[:-1]) for call in calls] == [
        ("semctl", (semaphore.id, 0, "IPC_STAT")),
        ("semctl", (semaphore.id, 0, "IPC_SET")),
    ]
    assert modes == [0o640, 0o600]


def test_every_call_on_a_semaphore_is_reported_with_its_arguments(key: int) -> None:
    with observing() as calls:
        semaphore = sysv.create_semaphore(key, 0o640, 1)
        sysv.try_semaphore(semaphore)
        sysv.try_semaphore(semaphore)
        semaphore.undo = True
        sysv.release_semaphore(semaphore)
        sysv.wait_semaphore(semaphore, 2.5)
        sysv.set_semaphore_value(semaphore, 32767)
        semaphore.undo = False
        sysv.release_semaphore(semaphore)
        sysv.semaphore_value(semaphore)
        sysv.semaphore_last_pid(semaphore)
        sysv.sleepers_for_tokens(semaphore)
        sysv.sleepers_for_zero(semaphore)
        sysv.remove_semaphore(semaphore)
    semid = semaphore.id
    assert calls == [
        Call("semget", (key, 1, 0o1000 | 0o2000 | 0o640), semid, 0),
        Call("semctl", (semid, 0, "SETVAL", 1), 0, 0),
        Call("semop", (semid, -1, 0o4000), 0, 0),
        Call("semop", (semid, -1, 0o4000), -1, errno.EAGAIN),
        Call("semop", (semid, 1, 0o4000 | 0x1000), 0, 0),
        Call("semtimedop", (semid, -1, 0x1000, 2.5), 0, 0),
        Call("semctl", (semid, 0, "SETVAL", 32767), 0, 0),
        Call("semop", (semid, 1, 0o4000), -1, errno.ERANGE),
        Call("semctl", (semid, 0, "GETVAL"), 32767, 0),
        Call("semctl", (semid, 0, "GETPID"), os.getpid(), 0),
        Call("semctl", (semid, 0, "GETNCNT"), 0, 0),
        Call("semctl", (semid, 0, "GETZCNT"), 0, 0),
        Call("semctl", (semid, 0, "IPC_RMID"), 0, 0),
    ]


def test_failed_calls_are_reported_too(key: int, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with observing() as calls:
        for call in (
            lambda: sysv.make_key(nowhere, 1),
            lambda: sysv.open_segment(key),
            lambda: sysv.attach_segment(NO_ID),
            lambda: sysv.stat_segment(NO_ID),
            lambda: sysv.open_semaphore(key),
        ):
            failure(call)
    assert calls == [
        Call("ftok", (nowhere, 1), -1, errno.ENOENT),
        Call("shmget", (key, 0, 0), -1, errno.ENOENT),
        Call("shmat", (NO_ID, None, 0), -1, errno.EINVAL),
        Call("shmctl", (NO_ID, 2, None), -1, errno.EINVAL),
        Call("semget", (key, 0, 0), -1, errno.ENOENT),
    ]


# Settings of the kernel


@pytest.mark.parametrize(("setting", "said"), [("0", "False"), ("1", "True")])
def test_whether_segments_go_with_their_last_detach(setting: str, said: str) -> None:
    command = 'echo "$1" > /proc/sys/kernel/shm_rmid_forced; shift; exec "$@"'
    ask = [sys.executable, "-c", "from common.ipc import sysv_calls; print(sysv_calls.forced_removal())"]
    words = [*private_ipc(), "sh", "-c", command, "sh", setting, *ask]
    assert subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout == f"{said}\n"


def test_a_setting_that_cannot_be_read_is_off() -> None:
    ask = [sys.executable, "-c", "from common.ipc import sysv_calls; print(sysv_calls.forced_removal())"]
    words = [*private_mounts(), "sh", "-c", 'umount -l /proc; exec "$@"', "sh", *ask]
    assert subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout == "False\n"
