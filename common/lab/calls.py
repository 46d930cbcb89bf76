"""What an experiment is handed: the calls with the arguments that C has, each shown as it happens.

They go straight to the C library, with whatever arguments: here the call is the point, and that it may fail. Where C
has -1 and errno, these give the symbol of errno, such as "EINVAL".
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.channel.listener import Call, Listener
from common.ipc.calls import Calls
from common.ipc.sysv_calls import IPC_STAT, SEM_UNDO, ShmidDs
from common.ipc.trace import errno_name, printer

NOBODY = 65534  # the second user
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
SHM_NORESERVE, SHM_STAT, SHM_INFO = 0o10000, 13, 14  # <sys/shm.h>
SEMCTL = {"IPC_RMID": 0, "GETPID": 11, "GETVAL": 12, "GETNCNT": 14, "SETVAL": 16}  # <sys/sem.h>
TAKE, GIVE = (struct.pack("=HhH", 0, change, SEM_UNDO) for change in (-1, 1))  # struct sembuf, of a mutex
SHM_HUGETLB, SHM_LOCK, SHM_LOCKED = 0o4000, 11, 0o2000  # <sys/shm.h>
IPCMNI = 32768  # an id is its index in the kernel's table, and this times how often that was used; see <linux/ipc.h>

libc = ctypes.CDLL(None, use_errno=True)
libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = (ctypes.c_void_p,)
libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
MINUS_ONE = ctypes.c_void_p(-1).value  # what shmat returns when it fails


class Child:
    """Something that happens in another process: its pid, and the end of a pipe from which its result comes."""

    def __init__(self, pid: int, reading: int) -> None:
        self.pid, self._reading = pid, reading

    def result(self) -> Any:
        """What it returned, when it has ended; where a signal ended it, the name of that, such as "SIGSEGV"."""
        with open(self._reading) as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return json.loads(said) if said else signal.Signals(-code).name if code < 0 else None


class Lab(Calls):
    """The bench of one experiment; `say` shows a line. Files go into `scratch`, names in /dev/shm begin with `name`."""

    def __init__(self, scratch: Path, say: Callable[[str], None], look: Callable[[], list[str]]) -> None:
        super().__init__(Listener())
        self.scratch = scratch
        self.name = f"/{scratch.name}"
        self._say, self._look = say, look
        self._who = ""
        self._keys = iter(range(7, 256, 8))  # no channel has these: common/ipc/place.py
        self._show = printer(self.note)
        self.key = self.new_key()

    def note(self, line: str) -> None:
        """Show a line; behind the name of the process, if it is not the first."""
        self._say(f"{self._who}{line}")

    def new_key(self) -> Any:
        """A key that nobody else has: ftok of the experiment's own directory."""
        return self.make_key(str(self.scratch), next(self._keys))

    def done(
        self, name: str, arguments: tuple[Any, ...], result: int, number: int = 0, answers: tuple[int, ...] = ()
    ) -> Any:
        """Show the call; its result, or the symbol of its errno."""
        self._show(Call(name, arguments, result, number))
        return errno_name(number) if number else result

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call this function of the C library."""
        result = getattr(libc, name)(*arguments) or 0  # ctypes has None for a NULL
        failed = result in (-1, MINUS_ONE)
        return self.done(name, arguments, -1 if failed else result, ctypes.get_errno() if failed else 0)

    def shmget(self, key: int, size: int, flags: int) -> Any:
        """C: int shmget(key_t key, size_t size, int shmflg); see shmget(2)."""
        return self._call("shmget", key, size, flags)

    def shmat(self, shmid: int, address: int | None = None, flags: int = 0) -> Any:
        """C: void *shmat(int shmid, const void *shmaddr, int shmflg); see shmop(2)."""
        return self._call("shmat", shmid, address, flags)

    def shmdt(self, address: int) -> Any:
        """C: int shmdt(const void *shmaddr); see shmop(2)."""
        return self._call("shmdt", address)

    def shmctl(self, shmid: int, command: int, buffer: ShmidDs | int | None = None) -> Any:
        """C: int shmctl(int shmid, int cmd, struct shmid_ds *buf); see shmctl(2). `buffer` may be a mere address."""
        result = libc.shmctl(shmid, command, ctypes.byref(buffer) if isinstance(buffer, ShmidDs) else buffer)
        number = ctypes.get_errno() if result < 0 else 0
        filled = not number or command != IPC_STAT or isinstance(buffer, int)
        return self.done("shmctl", (shmid, command, buffer if filled else None), result, number)

    def semget(self, key: int, members: int, flags: int) -> Any:
        """C: int semget(key_t key, int nsems, int semflg); see semget(2)."""
        return self._call("semget", key, members, flags)

    def semctl(self, semid: int, number: int, command: str, value: int | None = None) -> Any:
        """C: int semctl(int semid, int semnum, int cmd, ...); see semctl(2)."""
        result = libc.semctl(semid, number, SEMCTL[command], value or 0)
        arguments = (semid, number, command, *(() if value is None else (value,)))
        return self.done("semctl", arguments, result, ctypes.get_errno() if result < 0 else 0)

    def semop(self, semid: int, change: int, flags: int = 0) -> Any:
        """C: int semop(int semid, struct sembuf *sops, size_t nsops), of the first semaphore; see semop(2)."""
        result = libc.semop(semid, struct.pack("=HhH", 0, change, flags), ctypes.c_size_t(1))
        return self.done("semop", (semid, change, flags), result, ctypes.get_errno() if result < 0 else 0)

    def msgget(self, key: int, flags: int) -> Any:
        """C: int msgget(key_t key, int msgflg); see msgget(2)."""
        return self._call("msgget", key, flags)

    def stat(self, shmid: int) -> Any:
        """The struct that IPC_STAT fills in."""
        buffer = ShmidDs()
        failed = self.shmctl(shmid, IPC_STAT, buffer)
        return failed or buffer

    def store(self, address: int, data: bytes) -> None:
        """Put bytes where a segment is attached: in C, *pointer = ... or memcpy."""
        self.note(f"# store {data!r} at {address:#x}")
        ctypes.memmove(address, data, len(data))

    def load(self, address: int, length: int) -> bytes:
        """Take bytes from where a segment is attached."""
        data = ctypes.string_at(address, length)
        self.note(f"# load {data!r} at {address:#x}")
        return data

    def maps(self, address: int) -> list[str]:
        """The words of the line of /proc/self/maps about this address: range, access, offset, device, inode, name."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, _, end = line.split()[0].partition("-")
            if int(start, 16) <= address < int(end, 16):
                self.note(f"# /proc/self/maps: {' '.join(line.split())}")
                return line.split()
        return []

    def look(self) -> None:
        """Show what the kernel has of ours now, as `ipcs -m` does."""
        for line in self._look():
            self.note(f"# {line}")

    def sysctl(self, name: str, value: int) -> None:
        """Set a limit of our own IPC namespace: kernel.shmmax and others, see proc(5)."""
        self.note(f"# sysctl kernel.{name}={value}")
        Path(f"/proc/sys/kernel/{name}").write_text(f"{value}\n")

    def child(self, work: Callable[[], Any], *, nobody: bool = False) -> Child:
        """Begin `work` in another process, with all that we have attached; its result is text, a number or a truth.

        As `nobody`, uid 65534, where we are root; who is not has no privilege to give up and stays who he is.
        """
        reading, writing = os.pipe()
        parent, pid = os.getpid(), os.fork()
        if not pid:
            os.close(reading)
            with _last_words():
                self._begin(parent, nobody and os.geteuid() == 0)
                os.write(writing, json.dumps(work()).encode())
        os.close(writing)
        return Child(pid, reading)

    def _begin(self, parent: int, nobody: bool) -> None:
        """What a child does first: it dies with its parent, even by kill -9."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if nobody:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        die_with(parent, signal.SIGKILL)  # last: with another uid the kernel forgets it
        self._who = "nobody: " if nobody else "child: "

    def in_child(self, work: Callable[[], Any], *, nobody: bool = False) -> Any:
        """What `work` returns in another process."""
        return self.child(work, nobody=nobody).result()


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """What a process does that was forked: it ends here, whatever happens, and one line says what went wrong."""
    code = 1
    try:
        yield
        code = 0
    except Exception as error:
        os.write(2, f"lab: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def die_with(parent: int, number: int) -> None:
    """Have the kernel send us this signal when our parent dies (prctl(2)); it may have died already."""
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
