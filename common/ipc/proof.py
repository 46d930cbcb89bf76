"""What proves that an object is ours, or a leftover of ours."""

from __future__ import annotations

import os

from common.errors import ChannelError, NotOurs
from common.ipc import sysv_calls as sysv
from common.ipc.sysv import (
    SysvObjects,
)
from common.layout import (
    FINISHED,
    HALF_MADE,
    MAGIC,
    PAGE,
    REMOVED,
    Geometry,
    Header,
)


def prove_ours(objects: SysvObjects) -> str:
    """Why this segment is a leftover to be cleared; "" for a channel in use.

    Raises NotOurs without proof, ChannelError when the key belongs to another path.
    """
    stat = objects.stat()
    if len(objects.memory) < PAGE:
        raise _not_ours(objects, stat, f"its {stat.size} bytes are fewer than a header")
    with Header(objects.memory) as header:
        magic, path = header.magic, (header.key_dev, header.key_ino)
        state = header.state
    ours = path == (objects.place.dev, objects.place.ino)
    abandoned = stat.attached == 1 and stat.cuid == os.geteuid() and _is_dead(stat.creator_pid)
    # The inode is stored last and is never 0, so it tells whether the path is there at all.
    if magic in (MAGIC, HALF_MADE) and path[1] and not ours:
        raise ChannelError(
            f"key {sysv.key_text(objects.place.segment_key)} already belongs to another path"
            f" (segment {objects.shmid}); choose another --channel"
        )
    if magic == HALF_MADE and (ours or abandoned):
        return "which its creator left half-made"
    if magic == MAGIC and ours:
        return {FINISHED: "which its last reader left half-removed", REMOVED: "left half-removed"}.get(state, "")
    # One slot of any size makes every number of pages from the smallest channel's on.
    possible = stat.size % PAGE == 0 and stat.size >= Geometry(1, PAGE).segment_size
    if abandoned and possible and all(objects.memory[at : at + PAGE] == _ZEROS for at in range(0, stat.size, PAGE)):
        return "which its creator left empty"
    raise _not_ours(objects, stat, f"its first bytes are {magic!r}, not {MAGIC!r}")


_ZEROS = bytes(PAGE)


def _not_ours(objects: SysvObjects, stat: sysv.SegmentStat, why: str) -> NotOurs:
    return NotOurs(
        f"segment {objects.shmid} of uid {stat.uid} has our key and is not a channel of ours: {why}."
        f" It was left untouched; choose another --channel, or if nobody needs it: ipcrm -m {objects.shmid}"
    )


def _is_dead(pid: int) -> bool:
    """Whether that process is certainly no more; a pid of 0 is outside our pid namespace: unknown means alive."""
    try:
        if pid:
            os.kill(pid, 0)
            return _has_ended(pid)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _has_ended(pid: int) -> bool:
    """Whether a process that still has its pid only waits to be waited for. Raises OSError."""
    import select

    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)
