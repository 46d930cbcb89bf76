"""What this machine gives to IPC: facts of /proc and of the file system. No IPC object is touched here, none is judged.

Read by --doctor and by the lab only. What cannot be read raises OSError, or is None where it says so.
"""

from __future__ import annotations

import os
import pwd
import re
import resource
import subprocess
from contextlib import suppress
from typing import NamedTuple

DEV_SHM = "/dev/shm"
# The inode of the namespace that the machine starts with (PROC_IPC_INIT_INO in the kernel's <linux/proc_ns.h>).
FIRST_NAMESPACE = "ipc:[4026531839]"
NO_LIMIT = 2**63  # of a tmpfs with size=0 or nr_inodes=0, which statvfs(3) shows as nothing at all
LAST_SYSTEM_UID = 999  # systemd's SYSTEM_UID_MAX, if whoever built it chose no other
_CAPABILITIES = {"CAP_SETUID": 7, "CAP_IPC_OWNER": 15, "CAP_SYS_ADMIN": 21}  # <linux/capability.h>


class Limits(NamedTuple):
    """What System V IPC may take in this IPC namespace, by the names of shmget(2) and semget(2); proc(5)."""

    shmmax: int  # bytes in a segment
    shmall: int  # pages in all segments
    shmmni: int  # segments
    semmsl: int  # semaphores in a set
    semmns: int  # semaphores in all sets
    semopm: int  # operations in one semop
    semmni: int  # sets


class Used(NamedTuple):
    """What of it is taken; sysvipc(5)."""

    pages: int
    segments: int
    semaphores: int
    sets: int


class DevShm(NamedTuple):
    """The file system of POSIX objects: statvfs(3)."""

    size: int  # bytes
    room: int  # bytes that we may still take
    files: int  # that we may still make
    readonly: bool
    writable: bool  # by us
    sticky: bool  # only owners remove what is theirs


def _numbers(name: str) -> list[int]:
    with open(f"/proc/sys/kernel/{name}") as setting:
        return [int(number) for number in setting.read().split()]


def read_limits() -> Limits:
    """The limits of this namespace."""
    return Limits(*_numbers("shmmax"), *_numbers("shmall"), *_numbers("shmmni"), *_numbers("sem"))


def read_table(kind: str) -> list[dict[str, int]]:
    """The rows of /proc/sysvipc/shm or sem, of this namespace, by the names of their columns; see sysvipc(5).

    Anybody may read them.
    """
    with open(f"/proc/sysvipc/{kind}") as table:
        names, *rows = (line.split() for line in table)
    return [
        {name: int(value, 8 if name == "perms" else 10) for name, value in zip(names, row, strict=True)} for row in rows
    ]


def read_used() -> Used:
    """What is there, whosever it is."""
    segments, sets = read_table("shm"), read_table("sem")
    pages = sum(pages_of(row["size"]) for row in segments)
    return Used(pages, len(segments), sum(row["nsems"] for row in sets), len(sets))


def pages_of(size: int) -> int:
    """How many pages of the kernel's so many bytes take."""
    return -(-size // os.sysconf("SC_PAGESIZE"))


def ipc_namespace() -> str:
    """Ours, such as ipc:[4026531839]; namespaces(7)."""
    return os.readlink("/proc/self/ns/ipc")


def read_dev_shm(path: str = DEV_SHM) -> DevShm | None:
    """What there is to be had of it; None for no such directory."""
    if not os.path.isdir(path):
        return None
    there = os.statvfs(path)
    return DevShm(
        there.f_blocks * there.f_frsize,
        there.f_bavail * there.f_frsize if there.f_blocks else NO_LIMIT,
        there.f_favail if there.f_files else NO_LIMIT,
        bool(there.f_flag & os.ST_RDONLY),
        os.access(path, os.W_OK | os.X_OK),
        bool(os.stat(path).st_mode & 0o1000),
    )


def file_size_limits() -> tuple[int, int]:
    """How large a file we may make, in bytes, and how far we may raise that: RLIMIT_FSIZE, setrlimit(2)."""
    soft, hard = (
        NO_LIMIT if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_FSIZE)
    )
    return soft, hard


def removes_at_logout() -> bool | None:
    """Whether systemd-logind has RemoveIPC=yes (logind.conf(5)), as it says itself; None when it does not say."""
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return False
    name, path = "org.freedesktop.login1", "/org/freedesktop/login1"
    command = ["busctl", "get-property", name, path, f"{name}.Manager", "RemoveIPC"]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"b true": True, "b false": False}.get(said.strip())


def lingers(uid: int) -> bool:
    """Whether this user never logs out, for systemd-logind (loginctl enable-linger)."""
    try:
        return os.path.exists(f"/var/lib/systemd/linger/{pwd.getpwuid(uid).pw_name}")
    except KeyError:
        return False


def missing_capabilities(*names: str) -> list[str]:
    """Which of these rights this process lacks; capabilities(7), proc_pid_status(5)."""
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return [name for name in names if not effective >> _CAPABILITIES[name] & 1]


def lock_holder(identity: tuple[int, int]) -> int:
    """The pid of a process with a flock(2) on the file with these st_dev and st_ino; 0 for none that we see."""
    dev, ino = identity
    where = f"{os.major(dev):02x}:{os.minor(dev):02x}:{ino}"
    with open("/proc/locks") as locks:
        rows = [line.split() for line in locks]
    return next((int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == where), 0)


def temporary_semaphores(uid: int) -> int:
    """How many files of this user look like what sem_open makes first: sem.XXXXXX, as large as a semaphore."""
    count = 0
    if not os.path.isdir(DEV_SHM):
        return 0
    with os.scandir(DEV_SHM) as files:
        for file in files:
            if re.fullmatch(r"sem\.[A-Za-z0-9]{6}", file.name):
                with suppress(FileNotFoundError):  # it has its name by now
                    there = file.stat(follow_symlinks=False)
                    count += (there.st_uid, there.st_size) == (uid, 32)
    return count
