"""Fixtures for every test: a key path of its own, and the proof that no IPC object stays behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.ipc.family import Family
from tests.helpers import Pair, clear_away, keys_of, kill_children, left_behind, left_in_dev_shm
from tests.in_process import FAMILIES

# A runner under nohup, or in the background of a script, would hand its deafness to every program that the tests start.
# A handler that does nothing is not handed on.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.fixture
def key_path(tmp_path: Path) -> Iterator[Path]:
    """A key path that no other worker shares; the test fails if an object with one of its keys is left.

    ftok keeps 16 bits of the inode, so two files in two workers can have the same keys: each worker takes only
    inodes of its own residue.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for attempt in range(1000):
        path = tmp_path / f"key{attempt}"
        path.touch()
        keys = keys_of(path)
        # What a run that was killed has left is not this test's.
        if path.stat().st_ino % workers == mine and not left_behind(keys) and not left_in_dev_shm(keys):
            break
    yield path
    kill_children()
    left = clear_away(keys)
    assert not left, f"IPC objects left behind: {left}"


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    """Each family of IPC objects in its turn: what is promised is promised of both."""
    return FAMILIES[request.param]


@pytest.fixture
def ipc() -> str:
    """The family of objects, as --ipc names it; the directories of tests that run over both have one of their own."""
    return "sysv"


@pytest.fixture
def pair(key_path: Path, tmp_path: Path, ipc: str) -> Pair:
    """Both programs on one key path."""
    return Pair(key_path, tmp_path, ipc=ipc)
