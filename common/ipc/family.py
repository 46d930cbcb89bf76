"""What one family of IPC objects, System V's or another, gives to the life of a channel, to the programs and to a view.

lifecycle.py, the programs and the views know these verbs and no family.
"""

from __future__ import annotations

from common.channel.objects import Objects
from common.ipc.calls import Calls
from common.ipc.place import Place
from common.ipc.removal import Removal
from common.typed import Any, NamedTuple, Protocol


class Stat(Protocol):
    """What the kernel says of a segment: who owns it, which mode and how many bytes it has."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def size(self) -> int: ...


class Names(NamedTuple):
    """The calls that a narration names, and what it says of a segment that was removed."""

    find: str
    attach: str
    detach: str
    remove: str
    removed: str = "marked {} for removal"


class ChannelObjects(Objects, Protocol):
    """One channel's objects, attached: what the protocol asks for, and their life; str() names the segment."""

    created: bool  # by this process, just now

    @property
    def place(self) -> Place: ...
    @property
    def address(self) -> int: ...
    @property
    def removal(self) -> Removal: ...
    @property
    def seen(self) -> Stat:
        """The stat of when it was created or, of an opened one, from before we attached it."""

    def stat(self) -> Stat:
        """The same, now. Raises Gone, CallFailed."""

    def blank(self) -> bool:
        """Whether it is zero in every byte."""

    def abandoned(self) -> bool:
        """Whether it is of our uid, its creator is dead, and nobody but us has it attached."""

    def made_by_us(self) -> bool:
        """Whether our uid made it; where only an owner is known, owns it."""

    def whose(self) -> str:
        """Which other user owns or made it; "" when we did both."""

    def others(self) -> int | None:
        """How many other processes have it attached; None for some, of a family that does not count them."""

    def create_semaphores(self, full: int, empty: int) -> None:
        """Make all five with the segment's mode and owner, and note each at once.

        The two that count get so many tokens, and the others mean that nobody is there. Raises CallFailed, NotOurs.
        """

    def open_semaphores(self) -> None:
        """Open all five to use them. Raises CallFailed, ENOENT for one that is gone or is not what we noted."""

    def remove_semaphores(self) -> None:
        """Remove them; `removal` adds up what became of them. Raises CallFailed."""

    def unlink(self) -> None:
        """Take the segment away: nobody finds it any more, and its memory goes with the last detach."""

    def set_mode(self, mode: int) -> None:
        """Change the permissions of all of it. Raises CallFailed."""

    def set_owner(self, uid: int | None, gid: int | None) -> None:
        """Change the owner of all of it; None leaves the owner or the group. Raises CallFailed."""

    def how_to_remove(self) -> str:
        """The command that removes what has our key or name, and what is part of it, for what is not provably ours."""

    def describe(self) -> dict[str, Any]:
        """What the kernel says of the segment, for --status: plain values, None for what this family does not know.

        `attached` is a number, or whether anybody has it attached.
        """

    def describe_semaphore(self, index: int) -> dict[str, Any]:
        """The same of SEMAPHORES[index], with `value` and `asleep`. Raises CallFailed, ENOENT when it is gone."""

    def noted_semaphore(self, index: int) -> int | str:
        """What the header notes of it."""


class Family(Protocol):
    """Where the objects of channels come from."""

    names: Names
    keys: int  # of ftok, that its objects have

    @property
    def calls(self) -> Calls: ...

    def create(self, place: Place, size: int, mode: int, address: int | None) -> ChannelObjects:
        """A new segment of `size` bytes, all zero, attached, at `address` where the family can.

        Raises CallFailed (EEXIST, EINVAL, ENOMEM, ENOSPC).
        """

    def open(self, place: Place, address: int | None) -> ChannelObjects:
        """Attach the segment to take part. Raises CallFailed (ENOENT, EACCES)."""

    def find(self, place: Place, *, observe: bool) -> ChannelObjects:
        """Attach it to look at it, read-only, or to change or remove it. Raises CallFailed (ENOENT, EACCES)."""

    def remove_orphans(self, place: Place) -> Removal:
        """The user's word: remove the semaphores that are ours by key or name where there is no segment.

        All of it or nothing: raises NotOurs when one of them is not of our uid or is in use.
        """
