"""The two generations of shared memory on Linux, System V and POSIX, step by step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap

from common.channel.listener import Listener
from common.ipc.posix_calls import SEGMENT_FILES, PosixCalls
from common.ipc.sysv_calls import SysvCalls
from common.ipc.trace import printer
from common.lab.calls import Lab
from common.lab.experiment import Observed, experiment

_COLUMN = 33  # with which a line has 80 columns


def side_by_side(lab: Lab) -> tuple[SysvCalls, PosixCalls, Callable[..., None]]:
    """The calls of either family, and what shows them: all since the last step, and a line about both."""
    sysv, posix = SysvCalls(Listener()), PosixCalls(Listener())
    left, right = ["System V"], ["POSIX"]
    for calls, lines in ((sysv, left), (posix, right)):
        calls.listener.call = printer(lines.append)

    def show(step: str, both: str = "") -> None:
        wrapped = ([part for line in (*lines, both) for part in wrap(line, _COLUMN)] for lines in (left, right))
        for one, other in zip_longest(*wrapped, fillvalue=""):
            lab.note(f"{step:<8} {one:<{_COLUMN}} {other}".rstrip())
            step = ""
        left.clear()
        right.clear()

    show("")
    return sysv, posix, show


def load_anew(lab: Lab) -> list[str]:
    """What a process finds that has only the key and the name."""
    sysv, posix = SysvCalls(), PosixCalls()
    segment = sysv.attach_segment(sysv.open_segment(lab.key))
    mapping = posix.map_segment(posix.open_segment(lab.name), 4096)
    return [segment.read(5).decode(), bytes(mapping.memory[:5]).decode()]


def has_name(lab: Lab) -> bool:
    """Whether the name is still there: it is a file."""
    return Path(SEGMENT_FILES + lab.name[1:]).exists()


@experiment(
    promised={
        "nobody has it attached; another process finds, by the key": "hello",
        "and by the name": "hello",
        "after the removal, shmget": "ENOENT",
        "and the name is in /dev/shm": False,
    },
    lesson="The same six steps. System V has a key, an id and calls of its own. POSIX has a name, a file descriptor and"
    " the calls that files have: ftruncate gives the size, mmap attaches, fstat looks, and the name is a file in"
    " /dev/shm. Only System V counts who has it attached (nattch). In both a removed one lives until its last detach,"
    " and one that nobody removes stays until the machine restarts. The rest is in tests/lab/README.md, Two"
    " generations.",
)
def two_generations(lab: Lab) -> Observed:
    """What are the six steps in either family?"""
    sysv, posix, show = side_by_side(lab)
    shmid = sysv.create_segment(lab.key, 4096, 0o600)
    fd = posix.create_segment(lab.name, 0o600)
    posix.set_size(fd, 4096)
    show("make")
    segment = sysv.attach_segment(shmid)
    mapping = posix.map_segment(fd, 4096)
    show("attach")
    segment.write(b"hello")
    mapping.memory[:5] = b"hello"
    show("write", "# store b'hello'")
    sysv.stat_segment(shmid)
    posix.stat_segment(fd)
    show("look")
    sysv.detach_segment(segment)
    posix.unmap_segment(mapping)
    posix.close_segment(fd)
    show("detach")
    seen = lab.in_child(lambda: load_anew(lab))
    sysv.remove_segment(shmid)
    posix.remove_segment(lab.name)
    show("remove")
    return *seen, lab.shmget(lab.key, 0, 0), has_name(lab)
