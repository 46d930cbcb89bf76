"""What a failed POSIX call means in this project and what to do about it, as meanings.py does for System V.

Loaded only by an error and by --explain.
"""

from __future__ import annotations

import errno

_WIDEN = "its owner can widen it with `writer.py --chmod MODE`, or choose another --channel"
_FILES = "this process has as many files open as it may (see `ulimit -n`); raise the limit"
_ALL_FILES = "the system has as many files open as it may (/proc/sys/fs/file-max); close some, or raise it"
_NO_ROOM = "has not that much room left (see `df /dev/shm`); lower --slots or --slot-size, or remove what is stale"
_ONLY_OWNER = "only its owner or root may change or remove it: /dev/shm is sticky; ask them"
_MISSING = (
    "the channel has lost this semaphore (rm); end every program that uses the channel and start again, as the user who"
    " made it: the first to start makes the semaphores anew, and no record is lost"
)
_NO_NAME = "no such name can be; this is a mistake in the program"
_NOT_ANY_MORE = "this descriptor is closed; this is a mistake in the program"
_LOCKED = (
    "another program has locked this byte of the object, which ours never do alone: end it (see /proc/locks), or choose"
    " another --channel"
)
_NO_LOCKS = "the system has no lock left to give (fcntl(2)); end programs that hold many"
_NO_SUCH_OWNER = "this user or group has no number in our user namespace (see /proc/self/uid_map); name another"
_LINK = "a link has its name, and is not followed; see `ls -l /dev/shm`, and remove it if nobody needs it"
_NO_SIZE = (
    "no object can have this size: it is 0, below it, or beyond what a file can be; change --slots or --slot-size"
)
_TOO_LARGE = "no file may be that large here: raise `ulimit -f`, or lower --slots or --slot-size"
_NO_SPACE = (
    "there is no room for it in the address space of this process (see `ulimit -v`); lower --slots or --slot-size"
)

