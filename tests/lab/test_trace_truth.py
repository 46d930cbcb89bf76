"""--trace is the truth: strace, watching the same run from outside, saw exactly these calls in this order.

Every System V call counts (strace's %ipc), so a call that we make and do not show fails the test as well as one
that we show with other arguments or another result.
"""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import sysv_ipc

from tests.helpers import Finished, Pair, wait_until
from tests.lab.calls import Call, as_shown, calls_in
from tests.lab.shell import ended, start, strace

FILE_SIZE = 700_001
OWNER = f"{os.getuid()}:{os.getgid()}"


class Run(NamedTuple):
    """One program of a scenario and how it must end."""

    program: str
    arguments: tuple[str, ...]
    code: int = 0


def _writer(*arguments: str, code: int = 0) -> Run:
    return Run("writer", arguments, code)


def _reader(*arguments: str, code: int = 0) -> Run:
    return Run("reader", arguments, code)


_REMOVE = _writer("--remove")
SCENARIOS = {
    "a message": (_writer("hello"), _reader()),
    "two messages and an address": (
        _writer("--attach-at", "0x7e0000000123", "--mode", "0644", "one"),
        _writer("two"),
        _reader("--count", "1"),
        _reader(),
    ),
    "a file": (_writer("--slot-size", "64K", "--slots", "16", "--file", "payload"), _reader("--output", "copy")),
    "lines": (_writer("--lines"), _reader()),
    "a full ring": (_writer("--slots", "1", "--timeout", "0.2", "--file", "payload", code=124), _REMOVE),
    "nothing there": (_reader("--timeout", "0", code=124), _reader("--status", code=1), _REMOVE),
    "nothing to come": (_writer("hello"), _reader("--follow", "--timeout", "0.2", code=124)),
    "refused": (
        _writer("hello"),
        _writer("--exclusive", "x", code=1),
        _writer("--slots", "64", "x", code=1),
        _writer("--slots", "0", "x", code=1),
        _REMOVE,
    ),
    "impossible": (_writer("--slots", "0", "x", code=1), _writer("--attach-at", "0xfffffffffffff000", "x", code=1)),
    "looked at": (_writer("hello"), _reader("--status"), _reader("--status", "--json"), _REMOVE),
    "changed": (_writer("hello"), _writer("--chmod", "0600"), _writer("--chown", OWNER), _reader()),
    "kept": (_writer("hello"), _reader("--keep"), _REMOVE),
}


def _start(pair: Pair, run: Run, log: str, *options: str) -> subprocess.Popen[bytes]:
    watched = strace("-f", "-o", log, "-e", "trace=%ipc", *options)
    return start(pair.under(*watched), run.program, "--trace", *run.arguments)


def _check(pair: Pair, run: Run, done: Finished, log: str) -> list[Call]:
    assert done.code == run.code, done
    shown = calls_in(done.err)
    lines = (pair.directory / log).read_text().splitlines()
    happened = calls_in("\n".join(lines))
    assert len(happened) == sum("(" in line for line in lines), "a line of strace's was not understood"
    assert shown == [as_shown(*both) for both in zip(happened, shown, strict=False)] + happened[len(shown) :]
    return shown


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_trace_shows_is_what_happened(pair: Pair, scenario: str) -> None:
    (pair.directory / "payload").write_bytes(os.urandom(FILE_SIZE))
    for number, run in enumerate(SCENARIOS[scenario]):
        log = f"strace.{number}"
        done = ended(_start(pair, run, log), b"one\ntwo\nthree\n")
        assert _check(pair, run, done, log)
    pair.read("--timeout", "0")  # what a scenario leaves is read, so that nothing stays
    if pair.status():
        pair.write("--remove")


def test_what_trace_shows_when_ipcrm_left_semaphores(pair: Pair) -> None:
    pair.write("hello")
    status = pair.status()
    assert status
    sysv_ipc.remove_shared_memory(status["segment"]["id"])
    run = _writer("--remove")
    shown = _check(pair, run, ended(_start(pair, run, "log")), "log")
    assert [call.arguments.split(", ")[2] for call in shown if call.name == "semctl"].count("GETZCNT") == 5


# What the kernel may say instead of doing it; glibc's semop is the system call semtimedop.
REFUSALS = [
    ("shmget", "EACCES", "ENOSPC"),
    ("shmat", "EACCES", "EIDRM", "EINVAL", "ENOMEM", "EPERM"),
    ("shmctl", "EACCES", "EIDRM", "EINVAL", "EPERM"),
    ("shmdt", "EINVAL"),
    ("semget", "EACCES", "EEXIST", "ENOMEM", "ENOSPC"),
    ("semctl", "EACCES", "EIDRM", "EINVAL", "EPERM", "ERANGE"),
    ("semtimedop", "EACCES", "EIDRM", "EINVAL", "ENOMEM", "ENOSPC"),
]


@pytest.mark.parametrize(("call", "errno"), [(call, errno) for call, *errnos in REFUSALS for errno in errnos])
def test_what_the_kernel_refuses_is_shown_with_its_own_errno(pair: Pair, call: str, errno: str) -> None:
    injected = ("-e", f"inject={call}:error={errno}")
    for number, run in enumerate((_writer("hello"), _reader("--timeout", "0"))):
        log = f"strace.{number}"
        done = ended(_start(pair, run, log, *injected))
        _check(pair, run._replace(code=done.code), done, log)
        assert f"= -1 {errno} (" in done.err or call == "shmdt", done
        pair.write("--quiet", "hello")
    assert pair.read().code == 0


