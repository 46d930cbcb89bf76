"""--trace=all is the truth: strace, watching the same run from outside, saw exactly these calls in this order.

Every System V call counts (strace's %ipc), every system call that touches an object of POSIX (library.py), and the
doorway's flock, so a call that we make and do not show fails the test as well as one that we show with other arguments
or another result. --trace is the same of the calls on the shared memory, each once where it comes again and again.
"""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import sysv_ipc

from common.ipc.posix_calls import segment_path
from tests.e2e.watch import sleeps_on
from tests.families import both, families, only
from tests.helpers import Finished, Pair, wait_until
from tests.lab import calls, library
from tests.lab.calls import Call, calls_in
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
_ADDRESSES = ("two messages and an address", "impossible")  # which only shmat can be asked for
POSIX_SCENARIOS = {name: runs for name, runs in SCENARIOS.items() if name not in _ADDRESSES} | {
    "two messages": (_writer("--mode", "0644", "one"), _writer("two"), _reader("--count", "1"), _reader()),
    "verified": (_writer("--verify", "--file", "payload"), _reader("--output", "copy")),
}
VIEWS = {"sysv": calls, "posix": library}


def _start(pair: Pair, run: Run, log: str, *options: str, trace: str = "--trace=all") -> subprocess.Popen[bytes]:
    watched = strace("-f", "-o", log, "-e", "abbrev=none", "-e", f"trace={VIEWS[pair.ipc].WATCHED}", *options)
    return start(pair.under(*watched), run.program, trace, *run.arguments)


def _check(pair: Pair, run: Run, done: Finished, log: str, *, lab: bool = False) -> list[Call]:
    assert done.code == run.code, done
    view = VIEWS[pair.ipc]
    shown: list[Call] = view.calls_in(done.err)
    assert shown == view.calls_seen((pair.directory / log).read_text(), shown, lab=lab)
    return shown


@families("scenario", list(SCENARIOS), list(POSIX_SCENARIOS))
@pytest.mark.parametrize("trace", ["--trace=all", "--trace"])
def test_what_trace_shows_is_what_happened(pair: Pair, scenario: str, trace: str) -> None:
    (pair.directory / "payload").write_bytes(os.urandom(FILE_SIZE))
    for number, run in enumerate((SCENARIOS | POSIX_SCENARIOS)[scenario]):
        log = f"strace.{number}"
        done = ended(_start(pair, run, log, trace=trace), b"one\ntwo\nthree\n")
        assert _check(pair, run, done, log, lab=trace == "--trace")
    pair.read("--timeout", "0")  # what a scenario leaves is read, so that nothing stays
    if pair.status():
        pair.write("--remove")


@both
def test_what_trace_shows_when_only_semaphores_are_left(pair: Pair) -> None:
    pair.write("hello")
    status = pair.status()
    assert status
    if pair.ipc == "sysv":
        sysv_ipc.remove_shared_memory(status["segment"]["id"])
    else:
        Path(segment_path(status["segment"]["id"])).unlink()
    shown = _check(pair, _REMOVE, ended(_start(pair, _REMOVE, "log")), "log")
    told = [f"{call.name} {call.arguments}" for call in shown]
    assert sum("GETZCNT" in call or call.startswith("sem_unlink") for call in told) == 5


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
        if call == "semctl":  # without it no creation can be taken back, and nothing proves ours what it leaves
            pair.write("--remove")
        pair.write("--quiet", "hello")
    assert pair.read().code == 0


# The same for what the C library makes of its calls: which call is the first, where Python makes it as well. shm_unlink
# and sem_unlink say EACCES for an EPERM; a posix_fallocate that a signal cut short Python repeats by itself.
POSIX_REFUSALS = [
    ("openat", '"/dev/shm/shmpair-', "EACCES", "ELOOP", "EMFILE", "ENFILE"),
    ("openat", '"/dev/shm/sem.', "EACCES", "EMFILE", "ENFILE", "ENOSPC"),
    ("ftruncate", "(", "EFBIG", "EINVAL", "EPERM"),
    ("fallocate", "(", "EFBIG", "EINVAL", "ENOMEM", "ENOSPC"),
    ("fcntl", "F_OFD_SETLK", "EAGAIN", "EINVAL", "ENOLCK"),
    ("link", "(", "EEXIST", "ENOSPC"),
    ("fchmod", "(", "EPERM"),
    ("chmod", "(", "ENOENT", "EPERM"),
]


