"""What was tried, for the report: each line of the lab sheet that two or three commands can show, tried anew."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from common.show.pair import Pair

_PATIENCE = "2"  # seconds: where kernel.shm_rmid_forced is 1, a writer waits for a reader that does not come


class Trial(NamedTuple):
    """What the sheet says of it, what to type, what to look for in what the last command says, what one learns."""

    about: str
    commands: tuple[str, ...]
    look_for: str  # a regular expression
    lesson: str
    system_v_only: bool = False


class Tried(NamedTuple):
    """A trial, and the line that was looked for; None when it did not come."""

    trial: Trial
    observed: str | None


TRIALS = (
    Trial("a key that nothing has", ("reader.py --status",), "ENOENT", "only a writer creates"),
    Trial(
        "create, exclusively, on a new key",
        ("writer.py --trace hello",),
        r"_EXCL.*= \d+$",
        "it succeeded, so the segment is new and ours to initialise",
    ),
    Trial(
        "create, exclusively, on a key that is taken",
        ("writer.py hello", "writer.py --exclusive hello"),
        "EEXIST",
        "both flags together never open what is there",
    ),
    Trial("a mode of 0640", ("writer.py --trace --mode 0640 hello",), "_EXCL.*0640", "the mode counts at creation"),
    Trial("a segment of 0 bytes", ("writer.py --slots 0 hello",), "EINVAL", "a new one must have a size"),
    Trial(
        "attach at NULL",
        ("writer.py --trace hello",),
        r"(shmat|mmap)\(.*= 0x",
        "the kernel chooses a free address, another one in each process",
    ),
    Trial(
        "attach at a chosen address, SHM_RND",
        ("writer.py --trace --attach-at 0x7e0000000123 hello",),
        r"SHM_RND\) = 0x",
        "it is rounded down to a page",
        system_v_only=True,
    ),
    Trial(
        "attach where no user memory can be",
        ("writer.py --attach-at 0xfffffffffffff000 hello",),
        "SHM_RND.*EINVAL",
        "address and size together pass the end of all addresses: EINVAL; what is only out of range is ENOMEM",
        system_v_only=True,
    ),
    Trial(
        "attach to read only",
        ("writer.py hello", "reader.py --trace --status"),
        r"SHM_RDONLY|PROT_READ, ",
        "an onlooker asks for no right to write",
    ),
    Trial(
        "ask for size, owner and mode",
        ("writer.py hello", "reader.py --trace --status"),
        r"IPC_STAT|^fstat",
        "the kernel keeps this about each segment",
    ),
    Trial(
        "change the mode",
        ("writer.py hello", "writer.py --trace --chmod 0600"),
        r"IPC_SET.*mode=0600|fchmod.*0600",
        "owner, creator and root may",
    ),
    Trial(
        "nobody has it attached any more, and then a reader comes",
        ("writer.py hello", "reader.py --trace"),
        r"^load .*hello",
        "detaching removes nothing: the bytes waited",
    ),
    Trial(
        "remove it",
        ("writer.py hello", "writer.py --trace --remove"),
        r"IPC_RMID, NULL|shm_unlink",
        "only this call removes, and its key or name is free at once",
    ),
)


def try_all(pair: Pair) -> Iterator[Tried]:
    """Each trial that the family has, with no channel before it."""
    for trial in TRIALS:
        if trial.system_v_only and pair.ipc != "sysv":
            continue
        pair.clear()
        for command in trial.commands:
            program, *arguments = shlex.split(command)
            ran = pair.run(program.removesuffix(".py"), *arguments, "--timeout", _PATIENCE)
        yield Tried(trial, ran.find(trial.look_for))
