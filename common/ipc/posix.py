"""Where the POSIX objects of channels come from; posix_objects.py says what they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from common.channel.listener import Listener
from common.errors import CallFailed, ChannelError, NotOurs
from common.ipc.family import Names
from common.ipc.place import Place
from common.ipc.posix_calls import SEGMENT_FILES, PosixCalls, ShmStat, segment_path
from common.ipc.posix_objects import PosixObjects, segment_name
from common.ipc.posix_semaphores import remove_orphans
from common.ipc.removal import Removal


class PosixFamily:
    """Where the POSIX objects of channels come from; what they do is told to `listener`."""

    names = Names("shm_open", "mmap", "munmap", "shm_unlink", "unlinked {}")
    keys = 1

    def __init__(self, listener: Listener | None = None) -> None:
        self.calls = PosixCalls(listener)

    def create(self, place: Place, size: int, mode: int, address: int | None = None) -> PosixObjects:
        """A new object, mapped. Raises CallFailed (EEXIST, EINVAL, ENOSPC); what fails half-way is removed again."""
        calls, name = self.calls, segment_name(place)
        try:
            fd = calls.create_segment(name, mode)
        except CallFailed as error:
            _check_dev_shm(error)
            raise
        try:
            calls.set_mode(fd, mode)  # which the umask may have narrowed
            calls.set_size(fd, size)
            calls.reserve(fd, size)
            objects = PosixObjects(calls, place, fd, calls.stat_segment(fd), part=True)
        except BaseException:
            calls.remove_segment(name)
            calls.close_segment(fd)
            raise
        objects.created = True
        return objects

    def open(self, place: Place, address: int | None = None) -> PosixObjects:
        """The object that is there, to take part. Raises CallFailed (ENOENT, EACCES)."""
        return self._open(place, part=True)

    def find(self, place: Place, *, observe: bool) -> PosixObjects:
        """The object that is there, to look at it, or to change or remove it. Raises CallFailed (ENOENT, EACCES)."""
        if observe:  # to open a FIFO read-only waits for ever
            with contextlib.suppress(CallFailed):  # which shm_open says better
                _check_is_file(segment_name(place), self.calls.stat_name(segment_name(place)))
        return self._open(place, part=False, observe=observe)

    def _open(self, place: Place, *, part: bool, observe: bool = False) -> PosixObjects:
        try:
            fd = self.calls.open_segment(segment_name(place), readonly=observe)
        except CallFailed as error:
            _check_dev_shm(error)
            raise
        try:
            seen = self.calls.stat_segment(fd)
            _check_is_file(segment_name(place), seen)
            return PosixObjects(self.calls, place, fd, seen, part=part, observe=observe)
        except BaseException:
            self.calls.close_segment(fd)
            raise

    def remove_orphans(self, place: Place) -> Removal:
        """The user's word: remove the semaphores named after our object where there is none. Raises NotOurs."""
        return remove_orphans(self.calls, segment_name(place))


def _check_is_file(name: str, there: ShmStat) -> None:
    """Anybody can make a FIFO with our name. Raises NotOurs."""
    if stat.S_ISREG(there.kind):
        return
    path, remove = segment_path(name), "rmdir" if stat.S_ISDIR(there.kind) else "rm"
    raise NotOurs(
        f"{path} has our name and is no file; it was left untouched; choose another --channel, or if nobody needs it:"
        f" {remove} {path}"
    )


def _check_dev_shm(error: CallFailed) -> None:
    """Raise ChannelError when it is not the object that is missing, but the place of all objects."""
    if error.errno == errno.ENOENT and not os.path.isdir(SEGMENT_FILES):
        raise ChannelError(
            f"{error.name}: ENOENT: there is no {SEGMENT_FILES.rstrip('/')}, where Linux keeps POSIX objects; mount a"
            " tmpfs there, or leave --ipc posix out"
        ) from None
