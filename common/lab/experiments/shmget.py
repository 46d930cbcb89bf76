"""Of shmget: keys, flags, sizes, modes, and each of its errors."""

from __future__ import annotations

from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL
from common.lab.calls import SHM_NORESERVE, Lab
from common.lab.experiment import Observed, experiment, ok

FLAGS = (0, IPC_EXCL, IPC_CREAT)  # all but both together


@experiment(
    promised={"shmget makes it": "ok", "msgget with the same key": "ENOENT", "semget with the same key": "ENOENT"},
    lesson="The three families share the rules of keys and flags, and nothing else: each has a table of its own, so"
    " the same key names three different objects. The sheet's sentence was copied from its chapter on msgget. Where"
    " shmget takes a size, semget takes the number of semaphores, and msgget nothing.",
)
def three_tables(lab: Lab) -> Observed:
    """Does shmget give access to a message queue?"""
    made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    queue = lab.msgget(lab.key, 0)
    semaphores = lab.semget(lab.key, 0, 0)
    return ok(made), queue, semaphores


@experiment(
    promised={
        "3 GiB, more than an int holds": 3 << 30,
        "IPC_STAT of 5000 bytes": 5000,
        "bytes that shmat maps of them": 8192,
    },
    lesson="The size is a size_t, 64 bits here, and not the sheet's int. The kernel remembers it to the byte and maps"
    " whole pages: behind the 5000th byte there is room to the end of the page, which nobody should use. (SHM_NORESERVE"
    " only keeps it from setting 3 GiB of memory aside; see shmget(2).)",
)
def sizes(lab: Lab) -> Observed:
    """What may the size be, and how many bytes does one get?"""
    flags = IPC_CREAT | SHM_NORESERVE | 0o600
    large = lab.shmget(lab.key, 3 << 30, flags)
    odd = lab.shmget(lab.new_key(), 5000, IPC_CREAT | 0o600)
    start, _, end = lab.maps(lab.shmat(odd))[0].partition("-")
    mapped = int(end, 16) - int(start, 16)
    return lab.stat(large).size, lab.stat(odd).size, mapped


@experiment(
    promised={"the first id of a new namespace": 0, "a key that nobody has": "ENOENT"},
    lesson="An id is any number from 0 on, so a program tests for -1: `if (shmid <= 0)` would take the very first"
    " segment for a failure. What went wrong is in errno, and only after a -1.",
    needs=("namespace",),
)
def first_id(lab: Lab) -> Observed:
    """Which ids does shmget return, and what when it fails?"""
    first = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    return first, lab.shmget(lab.new_key(), 4096, 0)


@experiment(
    promised={
        "a new one of size 0": "EINVAL",
        "2^63 bytes": "EINVAL",
        "larger than the one that is there": "EINVAL",
        "smaller": "the same id",
        "0, that is any size": "the same id",
    },
    lesson="EINVAL has four causes: nothing to make, more than SHMMAX (see `limits`), more than 2^63-1, which no SHMMAX"
    " allows, and, most often in a lab, a segment of an earlier run that is smaller than the struct has become. ipcrm"
    " it. A smaller size than the segment's is no error: one gets the whole of it.",
)
def size_errors(lab: Lab) -> Observed:
    """Which sizes are invalid?"""
    none = lab.shmget(lab.key, 0, IPC_CREAT | 0o600)
    much = lab.shmget(lab.key, 1 << 63, IPC_CREAT | 0o600)
    made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)

    def again(size: int) -> str:
        result = lab.shmget(lab.key, size, IPC_CREAT | 0o600)
        return "the same id" if result == made else str(result)

    return none, much, again(8192), again(100), again(0)


@experiment(
    promised={
        "nobody has the key: no flag": "ENOENT",
        "nobody has the key: IPC_EXCL": "ENOENT",
        "nobody has the key: IPC_CREAT | IPC_EXCL": "ok",
        "nobody has the key: IPC_CREAT": "ok",
        "it exists: IPC_CREAT | IPC_EXCL": "EEXIST",
        "it exists: no flag, IPC_EXCL and IPC_CREAT give the same id": True,
    },
    lesson="IPC_CREAT makes what is missing and opens what is there. IPC_EXCL refuses what is there, but only beside"
    " IPC_CREAT; alone it is ignored. Who must know whether the segment is new, say to initialise it, needs both.",
)
def opening(lab: Lab) -> Observed:
    """What do IPC_CREAT and IPC_EXCL do, on a new key and an old one?"""
    missing = lab.shmget(lab.key, 4096, 0o600)
    useless = lab.shmget(lab.key, 4096, IPC_EXCL | 0o600)
    made = lab.shmget(lab.key, 4096, IPC_CREAT | IPC_EXCL | 0o600)
    other = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    refused = lab.shmget(lab.key, 4096, IPC_CREAT | IPC_EXCL | 0o600)
    opened = [lab.shmget(lab.key, 4096, flags | 0o600) for flags in FLAGS]
    same = set(opened) == {made}
    return missing, useless, ok(made), ok(other), refused, same
