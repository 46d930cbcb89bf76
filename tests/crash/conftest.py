"""Fixtures of the crash tests, which run over both families."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.driver import CONTENT
from tests.families import ipc

__all__ = ["content", "ipc"]


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """The file to send: CONTENT."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path
