"""Exercises about waiting, taking turns, dying, and clearing up."""

from __future__ import annotations

import math
import os
import random
import resource
import signal
import struct
import time

from common.ipc.machine import read_table
from common.ipc.sysv_calls import IPC_CREAT, SHM_DEST
from common.lab.calls import Lab
from common.lab.exercise import Answer, exercise, key_of, looking_for
from common.lab.exercises.segments import MESSAGE, attached
from common.lab.experiment import Observed
from common.lab.programs import asleep, wait_until

MAKE = IPC_CREAT | 0o600
TIMES, ROUNDS = 50_000, 4


def seconds_of_children() -> float:
    """The processor time of all that have ended, and for which we have waited (getrusage(2))."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def nattch(shmid: int) -> int:
    """How many have it attached; asked where it is not shown."""
    return sum(row["nattch"] for row in read_table("shm") if row["shmid"] == shmid)


def figure(lab: Lab, said: list[str]) -> float:
    """The number in the last line; infinity, where there is none."""
    last = said[-1] if said else ""
    try:
        return float(last)
    except ValueError:
        lab.note(f"# looked for the seconds in the last line, and saw {last!r}")
        return math.inf


@exercise("it prints the message", "its figure is what the kernel counted, to a quarter")
def busy(lab: Lab, answer: Answer) -> Observed:
    """Make the reader wait without a semaphore, and measure the CPU that it costs: attach the segment with the key
    $KEY, wait until its first byte is no longer 0, and print the message, which ends at a zero, and then, on a
    line of its own, the seconds of processor time that your program has used."""
    shmid = lab.shmget(lab.key, 4096, MAKE)
    before = seconds_of_children()
    reader = answer.start(KEY=key_of(lab))
    with looking_for("a process that has the segment attached"):
        wait_until(lambda: nattch(shmid) or reader.has_ended(), "a reader that has it attached")
    time.sleep(random.uniform(0.5, 1.5))  # nothing waits for this: it is what the reader is to pay for
    address = lab.shmat(shmid)
    lab.store(address + 1, MESSAGE[1:].encode())
    lab.store(address, MESSAGE[:1].encode())
    said = reader.end()
    used = seconds_of_children() - before
    lab.note(f"# the kernel has counted {used:.2f} s")
    return MESSAGE in said, abs(figure(lab, said) - used) < 0.1 + used / 4


@exercise("it sleeps in semop", "it prints the message")
def sleeping(lab: Lab, answer: Answer) -> Observed:
    """The same without the cost: wait until the semaphore with the key $KEY lets you through, and print the message
    that is then in the segment with the key $KEY, up to a zero."""
    address = lab.shmat(lab.shmget(lab.key, 4096, MAKE))
    semid = lab.semget(lab.key, 1, MAKE)
    reader = answer.start(KEY=key_of(lab))
    with looking_for("a process that sleeps in semop until the semaphore lets it through"):
        sleeps = asleep(lab, semid, reader) == 1
    lab.store(address, MESSAGE.encode())
    lab.semop(semid, +1)
    return sleeps, MESSAGE in reader.end()


@exercise("no addition is lost")
def counting(lab: Lab, answer: Answer) -> Observed:
    """Your program runs twice at the same time, and each adds 1 to the number at the beginning of the segment with
    the key $KEY (8 bytes, as the machine has them), 50000 times. Lose none: the semaphore with the key $KEY is 1."""
    address = lab.shmat(lab.shmget(lab.key, 4096, MAKE))
    semid = lab.semget(lab.key, 1, MAKE)
    lab.semctl(semid, 0, "SETVAL", 1)
    for again in range(1, ROUNDS + 1):  # they may miss each other, and a wrong answer be right by luck
        for adding in [answer.start(KEY=key_of(lab)) for _ in range(2)]:
            adding.end()
        (total,) = struct.unpack("=q", lab.load(address, 8))
        lab.note(f"# {again} * 2 * {TIMES} additions: {total}")
        if total != again * 2 * TIMES:
            return (False,)
    return (True,)


@exercise("it holds the semaphore", "it is killed, and the semaphore is 1 again")
def undone(lab: Lab, answer: Answer) -> Observed:
    """Take the semaphore with the key $KEY, which is 1, so that it is 1 again when you are killed by kill -9; print
    `holding` when you have it, and wait to be killed."""
    semid = lab.semget(lab.key, 1, MAKE)
    lab.semctl(semid, 0, "SETVAL", 1)
    holder = answer.start(KEY=key_of(lab))
    with looking_for("the line `holding` in what your command says"):
        holder.hear("holding")
    holds = lab.semctl(semid, 0, "GETVAL") == 0
    pid = lab.semctl(semid, 0, "GETPID")  # the shell is another process
    if holds and pid not in (0, os.getpid()):
        lab.note(f"# kill -9 {pid}")
        os.kill(pid, signal.SIGKILL)
    else:
        holder.kill()
    holder.end()
    return holds, holds and lab.semctl(semid, 0, "GETVAL") == 1


@exercise("the orphans are gone", "the one that is attached is there", "the one whose maker lives is there")
def orphans(lab: Lab, answer: Answer) -> Observed:
    """Of the segments $SHMIDS remove those that nobody has attached and whose maker is dead, and no other one."""
    keys = [lab.new_key() for _ in range(4)]
    in_use, *orphaned = lab.in_child(lambda: [lab.shmget(key, 4096, MAKE) for key in keys[:3]])
    living = lab.shmget(keys[3], 4096, MAKE)
    with attached(lab, in_use):
        answer.run(SHMIDS=f"{orphaned[0]} {in_use} {living} {orphaned[1]}")
        there = [row["shmid"] for row in read_table("shm") if not row["perms"] & SHM_DEST]
        return not {*orphaned} & {*there}, in_use in there, living in there
