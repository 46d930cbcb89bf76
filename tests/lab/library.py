"""What strace saw of POSIX objects, told as the calls of the C library that --trace shows.

A POSIX object is a file, and the C library works on it with the system calls that every file knows. So what counts is
found by what it touches: a path in /dev/shm, a descriptor of one, or an address where one is mapped.

    shm_open("/name", flags, mode)     openat("/dev/shm/name", flags|O_NOFOLLOW|O_CLOEXEC, mode)
    shm_unlink, sem_unlink("/name")    unlink of the file, whose EPERM they call EACCES
    posix_fallocate(fd, 0, size)       fallocate(fd, 0, 0, size)
    sem_open("/name", O_CREAT ...)     openat("/dev/shm/sem.XXXXXX"), write, mmap, link to the name, unlink, close:
                                       nobody can open a semaphore that has no value yet
    sem_open("/name", 0)               openat("/dev/shm/sem.name"), fstat, mmap, close
    sem_close                          munmap
    sem_clockwait                      futex FUTEX_WAIT_BITSET, once for each time that it sleeps
    sem_post                           futex FUTEX_WAKE when somebody sleeps
    sem_trywait, sem_getvalue          none: the token is in memory that we have mapped
    fstat, lstat                       newfstatat, where there is no system call of this name

The doorway's flock is on the key path, which is no object, and is told as it is.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from tests.lab.calls import Call, all_of, decimal, doorways_of, once

WATCHED = "%file,%desc,%memory,futex,exit_group"  # of these, whatever touches an object; exit_group: it is complete

_SHOWN = re.compile(
    r"((shm|sem)_\w+|f?chmod|[fl]chown|[fl]stat|ftruncate|posix_fallocate|mmap|munmap|close|fcntl|flock)\(.*"
)
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\w+|\?)(?: (E\w+))?(?: \(.*\))?")
_OBJECTS = "/dev/shm/"
_SEMAPHORES = "/dev/shm/sem."
_PATHS = re.compile(r'(?<!\\)"(/dev/shm/[^"]+)"')  # and not a line that --trace writes about one
_TEMPORARY = re.compile(r"/dev/shm/sem\.\w{6}")  # the name that a semaphore has before it has a value
_ADDED_FLAGS = ("O_NOFOLLOW", "O_CLOEXEC")  # by shm_open and sem_open
_STAT_FIELDS = ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size")
_READING = ("lseek", "pread64")  # is it blank? A look into the file, which is no call on an object
_AS_THEY_ARE = ("ftruncate", "fchmod", "chmod", "fchown", "lchown", "fcntl")
# What --trace shows without more: the calls on the object.
_LAB = (
    "shm_open",
    "ftruncate",
    "posix_fallocate",
    "mmap",
    "munmap",
    "shm_unlink",
    "fstat",
    "fchmod",
    "fchown",
    "close",
)
_WAITS = ("sem_clockwait", "sem_timedwait")
_NO_SYSTEM_CALL = ("sem_getvalue", "sem_trywait", "sem_post", *_WAITS)  # unless somebody has to sleep
_DEADLINE = re.compile(r"\{tv_sec=(\d+), tv_nsec=(\d+)\}")
_ROUNDED = 1e-5  # seconds: --trace has the deadline from a float


class _SystemCall(NamedTuple):
    """One line of strace's; `arguments` as it shows them."""

    name: str
    arguments: str
    result: str
    errno: str

    @property
    def first(self) -> str:
        return self.arguments.partition(", ")[0]

    def paths(self) -> list[str]:
        return _PATHS.findall(self.arguments)


def calls_in(text: str) -> list[Call]:
    """The calls among the lines of a --trace, in order."""
    matches = {line: _LINE.fullmatch(line) for line in text.splitlines() if _SHOWN.fullmatch(line)}
    found: list[Call] = []
    for call in all_of(text, lambda line: _call(match) if (match := matches.get(line)) else None):
        again = any(call is before for before in found)  # counted: until which moment it waited, nobody says
        found.append(call._replace(arguments=_DEADLINE.sub("", call.arguments)) if again else call)
    return found


def calls_seen(log: str, shown: list[Call], *, lab: bool = False) -> list[Call]:
    """What --trace=all should have shown, or with `lab` --trace, from the log of strace: `shown`, if it is true.

    Only `shown` knows the calls that made no system call, and the name in one that never came to it.
    """
    happened = _Library().told(_lines(log))
    doorways = doorways_of([*happened, *shown])
    happened = [call for call in happened if call.name != "flock" or call.arguments.partition(",")[0] in doorways]
    rest = deque(once(filter(_is_of_the_lab, happened)) if lab else happened)
    told = []
    for call in shown:
        if call.name in _NO_SYSTEM_CALL:
            told.append(_as_slept(call, rest))
        elif rest:
            told.append(_as_shown(rest.popleft(), call))
    return told + list(rest)


