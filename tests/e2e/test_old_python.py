"""A Python or a platform that will not do is told in one line, before there is a channel."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, Pair, keys_of, left_behind

VERSIONS = Path(os.environ.get("PYENV_ROOT") or os.path.expandvars("$HOME/.pyenv")) / "versions"

every_program = pytest.mark.parametrize("program", ["writer", "reader"])


@pytest.mark.parametrize("path", ["writer.py", "reader.py", "common/__init__.py"])
def test_an_old_python_can_read_what_runs_first(path: str) -> None:
    ast.parse((ROOT / path).read_text(), feature_version=(3, 7))


@every_program
@pytest.mark.parametrize("version", ["3.7", "3.8", "3.9"])
def test_an_old_python_is_told_which_it_needs(pair: Pair, program: str, version: str) -> None:
    found = sorted(VERSIONS.glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version}: pyenv install {version}")
    words = [str(found[0]), "-B", *pair.command(program, "--timeout", "0")[1:]]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith(f"{ROOT / program}.py: needs Python 3.10 or newer; this is Python {version}."), done
    assert left_behind(keys_of(pair.key_path)) == []


@every_program
@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        ("version_info = (3, 9, 18)", "needs Python 3.10 or newer; this is Python 3.9.18 ("),
        ("platform = 'darwin'", "needs 64-bit Linux; this is a 64-bit Python on darwin\n"),
        ("maxsize = 2**31 - 1", "needs 64-bit Linux; this is a 32-bit Python on linux\n"),
    ],
)
def test_what_will_not_do_is_told_before_anything_is_created(
    pair: Pair, program: str, elsewhere: str, said: str
) -> None:
    """A program whose interpreter says that it is another."""
    code = f"import sys; sys.{elsewhere}; import {program}; sys.exit({program}.run({program!r}, {program}.main))"
    words = [sys.executable, "-c", code, *pair.command(program, "--timeout", "0")[2:]]
    done = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith(f"-c: {said}"), done
    assert left_behind(keys_of(pair.key_path)) == []
