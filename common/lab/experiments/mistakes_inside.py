"""Mistakes inside: who dies in the critical section, who needs none, and what means nothing in another process."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import struct

from common.ipc.sysv_calls import IPC_CREAT, SEM_UNDO
from common.lab.calls import GIVE, TAKE, Lab, libc
from common.lab.experiment import Observed, mistake
from common.lab.programs import Program, asleep, found, run

SIZE = 2**16


def take_and_die(lab: Lab, semid: int, flags: int) -> int:
    """A classic reader that is killed between its semop and its last line; the value of the semaphore afterwards."""

    def reader() -> None:
        lab.semop(semid, -1, flags)
        lab.note("# kill -9 of itself")
        os.kill(os.getpid(), signal.SIGKILL)

    lab.in_child(reader)
    value: int = lab.semctl(semid, 0, "GETVAL")
    return value


@mistake(
    promised={
        "it took the token and is killed: the semaphore is": 0,
        "classic readers that sleep for ever": 1,
        "the same with SEM_UNDO: the semaphore is": 1,
        "the next classic reader": "reader: it says 'hello'",
        "SEM_UNDO on the writer's +1, when the writer has ended: it is": 0,
        "our writer is killed inside a record, then our reader": "hello",
    },
    symptom="A process was killed, and from then on all others hang.",
    cause="The kernel gives memory and files of the dead back, and of a semaphore only what was done with SEM_UNDO. But"
    " that is no cure for each semaphore: of one that counts messages it takes the +1 of a writer that has just ended.",
    cure="SEM_UNDO where a process takes and returns (a turn, a mutex), never where one gives and another takes. Our"
    " turns and the count of writers have it, full and empty slots have not: head and tail decide, and the next"
    " writer repairs what a dead one has left half done.",
)
def killed_holding(lab: Lab) -> Observed:
    """What if its holder is killed?"""
    run(lab, "classic_writer", typed="hello")
    _, semid = found(lab)
    plain = take_and_die(lab, semid, 0)
    reader = Program(lab, "classic_reader")
    sleepers = asleep(lab, semid)
    reader.kill()
    lab.semop(semid, +1)
    undone = take_and_die(lab, semid, SEM_UNDO)
    says = run(lab, "classic_reader")[-1]
    new = lab.semget(lab.new_key(), 1, IPC_CREAT | 0o600)
    lab.in_child(lambda: lab.semop(new, +1, SEM_UNDO))
    blind = lab.semctl(new, 0, "GETVAL")
    writer = Program(lab, "writer")
    writer.type("begun")
    writer.hear("store 6 bytes")
    writer.kill()
    run(lab, "writer", "--quiet", "hello")
    ours = run(lab, "reader", "--quiet")
    return plain, sleepers, undone, says, blind, ours[-1]


def count_torn(lab: Lab, address: int, mutex: int | None = None) -> int:
    """One process stores AAA... and BBB... in turns, and we load: how often that is half the one and half the other."""

    def change(operation: bytes) -> None:
        if mutex is not None:
            libc.semop(mutex, operation, 1)

    def store_for_ever() -> None:
        for letter in itertools.cycle((b"A" * SIZE, b"B" * SIZE)):
            change(TAKE)
            ctypes.memmove(address, letter, SIZE)
            change(GIVE)

    ctypes.memmove(address, b"A" * SIZE, SIZE)
    storing, torn, tries = lab.child(store_for_ever), 0, 0
    while tries < 2_000 or (mutex is None and not torn and tries < 500_000):
        change(TAKE)
        message = ctypes.string_at(address, SIZE)
        change(GIVE)
        torn, tries = torn + (message.count(message[:1]) < SIZE), tries + 1
    os.kill(storing.pid, signal.SIGKILL)
    storing.result()
    lab.note(f"# {tries} loads{' inside the semaphore' * (mutex is not None)}: {torn} torn")
    return torn


@mistake(
    promised={
        "loads that are half one message and half another": "some",
        "with a semaphore around each load and store": 0,
        "two writers of ours at once, 1000 lines each: lines that arrive whole": 2000,
    },
    symptom="Now and then a message is half the new one and half the old one; more often on a machine with more cores.",
    cause="A store of many bytes is many steps, and nothing keeps another process from loading in between. Nor does the"
    " classic semaphore, which counts messages: two writers are as free as before.",
    cure="A critical section, of the reader as well (a mutex: a semaphore that is 1), or an order in which nobody needs"
    " one: our slot is filled first, then head says so with one store, and until it is read nobody fills it again.",
)
def torn(lab: Lab) -> Observed:
    """Does it need a semaphore?"""
    address = lab.shmat(lab.shmget(lab.key, SIZE, IPC_CREAT | 0o600))
    mutex = lab.semget(lab.key, 1, IPC_CREAT | 0o600)
    lab.semctl(mutex, 0, "SETVAL", 1)
    free = count_torn(lab, address)
    guarded = count_torn(lab, address, mutex)
    lines = ("A" * 40 + "\n", "B" * 40 + "\n")
    writers = [Program(lab, "writer", "--lines") for _ in lines]
    for writer in writers:
        writer.hear("attached it")  # a channel is over when all have left
    got = lab.scratch / "received"
    reader = Program(lab, "reader", "--quiet", "--output", str(got))
    for writer, line in zip(writers, lines, strict=True):
        writer.feed(line * 1000)
    for program in (*writers, reader):
        program.end()
    whole = sum(line in lines for line in got.open())
    return "some" if free else "none", guarded, whole


@mistake(
    promised={
        "the writer loads where its pointer points": "hello",
        "another process, where it has the segment: the same address": False,
        "it loads where that pointer points": "SIGSEGV",
        "it adds the offset to its own address": "hello",
        "ours, attached by the writer at an address of its own": "hello",
    },
    symptom="The writer reads back what it wrote; the reader, which follows the pointer in the struct, is ended by a"
    " SIGSEGV, or finds something else.",
    cause="An address means something in one address space only, and shmat gives each process another one (shmop(2),"
    " NOTES: store offsets). A char * or a Python id() in a segment is such an address.",
    cure="Store where it is from the beginning of the segment. All that our header and slots say is offsets, lengths"
    " and counters; the slot is head modulo their number.",
)
def stored_pointer(lab: Lab) -> Observed:
    """May a pointer be stored in the segment?"""
    shmid = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    base = lab.shmat(shmid)
    lab.store(base + 64, b"hello")
    lab.store(base, struct.pack("@Pq", base + 64, 64))
    own = lab.load(base + 64, 5).decode()

    def reading(follow: bool) -> str:
        here = lab.shmat(shmid)
        lab.shmdt(base)  # inherited
        pointer, offset = struct.unpack("@Pq", lab.load(here, 16))
        where = pointer if follow else here + offset
        return f"{lab.load(where, 5).decode()} {here == base}"

    dead = lab.in_child(lambda: reading(True))
    alive, same = lab.in_child(lambda: reading(False)).split()
    run(lab, "writer", "--quiet", "--attach-at", "0x2000000000", "hello")
    ours = run(lab, "reader", "--quiet")[-1]
    return own, same == "True", dead, alive, ours
