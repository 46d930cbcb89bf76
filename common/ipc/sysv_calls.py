"""The System V calls of the lab, one small method each, and the semaphores built on them.

This file knows the operating system and not what a record is. shmat and shmdt go through sysv_ipc, the others straight
to the C library: sysv_ipc has no shmget without an shmat, makes and initialises a semaphore in one call that does not
say what failed in it, asks for one by key only, mostly gives a class and a text in the place of an errno, and its
wheels are built without semtimedop. Linux, 64 bits: see struct shmid_ds below.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from common.typed import Any, NamedTuple

try:
    import sysv_ipc
except ModuleNotFoundError:
    raise SystemExit(
        f"sysv_ipc is not installed for this Python, {sys.executable}: run ./run_demo.sh once, then use"
        " .venv/bin/python, or pip install -r requirements.txt"
    ) from None

from common.ipc.calls import Calls, Timespec

LIBRARY = f"sysv_ipc {sysv_ipc.VERSION}"
LIBRARY_WAITS: bool = sysv_ipc.SEMAPHORE_TIMEOUT_SUPPORTED
IPC_CREAT: int = sysv_ipc.IPC_CREAT
IPC_EXCL: int = sysv_ipc.IPC_EXCL
SHM_RDONLY: int = sysv_ipc.SHM_RDONLY
SHM_RND: int = sysv_ipc.SHM_RND
IPC_RMID, IPC_SET, IPC_STAT = 0, 1, 2  # <sys/ipc.h>
_SEMCTL = {"IPC_RMID": 0, "IPC_SET": 1, "IPC_STAT": 2}
_SEMCTL |= {"GETPID": 11, "GETVAL": 12, "GETNCNT": 14, "GETZCNT": 15, "SETVAL": 16}  # <sys/sem.h>
IPC_NOWAIT = 0o4000
SIZE_MAX = 2**64 - 1
SEM_UNDO = 0x1000
NO_UID = 2**32 - 1  # (uid_t) -1
_OVERFLOW = 65534  # how an id reads that has no number in our user namespace (user_namespaces(7))
SHM_DEST = 0o1000  # in shm_perm.mode: removed, and going away with its last detach


def _errno_of(error: Exception) -> int:
    """The errno behind an exception of sysv_ipc's shmat and shmdt, which mostly give a class and a text instead."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, sysv_ipc.ExistentialError):
        return errno.EIDRM if "removed" in str(error) else errno.EINVAL
    for kind, number in (
        (sysv_ipc.PermissionsError, errno.EACCES),
        (MemoryError, errno.ENOMEM),
    ):
        if isinstance(error, kind):
            return number
    return errno.EINVAL


_SYSV_IPC_RAISES = (sysv_ipc.Error, OSError, ValueError, MemoryError)


class _IpcPerm(ctypes.Structure):
    """struct ipc_perm of 64-bit Linux (<bits/ipc-perm.h>)."""

    _fields_ = [
        ("key", ctypes.c_int),
        ("uid", ctypes.c_uint),
        ("gid", ctypes.c_uint),
        ("cuid", ctypes.c_uint),
        ("cgid", ctypes.c_uint),
        ("mode", ctypes.c_uint),
        ("seq", ctypes.c_ushort),
        ("reserved", ctypes.c_ulong * 2),
    ]


class ShmidDs(ctypes.Structure):
    """struct shmid_ds of 64-bit Linux (<bits/types/struct_shmid_ds.h>)."""

    _fields_ = [
        ("perm", _IpcPerm),
        ("size", ctypes.c_size_t),
        ("atime", ctypes.c_long),
        ("dtime", ctypes.c_long),
        ("ctime", ctypes.c_long),
        ("creator_pid", ctypes.c_int),
        ("last_pid", ctypes.c_int),
        ("attached", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong * 2),
    ]


# x86-64 keeps an unused word behind each time, for the sake of its 32 bits (<bits/types/struct_semid_ds.h>).
_UNUSED_WORD = ctypes.c_ulong * (1 if os.uname().machine == "x86_64" else 0)


class _SemidDs(ctypes.Structure):
    """struct semid_ds of 64-bit Linux (<bits/types/struct_semid_ds.h>)."""

    _fields_ = [
        ("perm", _IpcPerm),
        ("otime", ctypes.c_long),
        ("unused1", _UNUSED_WORD),
        ("ctime", ctypes.c_long),
        ("unused2", _UNUSED_WORD),
        ("members", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong * 2),
    ]


