"""What a failed call means in this project and what to do about it; the man pages have the general wording.

call_meanings.py says what the calls do. Loaded only by an error and by --explain.
"""

from __future__ import annotations

import errno

from common.errors import CallFailed
from common.ipc.call_meanings import CALLS, KINDS, CallMeaning
from common.ipc.posix_call_meanings import POSIX_CALLS, POSIX_KINDS
from common.ipc.posix_meanings import POSIX_ANSWER, POSIX_MEANING
from common.ipc.trace import errno_name, format_call
from common.typed import Any

_ONLY_OWNER = (
    "only its owner, its creator or root may change or remove it (root with CAP_SYS_ADMIN, which a container's root"
    " usually lacks); ask them"
)

# By call and errno; semtimedop is semop here.
MEANING = {
    ("shmget", errno.EINVAL): "no segment can have this size: it is 0, beyond SHMMAX (see `ipcs -l`) or 2^63-1, or"
    " beyond that of the existing segment; change --slots or --slot-size",
    ("shmget", errno.EEXIST): "a segment with this key exists; leave --exclusive out to join it, or remove it with"
    " `writer.py --remove`; if you did not say --exclusive, it was made just now: start again",
    ("shmget", errno.ENOENT): "no channel has this key; start `writer.py`, or check --key-path and --channel; one in"
    " another IPC namespace (a container has its own) cannot be seen from here",
    ("shmget", errno.EACCES): "the segment with this key belongs to someone else (`ipcs -m` says to whom; after a sudo,"
    " to root) and its mode keeps us out; its owner can widen it with `writer.py --chmod MODE` or remove it, or choose"
    " another --channel",
    ("shmget", errno.ENOMEM): "there is no memory for a segment of this size; lower --slots or --slot-size",
    ("shmget", errno.ENOSPC): "the system has no segment left to give: SHMMNI segments are there, or with this one"
    " there would be more than SHMALL pages (see `ipcs -lm` and `ipcs -m`); lower --slots or --slot-size, or remove"
    " stale segments with `ipcrm -m ID`",
    ("shmat", errno.EINVAL): "the segment was removed just now, or nothing can be attached at this address: it is in"
    " use or out of range; start again, with another --attach-at or without",
    ("shmat", errno.EACCES): "the segment's mode does not let us attach it; its owner can widen it with"
    " `writer.py --chmod MODE`",
    ("shmat", errno.ENOMEM): "there is no room for it in the address space of this process: raise `ulimit -v`, lower"
    " --slots or --slot-size, or with --attach-at choose another address",
    ("shmat", errno.EPERM): "--attach-at is below vm.mmap_min_addr; choose another address",
    ("shmctl", errno.EACCES): "the segment's mode does not let us read its state; its owner can widen it with"
    " `writer.py --chmod MODE`",
    ("shmctl", errno.EFAULT): "the address of the struct is not in our memory; this is a mistake in the program",
    ("shmctl", errno.EPERM): _ONLY_OWNER,
    ("shmdt", errno.EINVAL): "no segment is attached at this address (any more)",
    ("semget", errno.EACCES): "the semaphore's mode does not let us use it; its owner can widen it with"
    " `writer.py --chmod MODE`",
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
    " `writer.py --chmod MODE`",
    ("semop", errno.ENOMEM): "the kernel has no memory for SEM_UNDO",
    ("semctl", errno.EPERM): _ONLY_OWNER,
    ("semctl", errno.EACCES): "the semaphore's mode does not let us read it; its owner can widen it with"
    " `writer.py --chmod MODE`",
    ("ftok", errno.ENOENT): "--key-path must name an existing file or directory",
    ("ftok", errno.EACCES): "a directory above --key-path cannot be searched; choose another --key-path",
    ("ftok", errno.ENOTDIR): "a part of --key-path is a file and no directory; check the path",
    ("ftok", errno.ELOOP): "the symbolic links in --key-path lead round in a circle; name the directory itself",
    ("ftok", errno.ENAMETOOLONG): "--key-path is longer than this system allows; choose another",
}

