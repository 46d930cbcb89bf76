"""What an oral exam asks beside the sheet: IPC_PRIVATE, the fields, sets, special memory, page tables, the mutex."""

from __future__ import annotations

import os
import re
import resource
import struct
from ctypes import c_long, get_errno
from mmap import PAGESIZE
from pathlib import Path

from common.ipc.sysv_calls import IPC_CREAT, IPC_NOWAIT
from common.ipc.trace import errno_name
from common.lab.calls import GIVE, SHM_HUGETLB, SHM_LOCK, SHM_LOCKED, TAKE, Lab, libc
from common.lab.experiment import Observed, experiment, ok


@experiment(
    promised={
        "its key": 0,
        "IPC_PRIVATE once more: the same id": False,
        "a child, which has the id by fork, loads": "hello",
    },
    lesson="IPC_PRIVATE is the key 0, and would better be called IPC_NEW: shmget makes a new segment each time, and"
    " nobody finds it by a key. Who is to share it gets the id: a child has it by fork, another program on its command"
    " line or through a file. The mode holds all the same: who knows the id and has the right may attach. After exec"
    " the id is as good as before, but what was attached is not: see `leaving`.",
)
def private(lab: Lab) -> Observed:
    """Who finds what IPC_PRIVATE made?"""
    shmid = lab.shmget(0, 4096, 0o600)
    lab.store(lab.shmat(shmid), b"hello")
    key = lab.stat(shmid).perm.key
    same = lab.shmget(0, 4096, 0o600) == shmid

    def child() -> str:
        return lab.load(lab.shmat(shmid), 5).decode()

    return key, same, lab.in_child(child)


@experiment(
    promised={
        "new: shm_segsz and shm_nattch": "5000, 0",
        "shm_cpid is its maker, shm_lpid": "0",
        "shm_atime, shm_dtime, shm_ctime": "0, 0, now",
        "a child has attached: shm_lpid is the child": True,
        "shm_atime, shm_dtime, shm_nattch": "now, 0, 1",
        "it has detached: shm_dtime": "now",
    },
    lesson="struct shmid_ds: shm_perm has the key, owner (uid, gid), creator (cuid, cgid) and mode; shm_segsz the size"
    " as it was asked for; shm_cpid who made it and shm_lpid who attached or detached last; shm_atime, shm_dtime and"
    " shm_ctime the last attach, detach, and change (made or IPC_SET; IPC_RMID leaves it); shm_nattch how many"
    " attachments (strictly, mappings) there are. 0 is never. `ipcs -m -i ID` shows all of it, `ipcs -mp` the pids.",
)
def fields(lab: Lab) -> Observed:
    """What is in struct shmid_ds?"""

    def when(moment: int) -> str:
        return "now" if moment else "0"

    shmid = lab.shmget(lab.key, 5000, IPC_CREAT | 0o600)
    new = lab.stat(shmid)
    times = ", ".join(map(when, (new.atime, new.dtime, new.ctime)))
    last = str(new.last_pid) if new.creator_pid == os.getpid() else "?"

    def attach() -> list[str | bool]:
        address = lab.shmat(shmid)
        stat = lab.stat(shmid)
        lab.shmdt(address)
        seen = f"{when(stat.atime)}, {when(stat.dtime)}, {stat.attached}"
        return [stat.last_pid == os.getpid(), seen]

    child = lab.in_child(attach)
    after = when(lab.stat(shmid).dtime)
    return f"{new.size}, {new.attached}", last, times, *child, after


def take_both(lab: Lab, semid: int) -> str:
    """One semop on two semaphores of a set."""
    both = struct.pack("=HhHHhH", 0, -1, IPC_NOWAIT, 1, -1, IPC_NOWAIT)  # struct sembuf, twice
    failed = libc.semop(semid, both, 2)
    number = get_errno() if failed else 0
    said = f"{errno_name(number)} ({os.strerror(number)})"
    lab.note(f"semop({semid}, [{{0, -1, IPC_NOWAIT}}, {{1, -1, IPC_NOWAIT}}], 2) = {failed} {said}")
    return errno_name(number)


@experiment(
    promised={
        "a set of two, which are 1 and 0: both at once": "EAGAIN",
        "the first, which could have been taken": 1,
        "IPC_RMID of one set: the second semaphore of it": "EINVAL",
        "two sets of one: IPC_RMID of the first: the other": "ok",
    },
    lesson="A set has one key, one id, one owner, one mode; its members have values, and semop changes several of them"
    " in one step, all or none. IPC_RMID takes the whole set. Five sets of one have five keys, each may be missing or"
    " shut by itself, and nothing changes two in one step. SEMMNI counts sets, SEMMNS semaphores. Ours are five sets:"
    " none of our steps needs two at once, sysv_ipc knows sets of one only, and POSIX has nothing else.",
)
def semaphore_sets(lab: Lab) -> Observed:
    """Five sets of one, or one set of five?"""
    pair = lab.semget(lab.key, 2, IPC_CREAT | 0o600)
    lab.semctl(pair, 0, "SETVAL", 1)
    refused = take_both(lab, pair)
    first = lab.semctl(pair, 0, "GETVAL")
    lab.semctl(pair, 0, "IPC_RMID")
    second = lab.semctl(pair, 1, "GETVAL")
    one = lab.semget(lab.new_key(), 1, IPC_CREAT | 0o600)
    other = lab.semget(lab.new_key(), 1, IPC_CREAT | 0o600)
    lab.semctl(one, 0, "IPC_RMID")
    return refused, first, second, ok(lab.semctl(other, 0, "GETVAL"))


