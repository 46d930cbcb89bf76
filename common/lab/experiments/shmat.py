"""Of shmat: where a segment is attached, and what one may do there."""

from __future__ import annotations

import re
import resource
from ctypes import c_int, c_long
from mmap import PAGESIZE
from pathlib import Path

from common.ipc.sysv_calls import IPC_CREAT, SHM_RDONLY, SHM_RND
from common.lab.calls import SHM_NORESERVE, Lab, libc
from common.lab.experiment import Observed, experiment, ok

CHOSEN = 0x2000000000  # between the heap and what the kernel maps by itself, also with 39 bits of address


@experiment(
    promised={
        "the address, kept in an int, is still the address": False,
        "what shmat returns when it fails": "0xffffffffffffffff",
    },
    lesson="An address has 64 bits and an int 32: with the sheet's `int shmat` the upper half is lost, and what is left"
    " points nowhere. It is void *shmat(int, const void *, int). Its failure is (void *) -1, all bits set: a program"
    " that compares with NULL does not see it.",
)
def pointer(lab: Lab) -> Observed:
    """What does shmat return?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    address = lab.shmat(shmid)
    as_int = c_int(address).value
    lab.note(f"# (int) {address:#x} is {as_int:#x}")
    return as_int == address, hex(libc.shmat(-1, None, 0))


@experiment(
    promised={
        "an id that is none": "EINVAL",
        "an address in the middle of a page": "EINVAL",
        "one in use": "EINVAL",
        "one that no process has": "ENOMEM",
        "the last page there is: its end wraps round to 0": "EINVAL",
        "0x123, rounded to 0": "EPERM",
    },
    lesson="EINVAL says that the id or the address is wrong, and not which. An address beyond all that a process has"
    " is ENOMEM, though no memory is short. The first page is nobody's, so that NULL"
    " points nowhere: only root (CAP_SYS_RAWIO) may attach below vm.mmap_min_addr, and then even 0 is a success.",
)
def attach_errors(lab: Lab) -> Observed:
    """What makes shmat fail?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o666)
    in_use = lab.shmat(shmid)
    wrong = [lab.shmat(-1), lab.shmat(shmid, CHOSEN + 0x123)]
    wrong += [lab.shmat(shmid, in_use), lab.shmat(shmid, 2**63)]
    wrong.append(lab.shmat(shmid, 2**64 - PAGESIZE))

    def attach_low() -> str:
        return str(ok(lab.shmat(shmid, 0x123, SHM_RND)))

    return *wrong, lab.in_child(attach_low, nobody=True)


@experiment(
    promised={"512 MiB where 64 MiB of addresses are left": "ENOMEM", "4096 bytes": "ok"},
    lesson="Attaching takes addresses, not memory: pages come at the first touch. ENOMEM says that the address space"
    " is full, or limited with `ulimit -v` (RLIMIT_AS), however much memory is free.",
)
def address_space(lab: Lab) -> Observed:
    """Which memory may shmat lack?"""
    flags = IPC_CREAT | SHM_NORESERVE | 0o600
    large = lab.shmget(lab.key, 2**29, flags)
    small = lab.shmget(lab.new_key(), 4096, flags)

    def limited() -> list[str]:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**26
        lab.note(f"# setrlimit(RLIMIT_AS, {limit})")
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return [str(ok(lab.shmat(shmid))) for shmid in (large, small)]

    return tuple(lab.in_child(limited))


@experiment(
    promised={
        "NULL twice gives two free addresses": True,
        "one in the middle of a page": "EINVAL",
        "the same with SHM_RND": hex(CHOSEN),
        "another process attaches another segment there": hex(CHOSEN),
        "what we find there afterwards": "ours",
    },
    lesson="With NULL the kernel chooses what is free, which always works: shmop(2) prefers it. SHM_RND rounds down to"
    " a multiple of SHMLBA, a page on x86-64 and more on some other processors. No other program can be in the way:"
    " every process has addresses of its own, so two may have two segments at one address. Who chooses an address has"
    " another reason, such as pointers in the segment.",
)
def addresses(lab: Lab) -> Observed:
    """Where is it attached?"""
    ours = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    other = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    free = {lab.shmat(ours), lab.shmat(ours)}
    refused = lab.shmat(ours, CHOSEN + 0x123)
    rounded = lab.shmat(ours, CHOSEN + 0x123, SHM_RND)
    lab.store(CHOSEN, b"ours")

    def elsewhere() -> str:
        lab.shmdt(CHOSEN)  # inherited
        address = lab.shmat(other, CHOSEN)
        lab.store(address, b"else")
        return hex(address)

    theirs = lab.in_child(elsewhere)
    found = lab.load(CHOSEN, 4).decode()
    return len(free) == 2, refused, hex(rounded), theirs, found


@experiment(
    promised={
        "/proc/self/maps, access": "r--s",
        "a load": "hello",
        "a store": "SIGSEGV",
        "a store where it is attached without SHM_RDONLY": "ok",
    },
    lesson="The pages are marked in the page table of this attachment. A load works, a store is stopped by the"
    " processor, and the kernel ends the process. The segment itself is as before: another attachment, even in the same"
    " process, may be written to.",
)
def read_only(lab: Lab) -> Observed:
    """What does SHM_RDONLY protect?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    one = lab.shmat(shmid)
    lab.store(one, b"hello")
    other = lab.shmat(shmid, None, SHM_RDONLY)
    access = lab.maps(other)[1]
    loaded = lab.load(other, 5).decode()

    def store_at(address: int) -> str:
        lab.store(address, b"HELLO")
        return "ok"

    stored = lab.in_child(lambda: store_at(other))
    fine = lab.in_child(lambda: store_at(one))
    return access, loaded, stored, fine


@experiment(
    promised={"additions of two processes that are lost": "some"},
    lesson="To add 1 is three steps: load, add, store. Where two processes do so at a time, both load the same number,"
    " and one of the two additions is lost. It is as easy as a pointer, and nothing keeps the two apart: that takes a"
    " semaphore, or one writer for each number, as our ring has it (common/README.md).",
)
def unsynchronised(lab: Lab) -> Observed:
    """Is writing through the pointer safe?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    number = c_long.from_address(lab.shmat(shmid))

    def add() -> None:
        for _ in range(100_000):
            number.value += 1

    lost = rounds = 0
    while not lost and rounds < 100:
        number.value = 0
        adding = [lab.child(add), lab.child(add)]
        for child in adding:
            child.result()
        lost, rounds = 200_000 - number.value, rounds + 1
        lab.note(f"# number += 1, 2 * 100000 times: {number.value}")
    return ("some" if lost else "none",)


@experiment(
    promised={
        "/proc/self/maps has its address": True,
        "loaded there": "still here",
        "loaded where it was attached again": "still here",
        "shmdt of the address that was found": 0,
    },
    lesson="The kernel knows what is mapped: /proc/self/maps has a line for each attachment, with the id as inode. And"
    " who has the id may attach again. Nothing is lost with a pointer but the pointer.",
)
def lost_pointer(lab: Lab) -> Observed:
    """Is it lost with its pointer?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    lost = lab.shmat(shmid)
    lab.store(lost, b"still here")
    maps = Path("/proc/self/maps").read_text()
    pattern = rf"^(\w+)-.* {shmid} +/SYSV"
    line = re.search(pattern, maps, re.MULTILINE)
    found = int(line[1], 16) if line else 0
    lab.note(f"# /proc/self/maps has {found:#x}")
    there = lab.load(found, 10).decode()
    again = lab.load(lab.shmat(shmid), 10).decode()
    return found == lost, there, again, lab.shmdt(found)
