"""Every segment of this machine that can be a channel, whosever it is: what --doctor goes through.

A key of ours comes from ftok(3), which puts the id into its first byte, one of the device's into the second and two of
the inode's into the rest: so the key tells the channel's number, its semaphores' keys, and which paths it cannot be of.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Protocol

from common.ipc.family import ChannelObjects, Family
from common.ipc.place import Place
from common.ipc.removal import Left
from common.layout import SEMAPHORES

NOWHERE = (-1, -1)  # st_dev and st_ino of a path that is not known


class Candidate(NamedTuple):
    """A segment that can be a channel by its key, or name, and its size."""

    key: int
    name: str  # "segment 5", or "/shmpair-01280001"
    mapped: str  # what the maps of a process that has it attached call it
    uid: int
    attached: int | None  # None where the family does not count

    @property
    def channel(self) -> int:
        """The number of the channel on its key path."""
        return _id(self.key) // 8

    def may_be_of(self, identity: tuple[int, int]) -> bool:
        """Whether ftok makes this key of a path with these st_dev and st_ino."""
        dev, ino = identity
        return self.key & 0xFFFFFF == (dev & 0xFF) << 16 | ino & 0xFFFF

    def place(self, path: str = "", identity: tuple[int, int] = NOWHERE) -> Place:
        """Where it is, as far as that is known."""
        keys = (signed(self.key + (number << 24)) for number in range(1, 1 + len(SEMAPHORES)))
        return Place(path, self.channel, *identity, self.key, tuple(keys))


def is_channel_key(key: int) -> bool:
    """Whether a segment of ours can have this key: the id is 8N+1."""
    return _id(key) % 8 == 1


def _id(key: int) -> int:
    return key >> 24 & 0xFF


def signed(key: int) -> int:
    """As key_t is."""
    return (key & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


class Survey(Protocol):
    """What there is of one family's objects on this machine; nothing is changed."""

    ipc: str  # as --ipc names the family
    semaphores_block: bool  # whether those that are left without their segment keep a new one from being made

    @property
    def family(self) -> Family: ...

    def library(self) -> str:
        """Which library makes the calls, and what is done for what it lacks."""

    def candidates(self) -> list[Candidate]:
        """Every segment that can be a channel. Raises OSError."""

    def check_rights(self, place: Place) -> None:
        """Raise CallFailed (EACCES) when the segment that is there does not let us take part; it is not attached."""

    def left_behind(self, place: Place) -> tuple[str, str | None] | None:
        """The semaphores that are left without their segment, and what clears them.

        "" when `writer.py --remove` does; None when we may not, and then it is said whose they are.
        """

    def strangers(self, objects: ChannelObjects) -> tuple[list[Left], str]:
        """What has the key or the name of one of its semaphores and is not its own, and the command that removes it."""

    def how_to_clear(self, objects: ChannelObjects) -> str:
        """The one command that removes this channel and nothing else."""


def users() -> dict[str, list[int]]:
    """The pids of those who have a segment attached, by Candidate.mapped; of others' processes only root sees that."""
    found: dict[str, list[int]] = {}
    pattern = re.compile(r" (/SYSV[0-9a-f]{8}|/dev/shm/shmpair-[0-9a-f]{8})(?: \(deleted\))?$", re.MULTILINE)
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/maps", errors="replace") as maps:
                for mapped in set(pattern.findall(maps.read())):
                    found.setdefault(mapped, []).append(pid)
        except OSError:  # another user's, or gone meanwhile
            continue
    return found


def key_path_of(candidate: Candidate, pids: list[int]) -> str | None:
    """Where a process that takes part has its key path open: a link in /proc, which leads to the file whatever became
    of its name. None when none of them shows it.
    """
    for pid in pids:
        try:
            for number in os.listdir(f"/proc/{pid}/fd"):
                link = f"/proc/{pid}/fd/{number}"
                status = os.stat(link)
                if candidate.may_be_of((status.st_dev, status.st_ino)):
                    return link
        except OSError:
            continue
    return None
