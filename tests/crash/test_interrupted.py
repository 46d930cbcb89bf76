"""SIGINT at every step of a reader: it commits exactly what is out, so no byte comes twice and none is lost.

The full sweep is `python -m tests.crash.sweep --role interrupted_reader_of_a_file`, and so on for each role.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.roles import INTERRUPTIONS
from tests.families import slow_over_posix
from tests.helpers import ROOT

# Primes, so that the steps of the roles, which share most of their lines, do not fall on the same ones.
STRIDE = {"sysv": 43, "posix": 131}
STRIDE_IN_A_SLOT = {"sysv": 1, "posix": 3}

interrupted_roles = pytest.mark.parametrize("role", INTERRUPTIONS)


def interruptions(ipc: str, role: str, key_path: Path, *words: object) -> int:
    """Play the role in a process of its own, which may fork; how often its victim was interrupted."""
    command = [sys.executable, "-m", "tests.crash.sweep", "--ipc", ipc, "--role", role, "--key-path", key_path, *words]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"killed at +(\d+) steps", done.stdout)
    assert found, done.stdout
    return int(found[1])


@slow_over_posix
@interrupted_roles
def test_interrupted_at_every_step(ipc: str, role: str, key_path: Path) -> None:
    """From the start of the program to its end, in strides."""
    first = list(INTERRUPTIONS).index(role) + 1
    assert interruptions(ipc, role, key_path, "--stride", STRIDE[ipc], "--offset", first) >= 25 * 43 // STRIDE[ipc]


@slow_over_posix
@interrupted_roles
def test_interrupted_at_every_line_of_a_slot(ipc: str, role: str, key_path: Path) -> None:
    """Every line that the second slot takes: writing it out in several pieces, and its commit."""
    stride = STRIDE_IN_A_SLOT[ipc]
    assert interruptions(ipc, role, key_path, "--within", "_consume:2", "--stride", stride) >= 60 // stride
