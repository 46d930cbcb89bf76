"""Mistakes about which object one has: one that was left, one of another size, one of another key."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from common.ipc.sysv_calls import IPC_CREAT, IPC_RMID
from common.lab.calls import Lab
from common.lab.experiment import Observed, mistake, ok
from common.lab.programs import CLASSIC, Program, asleep, found, our_key, run


@mistake(
    promised={
        "the classic reader is killed: its segment": "ok",
        "its semaphore": "ok",
        "our reader is killed, and another one started: our segment": "ENOENT",
    },
    symptom="`ipcs` shows more segments and semaphores after each run that failed, and one day shmget says ENOSPC.",
    cause="The objects belong to the kernel and not to a process. IPC_RMID is the reader's last line, and a reader that"
    " was killed, or ended by an error, never came to it.",
    cure="Let whoever is last remove them, and let the next start find and finish what a dead one has left. By hand:"
    " ipcrm, or `writer.py --remove`.",
)
def forgotten(lab: Lab) -> Observed:
    """What is left when the reader dies?"""
    writer = Program(lab, "classic_writer")
    writer.hear("type the message")
    reader = Program(lab, "classic_reader")
    asleep(lab, found(lab)[1])
    reader.kill()
    writer.type("hello")
    writer.end()
    left = [ok(shared) for shared in found(lab)]
    run(lab, "writer", "--quiet", "hello")
    ours = Program(lab, "reader", "--quiet", "--follow")
    ours.hear("hello")
    ours.kill()
    run(lab, "reader", "--quiet")
    return *left, lab.shmget(our_key(lab), 0, 0)


@mistake(
    promised={
        "shmget of 4096 bytes where there are 1024": "EINVAL",
        "the classic writer says": "ValueError: The size is invalid",
        "once the old one is removed, it says": "writer: it is in the segment",
        "ours, asked for another size, says what is there": True,
    },
    symptom="The program worked yesterday. Today the struct has one field more, and shmget says EINVAL.",
    cause="A segment of yesterday has the key. It is smaller than what is asked for, and a segment never grows.",
    cure="Ask for size 0 where one only opens, and let the segment say what is in it: our header has the number and the"
    " size of the slots, so a reader takes them from there, and a writer that asks for others is told both.",
)
def stale_smaller(lab: Lab) -> Observed:
    """What if an older one is smaller?"""
    key = lab.make_key(str(lab.scratch), CLASSIC)
    old = lab.shmget(key, 1024, IPC_CREAT | 0o660)
    refused = lab.shmget(key, 4096, IPC_CREAT | 0o660)
    failed = run(lab, "classic_writer", typed="hello")[-1]
    lab.shmctl(old, IPC_RMID)
    works = run(lab, "classic_writer", typed="hello")[-1]
    run(lab, "writer", "--quiet", "--slots", "4", "hello")
    ours = run(lab, "writer", "--quiet", "--slots", "64", "hello")[-1]
    says = "has 4 slots" in ours and "asked for were 64" in ours
    return refused, failed, works, says


@mistake(
    promised={
        "the size of what the classic writer has": 8192,
        "it wrote hello, and the classic reader says": "reader: it says 'helloye'",
        "ours, goodbye and then hello": "goodbye hello",
    },
    symptom="The first run is right. A later one shows its message with the end of an older one behind it.",
    cause="IPC_CREAT opens what is there, without a word: size, mode and bytes are the old ones. Only a new segment is"
    " full of zeros, which the reader takes for the end of the message.",
    cure="Store the length beside the data, as our slots do. And know whether one made it (IPC_EXCL, or `writer.py"
    " --exclusive`), and check what one has opened: our header begins with a magic number and the version.",
)
def stale_larger(lab: Lab) -> Observed:
    """What if an older one is larger?"""
    key = lab.make_key(str(lab.scratch), CLASSIC)
    old = lab.shmat(lab.shmget(key, 8192, IPC_CREAT | 0o660))
    lab.store(old, b"goodbye")
    lab.shmdt(old)
    run(lab, "classic_writer", typed="hello")
    size = lab.stat(found(lab)[0]).size
    said = run(lab, "classic_reader")[-1]
    for message in ("goodbye", "hello"):
        run(lab, "writer", "--quiet", message)
    ours = run(lab, "reader", "--quiet")
    return size, said, " ".join(ours)


def two_paths_with_one_key(lab: Lab) -> tuple[Path, Path]:
    """Two files whose inodes differ only beyond the 16 bits that ftok keeps; a tmpfs counts its inodes up."""
    first, other = (lab.scratch / f"key-{number}" for number in (1, 2))
    for path in (first, other):
        path.symlink_to(f"/dev/shm{lab.name}-{path.name}")
        path.touch()
    inode = first.stat().st_ino
    for tries in count(2):
        if (other.stat().st_ino ^ inode) & 0xFFFF == 0 or tries > 2**20:
            break
        os.unlink(other.resolve())
        other.touch()
    lab.note(f"# file {tries} has an inode with the same last 16 bits: {inode:#x}, {other.stat().st_ino:#x}")
    return first, other


@mistake(
    promised={
        "two paths: their keys are the same": True,
        "the classic reader of the other path": "reader: it says 'hello'",
        "our reader of the other path refuses": True,
        "one path, made anew: the keys are the same": False,
        "the classic reader, which has the new key": "No shared memory exists",
    },
    symptom="Two programs have the same path and do not meet; or two with different paths do.",
    cause="ftok looks at the inode, not at the name. An editor or a checkout that writes the file anew gives it another"
    " one. And of the inode it takes 16 bits, of the device 8: two paths may have one key.",
    cure="Make the key of a directory, which stays when its files are replaced. Store the whole inode and device in the"
    " segment and compare them: our header does, and who comes with another path is refused.",
)
def ftok_drift(lab: Lab) -> Observed:
    """Do two programs have the same key?"""
    one, other = two_paths_with_one_key(lab)
    key = lab.make_key(str(one), CLASSIC)
    alike = lab.make_key(str(other), CLASSIC) == key
    run(lab, "classic_writer", typed="hello", path=one)
    strange = run(lab, "classic_reader", path=other)[-1]
    run(lab, "writer", "--quiet", "hello", path=one)
    ours = run(lab, "reader", "--quiet", path=other)[-1]
    run(lab, "classic_writer", typed="hello", path=one)
    one.rename(lab.scratch / "key-old")
    one.touch()
    same = lab.make_key(str(one), CLASSIC) == key
    lost = run(lab, "classic_reader", path=one)[-1]
    missed = lost.partition(": ")[2].partition(" with")[0]
    return alike, strange, "belongs to another path" in ours, same, missed
