"""Another user, who tries everything: run by test_security.py as a program of its own, under another uid.

    intruder.py try SHMID SEMID ...   every call that could touch the channel; prints {call: errno}, as JSON, for each
                                      of the semaphores
    intruder.py segment KEY HEX       make a segment of these bytes that anybody may use; prints its id
    intruder.py semaphore KEY         make a semaphore that anybody may use; prints its id

It goes straight to the C library, so nothing of ours can hold it back but the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import json
import sys

import sysv_ipc

IPC_RMID, IPC_SET, IPC_STAT, GETVAL, SETVAL = 0, 1, 2, 12, 16
IPC_NOWAIT, SHM_RDONLY = 0o4000, 0o10000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_NOWHERE = ctypes.c_void_p(-1).value


def attempts(shmid: int, semid: int) -> dict[str, str]:
    """The errno of every call, "done" for one that the kernel allows; the gentle ones first."""
    room = ctypes.create_string_buffer(512)  # any struct of the kernel's fits
    take, give = (_Sembuf(0, change, IPC_NOWAIT) for change in (-1, 1))
    return {
        "shmat": _outcome(_libc.shmat(shmid, None, 0)),
        "shmat SHM_RDONLY": _outcome(_libc.shmat(shmid, None, SHM_RDONLY)),
        "shmctl IPC_STAT": _outcome(_libc.shmctl(shmid, IPC_STAT, room)),
        "semctl GETVAL": _outcome(_libc.semctl(semid, 0, GETVAL, 0)),
        "semop +1": _outcome(_libc.semop(semid, ctypes.byref(give), 1)),
        "semop -1": _outcome(_libc.semop(semid, ctypes.byref(take), 1)),
        "semctl SETVAL": _outcome(_libc.semctl(semid, 0, SETVAL, 5)),
        "shmctl IPC_SET": _outcome(_libc.shmctl(shmid, IPC_SET, room)),
        "semctl IPC_RMID": _outcome(_libc.semctl(semid, 0, IPC_RMID, 0)),
        "shmctl IPC_RMID": _outcome(_libc.shmctl(shmid, IPC_RMID, None)),
    }


class _Sembuf(ctypes.Structure):
    _fields_ = [("num", ctypes.c_ushort), ("op", ctypes.c_short), ("flags", ctypes.c_short)]


def _outcome(result: int | None) -> str:
    return errno.errorcode[ctypes.get_errno()] if result in (-1, _NOWHERE) else "done"


def make_segment(key: int, content: bytes) -> int:
    """A segment of this uid with these bytes, open to everybody; its creator is dead when we end."""
    segment = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, 0o666, len(content), b"\0")
    segment.write(content)
    segment.detach()
    return int(segment.id)


def make_semaphore(key: int) -> int:
    """A semaphore of this uid, open to everybody and never operated on."""
    return int(sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o666).id)


def main(command: str, *arguments: str) -> None:
    if command == "try":
        shmid, *semids = map(int, arguments)
        print(json.dumps([attempts(shmid, semid) for semid in semids]))
    elif command == "segment":
        print(make_segment(int(arguments[0]), bytes.fromhex(arguments[1])))
    else:
        print(make_semaphore(int(arguments[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
