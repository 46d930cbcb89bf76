"""The calls as they happen (--trace), in strace's form, and what a failed one means here.

Loaded only by --trace and by an error: it knows how a call looks, not how to make one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from common.errors import CallFailed
from common.ipc.sysv_calls import NO_UID, Call, key_text

_GET_FLAGS = ((0o1000, "IPC_CREAT"), (0o2000, "IPC_EXCL"))
_SHMAT_FLAGS = ((0o20000, "SHM_RND"), (0o10000, "SHM_RDONLY"))
_SEMOP_FLAGS = ((0x1000, "SEM_UNDO"), (0o4000, "IPC_NOWAIT"))
_SHMCTL_COMMANDS = {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT"}

_ONLY_OWNER = (
    "only its owner, its creator or root may change or remove it (root with CAP_SYS_ADMIN, which a container's root"
    " usually lacks); ask them"
)

# What the errno means in this project and what to do about it; the man pages have the general wording.
MEANING = {
    ("shmget", errno.EINVAL): "no segment can have this size: it is 0, beyond SHMMAX (see `ipcs -l`) or 2^63-1, or"
    " beyond that of the existing segment; change --slots or --slot-size",
    ("shmget", errno.EEXIST): "a segment with this key exists; leave --exclusive out to join it, or remove it with"
    " `writer.py --remove`; if you did not say --exclusive, it was made just now: start again",
    ("shmget", errno.ENOENT): "no channel has this key; start writer.py, or check --key-path and --channel; one in"
    " another IPC namespace (a container has its own) cannot be seen from here",
    ("shmget", errno.EACCES): "the segment with this key belongs to someone else and its mode keeps us out;"
    " its owner can widen it with `writer.py --chmod`, or choose another --channel",
    ("shmget", errno.ENOMEM): "there is no memory for a segment of this size; lower --slots or --slot-size",
    ("shmget", errno.ENOSPC): "the system has no segment left to give: SHMMNI segments are there, or with this one"
    " there would be more than SHMALL pages (see `ipcs -lm` and `ipcs -m`); lower --slots or --slot-size, or remove"
    " stale segments with `ipcrm -m ID`",
    ("shmat", errno.EINVAL): "the segment was removed just now, or nothing can be attached at this address: it is in"
    " use or out of range; start again, with another --attach-at or without",
    ("shmat", errno.EACCES): "the segment's mode does not let us attach it; its owner can widen it with"
    " `writer.py --chmod`",
    ("shmat", errno.ENOMEM): "there is no room for it in the address space of this process: see `ulimit -v`, or"
    " choose another --attach-at",
    ("shmat", errno.EPERM): "--attach-at is below vm.mmap_min_addr; choose another address",
    ("shmctl", errno.EACCES): "the segment's mode does not let us read its state; its owner can widen it with"
    " `writer.py --chmod`",
    ("shmctl", errno.EFAULT): "the address of the struct is not in our memory; this is a mistake in the program",
    ("shmctl", errno.EPERM): _ONLY_OWNER,
    ("shmdt", errno.EINVAL): "no segment is attached at this address (any more)",
    ("semget", errno.EACCES): "the semaphore's mode does not let us use it; its owner can widen it with"
    " `writer.py --chmod`",
    ("semget", errno.EINVAL): "this system allows no set of one semaphore (SEMMSL, the first number in"
    " /proc/sys/kernel/sem, is 0); its administrator can raise it",
    ("semget", errno.ENOENT): "the channel has lost this semaphore (ipcrm); end every program that uses the channel"
    " and start again, as the user who made it: the first to start makes the semaphores anew, and no record is lost",
    ("semget", errno.ENOMEM): "the kernel has no memory for another semaphore; remove stale ones with `ipcrm -s ID`",
    ("semget", errno.ENOSPC): "the system has no semaphore left to give (SEMMNI, SEMMNS: see `ipcs -ls`);"
    " remove stale ones with `ipcrm -s ID`",
    ("semop", errno.E2BIG): "this system allows no operation on a semaphore (SEMOPM, the third number in"
    " /proc/sys/kernel/sem, is 0); its administrator can raise it",
    ("semop", errno.EACCES): "the semaphore's mode does not let us use it (any more); its owner can widen it with"
    " `writer.py --chmod`",
    ("semop", errno.ENOMEM): "the kernel has no memory for SEM_UNDO",
    ("semctl", errno.EPERM): _ONLY_OWNER,
    ("semctl", errno.EACCES): "the semaphore's mode does not let us read it; its owner can widen it with"
    " `writer.py --chmod`",
    ("ftok", errno.ENOENT): "--key-path must name an existing file or directory",
    ("ftok", errno.EACCES): "a directory above --key-path cannot be searched; choose another --key-path",
}
_WAS_REMOVED = (
    "the channel, or this part of it, was removed by `--remove` or ipcrm; end what still runs on it and"
    " start writer.py and reader.py again: if a semaphore was removed, it is made anew and no record is lost; if the"
    " segment was removed, a new channel is made, and what nobody had read has to be sent again"
)
_NO_SUCH_OWNER = (
    "this user or group has no number in our user namespace (see /proc/self/uid_map), or what we change was removed"
    " just now; name another, or look with `reader.py --status`"
)


def errno_name(number: int | None) -> str:
    """The symbol of an errno, such as 'EACCES'."""
    return errno.errorcode.get(number or 0, f"errno {number}")


def format_failure(error: CallFailed) -> str:
    """The call, its errno by name, what that means here and what to do: one line."""
    said = f"{format_call(error.name, error.arguments)}: {errno_name(error.errno)} ({error.strerror})"
    name = "semop" if error.name == "semtimedop" else error.name
    meaning = MEANING.get((name, error.errno or 0))
    if error.errno == errno.EINVAL and _is_set(error):
        meaning = _NO_SUCH_OWNER
    elif error.errno == errno.EIDRM or (error.errno == errno.EINVAL and not meaning):
        meaning = _WAS_REMOVED
    return f"{said}: {meaning}" if meaning else said


def _is_set(error: CallFailed) -> bool:
    """Whether the call was an IPC_SET."""
    return (error.name == "shmctl" and error.arguments[1] == 1) or (
        error.name == "semctl" and error.arguments[2] == "IPC_SET"
    )


_FILE_MEANING = {
    errno.ENOSPC: "no room is left on this disk or device; make room and start again, with --output and --resume to"
    " go on, or write elsewhere: nothing is lost",
    errno.EFBIG: "no file may be that large here (see `ulimit -f`); raise the limit, then go on with --resume",
    errno.ENOENT: "there is no such file; check the path",
    errno.ENOTDIR: "a part of the path is a file and not a directory; check the path",
    errno.ELOOP: "its symbolic links lead round in a circle; name the file itself",
    errno.ENAMETOOLONG: "the path is longer than this system allows; name another",
    errno.ENXIO: "it is a socket, or a device that is not there; name a file or a pipe",
    errno.EACCES: "its permissions keep us out; check them, or name another file",
    errno.EISDIR: "it is a directory; name a file",
    errno.EBADF: "it is closed; redirect it to a file or a pipe",
    errno.EIO: "the device failed; what was committed stays in the channel",
    errno.EROFS: "this file system is read-only; name a file elsewhere",
}


def format_file_error(error: OSError) -> str:
    """Which file, the errno by name, what to do: one line."""
    where = "" if error.filename is None else f"{error.filename or repr('')}: "
    meaning = _FILE_MEANING.get(error.errno or 0)
    return f"{where}{errno_name(error.errno)} ({error.strerror})" + (f": {meaning}" if meaning else "")


def printer(write: Callable[[str], None]) -> Callable[[Call], None]:
    """An observer for sysv.observer: one line a call, in strace's form."""

    def show(call: Call) -> None:
        if call.errno:
            result = f"-1 {errno_name(call.errno)} ({os.strerror(call.errno)})"
        elif call.name == "shmat":
            result = hex(call.result)
        elif call.name == "ftok":
            result = key_text(call.result)
        else:
            result = str(call.result)
        write(f"{format_call(call.name, call.arguments)} = {result}")

    return show


