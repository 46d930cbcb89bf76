"""Of shmget's key and mode: who finds a segment, who makes it, who may use it."""

from __future__ import annotations

import os
import random

from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL, IPC_SET, ShmidDs
from common.lab.calls import Lab
from common.lab.experiment import Observed, experiment, ok
from common.lab.own import leave_namespace


@experiment(
    promised={
        "the key's last 16 bits are those of the inode": True,
        "a number that no ftok made": "ok",
        "IPC_PRIVATE twice: the ids are the same": False,
    },
    lesson="A key is a number. ftok makes one from 8 bits of its own argument, 8 of the device and 16 of the inode, so"
    " that two programs need to agree on a path only; any other number that both know will do. IPC_PRIVATE is 0, and is"
    " never found again: each call makes a new segment, whose id one must hand on.",
)
def keys(lab: Lab) -> Observed:
    """Must a key come from ftok?"""
    key = lab.new_key()
    inode = lab.scratch.stat().st_ino
    number = random.getrandbits(31)
    free = lab.shmget(number, 4096, IPC_CREAT | IPC_EXCL | 0o600)
    private = {lab.shmget(0, 4096, 0o600) for _ in range(2)}
    alike = key & 0xFFFF == inode & 0xFFFF
    return alike, ok(free), len(private) == 1


@experiment(
    promised={"here": "the same id", "in another IPC namespace": "ENOENT", "shmat by the id there": "EINVAL"},
    lesson="The kernel compares a key with those of one IPC namespace. A container has its own: two programs in two"
    " containers have the same key and do not meet, and neither finds the other's id.",
    needs=("namespace",),
)
def namespaces(lab: Lab) -> Observed:
    """Who can find a segment by its key?"""
    made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    again = lab.shmget(lab.key, 4096, 0o600)

    def elsewhere() -> list[str]:
        leave_namespace()
        return [lab.shmget(lab.key, 4096, 0o600), lab.shmat(made)]

    here = "the same id" if again == made else str(again)
    return here, *lab.in_child(elsewhere)


@experiment(
    promised={"of eight, those who made it": 1, "those who heard EEXIST": 7},
    lesson="To look whether the segment is there and to make it is one step for the kernel, so of many who try at once"
    " one succeeds and knows that it was the first. Who first asks without IPC_CREAT and then creates has a gap in"
    " between.",
)
def race(lab: Lab) -> Observed:
    """Can two processes both make it?"""
    gate, open_gate = os.pipe()

    def make() -> str:
        os.read(gate, 1)
        flags = IPC_CREAT | IPC_EXCL | 0o600
        return str(ok(lab.shmget(lab.key, 4096, flags)))

    children = [lab.child(make) for _ in range(8)]
    os.write(open_gate, b"8 tokens")
    results = [child.result() for child in children]
    return results.count("ok"), results.count("EEXIST")


@experiment(
    promised={
        "made without a mode, by its creator: shmat": "EACCES",
        "IPC_STAT": "EACCES",
        "IPC_SET of the mode 0600, then shmat": "ok",
        "made with 0666 under umask 077: the mode": "0666",
        "opened with IPC_CREAT | 0600: the mode": "0666",
    },
    lesson="The mode is optional for the compiler only: without it nobody may attach or IPC_STAT, not even the"
    " creator, until its owner gives it a mode with IPC_SET, which asks for no right to read; root may. No umask is"
    " applied. And it is set when the segment is made: of one that exists, the same bits ask for permission and change"
    " nothing.",
)
def mode(lab: Lab) -> Observed:
    """What does the octal mode do?"""

    def without() -> list[str]:
        made = lab.shmget(lab.new_key(), 4096, IPC_CREAT)
        does = [lab.shmat(made), lab.stat(made)]
        given = ShmidDs()
        given.perm.uid, given.perm.gid = os.geteuid(), os.getegid()
        given.perm.mode = 0o600
        lab.shmctl(made, IPC_SET, given)
        does.append(lab.shmat(made))
        return [str(ok(result)) for result in does]

    os.umask(0o077)
    made = lab.shmget(lab.key, 4096, IPC_CREAT | 0o666)
    before = lab.stat(made).perm.mode
    lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    after = lab.stat(made).perm.mode
    refused = lab.in_child(without, nobody=True)
    return *refused, f"0{before:o}", f"0{after:o}"