def _is_of_the_lab(call: Call) -> bool:
    return call.name in _LAB or (call.name == "lstat" and _SEMAPHORES not in call.arguments)


def sleeps_in(log: str) -> list[str]:
    """How each sleep on a semaphore ended: an errno, or "" for the one that was woken."""
    return [call.errno for call in _Library().told(_lines(log)) if call.name == "FUTEX_WAIT_BITSET"]


def wakes_in(log: str) -> int:
    """How often a sem_post woke somebody."""
    return sum(call.name == "FUTEX_WAKE" for call in _Library().told(_lines(log)))


def _lines(log: str) -> list[_SystemCall]:
    lines = [line for line in log.splitlines() if "(" in line and not re.match(r"(\d+ +)?(exit_group|execve)\(", line)]
    matches = [_LINE.fullmatch(line) for line in lines]
    assert None not in matches, f"not understood: {lines[matches.index(None)]}"
    return [_SystemCall(*match.groups(default="")) for match in matches if match]


def _call(match: re.Match[str]) -> Call:
    name, arguments, result, errno = match.groups(default="")
    return Call(name, decimal(arguments), int(decimal(result)), errno)


def _as_slept(call: Call, rest: deque[Call]) -> Call:
    """`call` with the result that its sleeps leave it: a wait that failed has slept, and its last sleep failed."""
    operation = "FUTEX_WAKE" if call.name == "sem_post" else "FUTEX_WAIT_BITSET" if call.name in _WAITS else ""
    sleeps: list[Call] = []
    while rest and rest[0].name == operation and _for_it(rest[0], call):
        if sleeps and (operation == "FUTEX_WAKE" or sleeps[-1].errno in ("ETIMEDOUT", "EINTR")):
            break  # one sem_post wakes once, and no sleep follows one that is the end of the wait
        sleeps.append(rest.popleft())
    if call.name not in _WAITS:
        return call
    errno = sleeps[-1].errno.replace("EAGAIN", "") if sleeps else ""  # EAGAIN: a token came before it slept
    return call._replace(result=-1 if errno else 0, errno=errno)


def _for_it(futex: Call, call: Call) -> bool:
    """Whether it is of this semaphore, and until the same moment: a wait that finds a token has no sleep of its own."""
    same = futex.arguments.partition(", ")[0] == call.arguments.partition(", ")[0]
    if call.name in _WAITS and not _DEADLINE.search(call.arguments):  # it was counted
        return same
    return same and abs(_deadline(futex.arguments) - _deadline(call.arguments)) < _ROUNDED


def _deadline(arguments: str) -> float:
    """When a wait is to end; 0 for what has no end."""
    found = _DEADLINE.search(arguments)
    return int(found[1]) + int(found[2]) / 1e9 if found else 0.0


def _as_shown(call: Call, shown: Call) -> Call:
    """`call` with what the system calls of one that failed do not tell: its stat, or the name it was to have."""
    if call.errno and call.name == shown.name:
        if call.name in ("fstat", "lstat"):
            return call._replace(arguments=call.arguments.partition("{")[0] + shown.arguments.partition(", ")[2])
        if call.arguments == "?":
            return call._replace(arguments=shown.arguments)
    return call


