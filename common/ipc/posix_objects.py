"""The POSIX objects of one channel, over the calls of posix_calls.py.

The object is /shmpair-KEY, KEY being ftok's in hex, and /dev/shm shows it as a file. Nobody counts who has it mapped,
so whoever takes part has a shared lock on one of its bytes. Its name is free as soon as it is removed; the memory goes
with the last mapping.
"""

from __future__ import annotations

import errno
import os
from weakref import WeakSet

from common.errors import CallFailed, NotPermitted
from common.ipc.calls import key_text
from common.ipc.place import Place
from common.ipc.posix_calls import PosixCalls, ShmStat, has_data, segment_path, semaphore_path
from common.ipc.posix_roles import ATTACHED, READER_TURN, WRITER_TURN, WRITERS, Counter, Handle, Presence, Turn
from common.ipc.posix_semaphores import Semaphores, named_after, whose
from common.ipc.removal import Removal
from common.layout import SEMAPHORES
from common.typed import Any

_LOCKS = {"writer_turn": WRITER_TURN, "reader_turn": READER_TURN, "writers": WRITERS}


def segment_name(place: Place) -> str:
    """The name of the channel's object, for shm_open."""
    return f"/shmpair-{key_text(place.segment_key).removeprefix('0x')}"


class PosixObjects:
    """One channel's object, mapped, and its five semaphores.

    `seen` is what fstat said when it was opened. Whoever takes `part` is known to others by a lock.
    """

    def __init__(
        self, calls: PosixCalls, place: Place, fd: int, seen: ShmStat, *, part: bool, observe: bool = False
    ) -> None:
        self.place = place
        self.name = segment_name(place)
        self.seen = seen
        self.created = False
        self._calls = calls
        self._fd = fd
        self._part = part
        if part:
            Handle(calls, fd, None).lock_shared(ATTACHED)
        # What has no size yet cannot be mapped, and can be judged all the same.
        self._mapping = calls.map_segment(fd, seen.size, readonly=observe) if seen.size else None
        self.memory = self._mapping.memory if self._mapping else memoryview(b"")
        self.address = self._mapping.address if self._mapping else 0
        self._handle = Handle(calls, fd, self._mapping)
        self.semaphores = Semaphores(calls, self.name, self.memory, lambda: self.stat().uid)
        _ATTACHED_HERE.add(self)

    def __str__(self) -> str:
        return f"object {self.name}"

    def open_semaphores(self) -> None:
        """Open all five, to use them. Raises CallFailed, ENOENT for one that is gone."""
        self.semaphores.open_all()
        self._use()

    def create_semaphores(self, full: int, empty: int) -> None:
        """Make all five with the object's mode and owner. Raises CallFailed, NotOurs."""
        self.semaphores.create_all((full, empty, 0, 0, 0), self.seen)
        self._use()

    def _use(self) -> None:
        opened = self.semaphores.opened
        self.full_slots = Counter(self._handle, opened[0])
        self.empty_slots = Counter(self._handle, opened[1])
        self.writer_turn = Turn(self._handle, WRITER_TURN, opened[2])
        self.reader_turn = Turn(self._handle, READER_TURN, opened[3])
        self.writers = Presence(self._handle, opened[4])

    def stat(self) -> ShmStat:
        """Fstat of the object. Raises CallFailed."""
        return self._calls.stat_segment(self._fd)

    def removed(self) -> bool:
        """Whether its name is gone: no one else can join any more. Raises BadSegment when it was truncated."""
        return not self._handle.stat().links

    def blank(self) -> bool:
        """Whether every byte of it is zero."""
        return not has_data(self._fd)

    def alone(self) -> bool:
        """Whether no other process takes part."""
        return not self._handle.locked_by_others(ATTACHED)

    def others(self) -> int | None:
        """0 when no other process takes part, else None: nobody counts them."""
        return 0 if self.alone() else None

    def abandoned(self) -> bool:
        """Whether it is of our uid and nobody else takes part: whoever creates it does, until it is made."""
        return self.made_by_us() and self.alone()

    def made_by_us(self) -> bool:
        """Whether it is our uid's; who made it, the kernel does not say."""
        return self.seen.uid == os.geteuid()

    def whose(self) -> str:
        """Which other user owns it; "" when we do."""
        return whose(self.seen)

    def goes_with_us(self) -> bool:
        """Whether our detach destroys it: never, while it has a name."""
        return False

    def set_mode(self, mode: int) -> None:
        """Fchmod the object and chmod the semaphores. Raises CallFailed."""
        names = self._there()
        self._calls.set_mode(self._fd, mode)
        for name in names:
            self._calls.set_semaphore_mode(name, mode)

    def set_owner(self, uid: int | None, gid: int | None) -> None:
        """Fchown the object and lchown the semaphores; None leaves the owner or the group. Raises CallFailed."""
        owner = {name: number for name, number in (("uid", uid), ("gid", gid)) if number is not None}
        names = self._there()
        self._calls.set_owner(self._fd, **owner)
        for name in names:
            self._calls.set_semaphore_owner(name, **owner)

    def _there(self) -> list[str]:
        """The names of the semaphores, before anything is changed: one may be gone. Raises CallFailed (ENOENT)."""
        names = [self.semaphores.name(index) for index in range(len(SEMAPHORES))]
        for name in names:
            self._calls.stat_semaphore(name)
        return names

    def missing(self) -> str | None:
        """The first of the five semaphores whose name is gone, else None."""
        return self.semaphores.missing()

    def check_removable(self) -> None:
        """Raise NotPermitted when we may not remove all of it, before anything is changed.

        The kernel says so, never our comparison: /dev/shm is sticky, so to unlink takes the right that fchmod takes.
        """
        there = self.stat()
        try:
            self._calls.set_mode(self._fd, there.mode)
            self.semaphores.check_removable()
        except CallFailed as error:
            if error.errno != errno.EPERM:
                raise
            raise NotPermitted(error, there.uid) from None

    @property
    def removal(self) -> Removal:
        """What became of the semaphores."""
        return self.semaphores.removal

    def remove(self) -> None:
        """Remove the semaphores, then the object; what is gone already is passed over. Raises CallFailed."""
        self.remove_semaphores()
        self.unlink()

    def remove_semaphores(self) -> None:
        """Remove the semaphores that bear our nonce. Raises CallFailed."""
        self.semaphores.remove()

    def unlink(self) -> None:
        """Remove the object's name, if it still leads to the object that we opened. Raises CallFailed."""
        try:
            if self._calls.stat_name(self.name).ino == self.seen.ino:
                self._calls.remove_segment(self.name)
        except CallFailed as error:
            if error.errno != errno.ENOENT:
                raise

    def how_to_remove(self) -> str:
        """The command that removes the object and, if there are any, the semaphores named after it."""
        path = segment_path(self.name)
        named = f" {semaphore_path(self.name)}-*" if named_after(self.name) else ""
        return f"rm {path}{named}"

    def describe(self) -> dict[str, Any]:
        """What fstat said, for --status; who made it and who came and went, nobody knows."""
        seen = self.seen
        return {
            "id": self.name,
            "size": seen.size,
            "mode": f"{seen.mode & 0o777:04o}",
            "uid": seen.uid,
            "gid": seen.gid,
            **dict.fromkeys(("creator_uid", "creator_gid", "creator_pid", "last_pid")),
            "attached": not self.alone(),
            **dict.fromkeys(("attach_time", "detach_time")),
            "change_time": seen.change_time,
            "marked_for_removal": not seen.links,
        }

    def describe_semaphore(self, index: int) -> dict[str, Any]:
        """Its value, and whether somebody has the lock that it belongs to; who sleeps, nobody knows.

        Raises CallFailed, ENOENT when it is gone.
        """
        role, semaphore = SEMAPHORES[index], self.semaphores.open(index, self.seen.uid)
        try:
            value = self._calls.semaphore_value(semaphore)
        finally:
            self._calls.close_semaphore(semaphore)
        told: dict[str, Any] = {"name": semaphore.name, "value": value, "last_pid": None, "asleep": None}
        if role in _LOCKS:
            told["locked"] = self._handle.locked_by_others(_LOCKS[role])
            if role == "writers":  # the lock knows whether any lives; how many, the semaphore, but for the dead
                told["value"] = max(value, 1) if told["locked"] else 0
        return told

    def noted_semaphore(self, index: int) -> int:
        """What the header notes: 1 for made, -1 for not."""
        return self.semaphores.noted(index)

    def detach(self) -> None:
        """Give the memory and our locks back; every view of it must be released before. Raises CallFailed."""
        _ATTACHED_HERE.discard(self)
        self.semaphores.close()
        # A child that was forked without our knowledge has the descriptor, too, and would keep the locks.
        if self._part:
            self._calls.unlock_all(self._fd)
        if self._mapping:
            self._calls.unmap_segment(self._mapping)
        self._calls.close_segment(self._fd)

    def drop_in_child(self) -> None:
        """In a child of fork(2): let go of what it inherited, or our locks would outlive us."""
        self._calls.drop_in_child(self._fd, self._mapping)


# A lock belongs to the opened object, which a child shares until it lets go of descriptor and mapping; exec does that.
_ATTACHED_HERE: WeakSet[PosixObjects] = WeakSet()


def _drop_all_in_child() -> None:
    while _ATTACHED_HERE:
        _ATTACHED_HERE.pop().drop_in_child()


os.register_at_fork(after_in_child=_drop_all_in_child)
