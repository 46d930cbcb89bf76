"""POSIX calls in strace's form, and errors as one line that says what they mean here."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from common.channel.listener import Call
from common.errors import CallFailed
from common.ipc.meanings import format_failure
from common.ipc.posix_calls import Flock, ShmStat
from common.ipc.posix_meanings import POSIX_MEANING
from common.ipc.trace import format_call, printer

STAT = ShmStat(1000, 100, 0o640, 32, 1, 7, 0, 0, 0)
SHOWN = "{st_ino=7, st_mode=S_IFREG|0640, st_nlink=1, st_uid=1000, st_gid=100, st_size=32}"
SEM = 0x7F0000000000
LOCK = "l_whence=SEEK_SET, l_start=72, l_len=1"


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("shm_open", ("/a", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660), '"/a", O_RDWR|O_CREAT|O_EXCL, 0660'),
        ("shm_open", ("/a", os.O_RDWR, 0), '"/a", O_RDWR, 0'),
        ("shm_open", ("/a", os.O_RDONLY, 0), '"/a", O_RDONLY, 0'),
        ("shm_unlink", ("/a",), '"/a"'),
        ("ftruncate", (3, 4096), "3, 4096"),
        ("posix_fallocate", (3, 0, 4096), "3, 0, 4096"),
        ("mmap", (None, 4096, 3, 1, 3, 0), "NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0"),
        ("mmap", (None, 4096, 1, 1, 3, 0), "NULL, 4096, PROT_READ, MAP_SHARED, 3, 0"),
        (
            "mmap",
            (SEM, 4096, 3, 0x32, -1, 0),
            "0x7f0000000000, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0",
        ),
        ("munmap", (SEM, 4096), "0x7f0000000000, 4096"),
        ("fstat", (3, STAT), f"3, {SHOWN}"),
        ("fstat", (3, None), "3, buf"),
        ("lstat", ("/dev/shm/a", STAT), f'"/dev/shm/a", {SHOWN}'),
        ("fchmod", (3, 0o640), "3, 0640"),
        ("chmod", ("/dev/shm/sem.a", 0o640), '"/dev/shm/sem.a", 0640'),
        ("fchown", (3, -1, 100), "3, -1, 100"),
        ("lchown", ("/dev/shm/sem.a", 1000, -1), '"/dev/shm/sem.a", 1000, -1'),
        ("close", (3,), "3"),
        ("fcntl", (3, 37, Flock(1, 0, 72, 1, 0)), f"3, F_OFD_SETLK, {{l_type=F_WRLCK, {LOCK}}}"),
        ("fcntl", (3, 37, Flock(2, 0, 72, 1, 0)), f"3, F_OFD_SETLK, {{l_type=F_UNLCK, {LOCK}}}"),
        ("fcntl", (3, 36, Flock(0, 0, 72, 1, -1)), f"3, F_OFD_GETLK, {{l_type=F_RDLCK, {LOCK}, l_pid=-1}}"),
        ("sem_open", ("/a", os.O_CREAT | os.O_EXCL, 0o640, 8), '"/a", O_CREAT|O_EXCL, 0640, 8'),
        ("sem_open", ("/a", 0), '"/a", 0'),
        ("sem_close", (SEM,), "0x7f0000000000"),
        ("sem_unlink", ("/a",), '"/a"'),
        ("sem_post", (SEM,), "0x7f0000000000"),
        ("sem_trywait", (SEM,), "0x7f0000000000"),
        ("sem_getvalue", (SEM, 3), "0x7f0000000000, [3]"),
        ("sem_clockwait", (SEM, 1, 12.5), "0x7f0000000000, CLOCK_MONOTONIC, {tv_sec=12, tv_nsec=500000000}"),
        ("sem_timedwait", (SEM, 12.5), "0x7f0000000000, {tv_sec=12, tv_nsec=500000000}"),
    ],
    ids=lambda value: value if isinstance(value, str) and "(" not in value else "",
)
def test_a_call_as_strace_shows_it(name: str, arguments: tuple[Any, ...], shown: str) -> None:
    assert format_call(name, arguments) == f"{name}({shown})"


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (Call("shm_open", ("/a", os.O_RDWR, 0), 3, 0), "3"),
        (Call("shm_open", ("/a", os.O_RDWR, 0), -1, errno.ENOENT), "-1 ENOENT (No such file or directory)"),
        (Call("mmap", (None, 4096, 3, 1, 3, 0), SEM, 0), "0x7f0000000000"),
        (Call("sem_open", ("/a", 0), SEM, 0), "0x7f0000000000"),
        (Call("sem_trywait", (SEM,), -1, errno.EAGAIN), "-1 EAGAIN (Resource temporarily unavailable)"),
    ],
)
def test_a_traced_call_ends_with_its_result(call: Call, result: str) -> None:
    lines: list[str] = []
    printer(lines.append)(call)
    assert lines == [f"{format_call(call.name, call.arguments)} = {result}"]


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "shm_open": ("/a", os.O_RDWR, 0),
    "shm_unlink": ("/a",),
    "ftruncate": (3, 1),
    "posix_fallocate": (3, 0, 1),
    "mmap": (None, 1, 3, 1, 3, 0),
    "munmap": (SEM, 1),
    "fstat": (3, None),
    "lstat": ("/dev/shm/a", None),
    "fchmod": (3, 0o600),
    "chmod": ("/dev/shm/a", 0o600),
    "fchown": (3, 1, 1),
    "lchown": ("/dev/shm/a", 1, 1),
    "close": (3,),
    "fcntl": (3, 37, Flock(1, 0, 72, 1, 0)),
    "sem_open": ("/a", 0),
    "sem_close": (SEM,),
    "sem_post": (SEM,),
    "sem_clockwait": (SEM, 1, 0.1),
    "sem_timedwait": (SEM, 0.1),
    "sem_unlink": ("/a",),
}


@pytest.mark.parametrize(("name", "number"), POSIX_MEANING, ids=lambda value: str(value))
def test_each_failure_is_one_line_with_its_meaning(name: str, number: int) -> None:
    said = format_failure(CallFailed(name, ARGUMENTS[name], number))
    call, symbol = format_call(name, ARGUMENTS[name]), errno.errorcode[number]
    assert said == f"{call}: {symbol} ({os.strerror(number)}): {POSIX_MEANING[name, number]}"
    assert "\n" not in said


def test_an_einval_that_we_did_not_foresee_is_no_removal() -> None:
    said = format_failure(CallFailed("fchmod", (3, 0o600), errno.EINVAL))
    assert said == "fchmod(3, 0600): EINVAL (Invalid argument)"
