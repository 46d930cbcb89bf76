"""Fixtures for every test: a key path of its own, and the proof that no IPC object stays behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.ipc.family import Family
from tests.helpers import Pair, own_key_path
from tests.in_process import FAMILIES

# A runner under nohup, or in the background of a script, would hand its deafness to every program that the tests start.
# A handler that does nothing is not handed on.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.fixture
def key_path(tmp_path: Path) -> Iterator[Path]:
    """A key path of its own; the test fails if an object with one of its keys is left."""
    with own_key_path(tmp_path, "key") as path:
        yield path


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
