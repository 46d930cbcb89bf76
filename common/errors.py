"""The errors that reach a person: each has one line of text, with what to do next.

This file knows no operating system; ipc/meanings.py says what an errno means here.
"""

from __future__ import annotations

import os

from common.typed import Any


class ChannelError(Exception):
    """The channel, or the program at its other end, is not as it should be. Its text is one line for a person."""


class NotOurs(ChannelError):
    """An IPC object with our key that nothing proves to be ours; it was left untouched."""


class TornRecord(ChannelError):
    """A record ends in the middle: its writer is gone, or what continues it is not its continuation."""


class TimedOut(ChannelError):
    """--timeout passed without any progress; `pid` is the process that its text names, 0 for none."""

    def __init__(self, text: str, pid: int = 0) -> None:
        super().__init__(text)
        self.pid = pid


class CallFailed(OSError):
    """A system call failed: its name, its arguments and its errno. trace.py knows what that means here."""

    def __init__(self, name: str, arguments: tuple[Any, ...], number: int) -> None:
        super().__init__(number, os.strerror(number))
        self.name = name
        self.arguments = arguments


class Gone(CallFailed):
    """The object that the call named was removed, perhaps while we waited on it (EIDRM, EINVAL)."""


class NotPermitted(CallFailed):
    """EPERM of what only the `owner` (a uid), the creator and root may do."""

    def __init__(self, refused: CallFailed, owner: int) -> None:
        super().__init__(refused.name, refused.arguments, refused.errno or 0)
        self.owner = owner


class BadSegment(ValueError):
    """The bytes in the segment contradict each other or this file; `remedy` is what to do."""

    remedy = "`writer.py --remove` removes it"