def test_the_call_that_a_signal_ends_is_shown_too(pair: Pair) -> None:
    """Ctrl-C while the writer sleeps in semtimedop: EINTR, and then what it takes to leave."""
    (pair.directory / "payload").write_bytes(os.urandom(FILE_SIZE))
    # -D: strace is then the child of our writer, and the process that we started is the writer itself.
    child = _start(pair, _writer("--slots", "1", "--file", "payload"), "log", "-D")
    wait_until(lambda: _asleep(pair), "the writer's sleep")
    os.kill(child.pid, signal.SIGINT)
    done = ended(child)
    assert done.code == 128 + signal.SIGINT, done
    wait_until(lambda: "shmdt(" in (pair.directory / "log").read_text(), "strace's last line")
    _check(pair, _writer(code=done.code), done, "log")
    assert pair.write("--remove").code == 0


def _asleep(pair: Pair) -> bool:
    """Whether a process sleeps until a slot is empty."""
    try:
        empty_slots = sysv_ipc.Semaphore(sysv_ipc.ftok(str(pair.key_path), 3, silence_warning=True))
    except sysv_ipc.ExistentialError:
        return False
    return bool(empty_slots.waiting_for_nonzero)


def test_the_truth_holds_while_both_sides_run(pair: Pair) -> None:
    """They wait for each other here, in semtimedop, and wake each other."""
    payload = os.urandom(3 * FILE_SIZE)
    (pair.directory / "payload").write_bytes(payload)
    reader, writer = _reader(), _writer("--slots", "2", "--slot-size", "64K", "--file", "payload")
    with ThreadPoolExecutor() as pool:  # both have more to say than a pipe holds
        received, sent = pool.map(ended, [_start(pair, reader, "reader"), _start(pair, writer, "writer")])
    assert received.out == payload
    calls = _check(pair, writer, sent, "writer") + _check(pair, reader, received, "reader")
    assert {call.name for call in calls} >= {"shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semctl"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("shmget(0x01020ab3, 4096, IPC_CREAT|0660) = 7", "9 shmget(0x1020ab3, 4096, IPC_CREAT|0660) = 7"),
        ("shmget(0x01020ab3, 0, 0) = -1 ENOENT (No)", "shmget(0x1020ab3, 0, 000) = -1 ENOENT (No such file)"),
        ("shmat(7, NULL, SHM_RDONLY) = 0x7f00", "shmat(7, NULL, SHM_RDONLY)              = 0x7f00"),
        ("semop(7, [{0, -1, IPC_NOWAIT}], 1) = 0",
         "semtimedop(7, [{sem_num=0, sem_op=-1, sem_flg=IPC_NOWAIT}], 1, NULL) = 0"),
        ("semtimedop(7, [{0, -1, 0}], 1, {0.1 s}) = -1 EAGAIN (x)",
         "semtimedop(7, [{sem_num=0, sem_op=-1, sem_flg=0}], 1, {tv_sec=0, tv_nsec=100000000}) = -1 EAGAIN (x)"),
        ("semctl(7, 0, SETVAL, 8) = 0", "semctl(7, 0, SETVAL, 0x8)          = 0"),
        ("semctl(7, 0, GETVAL) = 1", "semctl(7, 0, GETVAL, NULL)         = 1"),
        ("semctl(7, 0, IPC_SET, {uid=0, gid=1, mode=0660}) = 0",
         "semctl(7, 0, IPC_SET, {sem_perm={uid=0, gid=1, mode=0660}}) = 0"),
        ("shmctl(7, IPC_SET, {uid=0, gid=1, mode=0600, segsz=1, nattch=1}) = 0",
         "shmctl(7, IPC_SET, {shm_perm={uid=0, gid=1, mode=0600}}) = 0"),
        ("shmctl(7, IPC_STAT, {uid=0, gid=1, mode=0600, segsz=5, nattch=2}) = 0",
         "shmctl(7, IPC_STAT, {shm_perm={uid=0, gid=1, mode=0600, key=3, cuid=8, cgid=9}, shm_segsz=5, shm_cpid=1,"
         " shm_lpid=1, shm_nattch=2, shm_atime=1, shm_dtime=0, shm_ctime=1}) = 0"),
    ],
)  # fmt: skip
def test_two_notations_of_one_call_are_equal(ours: str, theirs: str) -> None:
    assert calls_in(ours) == calls_in(theirs) != []


@pytest.mark.parametrize(
    "other",
    [
        "shmget(0x01020ab4, 4096, IPC_CREAT|0660) = 7",
        "shmget(0x01020ab3, 4097, IPC_CREAT|0660) = 7",
        "shmget(0x01020ab3, 4096, IPC_CREAT|0600) = 7",
        "shmget(0x01020ab3, 4096, IPC_CREAT|IPC_EXCL|0660) = 7",
        "shmget(0x01020ab3, 4096, IPC_CREAT|0660) = 8",
        "shmget(0x01020ab3, 4096, IPC_CREAT|0660) = -1 EEXIST (File exists)",
        "semget(0x01020ab3, 4096, IPC_CREAT|0660) = 7",
    ],
)
def test_another_call_is_not(other: str) -> None:
    assert calls_in(other) != calls_in("shmget(0x01020ab3, 4096, IPC_CREAT|0660) = 7")
