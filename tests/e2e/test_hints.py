"""A command that an error names is typed as it stands, and acts on the channel that the error is about."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.e2e.watch import objects_of
from tests.helpers import ROOT, Pair, finish

OTHER = ("--quiet", "--channel", 5)


def typed(pair: Pair, said: str, directory: Path) -> int:
    """Type the last command in what was said, in another directory; its exit code."""
    command = re.findall(r"`((?:reader|writer)\.py[^`]*)`", said)[-1]
    program, *arguments = shlex.split(command)
    return finish(pair.spawn([sys.executable, str(ROOT / program), *arguments], cwd=directory)).code


def test_what_exclusive_says_to_type(pair: Pair, tmp_path: Path) -> None:
    assert pair.write("--quiet", "another's").code == 0
    assert pair.write(*OTHER, "first").code == 0
    refused = pair.write(*OTHER, "--exclusive", "second")
    assert refused.code == 1
    assert typed(pair, refused.said, tmp_path) == 0
    assert pair.read(*OTHER, "--timeout", 0).code == 124
    assert pair.read("--quiet").out == b"another's\n"
    assert objects_of(pair) == []


@pytest.mark.parametrize("path", ["a b", "it's", "$HOME"])
def test_a_key_path_that_a_shell_would_take_apart(pair: Pair, tmp_path: Path, path: str) -> None:
    key_path = tmp_path / path
    pair.key_path.rename(key_path)
    moved = Pair(key_path, tmp_path, ipc=pair.ipc)
    assert moved.write("--quiet", "first").code == 0
    refused = moved.write("--quiet", "--exclusive", "second")
    assert typed(pair, refused.said, tmp_path) == 0
    assert objects_of(moved) == []