@experiment(
    promised={
        "SHM_LOCK": 0,
        "the mode has SHM_LOCKED": True,
        "SHM_LOCK with RLIMIT_MEMLOCK 0": "EPERM",
        "SHM_HUGETLB succeeds only where there are huge pages": True,
    },
    lesson="SHM_LOCK keeps the pages in memory, so that none is swapped out, once they have been touched; without"
    " CAP_IPC_LOCK only up to RLIMIT_MEMLOCK. SHM_HUGETLB asks for pages of 2 MiB, which root has to set aside before"
    " (vm.nr_hugepages): fewer entries in the page table. SHM_NORESERVE sets no swap aside: see `too-large`. None of"
    " them is in POSIX: there mlock(2) locks, and huge pages come from a hugetlbfs or memfd_create(2).",
)
def special_memory(lab: Lab) -> Observed:
    """What are SHM_LOCK and SHM_HUGETLB?"""
    shmid = lab.shmget(lab.key, PAGESIZE, IPC_CREAT | 0o600)
    locked = lab.shmctl(shmid, SHM_LOCK)
    mode = lab.stat(shmid).perm.mode
    key, other_key = lab.new_key(), lab.new_key()

    def unprivileged() -> str:
        own = lab.shmget(key, PAGESIZE, IPC_CREAT | 0o600)
        lab.note("# setrlimit(RLIMIT_MEMLOCK, 0)")
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        return str(ok(lab.shmctl(own, SHM_LOCK)))

    refused = lab.in_child(unprivileged, nobody=True)
    flags = IPC_CREAT | SHM_HUGETLB | 0o600
    large = lab.shmget(other_key, 2**21, flags)
    as_expected = isinstance(large, str) or huge_pages(lab) > 0
    return locked, bool(mode & SHM_LOCKED), refused, as_expected


def huge_pages(lab: Lab) -> int:
    """How many there are (/proc/meminfo, proc(5)); 0 where the kernel knows none."""
    found = re.search(r"HugePages_Total: +(\d+)", Path("/proc/meminfo").read_text())
    lab.note(f"# /proc/meminfo: {' '.join(found[0].split()) if found else 'no huge pages'}")
    return int(found[1]) if found else 0


def resident(lab: Lab, address: int) -> int:
    """How many pages of what is attached here our page table has (Rss in /proc/self/smaps, proc(5))."""
    smaps = Path("/proc/self/smaps").read_text()
    size = re.search(rf"^{address:08x}-(?:.*\n)*?Rss: +(\d+) kB", smaps, re.MULTILINE)
    pages = int(size[1]) * 1024 // PAGESIZE if size else -1
    lab.note(f"# /proc/self/smaps: {pages} pages are in the page table")
    return pages


@experiment(
    promised={
        "1000 pages attached: in our page table": 0,
        "after a store into 3 of them": 3,
        "another process attaches it: in its page table": 0,
        "it loads from the first": "page 0",
        "and has it now": True,
    },
    lesson="shmat only notes a range of addresses: no page, no entry. The first touch of each page is a page fault: the"
    " kernel finds the page of the segment, or takes a new one full of zeros, and enters it into the page table of this"
    " process. Each process has a table of its own, and their entries lead to the same page: that is all the sharing. A"
    " child has none of them by fork, either, and faults anew. So memory is used at the touch, not at the attach, and"
    " shmdt gives entries back, not pages.",
)
def page_tables(lab: Lab) -> Observed:
    """When does a process have its pages?"""
    shmid = lab.shmget(lab.key, 1000 * PAGESIZE, IPC_CREAT | 0o600)
    address = lab.shmat(shmid)
    before = resident(lab, address)
    for page in (0, 400, 800):
        lab.store(address + page * PAGESIZE, b"page %d" % page)
    after = resident(lab, address)

    def other() -> list[int | str]:
        here = lab.shmat(shmid)
        none = resident(lab, here)
        said = lab.load(here, 6).decode()
        return [none, said, resident(lab, here) > 0]

    return before, after, *lab.in_child(other)


@experiment(
    promised={
        "one is inside: another one, with IPC_NOWAIT": "EAGAIN",
        "additions of two processes that are lost": 0,
    },
    lesson="A race: what comes out depends on who is first (see `unsynchronised`, where additions are lost). A critical"
    " section: the lines in which only one at a time may be; here load, add, store. A mutex: what sees to it; a"
    " semaphore that is 1, from which each takes 1 before and puts it back behind (mutual exclusion). A counting"
    " semaphore is no mutex: it says how many there are, and whoever comes may put. SEM_UNDO: see `killed-holding`.",
)
def mutex(lab: Lab) -> Observed:
    """What keeps two processes apart?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    number = c_long.from_address(lab.shmat(shmid))
    semid = lab.semget(lab.key, 1, IPC_CREAT | 0o600)
    lab.semctl(semid, 0, "SETVAL", 1)

    def add() -> None:
        for _ in range(20_000):
            libc.semop(semid, TAKE, 1)
            number.value += 1  # the critical section
            libc.semop(semid, GIVE, 1)

    lab.semop(semid, -1)
    refused = lab.in_child(lambda: lab.semop(semid, -1, IPC_NOWAIT))
    adding = [lab.child(add), lab.child(add)]
    lab.semop(semid, +1)
    for child in adding:
        child.result()
    lab.note(f"# number += 1, 2 * 20000 times: {number.value}")
    return refused, 40_000 - number.value