@only("posix", "the other family has REFUSALS")
@pytest.mark.parametrize(
    ("call", "where", "errno"), [(call, where, errno) for call, where, *errnos in POSIX_REFUSALS for errno in errnos]
)
def test_what_posix_refuses_is_shown_with_its_own_errno(pair: Pair, call: str, where: str, errno: str) -> None:
    run = _writer("hello")
    for log in ("warm", "good"):  # the first may still compile what it imports
        assert ended(_start(pair, run, log)).code == 0
        assert pair.read().code == 0
    made = [line for line in (pair.directory / "good").read_text().splitlines() if f" {call}(" in line]
    number = next(number for number, line in enumerate(made, 1) if where in line)
    done = ended(_start(pair, run, "log", "-e", f"inject={call}:error={errno}:when={number}"))
    _check(pair, run._replace(code=done.code), done, "log")
    assert f"= -1 {errno} (" in done.err, done
    pair.write("--quiet", "hello")
    assert pair.read().code == 0


@only("posix", "the other family has REFUSALS")
@pytest.mark.parametrize("errno", ["EACCES", "EPERM", "EROFS"])
def test_an_unlink_that_posix_refuses_is_shown_with_the_errno_of_the_library(pair: Pair, errno: str) -> None:
    pair.write("hello")
    done = ended(_start(pair, _REMOVE, "log", "-e", f"inject=unlink:error={errno}"))
    assert _check(pair, _REMOVE._replace(code=1), done, "log")[-1].errno == ""  # it has left all the same
    pair.write("--remove")


@both
def test_the_call_that_a_signal_ends_is_shown_too(pair: Pair) -> None:
    """Ctrl-C while the writer sleeps until a slot is empty: EINTR, and then what it takes to leave."""
    (pair.directory / "payload").write_bytes(os.urandom(FILE_SIZE))
    # -D: strace is then the child of our writer, and the process that we started is the writer itself.
    child = _start(pair, _writer("--slots", "1", "--file", "payload"), "log", "-D")
    wait_until(lambda: sleeps_on(pair, "empty_slots"), "the writer's sleep")
    os.kill(child.pid, signal.SIGINT)
    done = ended(child)
    assert done.code == 128 + signal.SIGINT, done
    wait_until(lambda: "exit_group(" in (pair.directory / "log").read_text(), "strace's last line")
    _check(pair, _writer(code=done.code), done, "log")
    assert pair.write("--remove").code == 0


# What no transfer can do without.
NEEDED = {
    "sysv": {"shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semctl", "flock"},
    "posix": {
        *("shm_open", "shm_unlink", "ftruncate", "posix_fallocate", "mmap", "munmap", "close", "fstat", "lstat"),
        *("sem_open", "sem_close", "sem_unlink", "sem_post", "sem_trywait", "sem_getvalue", "fcntl", "fchmod", "chmod"),
        "flock",
    },
}


@both
def test_the_truth_holds_while_both_sides_run(pair: Pair) -> None:
    """They wait for each other here, and wake each other."""
    payload = os.urandom(3 * FILE_SIZE)
    (pair.directory / "payload").write_bytes(payload)
    reader, writer = _reader(), _writer("--slots", "2", "--slot-size", "64K", "--file", "payload")
    with ThreadPoolExecutor() as pool:  # both have more to say than a pipe holds
        received, sent = pool.map(ended, [_start(pair, reader, "reader"), _start(pair, writer, "writer")])
    assert received.out == payload
    shown = _check(pair, writer, sent, "writer") + _check(pair, reader, received, "reader")
    assert {call.name for call in shown} >= NEEDED[pair.ipc]


@only("posix", "a semop of System V is a system call, whether it sleeps or not")
def test_a_wait_that_sleeps_and_the_post_that_wakes_it_have_their_futex(pair: Pair) -> None:
    """Line by line, until one of them found the reader asleep: its sleep may just have timed out."""
    writer, reader = (_start(pair, run, run.program) for run in (_writer("--lines"), _reader()))
    assert writer.stdin and reader.stdout
    logs = pair.directory / "reader", pair.directory / "writer"
    woken = False
    while not woken:
        wait_until(lambda: sleeps_on(pair, "full_slots"), "the reader's sleep")
        writer.stdin.write(b"a line\n")
        writer.stdin.flush()
        assert reader.stdout.readline() == b"a line\n"
        woken = "" in library.sleeps_in(_whole_lines(logs[0]))
    _check(pair, _writer(), ended(writer), "writer")
    _check(pair, _reader(), ended(reader), "reader")
    assert library.wakes_in(logs[1].read_text())


def _whole_lines(log: Path) -> str:
    return log.read_text().rpartition("\n")[0]


