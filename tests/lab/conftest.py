"""The lab's tests have a second user, who must be able to reach the key path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own is closed to all but us."""
    with tempfile.TemporaryDirectory(prefix="shmpair-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