class _Sembuf(ctypes.Structure):
    """struct sembuf (<sys/sem.h>)."""

    _fields_ = [("num", ctypes.c_ushort), ("op", ctypes.c_short), ("flags", ctypes.c_short)]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
_libc.semget.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
_libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(ShmidDs))
_libc.semctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)  # union semun: a word
_libc.semtimedop.argtypes = (
    ctypes.c_int,
    ctypes.POINTER(_Sembuf),
    ctypes.c_size_t,
    ctypes.POINTER(Timespec),
)
_ONE = ctypes.c_size_t(1)  # semop has no argtypes: they would double the price of the hot path


class SegmentStat(NamedTuple):
    """What IPC_STAT says of a segment (struct shmid_ds); times in seconds since the epoch, 0 for never."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    size: int
    attached: int
    creator_pid: int
    last_pid: int
    attach_time: int
    detach_time: int
    change_time: int

    @property
    def marked(self) -> bool:
        """IPC_RMID has been called: the kernel destroys it at the last detach ("dest" in ipcs)."""
        return bool(self.mode & SHM_DEST)


class SemaphoreStat(NamedTuple):
    """What IPC_STAT says of a set of semaphores (struct semid_ds); times in seconds since the epoch, 0 for never."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    members: int
    operation_time: int
    change_time: int


def _fill_unchanged(ds: ShmidDs | _SemidDs, stat: SegmentStat | SemaphoreStat) -> None:
    """What an IPC_SET needs to change nothing.

    An owner who has no number in our user namespace reads as 65534, which IPC_SET refuses with EINVAL, after it has
    looked at the right (EPERM); unless 65534 is somebody in here, and he would get it. (uid_t)-1 is nobody anywhere.
    """
    outside = _OVERFLOW in (stat.uid, stat.gid)
    _change(ds, stat.mode & 0o777, NO_UID if outside else stat.uid, stat.gid)


def _change(ds: ShmidDs | _SemidDs, mode: int | None, uid: int | None, gid: int | None) -> None:
    for field, value in (("mode", mode), ("uid", uid), ("gid", gid)):
        if value is not None:
            setattr(ds.perm, field, value)


class Semaphore:
    """A set of one semaphore, by its id. With `undo` the kernel takes back what we did to it when we die (SEM_UNDO)."""

    def __init__(self, semid: int) -> None:
        self.id = semid
        self.undo = False

    @property
    def undo(self) -> bool:
        """Whether the operations are undone."""
        return bool(self.flags)

    @undo.setter
    def undo(self, undo: bool) -> None:
        self.flags = SEM_UNDO if undo else 0
        # Made once: the hot path only passes them on.
        self.take = ctypes.byref(_Sembuf(0, -1, IPC_NOWAIT | self.flags))
        self.give = ctypes.byref(_Sembuf(0, 1, IPC_NOWAIT | self.flags))


def segment_memory(segment: Any, size: int) -> memoryview:
    """The attached bytes, `size` as IPC_STAT says; to be released before detach_segment.

    memoryview(segment) would ask the kernel, unseen by --trace and with EIDRM folded into EINVAL.
    """
    return memoryview((ctypes.c_ubyte * size).from_address(segment.address)).cast("B")


