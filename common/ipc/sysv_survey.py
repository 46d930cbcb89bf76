"""The System V objects of this machine, for --doctor: looked at, not changed."""

from __future__ import annotations

import os

from common.channel.listener import Listener
from common.errors import Gone
from common.geometry import Geometry
from common.ipc.calls import key_text
from common.ipc.family import ChannelObjects
from common.ipc.machine import read_table
from common.ipc.place import Place
from common.ipc.removal import Left
from common.ipc.survey import Candidate, is_channel_key
from common.ipc.sysv import READ_WRITE, SysvFamily, SysvObjects
from common.ipc.sysv_calls import LIBRARY, LIBRARY_WAITS
from common.ipc.sysv_owners import stat_or_none, whose_or_hidden, why_not_removed, with_keys
from common.layout import PAGE
from common.words import plural

_SMALLEST = Geometry(1, PAGE).segment_size


class SysvSurvey:
    """What there is of System V's objects in this IPC namespace."""

    ipc = "sysv"
    semaphores_block = True  # they have its keys

    def __init__(self, listener: Listener) -> None:
        self.family = SysvFamily(listener)

    def library(self) -> str:
        """The package, and who makes the waits that have an end."""
        return f"{LIBRARY} {'has' if LIBRARY_WAITS else 'lacks'} semtimedop: called through ctypes"

    def candidates(self) -> list[Candidate]:
        """By key and size; one that is marked has no key any more, and goes by itself. Raises OSError."""
        return [
            Candidate(
                *(row["key"], f"segment {row['shmid']}", f"/SYSV{row['key'] & 0xFFFFFFFF:08x}"),
                *(row["uid"], row["nattch"]),
            )
            for row in read_table("shm")
            if is_channel_key(row["key"]) and row["size"] >= _SMALLEST and row["size"] % PAGE == 0
        ]

    def check_rights(self, place: Place) -> None:
        """Ask shmget for the right to read and write. Raises CallFailed."""
        self.family.calls.open_segment(place.segment_key, 0, READ_WRITE)

    def left_behind(self, place: Place) -> tuple[str, str | None] | None:
        """Semaphores with our keys that no segment proves ours, as `ipcrm -m` leaves them."""
        calls = self.family.calls
        found = [semaphore for _, semaphore in with_keys(calls, place.semaphore_keys)]
        if not found:
            return None
        try:
            kept = any(why_not_removed(calls, semaphore) for semaphore in found)
            stats = [stat_or_none(calls, semaphore) for semaphore in found]
        except Gone:
            return None
        ids = [str(semaphore.id) for semaphore in found]
        said = f"{plural(len(found), 'semaphore')} with keys of {key_text(place.segment_key)} and no segment"
        me = os.geteuid()
        theirs = [stat for stat in stats if me and (not stat or me not in (stat.uid, stat.cuid))]
        if theirs:
            return f"{said}, not ours to remove: {whose_or_hidden(theirs[0])}", None
        return said, f"ipcrm -s {' -s '.join(ids)}" if kept else ""

    def strangers(self, objects: ChannelObjects) -> tuple[list[Left], str]:
        """By what the header notes."""
        assert isinstance(objects, SysvObjects)
        left = objects.semaphores.left()
        return list(left), f"ipcrm {' '.join(f'-s {one.id}' for one in left)}"

    def how_to_clear(self, objects: ChannelObjects) -> str:
        """The segment, and the semaphores that it notes and that its creator made."""
        return objects.how_to_remove()
