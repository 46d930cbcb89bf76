"""How a call looks: in strace's form, for --trace and for the line of one that failed.

Loaded only by --trace and by an error. The flags are numbers here, because what they stand for is the same wherever
their module cannot be loaded.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from common.channel.listener import Call
from common.ipc.calls import key_text
from common.typed import Any

_GET_FLAGS = ((0o1000, "IPC_CREAT"), (0o2000, "IPC_EXCL"), (0o4000, "SHM_HUGETLB"), (0o10000, "SHM_NORESERVE"))
_SHMAT_FLAGS = ((0o20000, "SHM_RND"), (0o10000, "SHM_RDONLY"))
_SEMOP_FLAGS = ((0x1000, "SEM_UNDO"), (0o4000, "IPC_NOWAIT"))
_NO_UID = 2**32 - 1  # (uid_t) -1
_SHMCTL_COMMANDS = {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 11: "SHM_LOCK", 13: "SHM_STAT", 14: "SHM_INFO"}
_OPEN_FLAGS = ((0o2, "O_RDWR"), (0o100, "O_CREAT"), (0o200, "O_EXCL"))
_PROTECTIONS = ((1, "PROT_READ"), (2, "PROT_WRITE"))
_MAP_FLAGS = ((0x1, "MAP_SHARED"), (0x2, "MAP_PRIVATE"), (0x10, "MAP_FIXED"), (0x20, "MAP_ANONYMOUS"))
_LOCK_COMMANDS = {36: "F_OFD_GETLK", 37: "F_OFD_SETLK"}
_FLOCK_OPERATIONS = ((2, "LOCK_EX"), (4, "LOCK_NB"), (8, "LOCK_UN"))
_LOCK_KINDS = {0: "F_RDLCK", 1: "F_WRLCK", 2: "F_UNLCK"}
_WHENCE = {0: "SEEK_SET", 1: "SEEK_CUR", 2: "SEEK_END"}
_CLOCKS = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC"}
_ADDRESSES = ("shmat", "mmap", "sem_open")  # what returns one


def errno_name(number: int | None) -> str:
    """The symbol of an errno, such as 'EACCES'."""
    return errno.errorcode.get(number or 0, f"errno {number}")


def printer(write: Callable[[str], None]) -> Callable[[Call], None]:
    """Who hears of each call and writes a line, in strace's form."""
    return lambda call: write(format_line(call))


def format_line(call: Call) -> str:
    """The call and its result: shmget(0x01020ab3, 0, 0) = -1 ENOENT (No such file or directory)."""
    if call.errno:
        result = f"-1 {errno_name(call.errno)} ({os.strerror(call.errno)})"
    elif call.name in _ADDRESSES:
        result = hex(call.result)
    elif call.name == "ftok":
        result = key_text(call.result)
    else:
        result = str(call.result)
    return f"{format_call(call.name, call.arguments)} = {result}"


def format_call(name: str, arguments: tuple[Any, ...]) -> str:
    """The call as C would have it, with symbolic flags: shmget(0x01020ab3, 2101248, IPC_CREAT|IPC_EXCL|0660)."""
    return f"{name}({', '.join(format_arguments(name, arguments))})"


def format_arguments(name: str, arguments: tuple[Any, ...]) -> list[str]:
    """What stands between the parentheses, one text an argument."""
    return _FORMAT[name](*arguments)


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


def _msgget(key: int, flags: int) -> list[str]:
    return [key_text(key), _flags(flags, _GET_FLAGS, octal_rest=True)]


def _shmat(shmid: int, address: int | None, flags: int) -> list[str]:
    return [str(shmid), "NULL" if address is None else hex(address), _flags(flags, _SHMAT_FLAGS)]


def _shmdt(address: int) -> list[str]:
    return [hex(address)]


def _shmctl(shmid: int, command: int, buffer: Any) -> list[str]:
    shown = "NULL" if command in (0, 11) else "buf"
    if isinstance(buffer, int):  # an address, which may be wrong
        shown = hex(buffer)
    elif buffer is not None:
        shown = f"{{{_permissions(buffer)}, segsz={buffer.size}, nattch={buffer.attached}}}"
    return [str(shmid), _SHMCTL_COMMANDS.get(command, str(command)), shown]


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


def _shm_open(name: str, flags: int, mode: int) -> list[str]:
    return [f'"{name}"', _open_flags(flags), f"0{mode:o}" if mode else "0"]


