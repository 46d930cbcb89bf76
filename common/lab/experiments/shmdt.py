"""Of shmdt, nattch, and the end of a segment."""

from __future__ import annotations

import os
import re
import signal
import subprocess

from common.ipc.sysv_calls import IPC_CREAT, IPC_RMID
from common.lab.calls import Lab
from common.lab.experiment import Observed, experiment, ok


@experiment(
    promised={
        "nattch after fork, in the child": 2,
        "after the child's exit": 1,
        "nattch that a program sees after exec": 1,
        "a child attaches, marks it and is killed": "SIGKILL",
        "then IPC_STAT": "EINVAL",
    },
    lesson="fork copies the attachments, and exit, exec and kill -9 detach them: the kernel counts mappings, and a"
    ' process that ends has none. "Properly" or not, nattch is always right. What nobody does for a dead process is'
    " IPC_RMID.",
)
def leaving(lab: Lab) -> Observed:
    """Who detaches without calling shmdt?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    address = lab.shmat(shmid)
    forked = lab.in_child(lambda: lab.stat(shmid).attached)
    after = lab.stat(shmid).attached
    cat = ["cat", "/proc/sysvipc/shm"]
    rows = subprocess.run(cat, stdout=subprocess.PIPE, check=True).stdout
    (row,) = re.findall(rb"^ *-?\d+ +%d .*" % shmid, rows, re.MULTILINE)
    executed = int(row.split()[6])
    lab.note(f"# cat /proc/sysvipc/shm: nattch {executed}")
    lab.shmdt(address)

    def attach_and_die() -> None:
        lab.shmat(shmid)
        lab.shmctl(shmid, IPC_RMID)
        lab.look()
        os.kill(os.getpid(), signal.SIGKILL)

    killed = lab.in_child(attach_and_die)
    return forked, after, executed, killed, lab.stat(shmid)


@experiment(
    promised={
        "the address that shmat gave": 0,
        "once more": "EINVAL",
        "one that was never attached": "EINVAL",
        "one in the middle of a page": "EINVAL",
    },
    lesson="shmdt takes the address that shmat returned, and not an id: an id may be attached several times. What is"
    " gone at once is the mapping, and not the segment: a pointer that one has kept is a SIGSEGV.",
)
def detaching(lab: Lab) -> Observed:
    """Which addresses does shmdt take?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    one, other = lab.shmat(shmid), lab.shmat(shmid)
    addresses = (one, one, 0x2000000000, other + 8)
    return tuple(lab.shmdt(address) for address in addresses)


@experiment(
    promised={
        "attached twice: nattch": 2,
        "one shmdt: nattch": 1,
        "the other: nattch": 0,
        "attached again, it says": "alive",
    },
    lesson="Detaching is not removing. A segment that nobody has attached, with all that is in it, waits for the next"
    " one; the sheet's last sentence is true only of one that IPC_RMID has marked. That is why a message may wait while"
    " no process runs, and why forgotten segments stay until the machine restarts.",
)
def nattch(lab: Lab) -> Observed:
    """Does it go when nattch is 0?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    one, other = lab.shmat(shmid), lab.shmat(shmid)
    lab.store(one, b"alive")
    counts = [lab.stat(shmid).attached]
    for address in (one, other):
        lab.shmdt(address)
        counts.append(lab.stat(shmid).attached)
    return *counts, lab.load(lab.shmat(shmid), 5).decode()


@experiment(
    promised={"attached, kernel.shm_rmid_forced is 1": "ok", "detached, then IPC_STAT": "EINVAL"},
    lesson="With the sysctl kernel.shm_rmid_forced the sheet's sentence is true: the kernel destroys each segment with"
    " its last detach, marked or not. Its default is 0, and few machines have it. Our writer notices it and waits until"
    " all is read.",
    needs=("limits",),
)
def forced_removal(lab: Lab) -> Observed:
    """Can one have it go when nattch is 0?"""
    lab.sysctl("shm_rmid_forced", 1)
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    address = lab.shmat(shmid)
    lab.shmdt(address)
    return ok(address), lab.stat(shmid)
