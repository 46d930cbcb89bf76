"""Of shmget: what it makes, what it returns, and each of its errors."""

from __future__ import annotations

from mmap import PAGESIZE

from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL, IPC_RMID, SHM_RDONLY
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
    """Is shmget for message queues, too?"""
    made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    queue = lab.msgget(lab.key, 0)
    semaphores = lab.semget(lab.key, 0, 0)
    return ok(made), queue, semaphores


@experiment(
    promised={
        "3 GiB, more than an int holds: IPC_STAT": 3 << 30,
        "5000 bytes: IPC_STAT": 5000,
        "shmat maps whole pages, and no more": True,
        "it exists with 5000: 100 bytes, or 0": "the same id",
        "5001 bytes, for which its pages have room": "EINVAL",
        "a new one of size 0": "EINVAL",
        "a new one of 2^63 bytes": "EINVAL",
    },
    lesson="The size is a size_t, 64 bits here, and not the sheet's int. The kernel remembers it to the byte and maps"
    " whole pages. Of an existing segment one may ask for less and gets all of it. EINVAL is for nothing, for more than"
    " SHMMAX (see `limits`) or 2^63-1, and, most often in a lab, for more than the segment of an earlier run has, after"
    " the struct has grown: ipcrm it. (SHM_NORESERVE only keeps the 3 GiB from being set aside.)",
)
def sizes(lab: Lab) -> Observed:
    """Which sizes can one ask for?"""
    flags = IPC_CREAT | SHM_NORESERVE | 0o600
    large = lab.stat(lab.shmget(lab.new_key(), 3 << 30, flags)).size
    odd = lab.shmget(lab.key, 5000, flags)
    start, _, end = lab.maps(lab.shmat(odd))[0].partition("-")
    spare = int(end, 16) - int(start, 16) - 5000
    again = {lab.shmget(lab.key, size, flags) for size in (100, 0)}
    less = "the same id" if again == {odd} else "another"
    more = lab.shmget(lab.key, 5001, flags)
    new = lab.new_key()
    wrong = [lab.shmget(new, size, flags) for size in (0, 1 << 63)]
    whole = 0 <= spare < PAGESIZE
    return large, lab.stat(odd).size, whole, less, more, *wrong


@experiment(
    promised={"the first id of a new namespace": 0, "a key that nobody has": "ENOENT"},
    lesson="An id is any number from 0 on, so a program tests for -1: `if (shmid <= 0)` would take the very first"
    " segment for a failure. What went wrong is in errno, and only after a -1.",
    needs=("namespace",),
)
def first_id(lab: Lab) -> Observed:
    """What is an id, and what a failure?"""
    first = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    return first, lab.shmget(lab.new_key(), 4096, 0)


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
    """What do IPC_CREAT and IPC_EXCL do?"""
    missing = lab.shmget(lab.key, 4096, 0o600)
    useless = lab.shmget(lab.key, 4096, IPC_EXCL | 0o600)
    made = lab.shmget(lab.key, 4096, IPC_CREAT | IPC_EXCL | 0o600)
    other = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    refused = lab.shmget(lab.key, 4096, IPC_CREAT | IPC_EXCL | 0o600)
    opened = [lab.shmget(lab.key, 4096, flags | 0o600) for flags in FLAGS]
    same = set(opened) == {made}
    return missing, useless, ok(made), ok(other), refused, same


@experiment(
    promised={
        "it is marked and its key is free: no flag": "ENOENT",
        "IPC_CREAT with the same key": "another id",
        "the key of the first, which still lives": 0,
    },
    lesson="There is no EIDRM in shmget on Linux: since 2.3.30 IPC_RMID takes the key away at once, and the marked"
    " segment lives on with key 0, IPC_PRIVATE, until its last detach (shmget(2), Linux notes).",
)
def removed_key(lab: Lab) -> Observed:
    """Does shmget find what is marked?"""
    first = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    lab.shmat(first)
    lab.shmctl(first, IPC_RMID)
    missing = lab.shmget(lab.key, 4096, 0o600)
    second = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    which = "the same id" if second == first else "another id"
    return missing, which, lab.stat(first).perm.key


@experiment(
    promised={
        "its mode is 0400: shmget with 0600": "EACCES",
        "shmget with 0400": "the same id",
        "shmget with 0": "the same id",
        "IPC_CREAT with 0600": "EACCES",
        "IPC_CREAT and IPC_EXCL": "EEXIST",
        "shmat": "EACCES",
        "shmat with SHM_RDONLY": "ok",
    },
    lesson="shmget compares the mode bits in its flags with those of the segment, and nothing else: who asks for 0 gets"
    " the id of anybody's segment. shmat is what shuts the door: it needs the right to read and to write, with"
    " SHM_RDONLY the right to read. Its creator is no exception. Root is (CAP_IPC_OWNER), and never sees EACCES.",
)
def permission(lab: Lab) -> Observed:
    """What does EACCES keep one from?"""

    def use_own() -> list[str]:
        made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o400)

        def asking(flags: int) -> str:
            result = lab.shmget(lab.key, 4096, flags)
            return "the same id" if result == made else str(result)

        exclusive = IPC_CREAT | IPC_EXCL
        flags = (0o600, 0o400, 0, IPC_CREAT | 0o600, exclusive)
        answers = [asking(one) for one in flags]
        to_write = lab.shmat(made)
        to_read = lab.shmat(made, None, SHM_RDONLY)
        return [*answers, to_write, str(ok(to_read))]

    return tuple(lab.in_child(use_own, nobody=True))


@experiment(
    promised={"8 TiB": "ENOMEM", "8 TiB with SHM_NORESERVE": "ok"},
    lesson="ENOMEM: the kernel counts what it has promised, and memory and swap do not hold so much. With SHM_NORESERVE"
    " nothing is counted, and what is not there is missed at the first touch. What a limit refuses has another errno:"
    " see `limits`.",
    needs=("overcommit",),
)
def too_large(lab: Lab) -> Observed:
    """How much memory may one ask for?"""
    counted = lab.shmget(lab.key, 8 << 40, IPC_CREAT | 0o600)
    flags = IPC_CREAT | SHM_NORESERVE | 0o600
    uncounted = lab.shmget(lab.key, 8 << 40, flags)
    return counted, ok(uncounted)


@experiment(
    promised={
        "SHMMAX is 4096: a byte more": "EINVAL",
        "SHMALL is 1 page: two pages": "ENOSPC",
        "SHMALL is raised, SHMMNI is 1, and there is one": "ENOSPC",
        "the same, SHMMNI is 2": "ok",
    },
    lesson="Three limits, and two errnos that the sheet does not connect with them: one segment may be as large as"
    " SHMMAX, all together have SHMALL pages, and there are SHMMNI of them. `ipcs -lm` shows them. ENOSPC in a lab"
    " mostly means: segments of earlier runs that nobody removed.",
    needs=("limits",),
)
def limits(lab: Lab) -> Observed:
    """What when a limit is reached?"""
    make = IPC_CREAT | 0o600
    lab.sysctl("shmmax", 4096)
    large = lab.shmget(lab.key, 4097, make)
    lab.sysctl("shmmax", 2**30)
    lab.sysctl("shmall", 1)
    pages = lab.shmget(lab.key, 2 * PAGESIZE, make)
    lab.sysctl("shmall", 2**18)
    lab.sysctl("shmmni", 1)
    lab.shmget(lab.key, 4096, make)
    another = lab.new_key()
    one_more = lab.shmget(another, 4096, make)
    lab.sysctl("shmmni", 2)
    return large, pages, one_more, ok(lab.shmget(another, 4096, make))
