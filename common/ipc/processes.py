"""Whether a process is certainly no more: what may be cleared after it."""

from __future__ import annotations

import os


def is_dead(pid: int) -> bool:
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