SEM = "/dev/shm/sem.shmpair-1-2-writers"
# A semaphore is made, posted twice, the second time to somebody who sleeps, waited for in vain, and closed.
SEEN = f"""9 openat(AT_FDCWD, "/dev/shm/sem.aB3dE6", O_RDWR|O_CREAT|O_EXCL, 0640) = 5
9 write(5, "\\3\\0\\0\\0\\0\\0\\0\\0\\200\\0\\0\\0", 32) = 32
9 mmap(NULL, 32, PROT_READ|PROT_WRITE, MAP_SHARED, 5, 0) = 0x7f10
9 link("/dev/shm/sem.aB3dE6", "{SEM}") = 0
9 fstat(5, {{st_ino=1, st_mode=S_IFREG|0640}}) = 0
9 unlink("/dev/shm/sem.aB3dE6") = 0
9 close(5) = 0
9 write(2, "close(5) = 0 \\"{SEM}"..., 40) = 40
9 futex(0x7f10, FUTEX_WAKE, 1) = 1
9 futex(0x7f10, FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME, 0, {{tv_sec=7, tv_nsec=500000001}}, FUTEX_BITSET_MATCH_ANY)\
 = -1 EAGAIN (Resource temporarily unavailable)
9 futex(0x7f10, FUTEX_WAIT_BITSET, 0, {{tv_sec=7, tv_nsec=500000001}}, FUTEX_BITSET_MATCH_ANY)\
 = -1 ETIMEDOUT (Connection timed out)
9 futex(0x7f99, FUTEX_WAIT, 0, NULL) = 0
9 munmap(0x7f10, 32) = 0
9 unlink("{SEM}") = -1 EPERM (Operation not permitted)
9 exit_group(0) = ?
"""
SHOWN = """writer: this is no call
sem_open("/shmpair-1-2-writers", O_CREAT|O_EXCL, 0640, 3) = 0x7f10
sem_getvalue(0x7f10, [3]) = 0
sem_post(0x7f10) = 0
sem_post(0x7f10) = 0
sem_clockwait(0x7f10, CLOCK_MONOTONIC, {tv_sec=7, tv_nsec=500000000}) = -1 ETIMEDOUT (Connection timed out)
sem_close(0x7f10) = 0
sem_unlink("/shmpair-1-2-writers") = -1 EACCES (Permission denied)
"""


def _agree(shown: str, seen: str) -> bool:
    told = library.calls_in(shown)
    return told == library.calls_seen(seen, told) != []


def test_a_trace_over_posix_that_is_true() -> None:
    assert _agree(SHOWN, SEEN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("O_EXCL, 0640, 3) = 0x7f10", "O_EXCL, 0640, 4) = 0x7f10"),
        ("O_EXCL, 0640, 3) = 0x7f10", "O_EXCL, 0600, 3) = 0x7f10"),
        ("O_EXCL, 0640, 3) = 0x7f10", "O_EXCL, 0640, 3) = 0x7f20"),
        ("sem_close(0x7f10) = 0\n", ""),
        ("sem_close(0x7f10) = 0\n", "sem_close(0x7f10) = 0\nclose(5) = 0\n"),
        ("-1 ETIMEDOUT (Connection timed out)", "0"),
        ("-1 ETIMEDOUT (Connection timed out)", "-1 EINTR (Interrupted system call)"),
        ("EACCES (Permission denied)", "EPERM (Operation not permitted)"),
        ("sem_clockwait(0x7f10", "sem_clockwait(0x7f99"),
    ],
)
def test_a_trace_over_posix_that_is_not(before: str, after: str) -> None:
    assert before in SHOWN
    assert not _agree(SHOWN.replace(before, after), SEEN)


@pytest.mark.parametrize(
    "more",
    [
        "9 unlink(\"/dev/shm/shmpair-1\") = 0",
        "9 openat(AT_FDCWD, \"/dev/shm/shmpair-1\", O_RDWR|O_NOFOLLOW|O_CLOEXEC) = 5",
        "9 futex(0x7f10, FUTEX_WAKE, 1) = 1",
    ],
)  # fmt: skip
def test_what_strace_saw_and_the_trace_does_not_show_is_found(more: str) -> None:
    at = SEEN.index("9 munmap")
    assert not _agree(SHOWN, f"{SEEN[:at]}{more}\n{SEEN[at:]}")


def test_a_wait_in_vain_has_slept() -> None:
    never = "".join(
        line for line in SEEN.splitlines(keepends=True) if "FUTEX" not in line and not line.startswith(" =")
    )
    assert not _agree(SHOWN, never)


@pytest.mark.parametrize("call", ['rename("/dev/shm/shmpair-1", "/dev/shm/b")', 'statfs("/dev/shm/shmpair-1", 0x1)'])
def test_a_call_on_an_object_that_trace_knows_nothing_of_is_found(call: str) -> None:
    with pytest.raises(AssertionError, match="touches an object"):
        library.calls_seen(f"9 {call} = 0\n", [])


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