class _Library:
    """What the C library has open and mapped, and what it was called for."""

    def __init__(self) -> None:
        self._open: set[str] = set()  # descriptors, as strace shows them
        self._mapped: dict[str, str] = {}  # by address, how it is given back: munmap, or sem_close
        self._opening: list[_SystemCall] = []  # what sem_open has done so far

    def told(self, lines: Iterable[_SystemCall]) -> list[Call]:
        """The calls of the library; a sleep or its end is a call named as the operation of futex."""
        return [call for line in lines if self._touches(line) for call in self._tell(line)]

    def _touches(self, line: _SystemCall) -> bool:
        if line.name == "flock":
            return True
        if line.name == "mmap":
            fd = line.arguments.split(", ")[4]
            return fd in self._open or line.first in self._mapped
        by_number = line.first in self._open and not line.arguments.startswith('"')
        return bool(line.paths()) or by_number or (line.first in self._mapped and line.name in ("munmap", "futex"))

    def _tell(self, line: _SystemCall) -> list[Call]:
        if line.name == "openat" and not line.errno:
            self._open.add(line.result)
        if line.name == "close":
            self._open.discard(line.first)
        if line.name == "flock":
            return [_as_call(line, line.name, line.arguments)]
        if self._opening or (line.paths() and self._begins_sem_open(line)):
            return self._sem_open(line)
        name, _, arguments = (line.name, "", line.arguments.removeprefix("AT_FDCWD, "))
        if name == "futex":
            return [_futex(line)]
        if name in _READING:
            return []
        return [_as_call(line, *self._plain(line, name, arguments))]

    def _plain(self, line: _SystemCall, name: str, arguments: str) -> tuple[str, str]:
        """A call of the library that is one system call."""
        path = (line.paths() or [""])[0]
        if name == "openat":
            return "shm_open", _open_arguments(path.removeprefix(_OBJECTS), arguments)
        if name == "unlink":
            kind, prefix = ("sem", _SEMAPHORES) if path.startswith(_SEMAPHORES) else ("shm", _OBJECTS)
            return f"{kind}_unlink", f'"/{path.removeprefix(prefix)}"'
        if name == "fallocate":
            return "posix_fallocate", arguments.replace(", 0, 0, ", ", 0, ", 1)
        if name in ("newfstatat", "fstat", "lstat"):
            return ("lstat" if path else "fstat"), _stat_arguments(arguments)
        if name == "mmap":
            if not line.errno:
                self._mapped.setdefault(line.result, "munmap")
            return name, arguments
        if name == "munmap":
            given_back = self._mapped[line.first] if line.errno else self._mapped.pop(line.first)
            return given_back, line.first if given_back == "sem_close" else arguments
        assert name in (*_AS_THEY_ARE, "close"), f"{line} touches an object, and --trace has nothing for it"
        return name, arguments

    def _begins_sem_open(self, line: _SystemCall) -> bool:
        path = line.paths()[0]
        return bool(_TEMPORARY.fullmatch(path)) or (line.name == "openat" and path.startswith(_SEMAPHORES))

    def _sem_open(self, line: _SystemCall) -> list[Call]:
        self._opening.append(line)
        if line.name != "close" and not (line.name == "openat" and line.errno):
            return []
        by_name = {done.name: done for done in self._opening}
        creates = bool(_TEMPORARY.fullmatch(by_name["openat"].paths()[0]))
        needed = [by_name[name] for name in ("openat", "write", "mmap", "link") if name in by_name]
        self._opening = []
        failed = [done for done in needed if done.errno]
        if not failed:
            self._mapped[by_name["mmap"].result] = "sem_close"
        arguments = _created(by_name) if creates else _opened(by_name["openat"])
        return [_as_call(failed[0] if failed else by_name["mmap"], "sem_open", arguments)]


def _as_call(line: _SystemCall, name: str, arguments: str) -> Call:
    errno = re.sub(r"ERESTART\w+", "EINTR", line.errno)
    if name in ("shm_unlink", "sem_unlink"):
        errno = errno.replace("EPERM", "EACCES")
    return Call(name, decimal(arguments), -1 if errno else int(decimal(line.result)), errno)


def _futex(line: _SystemCall) -> Call:
    operation = re.sub(r"\|FUTEX_CLOCK_REALTIME", "", line.arguments.split(", ")[1])
    assert operation in ("FUTEX_WAIT_BITSET", "FUTEX_WAKE"), line
    return _as_call(line, operation, line.arguments)


def _open_arguments(name: str, arguments: str) -> str:
    _, flags, *mode = arguments.split(", ")
    kept = "|".join(flag for flag in flags.split("|") if flag not in _ADDED_FLAGS)
    return f'"/{name}", {kept}, {mode[0] if mode else 0}'


def _stat_arguments(arguments: str) -> str:
    """The file, and the fields that --trace shows; without them, of a file that is not there."""
    file, _, shown = re.sub(r', ""(?=, )', "", arguments).partition(", ")
    values = dict(re.findall(r"(st_\w+)=([\w|]+)", shown))
    return f"{file}, {{{', '.join(f'{field}={values[field]}' for field in _STAT_FIELDS if field in values)}}}"


def _created(by_name: dict[str, _SystemCall]) -> str:
    """The arguments of a sem_open that creates, from what it did; "?" when it did not come to the name."""
    if "link" not in by_name:
        return "?"
    name = by_name["link"].paths()[1].removeprefix(_SEMAPHORES)
    mode = by_name["openat"].arguments.rpartition(", ")[2]
    written: bytes = ast.literal_eval("b" + by_name["write"].arguments.split(", ")[1])
    return f'"/{name}", O_CREAT|O_EXCL, {mode}, {int.from_bytes(written[:4], "little")}'


def _opened(line: _SystemCall) -> str:
    return f'"/{line.paths()[0].removeprefix(_SEMAPHORES)}", 0'
