"""Mistakes about what others do meanwhile: they remove it, they make it as well, they have no right to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.ipc.sysv_calls import IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_SET
from common.lab.calls import Lab
from common.lab.experiment import Observed, mistake, ok
from common.lab.programs import CLASSIC, Program, asleep, found, our_key, run


@mistake(
    promised={
        "the classic reader, which slept": "sysv_ipc.ExistentialError",
        "the classic writer, once the message is typed": "sysv_ipc.ExistentialError",
        "our reader, which slept, says EIDRM": True,
        "and the next pair": "hello again",
    },
    symptom="A program that has waited for a while ends with a traceback: the semaphore was removed.",
    cause="IPC_RMID of a semaphore is immediate. It wakes all who sleep in semop, with EIDRM; a later semop is EINVAL."
    " It may have been ipcrm, a second reader, or the user's logout (RemoveIPC=yes in logind.conf(5)). A segment waits"
    " for its last detach, a semaphore for nobody.",
    cure="Expect EIDRM in every semop and say in one line what has happened. Our two look ten times a second whether"
    " all is still there, since a marked segment wakes nobody; and the next start begins with what is left.",
)
def removed_asleep(lab: Lab) -> Observed:
    """What if it is removed under one who waits?"""
    writer = Program(lab, "classic_writer")
    writer.hear("type the message")
    reader = Program(lab, "classic_reader")
    shmid, semid = found(lab)
    asleep(lab, semid)
    lab.semctl(semid, 0, "IPC_RMID")
    lab.shmctl(shmid, IPC_RMID)
    reads = reader.end()[-1].partition(":")[0]
    writer.type("hello")
    writes = writer.end()[-1].partition(":")[0]
    run(lab, "writer", "--quiet", "hello")
    ours = Program(lab, "reader", "--quiet", "--follow")
    ours.hear("hello")
    lab.shmctl(lab.shmget(our_key(lab), 0, 0), IPC_RMID)
    says = "EIDRM" in ours.end()[-1]
    run(lab, "writer", "--quiet", "hello again")
    return reads, writes, says, run(lab, "reader", "--quiet")[-1]


@mistake(
    promised={
        "a message is ready: the semaphore is": 1,
        "a second classic writer has started: it is": 0,
        "readers that sleep, with a message in the segment": 1,
        "semget with IPC_CREAT and IPC_EXCL tells that it is not the first": "EEXIST",
        "four writers of ours at once: messages that arrive": 4,
    },
    symptom="Now and then, when two start at about the same time, a reader sleeps for ever, or two are in a critical"
    " section together.",
    cause="To make a semaphore and to give it its first value are two calls: semget, semctl SETVAL (semget(2)). Who"
    " comes in between uses one without a value, and who sets it once more undoes what others did. IPC_CREAT does not"
    " say who was first, and sysv_ipc.Semaphore(key, IPC_CREAT) sets the value each time.",
    cure="IPC_CREAT | IPC_EXCL: one is the first, and it alone sets the value; the others wait until that is done. Ours"
    " do all of it behind a lock on the key path (flock(2)), so that nobody sees it half made.",
)
def initialised_twice(lab: Lab) -> Observed:
    """Who gives a semaphore its first value?"""
    run(lab, "classic_writer", typed="hello")
    _, semid = found(lab)
    before = lab.semctl(semid, 0, "GETVAL")
    second = Program(lab, "classic_writer")
    second.hear("type the message")
    after = lab.semctl(semid, 0, "GETVAL")
    reader = Program(lab, "classic_reader")
    sleepers = asleep(lab, semid)
    second.kill()
    reader.kill()
    key = lab.make_key(str(lab.scratch), CLASSIC)
    first = lab.semget(key, 1, IPC_CREAT | IPC_EXCL | 0o660)
    four = [Program(lab, "writer", "--quiet", "hello") for _ in range(4)]
    for writer in four:
        writer.end()
    arrived = run(lab, "reader", "--quiet").count("hello")
    return before, after, sleepers, first, arrived


@mistake(
    promised={
        "the classic pair's 0660, for another user: shmget": "EACCES",
        "with 0666: shmget": "ok",
        "IPC_RMID, the classic reader's last line": "EPERM",
        "ours with --mode 0600: shmget": "EACCES",
        "after --chmod 0666: shmget": "ok",
        "and of its first semaphore: semget": "ok",
    },
    symptom="It works for its author; for the one at the next desk it is EACCES, and as soon as that is mended, EPERM.",
    cause="The mode decides who may read and write: 0660 leaves all others out, and without a mode it is even oneself."
    " To remove is another right: the owner, the creator and root have it, whatever the mode (shmctl(2)).",
    cure="Choose the mode on purpose, for the segment and for each semaphore (`--mode`, `--chmod`, `--chown` do all of"
    " them), and ask for the right to remove before one says that it is over: our reader then leaves that to the owner,"
    " in one line.",
    needs=("root",),
)
def locked_out(lab: Lab) -> Observed:
    """Who may use it, and who remove it?"""

    def as_nobody(work: Callable[..., Any], *arguments: int) -> str:
        return str(lab.in_child(lambda: ok(work(*arguments)), nobody=True))

    run(lab, "classic_writer", typed="hello")
    shmid, _ = found(lab)
    key, theirs = lab.make_key(str(lab.scratch), CLASSIC), our_key(lab)
    results = [as_nobody(lab.shmget, key, 0, 0o600)]
    stat = lab.stat(shmid)
    stat.perm.mode = 0o666
    lab.shmctl(shmid, IPC_SET, stat)
    results.append(as_nobody(lab.shmget, key, 0, 0o600))
    results.append(as_nobody(lab.shmctl, shmid, IPC_RMID))
    run(lab, "writer", "--quiet", "--mode", "0600", "hello")
    results.append(as_nobody(lab.shmget, theirs, 0, 0o600))
    run(lab, "writer", "--quiet", "--chmod", "0666")
    results.append(as_nobody(lab.shmget, theirs, 0, 0o600))
    semaphore = our_key(lab, 2)
    return *results, as_nobody(lab.semget, semaphore, 0, 0o600)
