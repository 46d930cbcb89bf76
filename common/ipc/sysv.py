"""The System V objects of one channel, over the calls of sysv_calls.py."""

from __future__ import annotations

import errno
import os

from common.channel.listener import Listener
from common.errors import CallFailed, Gone, NotPermitted
from common.ipc.family import Names
from common.ipc.place import Place
from common.ipc.processes import is_dead
from common.ipc.removal import Removal
from common.ipc.sysv_calls import (
    SHM_RDONLY,
    SHM_RND,
    SegmentStat,
    Semaphore,
    SysvCalls,
    forced_removal,
    segment_memory,
)
from common.ipc.sysv_owners import remove_orphans, whose
from common.ipc.sysv_roles import Counter, Presence, Turn
from common.ipc.sysv_semaphores import Semaphores
from common.layout import PAGE, SEMAPHORES
from common.typed import Any

_ZEROS = bytes(PAGE)
READ_WRITE = 0o600  # what a participant asks of the mode, whichever class it falls in


class SysvObjects:
    """One channel's segment, attached, and its five semaphores.

    `seen` is what IPC_STAT said of one that is there before we attached it.
    """

    def __init__(
        self,
        calls: SysvCalls,
        place: Place,
        shmid: int,
        address: int | None,
        *,
        seen: SegmentStat | None = None,
        observe: bool = False,
    ) -> None:
        flags = (SHM_RND if address is not None else 0) | (SHM_RDONLY if observe else 0)
        self.place = place
        self.shmid = shmid
        self.created = False
        self._calls = calls
        self._segment = calls.attach_segment(shmid, address, flags)
        self.address: int = self._segment.address
        try:
            self.seen = seen or calls.stat_segment(shmid)
        except CallFailed:
            calls.detach_segment(self._segment)
            raise
        memory = segment_memory(self._segment, self.seen.size)
        # The kernel maps it read-only, but the memoryview would not say so before the SIGSEGV.
        self.memory = memory.toreadonly() if observe else memory
        self.semaphores = Semaphores(calls, place.semaphore_keys, self.memory, self.seen.cuid)

    def __str__(self) -> str:
        return f"segment {self.shmid}"

    def open_semaphores(self) -> None:
        """Open all five, to use them. Raises CallFailed, ENOENT for one that is gone or is not what we noted."""
        self.semaphores.open_all(READ_WRITE)
        self._use(self.semaphores.opened)

    def create_semaphores(self, full: int, empty: int) -> None:
        """Make all five with the segment's mode and owner: the turns are free. Raises CallFailed, NotOurs."""
        self.semaphores.create_all((full, empty, 1, 1, 0), self.seen)
        self._use(self.semaphores.opened)

    def _use(self, semaphores: list[Semaphore]) -> None:
        self.full_slots = Counter(self._calls, semaphores[0])
        self.empty_slots = Counter(self._calls, semaphores[1])
        self.writer_turn = Turn(self._calls, semaphores[2])
        self.reader_turn = Turn(self._calls, semaphores[3])
        self.writers = Presence(self._calls, semaphores[4])

    def stat(self) -> SegmentStat:
        """IPC_STAT of the segment. Raises Gone, CallFailed."""
        return self._calls.stat_segment(self.shmid)

    def removed(self) -> bool:
        """Whether the segment is marked for removal: no one else can join any more."""
        try:
            return self.stat().marked
        except Gone:
            return True

    def blank(self) -> bool:
        """Whether every byte of it is zero."""
        return all(self.memory[at : at + PAGE] == _ZEROS for at in range(0, len(self.memory), PAGE))

    def alone(self) -> bool:
        """Whether no other process has the segment attached."""
        return self.others() == 0

    def others(self) -> int:
        """How many times others than we have it attached."""
        return self.stat().attached - 1

    def abandoned(self) -> bool:
        """Whether it is of our uid, its creator is dead, and nobody had it attached when we did."""
        return not self.seen.attached and self.made_by_us() and is_dead(self.seen.creator_pid)

    def made_by_us(self) -> bool:
        """Whether our uid made it."""
        return self.seen.cuid == os.geteuid()

    def whose(self) -> str:
        """Which other user owns or made it; "" when we did both."""
        return whose(self.seen)

    def goes_with_us(self) -> bool:
        """Whether our detach destroys the segment, removed or not, and what is in it (kernel.shm_rmid_forced)."""
        return forced_removal() and self.alone()

    def set_mode(self, mode: int) -> None:
        """IPC_SET on the segment and the semaphores. Raises CallFailed."""
        self._set(mode=mode)

    def set_owner(self, uid: int | None, gid: int | None) -> None:
        """IPC_SET on the segment and the semaphores; None leaves the owner or the group. Raises CallFailed."""
        self._set(uid=uid, gid=gid)

    def _set(self, **changes: int | None) -> None:
        if not self.semaphores.opened:
            self.semaphores.open_all(0)  # before anything is changed: one may be gone
        self._calls.set_segment(self.shmid, **changes)
        for semaphore in self.semaphores.opened:
            self._calls.set_semaphore(semaphore, **changes)

    def missing(self) -> str | None:
        """The name of the first of the five semaphores that no longer exists, else None."""
        return self.semaphores.missing()

    def check_removable(self) -> None:
        """Raise NotPermitted when we may not remove all of it, before anything is changed.

        The kernel says so, never our comparison: in a user namespace two users may read alike.
        """
        stat = self.stat()
        try:
            self._calls.check_segment_removable(self.shmid, stat)
            self.semaphores.check_removable()
        except CallFailed as error:
            if error.errno != errno.EPERM:
                raise
            raise NotPermitted(error, stat.uid) from None

    @property
    def removal(self) -> Removal:
        """What became of the semaphores."""
        return self.semaphores.removal

    def remove(self) -> None:
        """Remove the semaphores, then mark the segment; what is gone already is passed over. Raises CallFailed."""
        self.remove_semaphores()
        self.unlink()

    def remove_semaphores(self) -> None:
        """Remove the semaphores that the header notes. Raises CallFailed."""
        self.semaphores.remove()

    def unlink(self) -> None:
        """IPC_RMID of the segment, which a second time changes nothing. Raises CallFailed."""
        self._calls.remove_segment(self.shmid)

    def how_to_remove(self) -> str:
        """The command that removes the segment and, if it is a channel, the semaphores that are its own."""
        own = self.semaphores.own() if len(self.memory) >= PAGE else []
        return " ".join([f"ipcrm -m {self.shmid}", *(f"-s {semaphore.id}" for semaphore in own)])

    def describe(self) -> dict[str, Any]:
        """What IPC_STAT said before we attached it, for --status."""
        seen = self.seen
        return {
            "id": self.shmid,
            "size": seen.size,
            "mode": f"{seen.mode & 0o777:04o}",
            "uid": seen.uid,
            "gid": seen.gid,
            "creator_uid": seen.cuid,
            "creator_gid": seen.cgid,
            "creator_pid": seen.creator_pid,
            "last_pid": seen.last_pid,
            "attached": seen.attached,
            "attach_time": seen.attach_time,
            "detach_time": seen.detach_time,
            "change_time": seen.change_time,
            "marked_for_removal": seen.marked,
        }

    def describe_semaphore(self, index: int) -> dict[str, Any]:
        """Its value, who operated on it last, and how many sleep on it. Raises CallFailed, ENOENT when it is gone."""
        semaphore = self.semaphores.open(index)
        return {
            "value": self._calls.semaphore_value(semaphore),
            "last_pid": self._calls.semaphore_last_pid(semaphore),
            "asleep": self._calls.sleepers_for_tokens(semaphore),
        }

    def noted_semaphore(self, index: int) -> int:
        """The id that the header notes."""
        return self.semaphores.noted(index)

    def detach(self) -> None:
        """Give the memory back; every view of it must be released before. Raises CallFailed (EINVAL)."""
        self.memory.release()
        self._calls.detach_segment(self._segment)


