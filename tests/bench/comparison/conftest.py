"""A directory for the two processes, and the proof that nothing of theirs stays behind."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ipc_table, keys_of, left_behind, wait_until


def objects() -> set[tuple[str, int]]:
    """Every System V object there is, of any user."""
    kinds = {"shm": "shmid", "sem": "semid", "msg": "msqid"}
    return {(kind, row[column]) for kind, column in kinds.items() for row in ipc_table(kind)}


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A key path that no other worker's tests have the keys of; no file and no object of any kind may stay behind.

    Not in pytest's own directory: the path of a Unix socket has 107 characters at most.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    with tempfile.TemporaryDirectory() as outer:
        for number in range(1000):
            made = Path(outer, str(number))
            made.mkdir()
            if made.stat().st_ino % workers == mine and not left_behind(keys_of(made)):
                break
        monkeypatch.setenv("TMPDIR", str(made))
        before = objects()
        yield made
        assert not multiprocessing.active_children()
        left = objects() - before  # others' tests run meanwhile, and end
        wait_until(lambda: not left & objects(), f"the end of {left}")
        assert not list(made.iterdir())