class SysvCalls(Calls):
    """The calls, told to one listener."""

    by_id = ("shmctl", "semctl", "semop", "semtimedop")

    def _shmget(self, key: int, size: int, flags: int) -> int:
        size = min(size, SIZE_MAX)  # ctypes would wrap what no size_t holds; SHMMAX is always less
        shmid: int = _libc.shmget(key, size, flags)
        return self.done("shmget", (key, size, flags), shmid, ctypes.get_errno() if shmid < 0 else 0)

    def create_segment(self, key: int, size: int, mode: int) -> int:
        """Make a new segment of `size` bytes, all zero, and return its id (shmid).

        C: int shmget(key_t key, size_t size, int shmflg), with IPC_CREAT | IPC_EXCL | mode; see shmget(2).
        Fails with EEXIST (the key is taken), EINVAL (size 0 or beyond SHMMAX), ENOMEM, ENOSPC (SHMMNI, SHMALL).
        """
        return self._shmget(key, size, IPC_CREAT | IPC_EXCL | mode)

    def open_segment(self, key: int, size: int = 0, permission: int = 0) -> int:
        """Find the existing segment with this key and return its id (shmid).

        `permission` is what its mode must grant us, such as 0o600; with 0 nothing is checked before shmat or shmctl.
        C: int shmget(key_t key, size_t size, int shmflg), without IPC_CREAT; see shmget(2).
        Fails with ENOENT (no such key), EINVAL (size beyond the segment's), EACCES (the mode refuses `permission`).
        """
        return self._shmget(key, size, permission)

    def attach_segment(self, shmid: int, address: int | None = None, flags: int = 0) -> Any:
        """Map the segment into our address space; the result has `.address` and serves memoryview().

        `address` None lets the kernel choose; with SHM_RND in `flags` the kernel rounds it down to a multiple of
        SHMLBA, one page. With SHM_RDONLY a store into the segment is a SIGSEGV.
        C: void *shmat(int shmid, const void *shmaddr, int shmflg); see shmat(2).
        Fails with EINVAL (bad id or address), EACCES (the mode), ENOMEM, EIDRM (removed meanwhile).
        """
        arguments = (shmid, address, flags)
        try:
            segment = sysv_ipc.attach(shmid, address, flags)
        except _SYSV_IPC_RAISES as error:
            return self.done("shmat", arguments, -1, _errno_of(error))
        self.done("shmat", arguments, segment.address)
        return segment

    def detach_segment(self, segment: Any) -> None:
        """Unmap it; the segment itself lives on unless it is marked for removal and we were the last.

        C: int shmdt(const void *shmaddr); see shmdt(2). Fails with EINVAL (nothing attached there).
        """
        arguments = (segment.address,)
        try:
            segment.detach()
        except _SYSV_IPC_RAISES as error:
            self.done("shmdt", arguments, -1, _errno_of(error))
        else:
            self.done("shmdt", arguments, 0)

    def _shmctl(self, shmid: int, command: int, buffer: ShmidDs | None, answers: tuple[int, ...] = ()) -> int:
        result: int = _libc.shmctl(shmid, command, None if buffer is None else ctypes.byref(buffer))
        number = ctypes.get_errno() if result < 0 else 0
        shown = None if number and command == IPC_STAT else buffer  # a failed IPC_STAT fills nothing in
        return self.done("shmctl", (shmid, command, shown), result, number, answers)

    def _stat_buffer(self, shmid: int) -> ShmidDs:
        buffer = ShmidDs()
        self._shmctl(shmid, IPC_STAT, buffer)
        return buffer

    def stat_segment(self, shmid: int) -> SegmentStat:
        """Who owns it, its mode, size, times and how many have it attached.

        C: int shmctl(int shmid, int cmd, struct shmid_ds *buf), with IPC_STAT; see shmctl(2).
        Fails with EACCES (no read permission), EINVAL or EIDRM (no such segment).
        """
        ds = self._stat_buffer(shmid)
        perm = ds.perm
        return SegmentStat(
            *(perm.key, perm.uid, perm.gid, perm.cuid, perm.cgid, perm.mode),
            *(ds.size, ds.attached, ds.creator_pid, ds.last_pid, ds.atime, ds.dtime, ds.ctime),
        )

    def set_segment(
        self, shmid: int, *, mode: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> None:
        """Change its permissions or owner; what is None stays.

        C: int shmctl(int shmid, int cmd, struct shmid_ds *buf), with IPC_SET; see shmctl(2).
        Fails with EPERM (neither owner, creator nor root), EINVAL or EIDRM (no such segment).
        """
        ds = self._stat_buffer(shmid)
        _change(ds, mode, uid, gid)
        self._shmctl(shmid, IPC_SET, ds)

    def check_segment_removable(self, shmid: int, stat: SegmentStat) -> None:
        """Ask the kernel for the right that IPC_RMID needs: IPC_SET needs the same, and stores `stat`, what is there.

        C: int shmctl(int shmid, int cmd, struct shmid_ds *buf), with IPC_SET; see shmctl(2).
        Fails with EPERM (neither owner, creator nor root), EINVAL or EIDRM (no such segment).
        """
        ds = ShmidDs()
        _fill_unchanged(ds, stat)
        if self._shmctl(shmid, IPC_SET, ds, answers=(errno.EINVAL,)):
            self._stat_buffer(shmid)  # EINVAL from here: there is no such segment (any more)

    def remove_segment(self, shmid: int) -> None:
        """Mark it for removal: its key is free at once, its memory goes with the last detach.

        C: int shmctl(int shmid, int cmd, struct shmid_ds *buf), with IPC_RMID; see shmctl(2).
        Fails with EPERM (neither owner, creator nor root), EINVAL or EIDRM (no such segment).
        """
        self._shmctl(shmid, IPC_RMID, None)

    def _semget(self, key: int, members: int, flags: int) -> Semaphore:
        semid: int = _libc.semget(key, members, flags)
        self.done("semget", (key, members, flags), semid, ctypes.get_errno() if semid < 0 else 0)
        return Semaphore(semid)

    def create_semaphore(self, key: int, mode: int, initial: int) -> Semaphore:
        """Make a set of one new semaphore and give it its first value.

        C: int semget(key_t key, int nsems, int semflg), then semctl(semid, 0, SETVAL, initial); see semget(2).
        Fails with EEXIST (the key is taken), ENOMEM, ENOSPC (SEMMNI, SEMMNS).
        """
        semaphore = self._semget(key, 1, IPC_CREAT | IPC_EXCL | mode)
        self.set_semaphore_value(semaphore, initial)
        return semaphore

    def open_semaphore(self, key: int, permission: int = 0) -> Semaphore:
        """Find the existing semaphore with this key; `permission` is what its mode must grant us.

        C: int semget(key_t key, int nsems, int semflg), without IPC_CREAT; see semget(2).
        Fails with ENOENT (no such key), EACCES (the mode refuses `permission`).
        """
        return self._semget(key, 0, permission)  # of whatever number of members

    def _semctl(
        self, semaphore: Semaphore, name: str, argument: int | _SemidDs | None = None, answers: tuple[int, ...] = ()
    ) -> int:
        given = ctypes.byref(argument) if isinstance(argument, _SemidDs) else argument
        result: int = _libc.semctl(semaphore.id, 0, _SEMCTL[name], given)
        number = ctypes.get_errno() if result < 0 else 0
        shown = () if argument is None else (None if number and name == "IPC_STAT" else argument,)
        return self.done("semctl", (semaphore.id, 0, name, *shown), result, number, answers)

    def semaphore_value(self, semaphore: Semaphore) -> int:
        """How many tokens it holds.

        C: int semctl(int semid, int semnum, int cmd), with GETVAL; see semctl(2).
        Fails with EACCES (no read permission), EINVAL or EIDRM (no such semaphore).
        """
        return self._semctl(semaphore, "GETVAL")

    def semaphore_last_pid(self, semaphore: Semaphore) -> int:
        """The pid of the last process that operated on it, 0 when there is none in our pid namespace.

        C: int semctl(int semid, int semnum, int cmd), with GETPID; see semctl(2). Fails like semaphore_value.
        """
        return self._semctl(semaphore, "GETPID")

    def set_semaphore_value(self, semaphore: Semaphore, value: int) -> None:
        """Set it, which clears every process's undo: never on a semaphore in use.

        C: int semctl(int semid, int semnum, int cmd, union semun arg), with SETVAL; see semctl(2).
        """
        self._semctl(semaphore, "SETVAL", value)

    def set_semaphore(
        self, semaphore: Semaphore, *, mode: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> None:
        """Change its permissions or owner; what is None stays.

        C: int semctl(int semid, int semnum, int cmd, union semun arg), IPC_STAT then IPC_SET; see semctl(2).
        Fails with EPERM (neither owner, creator nor root), EACCES (no read permission), EINVAL or EIDRM (none such).
        """
        ds = _SemidDs()
        self._semctl(semaphore, "IPC_STAT", ds)
        _change(ds, mode, uid, gid)
        self._semctl(semaphore, "IPC_SET", ds)

    def stat_semaphore(self, semaphore: Semaphore) -> SemaphoreStat:
        """Who owns and who made it, its mode, how many are in its set, when it was last operated on.

        C: int semctl(int semid, int semnum, int cmd, union semun arg), with IPC_STAT; see semctl(2).
        Fails with EACCES (no read permission), EINVAL or EIDRM (no such semaphore).
        """
        ds = _SemidDs()
        self._semctl(semaphore, "IPC_STAT", ds)
        perm = ds.perm
        return SemaphoreStat(
            *(perm.key, perm.uid, perm.gid, perm.cuid, perm.cgid, perm.mode), *(ds.members, ds.otime, ds.ctime)
        )

    def check_semaphore_removable(self, semaphore: Semaphore, stat: SemaphoreStat) -> None:
        """Ask the kernel for the right that IPC_RMID needs, as check_segment_removable does.

        C: int semctl(int semid, int semnum, int cmd, union semun arg), with IPC_SET; see semctl(2).
        Fails with EPERM (neither owner, creator nor root), EINVAL or EIDRM (no such semaphore).
        """
        ds = _SemidDs()
        _fill_unchanged(ds, stat)
        if self._semctl(semaphore, "IPC_SET", ds, answers=(errno.EINVAL,)):
            self._semctl(semaphore, "IPC_STAT", ds)  # EINVAL from here: there is no such semaphore (any more)

    def sleepers_for_tokens(self, semaphore: Semaphore) -> int:
        """How many processes sleep until it has a token.

        C: int semctl(int semid, int semnum, int cmd), with GETNCNT; see semctl(2). Fails like semaphore_value.
        """
        return self._semctl(semaphore, "GETNCNT")

    def sleepers_for_zero(self, semaphore: Semaphore) -> int:
        """How many processes sleep until it has none.

        C: int semctl(int semid, int semnum, int cmd), with GETZCNT; see semctl(2). Fails like semaphore_value.
        """
        return self._semctl(semaphore, "GETZCNT")

    def remove_semaphore(self, semaphore: Semaphore) -> None:
        """Remove it at once; whoever waits on it wakes with EIDRM.

        C: int semctl(int semid, int semnum, int cmd), with IPC_RMID; see semctl(2).
        Fails with EPERM (neither owner, creator nor root), EINVAL or EIDRM (no such semaphore).
        """
        self._semctl(semaphore, "IPC_RMID")

    def _semop(self, semaphore: Semaphore, operation: Any, change: int, answer: int) -> bool:
        """One semop that never sleeps; False when its errno is `answer`. The hot path: reports only when traced."""
        failed: int = _libc.semop(semaphore.id, operation, _ONE)
        if not failed and self.listener.call is None:
            return True
        number = ctypes.get_errno() if failed else 0
        self.done("semop", (semaphore.id, change, IPC_NOWAIT | semaphore.flags), failed, number, (answer,))
        return not failed

    def try_semaphore(self, semaphore: Semaphore) -> bool:
        """Take a token if there is one; False if not.

        C: int semop(int semid, struct sembuf *sops, size_t nsops), with {0, -1, IPC_NOWAIT}; see semop(2).
        Fails with EIDRM or EINVAL (removed), EACCES (the mode). EAGAIN is the answer False.
        """
        return self._semop(semaphore, semaphore.take, -1, errno.EAGAIN)

    def release_semaphore(self, semaphore: Semaphore) -> None:
        """Put a token back, waking one waiter. One that is full to SEMVMX (32767) stays as it is: it wakes anyone.

        C: int semop(int semid, struct sembuf *sops, size_t nsops), with {0, +1, IPC_NOWAIT}; see semop(2).
        Fails with EIDRM or EINVAL (removed), EACCES (the mode). ERANGE is the full one.
        """
        self._semop(semaphore, semaphore.give, 1, errno.ERANGE)

    def wait_semaphore(self, semaphore: Semaphore, timeout: float) -> bool:
        """Take a token, asleep until one comes; False after `timeout` seconds or when a signal woke us.

        C: int semtimedop(int semid, struct sembuf *sops, size_t nsops, const struct timespec *timeout); see semop(2).
        Fails with EIDRM or EINVAL (removed), EACCES (the mode). EAGAIN and EINTR are the answer False: the kernel
        never restarts this call after a signal (signal(7)), and the caller looks at head and tail anyway.
        """
        operation = _Sembuf(0, -1, semaphore.flags)
        limit = Timespec(int(timeout), int(timeout % 1 * 1_000_000_000))
        arguments = (semaphore.id, -1, operation.flags, timeout)
        ctypes.set_errno(0)
        try:
            result = _libc.semtimedop(semaphore.id, ctypes.byref(operation), 1, ctypes.byref(limit))
        except BaseException:
            self.cut_short("semtimedop", arguments)
            raise
        number = ctypes.get_errno() if result < 0 else 0
        self.done("semtimedop", arguments, result, number, (errno.EAGAIN, errno.EINTR))
        return not number


def forced_removal() -> bool:
    """Whether the kernel destroys a segment with its last detach, IPC_RMID or not (kernel.shm_rmid_forced, proc(5)).

    False when it cannot be read.
    """
    try:
        with open("/proc/sys/kernel/shm_rmid_forced") as setting:
            return setting.read().strip() == "1"
    except OSError:
        return False
