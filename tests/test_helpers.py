"""The tests' own helpers, where a mistake in them would show as a failure of something else, once in a while."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers import is_mine


@pytest.mark.parametrize("workers", range(1, 9))
def test_paths_with_the_same_keys_belong_to_one_worker(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(workers))

    def owners(inode: int) -> list[int]:
        status = os.stat_result((0, inode, *range(8)))
        monkeypatch.setattr(Path, "stat", lambda *_, **__: status)
        found = []
        for worker in range(workers):
            monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
            found += [worker] * is_mine(Path("key"))
        return found

    for inode in range(1, 10):
        assert len(owners(inode)) == 1
        assert owners(inode) == owners(inode + 2**16) == owners(inode + 2**32)