# By call and errno; sem_timedwait is what sem_clockwait is without a monotonic clock.
POSIX_MEANING = {
    ("shm_open", errno.ENOENT): "no channel has this name; start `writer.py`, or check --key-path, --channel and the"
    " other side's --ipc; one in another mount namespace (a container has its own /dev/shm) cannot be seen from here",
    ("shm_open", errno.EEXIST): "an object with this name exists; leave --exclusive out to join it, or remove it with"
    " `writer.py --remove`; if you did not say --exclusive, it was made just now: start again",
    ("shm_open", errno.EACCES): f"the object with this name is someone else's and its mode keeps us out: {_WIDEN}; if"
    " there is none, /dev/shm itself does not let us in",
    ("shm_open", errno.EINVAL): "a directory in /dev/shm has this name; choose another --channel, or if nobody needs"
    " it, remove it (rmdir)",
    ("shm_open", errno.ENAMETOOLONG): _NO_NAME,
    ("shm_open", errno.ENXIO): "a socket in /dev/shm has this name; choose another --channel, or if nobody needs it,"
    " remove it (rm)",
    ("shm_open", errno.EROFS): "/dev/shm is mounted read-only; mount it anew, or leave --ipc posix out",
    ("shm_open", errno.ELOOP): _LINK,
    ("shm_open", errno.EMFILE): _FILES,
    ("shm_open", errno.ENFILE): _ALL_FILES,
    ("shm_open", errno.ENOSPC): f"/dev/shm {_NO_ROOM}",
    ("shm_unlink", errno.EACCES): _ONLY_OWNER,
    ("shm_unlink", errno.EPERM): _ONLY_OWNER,
    ("shm_unlink", errno.ENOENT): "the object was removed just now, by somebody else",
    ("ftruncate", errno.EINVAL): _NO_SIZE,
    ("ftruncate", errno.EFBIG): _TOO_LARGE,
    ("ftruncate", errno.EPERM): "the object is sealed (fcntl(2), F_ADD_SEALS), which ours never are",
    ("ftruncate", errno.EBADF): _NOT_ANY_MORE,
    ("posix_fallocate", errno.EINVAL): _NO_SIZE,
    ("posix_fallocate", errno.EFBIG): _TOO_LARGE,
    ("posix_fallocate", errno.ENOSPC): f"/dev/shm {_NO_ROOM}",
    ("posix_fallocate", errno.ENOMEM): "there is no memory for an object of this size; lower --slots or --slot-size",
    ("posix_fallocate", errno.EINTR): "a signal came while the memory was reserved; start again",
    ("posix_fallocate", errno.EOPNOTSUPP): "/dev/shm is no tmpfs and cannot reserve memory; mount one there",
    ("posix_fallocate", errno.EBADF): _NOT_ANY_MORE,
    ("mmap", errno.EINVAL): _NO_SIZE,
    ("mmap", errno.EACCES): f"the object's mode does not let us write into it; {_WIDEN}",
    ("mmap", errno.ENOMEM): _NO_SPACE,
    ("mmap", errno.EAGAIN): "as much memory is locked as may be (see `ulimit -l`)",
    ("mmap", errno.EPERM): "/dev/shm is mounted in a way that forbids it, or the object is sealed",
    ("mmap", errno.EBADF): _NOT_ANY_MORE,
    ("munmap", errno.EINVAL): "nothing is mapped at this address (any more)",
    ("fstat", errno.EBADF): _NOT_ANY_MORE,
    ("close", errno.EBADF): _NOT_ANY_MORE,
    ("lstat", errno.ENOENT): _MISSING,
    ("lstat", errno.EACCES): "/dev/shm itself does not let us in; its mode should be 1777",
    ("lstat", errno.ENAMETOOLONG): _NO_NAME,
    ("fchmod", errno.EPERM): _ONLY_OWNER,
    ("fchmod", errno.EBADF): _NOT_ANY_MORE,
    ("fchown", errno.EPERM): "only root may give it to another user, and only its owner to a group that he is in",
    ("fchown", errno.EINVAL): _NO_SUCH_OWNER,
    ("fchown", errno.EBADF): _NOT_ANY_MORE,
    ("chmod", errno.EPERM): _ONLY_OWNER,
    ("chmod", errno.ENOENT): _MISSING,
    ("lchown", errno.EPERM): "only root may give it to another user, and only its owner to a group that he is in",
    ("lchown", errno.EINVAL): _NO_SUCH_OWNER,
    ("lchown", errno.ENOENT): _MISSING,
    ("fcntl", errno.EAGAIN): _LOCKED,
    ("fcntl", errno.EACCES): _LOCKED,
    ("fcntl", errno.EBADF): _NOT_ANY_MORE,
    ("fcntl", errno.EINVAL): "this kernel has no locks of open files (it is older than Linux 3.15)",
    ("fcntl", errno.ENOLCK): _NO_LOCKS,
    ("sem_open", errno.ENOENT): _MISSING,
    ("sem_open", errno.EEXIST): "something has the name that our semaphore is to have; choose another --channel",
    ("sem_open", errno.EACCES): "the semaphore's mode does not let us use it, which takes reading and writing;"
    " its owner can widen it with `writer.py --chmod MODE`",
    **dict.fromkeys(
        (("sem_open", number) for number in (errno.EINVAL, errno.EISDIR, errno.ENODEV, errno.ENXIO)),
        "what has this name is no semaphore, see `ls -l /dev/shm`; if nobody needs it, remove it: the next start makes"
        " the semaphores anew",
    ),
    ("sem_open", errno.EROFS): "/dev/shm is mounted read-only; mount it anew, or leave --ipc posix out",
    ("sem_open", errno.ELOOP): _LINK,
    ("sem_open", errno.ENAMETOOLONG): _NO_NAME,
    ("sem_open", errno.EMFILE): _FILES,
    ("sem_open", errno.ENFILE): _ALL_FILES,
    ("sem_open", errno.ENOMEM): _NO_SPACE,
    ("sem_open", errno.ENOSPC): f"/dev/shm {_NO_ROOM}",
    **dict.fromkeys(
        ((call, errno.EINVAL) for call in ("sem_post", "sem_clockwait", "sem_timedwait")),
        "somebody has written into the semaphore, and to use it would end us; end what uses the channel, then"
        " `writer.py --remove` clears what is left of it",
    ),
    ("sem_unlink", errno.EACCES): _ONLY_OWNER,
    ("sem_unlink", errno.EPERM): _ONLY_OWNER,
    ("sem_unlink", errno.ENOENT): "the semaphore was removed just now, by somebody else",
    ("sem_unlink", errno.ENAMETOOLONG): _NO_NAME,
    ("sem_close", errno.EINVAL): "there is no semaphore of ours at this address (any more)",
}

# What an errno means that is an answer, as ANSWER in meanings.py.
_NO_TOKEN = "no token came until then: we look whether channel and others are still there"
_WOKEN = "a signal woke us: we look and go on"
POSIX_ANSWER = {
    ("shm_open, open", errno.ENOENT): "no object has this name: a writer makes one, a reader looks again, others end",
    ("lstat /dev/shm/shmpair", errno.ENOENT): "nothing has this name",
    ("lstat /dev/shm/sem", errno.ENOENT): "nothing has this name: it was removed, or was never made",
    ("sem_trywait", errno.EAGAIN): "it is 0: where a token is needed, we go to sleep until it comes",
    ("sem_post", errno.EOVERFLOW): "it is full to SEM_VALUE_MAX and stays as it is: so many tokens wake anyone",
    **{(call, errno.ETIMEDOUT): _NO_TOKEN for call in ("sem_clockwait", "sem_timedwait")},
    **{(call, errno.EINTR): _WOKEN for call in ("sem_clockwait", "sem_timedwait")},
    **{
        ("fcntl F_WRLCK", number): "somebody else has the turn: we sleep until it is given back or its holder dies"
        for number in (errno.EAGAIN, errno.EACCES)
    },
}
