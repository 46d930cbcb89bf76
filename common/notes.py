"""What the header notes of files, so that --resume goes on in the right one: values; where they lie says layout.py."""

from __future__ import annotations

from common.typed import NamedTuple


class FileId(NamedTuple):
    """A file as it was when it was opened: changed in place or made anew with the same inode, it is another one."""

    dev: int
    ino: int
    mtime_ns: int


class InputNote(NamedTuple):
    """Which file record `record` comes from, so that --resume continues no other one.

    `place` is its writer's number among those that joined, 0 when there is no note; `goodbye` is what writers_left
    became when that writer left, 0 while it owes its end. A record of UNKNOWN has not begun.
    """

    record: int
    file: FileId
    place: int
    goodbye: int

    @property
    def owed(self) -> bool:
        """Whether a writer of this file has not said that it is through with it."""
        return bool(self.place) and not self.goodbye


class OutputNote(NamedTuple):
    """What a reader with --output notes so that --resume can cut the file back to its last committed byte.

    When `tail` is the header's tail, the file with this st_dev and st_ino was `size` bytes long at the first byte
    of fragment `tail`: modulo 2^64, because a reader that goes on inside a slot begins "before" its file.
    """

    tail: int
    dev: int
    ino: int
    size: int