def _open_flags(flags: int) -> str:
    return _flags(flags, _OPEN_FLAGS) if flags & 0o3 else "|".join(filter(None, ("O_RDONLY", _more(flags))))


def _more(flags: int) -> str:
    return _flags(flags, _OPEN_FLAGS) if flags else ""


def _sem_open(name: str, flags: int, *creation: int) -> list[str]:
    shown = [f'"{name}"', _more(flags) or "0"]
    return [*shown, f"0{creation[0]:o}", str(creation[1])] if creation else shown


def _mmap(address: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> list[str]:
    at = "NULL" if address is None else hex(address)
    return [at, str(length), _flags(protection, _PROTECTIONS), _flags(flags, _MAP_FLAGS), str(fd), str(offset)]


def _munmap(address: int, length: int) -> list[str]:
    return [hex(address), str(length)]


# inode(7)
_FILE_KINDS = ("S_IFIFO", "S_IFCHR", "S_IFDIR", "S_IFBLK", "S_IFREG", "S_IFLNK", "S_IFSOCK")


def _stat(file: int | str, seen: Any) -> list[str]:
    shown = "buf"
    if seen is not None:
        kind = next(name for name in _FILE_KINDS if getattr(stat, name) == seen.kind)
        owner = f"st_nlink={seen.links}, st_uid={seen.uid}, st_gid={seen.gid}"
        shown = f"{{st_ino={seen.ino}, st_mode={kind}|0{seen.mode:o}, {owner}, st_size={seen.size}}}"
    return [_file(file), shown]


def _file(file: int | str) -> str:
    return f'"{file}"' if isinstance(file, str) else str(file)


def _chmod(file: int | str, mode: int) -> list[str]:
    return [_file(file), f"0{mode:o}"]


def _numbers(*numbers: int | str) -> list[str]:
    return [_file(number) for number in numbers]


def _semaphore(address: int, *rest: int) -> list[str]:
    return [hex(address), *map(str, rest)]


def _sem_getvalue(address: int, value: int) -> list[str]:
    return [hex(address), f"[{value}]"]


def _sem_clockwait(address: int, clock: int, until: float) -> list[str]:
    return [hex(address), _CLOCKS.get(clock, str(clock)), *_moment(until)]


def _sem_timedwait(address: int, until: float) -> list[str]:
    return [hex(address), *_moment(until)]


def _moment(until: float) -> list[str]:
    return [f"{{tv_sec={int(until)}, tv_nsec={int(until % 1 * 1_000_000_000)}}}"]


def _flock(fd: int, operation: int) -> list[str]:
    return [str(fd), _flags(operation, _FLOCK_OPERATIONS)]


def _fcntl(fd: int, command: int, lock: Any) -> list[str]:
    kind, whence = _LOCK_KINDS.get(lock.type, str(lock.type)), _WHENCE.get(lock.whence, str(lock.whence))
    asked = f", l_pid={lock.pid}" if command == 36 else ""
    shown = f"{{l_type={kind}, l_whence={whence}, l_start={lock.start}, l_len={lock.length}{asked}}}"
    return [str(fd), _LOCK_COMMANDS[command], shown]


_FORMAT: dict[str, Callable[..., list[str]]] = {
    "ftok": _ftok,
    "flock": _flock,
    "shmget": _get,
    "shmat": _shmat,
    "shmdt": _shmdt,
    "shmctl": _shmctl,
    "semget": _get,
    "msgget": _msgget,
    "semctl": _semctl,
    "semop": _semop,
    "semtimedop": _semtimedop,
    "shm_open": _shm_open,
    "shm_unlink": _numbers,
    "ftruncate": _numbers,
    "posix_fallocate": _numbers,
    "mmap": _mmap,
    "munmap": _munmap,
    "fstat": _stat,
    "lstat": _stat,
    "fchmod": _chmod,
    "chmod": _chmod,
    "fchown": _numbers,
    "lchown": _numbers,
    "close": _numbers,
    "fcntl": _fcntl,
    "sem_open": _sem_open,
    "sem_close": _semaphore,
    "sem_unlink": _numbers,
    "sem_post": _semaphore,
    "sem_trywait": _semaphore,
    "sem_clockwait": _sem_clockwait,
    "sem_timedwait": _sem_timedwait,
    "sem_getvalue": _sem_getvalue,
}
