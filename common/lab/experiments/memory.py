"""Of shared memory itself: what is shared, by whom, and what does not stand in between."""

from __future__ import annotations

import os
import subprocess

from common.ipc.sysv_calls import IPC_CREAT
from common.lab.calls import Lab
from common.lab.experiment import Observed, experiment


@experiment(
    promised={
        "one segment attached twice: the addresses are the same": False,
        "stored at the one, loaded at the other": "hello",
        "/proc/self/maps, access": "rw-s",
        "/proc/self/maps, the inode is the id": True,
    },
    lesson="A segment is pages of memory, and shmat puts them into the caller's address space: twice, if it is called"
    " twice. What is stored at one address is there at the other with no call in between, since the pages are the same."
    " Usually it is two processes that map them, but that is not necessary.",
)
def mapping(lab: Lab) -> Observed:
    """What does it mean to share memory?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    one = lab.shmat(shmid)
    other = lab.shmat(shmid)
    lab.store(one, b"hello")
    seen = lab.load(other, 5)
    _, access, _, _, inode, *_ = lab.maps(one)
    return one == other, seen.decode(), access, int(inode) == shmid


@experiment(
    promised={"calls between shmat and shmdt that carry the data": "none"},
    lesson="A pipe or a queue carries each byte into the kernel and out of it, and each read and write is a call. Here"
    " 1 MiB was copied between the two calls, and no call carried it: the mmap and munmap there give Python a buffer of"
    " its own to copy into, and no byte of the segment is in them. The kernel is needed as soon as one process has to"
    " wait for the other: `strace .venv/bin/python reader.py` shows semtimedop, and no read of what arrives.",
    needs=("strace",),
)
def intermediary(lab: Lab) -> Observed:
    """Which system calls carry the data?"""
    shmid = lab.shmget(lab.key, 2**20, IPC_CREAT | 0o600)
    log = lab.scratch / "strace"
    program = f"""if "a program of its own":
        import ctypes
        libc, here = ctypes.CDLL(None), bytearray(2**20)
        libc.shmat.restype = ctypes.c_void_p
        address = ctypes.c_void_p(libc.shmat({shmid}, None, 0))
        here[:] = ctypes.string_at(address, 2**20)
        libc.shmdt(address)"""
    python = os.readlink("/proc/self/exe")
    traced = ["strace", "-qq", "-o", str(log), python, "-c", program]
    subprocess.run(traced, check=True)
    lines = log.read_text().splitlines()
    names = [line.partition("(")[0] for line in lines]
    first, last = names.index("shmat"), names.index("shmdt")
    for line in lines[first : last + 1]:
        lab.note(f"strace: {line}")
    carry = set(names[first + 1 : last]) - {"mmap", "munmap", "brk"}
    return (" ".join(sorted(carry)) or "none",)


@experiment(
    promised={
        "nattch, attached by us and three children": 7,
        "what each of them loaded": "for all",
        "nattch, the children have ended": 1,
    },
    lesson="Any process that knows the id and whom the mode allows may attach; it needs no shmget. nattch counts"
    " attachments (strictly, mappings), not processes: each child inherited ours (fork(2)) and added one of its own:"
    " 1 + 3 * 2 = 7.",
)
def many(lab: Lab) -> Observed:
    """What does nattch count?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    lab.store(lab.shmat(shmid), b"for all")
    ready, say_ready = os.pipe()
    gate, open_gate = os.pipe()

    def attach_and_wait() -> str:
        seen = lab.load(lab.shmat(shmid), 7)
        os.write(say_ready, b".")
        os.read(gate, 1)
        return seen.decode()

    children = [lab.child(attach_and_wait) for _ in range(3)]
    for _ in children:
        os.read(ready, 1)
    together = lab.stat(shmid).attached
    os.write(open_gate, b"...")
    seen = " ".join({child.result() for child in children})
    return together, seen, lab.stat(shmid).attached
