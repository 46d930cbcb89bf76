"""kill -9 at every step, in strides; the full sweep is `python -m tests.crash.sweep --jobs 2`.

The sweep forks, so it runs in a process of its own, which has one thread only.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.driver import Stage
from tests.crash.roles import ROLES
from tests.crash.stepper import Strike
from tests.crash.sweep import ENOUGH, sweep
from tests.helpers import ROOT

SWEEP = (sys.executable, "-m", "tests.crash.sweep")

# Primes, so that the steps of the roles, which share most of their lines, do not fall on the same ones. With the first
# the sweep of a long role takes more than five seconds.
STRIDE, LONG_STRIDE = 23, 79
SPARSE_STRIDE = 151  # over POSIX, whose objects alone are other ones
LONG = (
    "reader_to_a_pipe",
    "reader_to_a_file",
    "reader_resumes",
    "reader_of_a_torn_record",
    "reader_with_a_live_writer",
    "writer_clears_a_half_removed_channel",
)


@pytest.mark.parametrize(
    ("ipc", "role", "stride"),
    [
        *(("sysv", role, STRIDE) for role in ROLES if role not in LONG),
        *(pytest.param("sysv", role, STRIDE, marks=pytest.mark.slow) for role in LONG),
        *(("sysv", role, LONG_STRIDE) for role in LONG),
        *(("posix", role, SPARSE_STRIDE) for role in ROLES if role not in LONG),
        *(pytest.param("posix", role, LONG_STRIDE, marks=pytest.mark.slow) for role in LONG),
    ],
)
def test_killed_at_every_step(ipc: str, role: str, stride: int, key_path: Path) -> None:
    first = list(ROLES).index(role) + 1
    words = ["--ipc", ipc, "--role", role, "--stride", stride, "--offset", first, "--key-path", key_path]
    done = subprocess.run([*SWEEP, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.search(r"killed at +(\d+) steps", done.stdout)
    # No role has fewer than 500 steps on any Python, no long one fewer than 1500: so it died early, late, and often in
    # between.
    assert kills and int(kills[1]) >= (3 if stride == SPARSE_STRIDE else 15), done.stdout


def test_a_broken_promise_is_reported(key_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def liar(stage: Stage, strike: Strike) -> bool:
        raise AssertionError("a broken promise")

    monkeypatch.setitem(ROLES, "liar", liar)
    result = sweep("liar", itertools.count(7), key_path)
    assert len(result.failures) == ENOUGH
    assert result.failures[0].startswith("liar, step 7: ") and "a broken promise" in result.failures[0]


@pytest.mark.parametrize("role", ["remover", "interrupted_reader_of_a_file"])
def test_a_victim_that_survives_its_only_step_proves_nothing(role: str, key_path: Path) -> None:
    words = ["--role", role, "--stride", 0, "--offset", 1_000_000, "--key-path", key_path]
    done = subprocess.run([*SWEEP, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{role}, step 1000000: its victim was not killed, so nothing is proven" in done.stdout
