"""Errors as one line that says what they mean here."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from common.errors import CallFailed
from common.ipc.meanings import MEANING, format_failure, format_file_error
from common.ipc.sysv_calls import ShmidDs, _SemidDs
from common.ipc.trace import format_call

KEY = 0x01020AB3

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


@pytest.mark.parametrize(("name", "number"), MEANING, ids=lambda value: str(value))
def test_every_known_failure_says_what_it_means_in_one_line(name: str, number: int) -> None:
    arguments = ARGUMENTS[name]
    call, symbol = format_call(name, arguments), errno.errorcode[number]
    expected = f"{call}: {symbol} ({os.strerror(number)}): {MEANING[name, number]}"
    assert format_failure(CallFailed(name, arguments, number)) == expected
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
    said = format_failure(CallFailed(name, ARGUMENTS[name], number))
    start = f"{format_call(name, ARGUMENTS[name])}: {symbol} ({os.strerror(number)}): "
    assert said.startswith(start)
    assert len(said) > len(start) + 20


def test_a_wait_is_explained_like_any_semop() -> None:
    said = format_failure(CallFailed("semtimedop", (9, -1, 0, 0.1), errno.EACCES))
    assert said.startswith("semtimedop(9, [{0, -1, 0}], 1, {0.1 s}): EACCES (Permission denied): the semaphore's mode")


@pytest.mark.parametrize("name", ["shmctl", "semctl", "semop", "semtimedop"])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIDRM])
def test_an_id_that_is_no_more_means_a_removed_channel(name: str, number: int) -> None:
    said = format_failure(CallFailed(name, ARGUMENTS[name], number))
    assert "was removed by `--remove` or ipcrm" in said


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("shmctl", (7, 1, ShmidDs())), ("semctl", (9, 0, "IPC_SET", _SemidDs()))],
    ids=["shmctl", "semctl"],
)
def test_an_owner_that_the_user_namespace_does_not_map_is_no_removed_channel(
    name: str, arguments: tuple[Any, ...]
) -> None:
    said = format_failure(CallFailed(name, arguments, errno.EINVAL))
    assert "no number in our user namespace" in said
    assert "was removed by" not in said
    assert "was removed by `--remove`" in format_failure(CallFailed(name, arguments, errno.EIDRM))


def test_a_lost_semaphore_never_makes_anybody_throw_records_away() -> None:
    for number in (errno.ENOENT, errno.EIDRM):
        said = format_failure(CallFailed("semget", ARGUMENTS["semget"], number))
        assert "start" in said and "no record is lost" in said
        assert "`writer.py --remove`" not in said


def test_an_unknown_failure_is_named_without_a_meaning() -> None:
    said = format_failure(CallFailed("shmget", ARGUMENTS["shmget"], errno.ENFILE))
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
    assert format_file_error(error) == line
