"""The POSIX calls of the lab, one small method each: shared memory, named semaphores, and locks on a byte of a file.

This file knows the operating system and not what a record is. shm_open, shm_unlink and sem_unlink go through posix_ipc,
what Python has itself through os and fcntl. Straight to the C library go the other calls on semaphores: posix_ipc waits
by a clock that can be set back, and gives nobody the sem_t that sem_clockwait needs. So does mmap: Python's duplicates
the descriptor, which would keep the locks alive, and refuses a wrong length itself. Linux, 64 bits.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
import sys
import time
from collections.abc import Callable

from common.typed import Any, NamedTuple

try:
    import posix_ipc  # type: ignore[import-not-found, unused-ignore]
except ModuleNotFoundError:
    raise SystemExit(
        f"posix_ipc is not installed for this Python, {sys.executable}: run ./run_demo.sh once, then use"
        " .venv/bin/python, or pip install -r requirements.txt"
    ) from None

from common.errors import CallFailed
from common.ipc.calls import Calls, Timespec

LIBRARY = f"posix_ipc {posix_ipc.VERSION}"
PROT_READ, PROT_WRITE, MAP_SHARED = 1, 2, 1  # <sys/mman.h>
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x2, 0x10, 0x20
SIZE_MAX = 2**63 - 1  # what an off_t holds
SEM_VALUE_MAX = 2**31 - 1
SAME_ID = -1  # (uid_t) -1: chown leaves it as it is
SEMAPHORE_SIZE = 32  # sizeof(sem_t)
SEGMENT_FILES = "/dev/shm/"  # where glibc keeps what shm_open makes
SEMAPHORE_FILES = "/dev/shm/sem."  # and what sem_open makes

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux (<bits/fcntl.h>)
_HELD = (errno.EAGAIN, errno.EACCES)  # fcntl(2) allows either for a lock that somebody else has

# What posix_ipc says in the place of an errno.
_TEXTS = (
    ("already exists", errno.EEXIST),
    ("No s", errno.ENOENT),
    ("This process", errno.EMFILE),
    ("system limit", errno.ENFILE),
    ("too long", errno.ENAMETOOLONG),
)
_RAISED = (posix_ipc.Error, OSError, ValueError, MemoryError)


def _errno_of(error: Exception) -> int:
    """The errno behind an exception, of which posix_ipc mostly gives a class and a text instead."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    for kind, number in ((posix_ipc.PermissionsError, errno.EACCES), (MemoryError, errno.ENOMEM)):
        if isinstance(error, kind):
            return number
    return next((number for text, number in _TEXTS if text in str(error)), errno.EINVAL)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.mmap.restype = ctypes.c_ssize_t  # MAP_FAILED is -1
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.sem_open.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_libc.sem_open.restype = ctypes.c_size_t  # SEM_FAILED is 0
_libc.sem_getvalue.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
_libc.sem_close.argtypes = (ctypes.c_void_p,)
_sem_post, _sem_trywait = _libc.sem_post, _libc.sem_trywait
_sem_post.argtypes = _sem_trywait.argtypes = (ctypes.c_void_p,)

# A wait until a moment of the monotonic clock, which nobody can set. glibc has it since 2.30; what it had before waits
# by the time of day, so a clock set back by an hour while we wait makes that wait an hour longer.
WAIT: str = "sem_clockwait" if hasattr(_libc, "sem_clockwait") else "sem_timedwait"
_wait = getattr(_libc, WAIT)
_CLOCK: tuple[int, ...] = (time.CLOCK_MONOTONIC,) if WAIT == "sem_clockwait" else ()
_wait.argtypes = (ctypes.c_void_p, *(ctypes.c_int,) * len(_CLOCK), ctypes.POINTER(Timespec))