# Whose man page has another name than the call; and what, as sem_..., is the C library's and no system call.
_PAGES = {"semtimedop": "semop", **dict.fromkeys(("sem_trywait", "sem_clockwait", "sem_timedwait"), "sem_wait")}
_LIBRARY = ("ftok", "shm_open", "shm_unlink", "posix_fallocate")

# What an errno means that is an answer, with which the program goes on; by kind of call and errno.
ANSWER = {
    ("shmget, open", errno.ENOENT): "no segment has this key: a writer makes one, a reader looks again, others end",
    **{
        (f"{call} IPC_SET, to ask with uid -1", errno.EINVAL): "we may, and nothing has changed; were it removed just"
        " now, the IPC_STAT that follows would say so"
        for call in ("shmctl", "semctl")
    },
    ("semget IPC_CREAT", errno.EEXIST): "this key is taken, and nothing proves it ours: refused, and left untouched",
    ("semop, take", errno.EAGAIN): "it has no token: where one is needed, we go to sleep until it comes",
    ("semop, put back", errno.ERANGE): "it is full to SEMVMX (32767) and stays so: as many tokens wake anyone",
    ("semtimedop", errno.EAGAIN): "no token came in this time: we look whether channel and others are still there",
    ("semtimedop", errno.EINTR): "a signal woke us; nothing restarts this call (signal(7)), so we look and go on",
    ("flock LOCK_EX", errno.EAGAIN): "somebody else is in the doorway, mostly for a moment: we try again",
}
_BY_ID = ("shmget", "shmat", "shmdt", "shmctl", "semget", "semctl", "semop")  # EINVAL of a POSIX call is no removal
_WAS_REMOVED = (
    "the channel, or this part of it, was removed by `--remove` or ipcrm; end what still runs on it and start"
    " `writer.py` and `reader.py` again: if a semaphore was removed, it is made anew and no record is lost; if the"
    " segment was removed, a new channel is made, and what nobody had read has to be sent again"
)
_NO_SUCH_OWNER = (
    "this user or group has no number in our user namespace (see /proc/self/uid_map), or what we change was removed"
    " just now; name another, or look with `reader.py --status`"
)


def format_failure(error: CallFailed) -> str:
    """The call, its errno by name, what that means here and what to do: one line."""
    said = f"{format_call(error.name, error.arguments)}: {errno_name(error.errno)} ({error.strerror})"
    meaning = meaning_of_errno(error.name, error.arguments, error.errno or 0)
    return f"{said}: {meaning}" if meaning else said


def meaning_of_errno(name: str, arguments: tuple[Any, ...], number: int, *, goes_on: bool = False) -> str:
    """What this errno of a call means and what to do; "" for one that nobody foresaw.

    `goes_on`: to a program that may go on with it.
    """
    kind = kind_of(name, arguments)
    if goes_on and (answer := ANSWER.get((kind, number)) or POSIX_ANSWER.get((kind, number))):
        return answer
    if number == errno.EINVAL and "IPC_SET" in kind:
        return _NO_SUCH_OWNER
    name = "semop" if name == "semtimedop" else name
    meaning = MEANING.get((name, number)) or POSIX_MEANING.get((name, number), "")
    if number == errno.EIDRM or (number == errno.EINVAL and not meaning and name in _BY_ID):
        return _WAS_REMOVED
    return meaning


def kind_of(name: str, arguments: tuple[Any, ...]) -> str:
    """What kind of call it is: which entry of CALLS or POSIX_CALLS it has."""
    kind = KINDS.get(name) or POSIX_KINDS.get(name)
    return kind(*arguments) if kind else name


def page_of(name: str) -> str:
    """The man page of a call, such as shmget(2)."""
    page = _PAGES.get(name, name)
    return f"{page}({3 if page in _LIBRARY or page.startswith('sem_') else 2})"


def meaning_of_call(kind: str) -> CallMeaning:
    """What a call of this kind does, and why."""
    return CALLS[kind] if kind in CALLS else POSIX_CALLS[kind]


_FILE_MEANING = {
    errno.ENOSPC: "no room is left on this disk or device; make room and go on, with --resume if it was --output, with"
    " >> if not, or write elsewhere: nothing is lost",
    errno.EFBIG: "no file may be that large here (see `ulimit -f`); raise the limit and go on, with --resume if it was"
    " --output, with >> if not: nothing is lost",
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
