"""What the tests of descriptors, sources and sinks share: a pipe, and a look at a thread that waits at one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def a_pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends; a test may have closed either of them."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def is_asleep(thread: threading.Thread) -> bool:
    """Whether the thread sleeps in the kernel."""
    return Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0] == "S"