class ShmStat(NamedTuple):
    """What stat says of an object or of a semaphore, both of which are files; times in seconds since the epoch."""

    uid: int
    gid: int
    mode: int
    size: int
    links: int
    ino: int
    access_time: int
    modify_time: int
    change_time: int
    kind: int = stat.S_IFREG  # a FIFO or a directory may have our name

    @classmethod
    def of(cls, status: os.stat_result) -> ShmStat:
        """The part of it that means something here."""
        return cls(
            *(status.st_uid, status.st_gid, status.st_mode & 0o777, status.st_size, status.st_nlink, status.st_ino),
            *(int(status.st_atime), int(status.st_mtime), int(status.st_ctime)),
            stat.S_IFMT(status.st_mode),
        )


class Flock(NamedTuple):
    """struct flock: a lock on `length` bytes from `start`; pid is 0 for a question and -1 in the answer."""

    type: int
    whence: int
    start: int
    length: int
    pid: int


class Mapping(NamedTuple):
    """An object in our address space. Whoever took slices of `memory` releases them before unmap_segment."""

    address: int
    memory: memoryview


# How the kernel is to be asked to sleep stands in the semaphore, where whoever may open it can write. With anything
# there but what the C library stored, the library ends the process (SIGABRT), or sleeps without a timeout. Looked at
# just before the call, so only a store in that very moment still gets through.
_KIND_AT = 8
_sample = (ctypes.c_uint32 * 8)()
_libc.sem_init(ctypes.byref(_sample), 1, 0)
_SHARED = _sample[_KIND_AT // 4]


class Semaphore:
    """A named semaphore of ours; closed, it has no `address` any more, or to use it would be a SIGSEGV.

    `seen` is what was said of its file when it was created or opened.
    """

    __slots__ = ("address", "kind", "name", "seen")

    def __init__(self, name: str, address: int) -> None:
        self.name = name
        self.address = address
        self.kind = ctypes.c_uint32.from_address(address + _KIND_AT)
        self.seen: ShmStat | None = None


class PosixCalls(Calls):
    """The calls of one program over POSIX shared memory and semaphores.

    Names begin with a slash and have no other, and no zero byte: posix_ipc would crash, and sem_open read up to it.
    """

    def _call(self, name: str, arguments: tuple[Any, ...], call: Callable[[], int | None]) -> int:
        try:
            result = call()
        except _RAISED as error:
            return self.done(name, arguments, -1, _errno_of(error))
        return self.done(name, arguments, result or 0)

    def _of_libc(self, name: str, arguments: tuple[Any, ...], result: int) -> int:
        return self.done(name, arguments, result, ctypes.get_errno() if result < 0 else 0)

    def _shm_open(self, name: str, flags: int, mode: int) -> int:
        opened = flags & (os.O_CREAT | os.O_EXCL)
        readonly = flags & os.O_ACCMODE == os.O_RDONLY
        # Its object never closes the descriptor: that is close_segment's.
        return self._call(
            "shm_open", (name, flags, mode), lambda: posix_ipc.SharedMemory(name, opened, mode, 0, readonly).fd
        )

    def create_segment(self, name: str, mode: int) -> int:
        """Make a new object, of no size yet, and return its descriptor. The umask takes from `mode`: see set_mode.

        C: int shm_open(const char *name, int oflag, mode_t mode), with O_CREAT | O_EXCL | O_RDWR; see shm_open(3).
        Fails with EEXIST (the name is taken), EINVAL or ENAMETOOLONG (no such name can be), EMFILE, ENFILE, ENOSPC.
        """
        return self._shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)

    def open_segment(self, name: str, *, readonly: bool = False) -> int:
        """Find the existing object with this name and return a descriptor of it.

        C: int shm_open(const char *name, int oflag, mode_t mode), with O_RDWR or O_RDONLY; see shm_open(3).
        Fails with ENOENT (no such name), EACCES (the mode), EINVAL, ENAMETOOLONG, ELOOP (a link), EMFILE, ENFILE.
        """
        return self._shm_open(name, os.O_RDONLY if readonly else os.O_RDWR, 0)

    def remove_segment(self, name: str) -> None:
        """Take the name away, at once; the memory goes with the last descriptor and mapping.

        C: int shm_unlink(const char *name); see shm_unlink(3).
        Fails with ENOENT (no such name), EACCES (neither the owner nor root; glibc makes it of unlink's EPERM).
        """
        self._call("shm_unlink", (name,), lambda: posix_ipc.unlink_shared_memory(name))

    def set_size(self, fd: int, size: int) -> None:
        """Make the object `size` bytes long; what is new reads as zero.

        C: int ftruncate(int fd, off_t length); see ftruncate(2).
        Fails with EINVAL (below 0, or `fd` cannot write), EFBIG (beyond what a file can be).
        """
        size = min(size, SIZE_MAX)
        self._call("ftruncate", (fd, size), lambda: os.ftruncate(fd, size))

    def reserve(self, fd: int, size: int) -> None:
        """Have the memory for the first `size` bytes, now: without it a full /dev/shm is a SIGBUS at the first touch.

        C: int posix_fallocate(int fd, off_t offset, off_t len); see posix_fallocate(3).
        Fails with ENOSPC (not that much is left), EINVAL (no size), EFBIG, EBADF (`fd` cannot write).
        """
        size = min(size, SIZE_MAX)
        self._call("posix_fallocate", (fd, 0, size), lambda: os.posix_fallocate(fd, 0, size))

    def map_segment(self, fd: int, size: int, *, readonly: bool = False) -> Mapping:
        """Map the first `size` bytes into our address space. A touch beyond the object's own size is a SIGBUS.

        C: void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset); see mmap(2).
        Fails with EINVAL (size 0), EACCES (`fd` cannot write and we want to), ENOMEM, EBADF.
        """
        size = min(size, SIZE_MAX)
        protection = PROT_READ if readonly else PROT_READ | PROT_WRITE
        address = _libc.mmap(None, size, protection, MAP_SHARED, fd, 0)
        self._of_libc("mmap", (None, size, protection, MAP_SHARED, fd, 0), address)
        memory = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        return Mapping(address, memory.toreadonly() if readonly else memory)

    def unmap_segment(self, mapping: Mapping) -> None:
        """Release its memory and unmap it; twice is a ValueError. The object lives on while it has a name.

        C: int munmap(void *addr, size_t length); see munmap(2).
        """
        size = len(mapping.memory)
        mapping.memory.release()
        self._of_libc("munmap", (mapping.address, size), _libc.munmap(mapping.address, size))

    def cover(self, mapping: Mapping) -> None:
        """Put zeros that are ours alone in the place of a mapping whose object lost its bytes: a touch is no SIGBUS.

        C: void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset), with MAP_FIXED |
        MAP_ANONYMOUS; see mmap(2). Fails with ENOMEM.
        """
        protection, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
        arguments = (mapping.address, len(mapping.memory), protection, flags, -1, 0)
        self._of_libc("mmap", arguments, _libc.mmap(*arguments))

    def drop_in_child(self, fd: int, mapping: Mapping | None) -> None:
        """After fork(2), in the child: give up what it inherited, whoever has views of it; our locks would live on.

        In C, int close(int fd) and int munmap(void *addr, size_t length); nobody is told of them.
        """
        os.close(fd)
        if mapping is not None:
            _libc.munmap(mapping.address, len(mapping.memory))

    def _stat(self, name: str, file: int | str, call: Callable[[], os.stat_result]) -> ShmStat:
        found, number = None, 0
        try:
            found = ShmStat.of(call())
        except OSError as error:
            number = _errno_of(error)
        self.done(name, (file, found), -1 if number else 0, number)
        assert found is not None, "done raises what failed"
        return found

    def stat_segment(self, fd: int) -> ShmStat:
        """Who owns it, its mode, size and times; no links: it has no name any more.

        C: int fstat(int fd, struct stat *statbuf); see fstat(2). Fails with EBADF.
        """
        return self._stat("fstat", fd, lambda: os.fstat(fd))

    def stat_name(self, name: str) -> ShmStat:
        """The same of whatever has this name now, which may be another object than the one that we opened by it.

        C: int lstat(const char *pathname, struct stat *statbuf); see lstat(2). Fails with ENOENT, ENAMETOOLONG.
        """
        path = segment_path(name)
        return self._stat("lstat", path, lambda: os.lstat(path))

    def set_mode(self, fd: int, mode: int) -> None:
        """Give it exactly this mode; setting the one it has asks the kernel whether we may remove it, too.

        C: int fchmod(int fd, mode_t mode); see fchmod(2). Fails with EPERM (neither owner nor root), EBADF.
        """
        self._call("fchmod", (fd, mode), lambda: os.fchmod(fd, mode))

    def set_owner(self, fd: int, uid: int = SAME_ID, gid: int = SAME_ID) -> None:
        """Give it to another user or group.

        C: int fchown(int fd, uid_t owner, gid_t group); see fchown(2).
        Fails with EPERM (a user needs root, a group its owner who is in it), EBADF.
        """
        self._call("fchown", (fd, uid, gid), lambda: os.fchown(fd, uid, gid))

    def close_segment(self, fd: int) -> None:
        """Give the descriptor back. A mapping made of it stays, and as long as it does, so do the locks taken with it.

        C: int close(int fd); see close(2). Fails with EBADF.
        """
        self._call("close", (fd,), lambda: os.close(fd))

    def _sem_open(self, name: str, flags: int, *creation: int) -> Semaphore:
        address: int = _libc.sem_open(os.fsencode(name), flags, *(creation or (0, 0)))
        self.done("sem_open", (name, flags, *creation), address or -1, 0 if address else ctypes.get_errno())
        return Semaphore(name, address)

    def create_semaphore(self, name: str, mode: int, initial: int) -> Semaphore:
        """Make a new semaphore with its first value, then give it exactly this mode, whatever the umask took.

        C: sem_t *sem_open(const char *name, int oflag, mode_t mode, unsigned int value), with O_CREAT | O_EXCL, then
        chmod and lstat; see sem_open(3). Fails with EEXIST (the name is taken), EINVAL (the name, or beyond
        SEM_VALUE_MAX), ENAMETOOLONG, EMFILE, ENFILE, ENOSPC.
        """
        value = min(initial, SEM_VALUE_MAX + 1)  # ctypes would wrap what no unsigned int holds
        semaphore = self._sem_open(name, os.O_CREAT | os.O_EXCL, mode, value)
        self.set_semaphore_mode(name, mode)
        semaphore.seen = self.stat_semaphore(name)
        return semaphore

    def open_semaphore(self, name: str) -> Semaphore:
        """Find the existing semaphore with this name. Opened again in one process it is the same one, counted.

        C: sem_t *sem_open(const char *name, int oflag), then lstat; see sem_open(3).
        Fails with ENOENT (no such name), EACCES (it takes the right to read and to write), EINVAL (the name, or the
        file is shorter than a semaphore), ENAMETOOLONG, ELOOP (a link), EMFILE, ENFILE.
        """
        semaphore = self._sem_open(name, 0)
        # glibc maps whatever bears the name, and the first touch of an empty file is a SIGBUS.
        semaphore.seen = self.stat_semaphore(name)
        if semaphore.seen.size < SEMAPHORE_SIZE:
            self.close_semaphore(semaphore)
            raise CallFailed("sem_open", (name, 0), errno.EINVAL)
        return semaphore

    def close_semaphore(self, semaphore: Semaphore) -> None:
        """Unmap it; the semaphore lives on. Twice is an AttributeError.

        C: int sem_close(sem_t *sem); see sem_close(3). Fails with EINVAL (none of this process's).
        """
        address = semaphore.address
        del semaphore.address, semaphore.kind
        self._of_libc("sem_close", (address,), _libc.sem_close(address))

    def remove_semaphore(self, name: str) -> None:
        """Take the name away, at once. It wakes nobody: whoever has the semaphore open can go on with it.

        C: int sem_unlink(const char *name); see sem_unlink(3).
        Fails with ENOENT (no such name), EACCES (neither the owner nor root), ENAMETOOLONG.
        """
        self._call("sem_unlink", (name,), lambda: posix_ipc.unlink_semaphore(name))

    def release_semaphore(self, semaphore: Semaphore) -> None:
        """Put a token back, waking one waiter. One that is full to SEM_VALUE_MAX stays as it is: it wakes anyone.

        C: int sem_post(sem_t *sem); see sem_post(3). EOVERFLOW is the full one. Fails with EINVAL (it was overwritten).
        """
        address = semaphore.address
        if semaphore.kind.value != _SHARED:
            raise CallFailed("sem_post", (address,), errno.EINVAL)
        result = _sem_post(address)
        if self.listener.call is None and not result:
            return
        number = ctypes.get_errno() if result else 0
        self.done("sem_post", (semaphore.address,), result, number, (errno.EOVERFLOW,))

    def try_semaphore(self, semaphore: Semaphore) -> bool:
        """Take a token if there is one; False if not.

        C: int sem_trywait(sem_t *sem); see sem_wait(3). EAGAIN is the answer False.
        """
        result = _sem_trywait(semaphore.address)
        if self.listener.call is None and not result:
            return True
        number = ctypes.get_errno() if result else 0
        self.done("sem_trywait", (semaphore.address,), result, number, (errno.EAGAIN,))
        return not number

    def wait_semaphore(self, semaphore: Semaphore, timeout: float) -> bool:
        """Take a token, asleep until one comes; False after `timeout` seconds or when a signal woke us.

        C: int sem_clockwait(sem_t *sem, clockid_t clockid, const struct timespec *abstime), or int sem_timedwait(sem_t
        *sem, const struct timespec *abstime) where there is none; see sem_wait(3). ETIMEDOUT and EINTR are the answer
        False: Python's handlers let no call be restarted, and the caller looks at head and tail anyway.
        Fails with EINVAL (it was overwritten).
        """
        clock = _CLOCK[0] if _CLOCK else time.CLOCK_REALTIME
        until = time.clock_gettime_ns(clock) + int(timeout * 1_000_000_000)
        limit = Timespec(*divmod(until, 1_000_000_000))
        address = semaphore.address
        arguments = (address, *_CLOCK, until / 1_000_000_000)
        if semaphore.kind.value != _SHARED:
            raise CallFailed(WAIT, arguments, errno.EINVAL)
        ctypes.set_errno(0)
        try:
            result = _wait(address, *_CLOCK, ctypes.byref(limit))
        except BaseException:
            self.cut_short(WAIT, arguments)
            raise
        number = ctypes.get_errno() if result < 0 else 0
        self.done(WAIT, arguments, result, number, (errno.ETIMEDOUT, errno.EINTR))
        return not number

    def semaphore_value(self, semaphore: Semaphore) -> int:
        """How many tokens it holds.

        C: int sem_getvalue(sem_t *sem, int *sval); see sem_getvalue(3).
        """
        value = ctypes.c_int()
        result = _libc.sem_getvalue(semaphore.address, ctypes.byref(value))
        self._of_libc("sem_getvalue", (semaphore.address, value.value), result)
        return value.value

    # sem_open gives no descriptor, so what is asked and changed of its file goes by the file's name. Nobody else can
    # put another file there: only the owner of a file and root may unlink or rename one in /dev/shm, which is sticky.

    def stat_semaphore(self, name: str) -> ShmStat:
        """Who owns it, its mode, size and times. A link is not followed: sem_open does not follow it either.

        C: int lstat(const char *pathname, struct stat *statbuf); see lstat(2). Fails with ENOENT, ENAMETOOLONG.
        """
        path = semaphore_path(name)
        return self._stat("lstat", path, lambda: os.lstat(path))

    def set_semaphore_mode(self, name: str, mode: int) -> None:
        """Give it exactly this mode; setting the one it has asks the kernel whether we may remove it, too.

        C: int chmod(const char *pathname, mode_t mode); see chmod(2).
        Fails with EPERM (neither owner nor root), ENOENT.
        """
        path = semaphore_path(name)
        self._call("chmod", (path, mode), lambda: os.chmod(path, mode))

    def set_semaphore_owner(self, name: str, uid: int = SAME_ID, gid: int = SAME_ID) -> None:
        """Give it to another user or group.

        C: int lchown(const char *pathname, uid_t owner, gid_t group); see lchown(2).
        Fails with EPERM (a user needs root, a group its owner who is in it), ENOENT.
        """
        path = semaphore_path(name)
        self._call("lchown", (path, uid, gid), lambda: os.lchown(path, uid, gid))

    def _set_lock(self, fd: int, kind: int, byte: int, length: int = 1) -> bool:
        lock = Flock(kind, os.SEEK_SET, byte, length, 0)
        number = 0
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(*lock))
            if self.listener.call is None:
                return True
        except OSError as error:
            number = _errno_of(error)
        self.done("fcntl", (fd, fcntl.F_OFD_SETLK, lock), -1 if number else 0, number, _HELD)
        return not number

    def try_lock(self, fd: int, byte: int, *, exclusive: bool) -> bool:
        """Lock this byte of the object, alone or shared; False if somebody else has it. Ours already, it changes kind.

        It belongs to what shm_open opened, not to the process: the kernel drops it with the last descriptor and
        mapping, a child's after fork included, and two opened in one process exclude each other.
        C: int fcntl(int fd, int cmd, struct flock *lock), with F_OFD_SETLK; see fcntl(2).
        Fails with EBADF (exclusive, and `fd` cannot write). EAGAIN and EACCES are the answer False.
        """
        return self._set_lock(fd, fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, byte)

    def unlock(self, fd: int, byte: int) -> None:
        """Give the lock on this byte back; without one nothing happens.

        C: int fcntl(int fd, int cmd, struct flock *lock), with F_OFD_SETLK and F_UNLCK; see fcntl(2). Fails with EBADF.
        """
        self._set_lock(fd, fcntl.F_UNLCK, byte)

    def unlock_all(self, fd: int) -> None:
        """Give back every lock that was taken through this descriptor.

        C: int fcntl(int fd, int cmd, struct flock *lock), with F_OFD_SETLK, F_UNLCK and a length of 0, which is to the
        end and beyond; see fcntl(2). Fails with EBADF.
        """
        self._set_lock(fd, fcntl.F_UNLCK, 0, 0)

    def is_locked(self, fd: int, byte: int, *, exclusive: bool) -> bool:
        """Whether such a lock on this byte would be refused now, because of somebody else's; our own never counts.

        C: int fcntl(int fd, int cmd, struct flock *lock), with F_OFD_GETLK; see fcntl(2). Fails with EBADF.
        """
        lock = Flock(fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
        try:
            found = Flock(*_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(*lock))))
        except OSError as error:
            return bool(self.done("fcntl", (fd, fcntl.F_OFD_GETLK, lock), -1, _errno_of(error)))
        self.done("fcntl", (fd, fcntl.F_OFD_GETLK, found), 0)
        return found.type != fcntl.F_UNLCK


def segment_path(name: str) -> str:
    """The file that is the object with this name."""
    return SEGMENT_FILES + name.removeprefix("/")


def semaphore_path(name: str) -> str:
    """The file that is the semaphore with this name."""
    return SEMAPHORE_FILES + name.removeprefix("/")


def semaphores_like(prefix: str) -> list[str]:
    """The names of all semaphores that begin so, whosever they are, in order."""
    directory, _, begin = semaphore_path(prefix).rpartition("/")
    return sorted(f"/{name.removeprefix('sem.')}" for name in os.listdir(directory) if name.startswith(begin))


def has_data(fd: int) -> bool:
    """Whether any byte of the object is not zero. What was never written is not touched: it would become memory."""
    at = 0
    try:
        while True:
            at = os.lseek(fd, at, os.SEEK_DATA)
            piece = os.pread(fd, 1 << 20, at)
            if piece.count(0) < len(piece):
                return True
            at += len(piece)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but holes from here
            raise
    return False
