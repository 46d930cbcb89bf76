"""Every call and errno of the lab as data: the one command that provokes it and what our program then says.

The README's table shows these rows word for word (test_errnos.py checks that), and test_errnos.py runs each of them.
A kernel that behaves never refuses shmdt or loses a segment between two of our calls: there strace's fault
injection lets it fail under our real program.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One errno of one call.

    `needs` is what the command cannot do without: "root" (a second user, a private IPC namespace), "strace", or
    "overcommit" (a kernel that counts memory, vm.overcommit_memory other than 1).
    `leaves` is how many records wait in the channel afterwards; None: there must be no channel.
    """

    call: str
    errno: str
    command: str
    meaning: str
    needs: str = ""
    leaves: int | None = None


_STRANGER = "setpriv --reuid 65534 --regid 65534 --clear-groups"


def _as_stranger(mode: str, command: str) -> str:
    return f"python writer.py --quiet --mode {mode} hello && {_STRANGER} python {command}"


def _in_namespace(limit: str, value: str) -> str:
    return f"unshare --ipc sh -c 'echo {value} > /proc/sys/kernel/{limit}; python writer.py hello'"


def _inject(call: str, errno: str, command: str) -> str:
    return f"strace -qq -o /dev/null -e trace={call} -e inject={call}:error={errno} python {command}"


_WRONG_SIZE = "no segment can have this size"
_KEPT_OUT = "the segment with this key belongs to someone else and its mode keeps us out"
_NO_SEGMENT_LEFT = "the system has no segment left to give"
_NOT_HERE = "nothing can be attached at this address"
_ONLY_OWNER = "only its owner, its creator or root may change or remove it"
_UNREADABLE = "the segment's mode does not let us read its state"
_WAS_REMOVED = "was removed by `--remove` or ipcrm"

CASES = (
    Case("shmget", "EINVAL", "python writer.py --slots 0 hello", _WRONG_SIZE),
    Case("shmget", "EINVAL", "python writer.py --quiet hello && python writer.py --slots 64 hello", _WRONG_SIZE, "", 1),
    Case("shmget", "EINVAL", "python writer.py --slots 1 --slot-size 16777215T hello", _WRONG_SIZE),
    Case("shmget", "EINVAL", _in_namespace("shmmax", "1000000"), _WRONG_SIZE, "root"),
    Case(
        "shmget",
        "EEXIST",
        "python writer.py --quiet hello && python writer.py --exclusive hello",
        "leave --exclusive out to join it",
        "",
        1,
    ),
    Case("shmget", "ENOENT", "python reader.py --status", "no channel has this key"),
    Case("shmget", "EACCES", _as_stranger("0600", "reader.py"), _KEPT_OUT, "root", 1),
    Case("shmget", "ENOMEM", "python writer.py --slot-size 1T hello", "there is no memory", "overcommit"),
    Case("shmget", "ENOSPC", _in_namespace("shmmni", "0"), _NO_SEGMENT_LEFT, "root"),
    Case("shmget", "ENOSPC", _in_namespace("shmall", "100"), _NO_SEGMENT_LEFT, "root"),
    Case("shmat", "EINVAL", "python writer.py --attach-at 0xfffffffffffff000 hello", _NOT_HERE),
    Case(
        "shmat", "EACCES", _as_stranger("0644", "writer.py --remove"), "the segment's mode does not let us", "root", 1
    ),
    Case("shmat", "ENOMEM", "ulimit -v 400000; python writer.py --slot-size 64M hello", "address space"),
    Case("shmat", "ENOMEM", "python writer.py --attach-at 0x8000000000000000 hello", "address space"),
    Case("shmctl", "EACCES", _as_stranger("0600", "reader.py --status"), _UNREADABLE, "root", 1),
    Case("shmctl", "EPERM", _as_stranger("0666", "writer.py --chmod 0600"), _ONLY_OWNER, "root", 1),
    Case("shmctl", "EPERM", _as_stranger("0666", "writer.py --remove"), _ONLY_OWNER, "root", 1),
    Case(
        "shmctl",
        "EINVAL",
        f"python writer.py --quiet hello && {_inject('shmctl', 'EINVAL', 'reader.py --status')}",
        _WAS_REMOVED,
        "strace",
        1,
    ),
    Case(
        "shmctl",
        "EIDRM",
        f"python writer.py --quiet hello && {_inject('shmctl', 'EIDRM', 'reader.py --status')}",
        _WAS_REMOVED,
        "strace",
        1,
    ),
    Case("shmdt", "EINVAL", _inject("shmdt", "EINVAL", "writer.py hello"), "no segment is attached", "strace", 1),
    Case(
        "semget",
        "EACCES",
        f"python writer.py --quiet hello && {_inject('semget', 'EACCES', 'reader.py')}",
        "the semaphore's mode does not let us use it",
        "strace",
        1,
    ),
    Case("semget", "ENOSPC", _in_namespace("sem", "32000 1024000000 500 3"), "no semaphore left", "root"),
    Case(
        "semtimedop",
        "EIDRM",
        "until sleep 1; python writer.py --quiet --remove; do :; done & yes | python writer.py",
        "the channel was removed while we waited, by `--remove` or ipcrm",
    ),
)
