"""Fixtures of the end-to-end tests: both families; terminals, closed before the proof that nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.terminals import Terminals
from tests.families import ipc
from tests.helpers import Pair

__all__ = ["ipc", "terminals"]


@pytest.fixture
def terminals(pair: Pair) -> Iterator[Terminals]:
    """Opens programs and shells, each on a terminal of its own."""
    opened = Terminals(pair)
    yield opened
    opened.close()
