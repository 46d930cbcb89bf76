"""One form for a call, whether --trace shows it or strace does, so that the two can be compared line by line.

The two differ only in notation, and each function here removes one difference:

    semtimedop(7, ..., 1, NULL)      glibc's semop(7, ..., 1) is this system call
    sem_num=0, tv_nsec=100000000     strace names the fields of a struct; --trace shows the values alone
    0x10006e7, 000, 0660, NULL       the same number in several notations
    semctl(7, 0, GETVAL, NULL)       an argument that the command does not use
    {shm_perm={uid=0, ...}, ...}     of struct shmid_ds and semid_ds, --trace shows what the lab is about

What --trace=all counts while waiting is as many calls; --trace leaves out what repeats the call before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NamedTuple

WATCHED = "%ipc,flock,exit_group"  # exit_group: the log is complete
NAMES = "shmget|shmat|shmdt|shmctl|semget|semop|semtimedop|semctl|flock"
_LAB = ("shmget", "shmat", "shmdt", "shmctl")  # of these, --trace without more
_COUNTED = re.compile(r"# the last (?:(\d+) calls|call) (\d+) times? more, while waiting")
_LINE = re.compile(rf"(?:\d+ +)?({NAMES})\((.*)\) += (-?\w+)(?: (E\w+) \([\w ]+\)(?: \(INJECTED\))?)?")
_STAT_FIELDS = ("uid", "gid", "mode", "segsz", "nattch")
_SET_FIELDS = ("uid", "gid", "mode")  # all that IPC_SET takes from its struct


class Call(NamedTuple):
    """A call in that one form: `arguments` as text with every number in decimal."""

    name: str
    arguments: str
    result: int
    errno: str


def calls_in(text: str) -> list[Call]:
    """The calls among the lines of a --trace or of strace's output, in order."""
    return all_of(text, lambda line: _parse(match) if (match := _LINE.fullmatch(line)) else None)


def all_of(text: str, parse: Callable[[str], Call | None]) -> list[Call]:
    """The calls among the lines, each as often as it was made."""
    found: list[Call] = []
    for line in text.splitlines():
        call = parse(line)
        if call:
            found.append(call)
        elif counted := _COUNTED.fullmatch(line):
            found += found[-int(counted[1] or 1) :] * int(counted[2])
    return found


def calls_seen(log: str, shown: list[Call], *, lab: bool = False) -> list[Call]:
    """What --trace=all should have shown, or with `lab` --trace, from the log of strace: `shown`, if it is true."""
    lines = [line for line in log.splitlines() if "(" in line and "exit_group(" not in line]
    happened = calls_in("\n".join(lines))
    assert len(happened) == len(lines), "a line of strace's was not understood"
    doorways = doorways_of([*happened, *shown])
    happened = [call for call in happened if call.name != "flock" or call.arguments.partition(",")[0] in doorways]
    if lab:
        happened = once(call for call in happened if call.name in _LAB)
    return [as_shown(*pair) for pair in zip(happened, shown, strict=False)] + happened[len(shown) :]


def doorways_of(calls: Iterable[Call]) -> set[str]:
    """The descriptors of key paths: an output file is locked, too, and never unlocked."""
    return {call.arguments.partition(",")[0] for call in calls if call.name == "flock" and "LOCK_UN" in call.arguments}


def once(calls: Iterable[Call]) -> list[Call]:
    """The calls without those that are the one before again."""
    return [call for call, _ in groupby(calls)]


def _parse(match: re.Match[str]) -> Call:
    name, arguments, result, errno = match.groups(default="")
    if name == "semtimedop" and arguments.endswith(", NULL"):
        name, arguments = "semop", arguments.removesuffix(", NULL")
    if name == "semctl":
        arguments = re.sub(r"(GETVAL|GETPID|GETNCNT|GETZCNT|IPC_RMID), NULL$", r"\1", arguments)
    arguments = _struct(_timeout(re.sub(r"sem_(num|op|flg)=", "", arguments)))
    return Call(name, decimal(arguments), int(decimal(result)), errno)


def _timeout(arguments: str) -> str:
    """{0.1 s} for {tv_sec=0, tv_nsec=100000000}."""
    match = re.search(r"\{tv_sec=(\d+), tv_nsec=(\d+)\}", arguments)
    if not match:
        return arguments
    seconds = int(match[1]) + int(match[2]) / 1e9
    return arguments.replace(match[0], f"{{{seconds:g} s}}")


def _struct(arguments: str) -> str:
    """The fields that --trace shows of a struct shmid_ds or semid_ds."""
    head, brace, tail = arguments.partition("{")
    if "uid=" not in tail:
        return arguments
    values = dict(re.findall(r"(?:shm_)?(\w+)=(\w+)", tail))
    shown = _SET_FIELDS if "IPC_SET" in head else _STAT_FIELDS
    return head + brace + ", ".join(f"{field}={values[field]}" for field in shown if field in values) + "}"


def decimal(text: str) -> str:
    """Every number in decimal: 0x10 is 16, 0660 is 432, NULL is 0."""
    text = re.sub(r"\b0x([0-9a-f]+)\b", lambda match: str(int(match[1], 16)), text.replace("NULL", "0"))
    return re.sub(r"(?<![\w.])0([0-7]+)\b", lambda match: str(int(match[1], 8)), text)


def as_shown(call: Call, shown: Call) -> Call:
    """`call` with `buf` for strace's address where `shown` says so: an IPC_STAT that failed filled nothing in."""
    if not (call.errno and shown.arguments.endswith("buf")):
        return call
    return call._replace(arguments=re.sub(r"\d+$", "buf", call.arguments))