class SysvFamily:
    """Where the System V objects of channels come from; what they do is told to `listener`."""

    names = Names("shmget", "shmat", "shmdt", "shmctl(IPC_RMID)")
    keys = 1 + len(SEMAPHORES)

    def __init__(self, listener: Listener | None = None) -> None:
        self.calls = SysvCalls(listener)

    def create(self, place: Place, size: int, mode: int, address: int | None = None) -> SysvObjects:
        """A new segment, attached. Raises CallFailed (EEXIST, EINVAL, ENOMEM, ENOSPC)."""
        shmid = self.calls.create_segment(place.segment_key, size, mode)
        try:
            objects = SysvObjects(self.calls, place, shmid, address)
        except CallFailed:
            self.calls.remove_segment(shmid)
            raise
        objects.created = True
        return objects

    def open(self, place: Place, address: int | None = None) -> SysvObjects:
        """The segment that is there, to take part. Raises CallFailed (ENOENT, EACCES)."""
        shmid = self.calls.open_segment(place.segment_key, 0, READ_WRITE)
        return SysvObjects(self.calls, place, shmid, address, seen=self.calls.stat_segment(shmid))

    def find(self, place: Place, *, observe: bool) -> SysvObjects:
        """The segment that is there, to look at it, or to change or remove it. Raises CallFailed (ENOENT, EACCES)."""
        shmid = self.calls.open_segment(place.segment_key)
        # Before shmat, which an onlooker must not see in it; and IPC_STAT says EACCES before shmat does.
        seen = self.calls.stat_segment(shmid)
        return SysvObjects(self.calls, place, shmid, None, seen=seen, observe=observe)

    def remove_orphans(self, place: Place) -> Removal:
        """The user's word: remove the semaphores with our keys where there is no segment. Raises NotOurs."""
        return remove_orphans(self.calls, place.semaphore_keys)
