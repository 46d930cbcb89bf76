"""Errors as one line that says what they mean here."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from common.errors import CallFailed
from common.ipc.call_meanings import CALLS, CallMeaning
from common.ipc.calls import Calls
from common.ipc.doorway import FlockDoorway
from common.ipc.meanings import (
    ANSWER,
    MEANING,
    format_failure,
    format_file_error,
    kind_of,
    meaning_of_call,
    meaning_of_errno,
    page_of,
)
from common.ipc.posix_call_meanings import POSIX_CALLS
from common.ipc.posix_calls import PosixCalls
from common.ipc.posix_meanings import POSIX_ANSWER, POSIX_MEANING
from common.ipc.sysv_calls import ShmidDs, SysvCalls, _SemidDs
from common.ipc.trace import format_call
from tests import test_posix_trace

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


# Every call and every errno has its text

ALL_ARGUMENTS = {
    **test_posix_trace.ARGUMENTS,
    **ARGUMENTS,
    "sem_trywait": (1,),
    "sem_getvalue": (1, 0),
    "flock": (3, 6),
}


def documented() -> Iterator[tuple[str, str]]:
    """Each call with its docstring: the methods that make one have the prototype in it."""
    methods = [value for calls in (Calls, SysvCalls, PosixCalls) for value in vars(calls).values() if callable(value)]
    for text in [*(method.__doc__ or "" for method in methods), FlockDoorway.__doc__ or ""]:
        for name in re.findall(r"(?:C:|, or) (?:int|void|key_t|sem_t) \*?(\w+)\(", " ".join(text.split())):
            yield name, " ".join(text.split())


def test_every_call_that_has_a_docstring_has_a_meaning() -> None:
    names = {name for name, _ in documented()}
    assert names >= {
        "ftok",
        "shmget",
        "shmdt",
        "semtimedop",
        "flock",
        "shm_open",
        "sem_clockwait",
        "sem_timedwait",
        "mmap",
    }
    assert {kind.split()[0].rstrip(",") for kind in CALLS | POSIX_CALLS} == names | {"semtimedop"}
    for name in names:
        meaning_of_call(kind_of(name, ALL_ARGUMENTS[name]))


@pytest.mark.parametrize("name", sorted({name for name, _ in documented()}))
def test_every_errno_that_a_call_is_said_to_have_has_a_meaning(name: str) -> None:
    texts = [text for call, text in documented() if call == name]
    numbers = {getattr(errno, symbol) for text in texts for symbol in re.findall(r"\bE[A-Z0-9]{3,}\b", text)}
    answers = {number for kind, number in ANSWER | POSIX_ANSWER if re.match(rf"{name}\b", kind)}
    missing = [number for number in numbers - answers if not meaning_of_errno(name, ALL_ARGUMENTS[name], number)]
    assert [errno.errorcode[number] for number in missing] == []


@pytest.mark.parametrize(("name", "text"), sorted(documented()), ids=lambda value: value if "(" not in value else "")
def test_the_man_page_is_that_of_the_docstring(name: str, text: str) -> None:
    assert f"see {page_of(name)}" in text


@pytest.mark.parametrize("meaning", (CALLS | POSIX_CALLS).values(), ids=CALLS | POSIX_CALLS)
def test_a_meaning_can_be_told_of_any_call(meaning: CallMeaning) -> None:
    values = dict.fromkeys(("name", "role", "take", "give", "undo", "nattch", "then"), "x")
    for text in meaning:
        assert not re.search(r"[{}\n]", text.format(*"abcdef", **values))
        assert text == text.strip() and not text.endswith(".")
    assert len(meaning.what) > 10 and meaning.why


@pytest.mark.parametrize(("command", "buffer"), [(99, None), (14, None), (1, 1), (1, None), (2, 1)])
def test_a_call_that_no_program_of_ours_makes_has_a_kind_too(command: int, buffer: int | None) -> None:
    """Who tries what the kernel refuses still gets the errno's meaning."""
    assert kind_of("shmctl", (7, command, buffer)).startswith("shmctl ")
    assert "mistake in the program" in meaning_of_errno("shmctl", (7, command, buffer), errno.EFAULT)


@pytest.mark.parametrize(("kind", "number"), [*ANSWER, *POSIX_ANSWER])
def test_an_answer_is_one_of_a_call_that_there_is(kind: str, number: int) -> None:
    assert kind in CALLS | POSIX_CALLS and number in errno.errorcode


def test_no_call_has_two_meanings() -> None:
    assert not CALLS.keys() & POSIX_CALLS.keys()
    assert not MEANING.keys() & POSIX_MEANING.keys()


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
