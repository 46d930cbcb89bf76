"""The POSIX objects of this machine, for --doctor: looked at, not changed."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from common.channel.listener import Listener
from common.ipc.family import ChannelObjects
from common.ipc.place import Place
from common.ipc.posix import PosixFamily
from common.ipc.posix_calls import LIBRARY, SEGMENT_FILES, WAIT, segment_path, semaphore_path, semaphores_like
from common.ipc.posix_objects import PosixObjects, segment_name
from common.ipc.posix_semaphores import named_after, stat_or_none, whose
from common.ipc.removal import Left
from common.ipc.survey import Candidate, is_channel_key, signed
from common.layout import PAGE, SEMAPHORES, Header
from common.words import plural


class PosixSurvey:
    """What there is of POSIX objects in this /dev/shm."""

    ipc = "posix"
    semaphores_block = False  # a new one's have names that nobody had before

    def __init__(self, listener: Listener) -> None:
        self.family = PosixFamily(listener)

    def library(self) -> str:
        """The package, and what makes the waits; glibc has sem_clockwait since 2.30."""
        if WAIT == "sem_clockwait":
            return f"{LIBRARY} lacks sem_clockwait: called through ctypes"
        return f"{LIBRARY}, {WAIT}: a clock that is set back makes a wait long"

    def candidates(self) -> list[Candidate]:
        """By name. Raises OSError."""
        found = []
        for name in sorted(os.listdir(SEGMENT_FILES)):
            match = re.fullmatch("shmpair-([0-9a-f]{8})", name)
            key = signed(int(match[1], 16)) if match else 0
            if is_channel_key(key):
                path = f"{SEGMENT_FILES}{name}"
                with suppress(FileNotFoundError):  # it went meanwhile
                    found.append(Candidate(key, f"/{name}", path, os.lstat(path).st_uid, None))
        return found

    def check_rights(self, place: Place) -> None:
        """Open it to read and write. Raises CallFailed."""
        self.family.calls.close_segment(self.family.calls.open_segment(segment_name(place)))

    def left_behind(self, place: Place) -> tuple[str, str | None] | None:
        """Semaphores named after an object that is not there, as `rm` leaves them."""
        names = [name for _, name in named_after(segment_name(place))]
        there = [stat for name in names if (stat := stat_or_none(self.family.calls, name))]
        if not there:
            return None
        said = f"{plural(len(there), 'semaphore')} named after {segment_name(place)} and no object"
        theirs = next(filter(None, map(whose, there)), "")
        if theirs and os.geteuid():
            return f"{said}, not ours to remove: {theirs}", None
        return said, f"rm {' '.join(map(semaphore_path, names))}" if theirs else ""

    def strangers(self, objects: ChannelObjects) -> tuple[list[Left], str]:
        """By nonce and owner; what is named after it with another nonce is in nobody's way."""
        assert isinstance(objects, PosixObjects)
        names = [objects.semaphores.name(index) for index in range(len(SEMAPHORES))]
        left = [one for one in objects.semaphores.left() if one.id in names]
        return left, f"rm {' '.join(semaphore_path(str(one.id)) for one in left)}"

    def how_to_clear(self, objects: ChannelObjects) -> str:
        """The object, and the semaphores that bear its nonce."""
        assert isinstance(objects, PosixObjects)
        words = ["rm", segment_path(objects.name)]
        if len(objects.memory) >= PAGE:
            with Header(objects.memory) as header:
                prefix = f"{objects.name}-{header.nonce:016x}-"
            words += [f"{semaphore_path(prefix)}*"] if semaphores_like(prefix) else []
        return " ".join(words)
