"""Calls in strace's form."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from common.channel.listener import Call
from common.ipc import trace
from common.ipc.sysv_calls import ShmidDs, _SemidDs

KEY = 0x01020AB3


def ds() -> ShmidDs:
    """A struct shmid_ds with something in it."""
    made = ShmidDs(size=8192, attached=2)
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
        ("shmctl", (7, 2, 1), "shmctl(7, IPC_STAT, 0x1)"),
        ("shmctl", (7, 99, None), "shmctl(7, 99, buf)"),
        ("shmget", (KEY, 1, 0o11000), "shmget(0x01020ab3, 1, IPC_CREAT|SHM_NORESERVE)"),
        ("msgget", (KEY, 0o1600), "msgget(0x01020ab3, IPC_CREAT|0600)"),
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
