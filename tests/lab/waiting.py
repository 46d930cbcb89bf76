"""Who sleeps until there is a token in a semaphore: System V's kernel counts them, glibc does in the sem_t itself."""

from __future__ import annotations

import struct
from pathlib import Path

import sysv_ipc

from common.layout import SEMAPHORES
from tests.helpers import Pair, keys_of, left_in_dev_shm

_SEM_T = struct.Struct(
    "=II"
)  # struct new_sem of glibc, 64 bits: the value, and how many wait for one (<internaltypes.h>)


def asleep(pair: Pair, role: str) -> bool:
    """Whether any process sleeps on this semaphore of the pair's channel 0; False while there is none."""
    return _asleep_over_sysv(pair, role) if pair.ipc == "sysv" else _asleep_over_posix(pair, role)


def _asleep_over_sysv(pair: Pair, role: str) -> bool:
    key = sysv_ipc.ftok(str(pair.key_path), 2 + SEMAPHORES.index(role), silence_warning=True)
    try:
        return bool(sysv_ipc.Semaphore(key).waiting_for_nonzero)
    except sysv_ipc.ExistentialError:
        return False


def _asleep_over_posix(pair: Pair, role: str) -> bool:
    return any(_waiters(path) for path in left_in_dev_shm(keys_of(pair.key_path)) if path.name.endswith(f"-{role}"))


def _waiters(path: Path) -> int:
    _, waiters = _SEM_T.unpack(path.read_bytes()[: _SEM_T.size])
    return int(waiters)
