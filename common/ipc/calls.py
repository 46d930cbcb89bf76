"""What the calls of both families share: how each is reported, what its errno raises, and the keys of ftok(3)."""

from __future__ import annotations

import ctypes
import errno
import os

from common.channel.listener import Call, Listener
from common.errors import CallFailed, Gone
from common.typed import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ftok.argtypes = (ctypes.c_char_p, ctypes.c_int)


def key_text(key: int) -> str:
    """The key as ipcs shows it; ftok's is signed."""
    return f"{key & 0xFFFFFFFF:#010x}"


class Timespec(ctypes.Structure):
    """struct timespec (<time.h>)."""

    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Calls:
    """The calls of one program: each is told to its listener, in order, the failed ones too."""

    # An id that was handed to one of these and is EINVAL now names an object that is no more.
    by_id: tuple[str, ...] = ()

    def __init__(self, listener: Listener | None = None) -> None:
        self.listener = listener or Listener()

    def done(
        self, name: str, arguments: tuple[Any, ...], result: int, number: int = 0, answers: tuple[int, ...] = ()
    ) -> int:
        """Tell of the call; its result, or what its errno raises; `answers` are errnos that are no failure."""
        if self.listener.call is not None:
            self.listener.call(Call(name, arguments, result, number))
        if not number or number in answers:
            return result
        gone = number == errno.EIDRM or (number == errno.EINVAL and name in self.by_id)
        raise (Gone if gone else CallFailed)(name, arguments, number)

    def cut_short(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Tell of a wait of which the handler of a signal raised before its result could be assigned.

        errno is what the call left, if it was 0 before.
        """
        number = ctypes.get_errno()
        if self.listener.call is not None:
            self.listener.call(Call(name, arguments, -1 if number else 0, number))

    def make_key(self, path: str, project_id: int) -> int:
        """The key for `path` and `project_id` (1 to 255): its device, inode and the id, squeezed into 32 bits.

        C: key_t ftok(const char *pathname, int proj_id); see ftok(3).
        Fails like stat(2): ENOENT, EACCES, ENOTDIR, ELOOP, ENAMETOOLONG.
        """
        # Not sysv_ipc.ftok: it takes no path that is not UTF-8.
        key: int = _libc.ftok(os.fsencode(path), project_id)
        return self.done("ftok", (path, project_id), key, ctypes.get_errno() if key == -1 else 0)