def format_call(name: str, arguments: tuple[Any, ...]) -> str:
    """The call as C would have it, with symbolic flags: shmget(0x01020ab3, 2101248, IPC_CREAT|IPC_EXCL|0660)."""
    return f"{name}({', '.join(_FORMAT[name](*arguments))})"


def _flags(value: int, names: tuple[tuple[int, str], ...], octal_rest: bool = False) -> str:
    parts = [name for bit, name in names if value & bit]
    rest = value & ~sum(bit for bit, _ in names)
    if rest or not parts:
        parts.append(f"{rest:#05o}".replace("0o", "0") if octal_rest and rest else str(rest))
    return "|".join(parts)


def _ftok(path: str, project_id: int) -> list[str]:
    return [f'"{path}"', str(project_id)]


def _get(key: int, size: int, flags: int) -> list[str]:
    return [key_text(key), str(size), _flags(flags, _GET_FLAGS, octal_rest=True)]


def _shmat(shmid: int, address: int | None, flags: int) -> list[str]:
    return [str(shmid), "NULL" if address is None else hex(address), _flags(flags, _SHMAT_FLAGS)]


def _shmdt(address: int) -> list[str]:
    return [hex(address)]


def _shmctl(shmid: int, command: int, buffer: Any) -> list[str]:
    shown = "NULL" if command == 0 else "buf"
    if buffer is not None:
        shown = f"{{{_permissions(buffer)}, segsz={buffer.size}, nattch={buffer.attached}}}"
    return [str(shmid), _SHMCTL_COMMANDS[command], shown]


def _semctl(semid: int, number: int, command: str, *arguments: Any) -> list[str]:
    shown = [f"{{{_permissions(argument)}}}" if hasattr(argument, "perm") else str(argument) for argument in arguments]
    return [str(semid), str(number), command, *("buf" if text == "None" else text for text in shown)]


def _permissions(buffer: Any) -> str:
    perm = buffer.perm
    uid = -1 if perm.uid == NO_UID else perm.uid
    return f"uid={uid}, gid={perm.gid}, mode=0{perm.mode:o}"


def _semop(semid: int, change: int, flags: int) -> list[str]:
    return [str(semid), f"[{{0, {change}, {_flags(flags, _SEMOP_FLAGS)}}}]", "1"]


def _semtimedop(semid: int, change: int, flags: int, timeout: float) -> list[str]:
    return [*_semop(semid, change, flags), f"{{{timeout:g} s}}"]


_FORMAT: dict[str, Callable[..., list[str]]] = {
    "ftok": _ftok,
    "shmget": _get,
    "shmat": _shmat,
    "shmdt": _shmdt,
    "shmctl": _shmctl,
    "semget": _get,
    "semctl": _semctl,
    "semop": _semop,
    "semtimedop": _semtimedop,
}
