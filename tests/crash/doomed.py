"""Real programs that die, kill -9, at a chosen moment: what the resume tests start from."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.crash.driver import SLOT_SIZE
from tests.crash.stepper import stepped
from tests.helpers import PATIENCE, Pair

RING = ("--slots", 8, "--slot-size", SLOT_SIZE)


def start_doomed(pair: Pair, moment: str, program: str, *arguments: object, **popen: Any) -> subprocess.Popen[bytes]:
    """Start "writer" or "reader" so that it kills itself at `moment`: a step, or a call such as "_publish:3"."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    return stepped(pair, moment).start(program, *arguments, **{**quiet, **popen})


def run_doomed(pair: Pair, moment: str, program: str, *arguments: object, **popen: Any) -> int:
    """Run it to its death; its pid."""
    child = start_doomed(pair, moment, program, *arguments, **popen)
    assert child.wait(PATIENCE) == -signal.SIGKILL, f"{program} was not killed at {moment}"
    return child.pid


def tear_writer(pair: Pair, path: Path, committed: int, *arguments: object, **popen: Any) -> int:
    """A writer of that file dies when `committed` fragments of it are in the ring; its pid."""
    return run_doomed(pair, f"_publish:{committed + 1}", "writer", "--file", path, *RING, *arguments, **popen)


def tear_reader(pair: Pair, committed: int, *arguments: object, **popen: Any) -> int:
    """A reader dies when it has put out one fragment more than the `committed` ones; its pid.

    It notes an output's size twice a fragment: before the first byte goes out, and when the last one is out.
    """
    return run_doomed(pair, f"note:{2 * committed + 2}", "reader", *arguments, **popen)
