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

# A prime, so that the steps of the roles, which share most of their lines, do not fall on the same ones.
STRIDE = 23


@pytest.mark.parametrize("role", ROLES)
def test_killed_at_every_step(role: str, key_path: Path) -> None:
    first = list(ROLES).index(role) + 1
    words = ["--role", role, "--stride", STRIDE, "--offset", first, "--key-path", key_path]
    done = subprocess.run([*SWEEP, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.search(r"killed at +(\d+) steps", done.stdout)
    # No role has fewer than 500 steps on any Python: so it died early, late, and often in between.
    assert kills and int(kills[1]) >= 15, done.stdout


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
