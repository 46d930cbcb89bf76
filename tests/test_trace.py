"""Calls in strace's form, and errors as one line that says what they mean here."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from common.errors import CallFailed
from common.ipc import trace
from common.ipc.sysv_calls import Call, _SemidDs, _ShmidDs

KEY = 0x01020AB3


def ds() -> _ShmidDs:
    """A struct shmid_ds with something in it."""
    made = _ShmidDs(size=8192, attached=2)
    made.perm.uid, made.perm.gid, made.perm.mode = 1000, 100, 0o640
    return made


def sem_ds(uid: int = 1000) -> _SemidDs:
    made = _SemidDs()
    made.perm.uid, made.perm.gid, made.perm.mode = uid, 100, 0o640
    return made


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("ftok", ("/a/path", 249), 'ftok("/a/path", 249)'),
        ("shmget", (KEY, 2101248, 0o3660), "shmget(0x01020ab3, 2101248, IPC_CREAT|IPC_EXCL|0660)"),
        ("shmget", (KEY - 2**32, 0, 0), "shmget(0x01020ab3, 0, 0)"),  # a key_t is signed
        ("shmget", (KEY, 1, 0o1000), "shmget(0x01020ab3, 1, IPC_CREAT)"),
        ("shmget", (KEY, 0, 0o600), "shmget(0x01020ab3, 0, 0600)"),
        ("shmget", (KEY, 0, 0o3007), "shmget(0x01020ab3, 0, IPC_CREAT|IPC_EXCL|0007)"),
        ("shmat", (7, None, 0), "shmat(7, NULL, 0)"),
        ("shmat", (7, None, 0o10000), "shmat(7, NULL, SHM_RDONLY)"),
        ("shmat", (7, 0x7E0000000123, 0o20000), "shmat(7, 0x7e0000000123, SHM_RND)"),
        ("shmat", (7, 4096, 0o30000), "shmat(7, 0x1000, SHM_RND|SHM_RDONLY)"),
        ("shmdt", (0x7F0000000000,), "shmdt(0x7f0000000000)"),
        ("shmctl", (7, 0, None), "shmctl(7, IPC_RMID, NULL)"),
        ("shmctl", (7, 2, None), "shmctl(7, IPC_STAT, buf)"),
        ("shmctl", (7, 1, ds()), "shmctl(7, IPC_SET, {uid=1000, gid=100, mode=0640, segsz=8192, nattch=2})"),
        ("semget", (KEY, 1, 0o3600), "semget(0x01020ab3, 1, IPC_CREAT|IPC_EXCL|0600)"),
        ("semctl", (9, 0, "SETVAL", 8), "semctl(9, 0, SETVAL, 8)"),
        ("semctl", (9, 0, "GETVAL"), "semctl(9, 0, GETVAL)"),
        ("semctl", (9, 0, "GETNCNT"), "semctl(9, 0, GETNCNT)"),
        ("semctl", (9, 0, "IPC_RMID"), "semctl(9, 0, IPC_RMID)"),
        ("semctl", (9, 0, "IPC_STAT", None), "semctl(9, 0, IPC_STAT, buf)"),
        ("semctl", (9, 0, "IPC_SET", sem_ds()), "semctl(9, 0, IPC_SET, {uid=1000, gid=100, mode=0640})"),
        ("semctl", (9, 0, "IPC_SET", sem_ds(2**32 - 1)), "semctl(9, 0, IPC_SET, {uid=-1, gid=100, mode=0640})"),
        ("semop", (9, -1, 0o4000), "semop(9, [{0, -1, IPC_NOWAIT}], 1)"),
        ("semop", (9, 1, 0o4000 | 0x1000), "semop(9, [{0, 1, SEM_UNDO|IPC_NOWAIT}], 1)"),
        ("semtimedop", (9, -1, 0, 0.1), "semtimedop(9, [{0, -1, 0}], 1, {0.1 s})"),
        ("semtimedop", (9, -1, 0x1000, 2), "semtimedop(9, [{0, -1, SEM_UNDO}], 1, {2 s})"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_as_strace_shows_it(name: str, arguments: tuple[Any, ...], shown: str) -> None:
    assert trace.format_call(name, arguments) == shown


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (Call("ftok", ("p", 1), KEY, 0), 'ftok("p", 1) = 0x01020ab3'),
        (Call("ftok", ("p", 1), KEY - 2**32, 0), 'ftok("p", 1) = 0x01020ab3'),
        (Call("ftok", ("p", 1), -1, errno.ENOENT), 'ftok("p", 1) = -1 ENOENT (No such file or directory)'),
        (Call("shmget", (KEY, 0, 0), 32771, 0), "shmget(0x01020ab3, 0, 0) = 32771"),
        (Call("shmget", (KEY, 0, 0), -1, errno.EACCES), "shmget(0x01020ab3, 0, 0) = -1 EACCES (Permission denied)"),
        (Call("shmat", (7, None, 0), 0x7F0000000000, 0), "shmat(7, NULL, 0) = 0x7f0000000000"),
        (Call("shmat", (7, None, 0), -1, errno.ENOMEM), "shmat(7, NULL, 0) = -1 ENOMEM (Cannot allocate memory)"),
        (Call("shmdt", (4096,), 0, 0), "shmdt(0x1000) = 0"),
        (Call("semctl", (9, 0, "GETVAL"), 5, 0), "semctl(9, 0, GETVAL) = 5"),
        (
            Call("semop", (9, -1, 0o4000), -1, errno.EAGAIN),
            "semop(9, [{0, -1, IPC_NOWAIT}], 1) = -1 EAGAIN (Resource temporarily unavailable)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_traced_call_is_one_line(call: Call, line: str) -> None:
    lines: list[str] = []
    trace.printer(lines.append)(call)
    assert lines == [line]


@pytest.mark.parametrize(
    ("number", "name"), [(errno.EACCES, "EACCES"), (errno.EIDRM, "EIDRM"), (99999, "errno 99999"), (None, "errno None")]
)
def test_errnos_have_names(number: int | None, name: str) -> None:
    assert trace.errno_name(number) == name


# A call of each kind, with arguments that it can have.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ftok": ("path", 1),
    "shmget": (KEY, 4096, 0o600),
    "shmat": (7, None, 0),
    "shmctl": (7, 0, None),
    "shmdt": (4096,),
    "semget": (KEY, 1, 0o600),
    "semctl": (9, 0, "GETVAL"),
    "semop": (9, -1, 0),
    "semtimedop": (9, -1, 0, 0.1),
}


@pytest.mark.parametrize(("name", "number"), trace.MEANING, ids=lambda value: str(value))
def test_every_known_failure_says_what_it_means_in_one_line(name: str, number: int) -> None:
    arguments = ARGUMENTS[name]
    call, symbol = trace.format_call(name, arguments), errno.errorcode[number]
    expected = f"{call}: {symbol} ({os.strerror(number)}): {trace.MEANING[name, number]}"
    assert trace.format_failure(CallFailed(name, arguments, number)) == expected
    assert "\n" not in expected


# Issue 2, "Every call and errno of the lab".
LAB = {
    "shmget": ["EINVAL", "EEXIST", "ENOENT", "EACCES", "ENOMEM", "ENOSPC", "EIDRM"],
    "shmat": ["EINVAL", "EACCES", "ENOMEM", "EIDRM"],
    "shmctl": ["EACCES", "EFAULT", "EPERM", "EINVAL", "EIDRM"],
    "shmdt": ["EINVAL"],
}


@pytest.mark.parametrize(("name", "symbol"), [(name, symbol) for name, symbols in LAB.items() for symbol in symbols])
def test_every_errno_of_the_lab_is_explained(name: str, symbol: str) -> None:
    number = getattr(errno, symbol)
    said = trace.format_failure(CallFailed(name, ARGUMENTS[name], number))
    start = f"{trace.format_call(name, ARGUMENTS[name])}: {symbol} ({os.strerror(number)}): "
    assert said.startswith(start)
    assert len(said) > len(start) + 20


def test_a_wait_is_explained_like_any_semop() -> None:
    said = trace.format_failure(CallFailed("semtimedop", (9, -1, 0, 0.1), errno.EACCES))
    assert said.startswith("semtimedop(9, [{0, -1, 0}], 1, {0.1 s}): EACCES (Permission denied): the semaphore's mode")


@pytest.mark.parametrize("name", ["shmctl", "semctl", "semop", "semtimedop"])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIDRM])
def test_an_id_that_is_no_more_means_a_removed_channel(name: str, number: int) -> None:
    said = trace.format_failure(CallFailed(name, ARGUMENTS[name], number))
    assert "was removed by `--remove` or ipcrm" in said


@pytest.mark.parametrize(
    ("name", "arguments"), [("shmctl", (7, 1, ds())), ("semctl", (9, 0, "IPC_SET", sem_ds()))], ids=["shmctl", "semctl"]
)
def test_an_owner_that_the_user_namespace_does_not_map_is_no_removed_channel(
    name: str, arguments: tuple[Any, ...]
) -> None:
    said = trace.format_failure(CallFailed(name, arguments, errno.EINVAL))
    assert "no number in our user namespace" in said
    assert "was removed by" not in said
    assert "was removed by `--remove`" in trace.format_failure(CallFailed(name, arguments, errno.EIDRM))


def test_a_lost_semaphore_never_makes_anybody_throw_records_away() -> None:
    for number in (errno.ENOENT, errno.EIDRM):
        said = trace.format_failure(CallFailed("semget", ARGUMENTS["semget"], number))
        assert "start" in said and "no record is lost" in said
        assert "`writer.py --remove`" not in said


def test_an_unknown_failure_is_named_without_a_meaning() -> None:
    said = trace.format_failure(CallFailed("shmget", ARGUMENTS["shmget"], errno.ENFILE))
    assert said == "shmget(0x01020ab3, 4096, 0600): ENFILE (Too many open files in system)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "input"),
            "input: ENOENT (No such file or directory): there is no such file; check the path",
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "output"),
            "output: EISDIR (Is a directory): it is a directory; name a file",
        ),
        (
            OSError(errno.ELOOP, "Too many levels of symbolic links", "input"),
            "input: ELOOP (Too many levels of symbolic links): its symbolic links lead round in a circle; name the"
            " file itself",
        ),
        (OSError(errno.ESPIPE, "Illegal seek", "standard input"), "standard input: ESPIPE (Illegal seek)"),
        (OSError(errno.EMFILE, "Too many open files"), "EMFILE (Too many open files)"),
    ],
)
def test_a_file_error_is_one_line(error: OSError, line: str) -> None:
    assert trace.format_file_error(error) == line
