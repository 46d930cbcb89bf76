"""How a call looks: in strace's form, for --trace and for the line of one that failed.

Loaded only by --trace and by an error. The flags are numbers here, because what they stand for is the same wherever
their module cannot be loaded.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from common.channel.listener import Call
from common.ipc.calls import key_text

_GET_FLAGS = ((0o1000, "IPC_CREAT"), (0o2000, "IPC_EXCL"))
_SHMAT_FLAGS = ((0o20000, "SHM_RND"), (0o10000, "SHM_RDONLY"))
_SEMOP_FLAGS = ((0x1000, "SEM_UNDO"), (0o4000, "IPC_NOWAIT"))
_NO_UID = 2**32 - 1  # (uid_t) -1
_SHMCTL_COMMANDS = {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT"}


def errno_name(number: int | None) -> str:
    """The symbol of an errno, such as 'EACCES'."""
    return errno.errorcode.get(number or 0, f"errno {number}")


def printer(write: Callable[[str], None]) -> Callable[[Call], None]:
    """Who hears of each call and writes a line, in strace's form."""

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
    uid = -1 if perm.uid == _NO_UID else perm.uid
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
