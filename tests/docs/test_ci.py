""".ci/run tests every Python there is, each in an environment of its own, and says what it did not find."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import PATIENCE, ROOT

# Answers like a Python of version {version}: it makes an environment with itself in it, and its tests end with {code}.
PRETENDER = """#!/bin/sh
case "$1 $2" in
    -c\\ *ensurepip*) case $2 in *"'{version}'"*) exit {broken} ;; *) exit 1 ;; esac ;;
    -c\\ *) echo {version} ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pytest") echo "{version}: $*"; exit {code} ;;
esac
"""


class Machine:
    """A copy of .ci/run with a test command that ends with a code of our choice, and the Pythons that we install."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "bin"
        self.of_pyenv = directory / "pyenv"
        self.scratch = directory / "scratch"
        self.root = directory / "a project"
        for made in (self.path, self.scratch, self.root / ".ci"):
            made.mkdir(parents=True)
        for tool in ("sh", "cp", "dirname", "mkdir", "mktemp", "rm"):
            (self.path / tool).symlink_to(shutil.which(tool) or "")
        shutil.copy(ROOT / ".ci/run", self.root / ".ci/run")
        self.install(self.root / ".venv/bin/python", "3.11")

    def install(self, place: Path, version: str, code: int = 0, broken: int = 0) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(PRETENDER.format(version=version, code=code, broken=broken))
        place.chmod(0o755)

    def run(self, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = self.root / "run_demo.sh"
        command.write_text(f'#!/bin/sh\necho "the test command: $*"\nexit {code}\n')
        command.chmod(0o755)
        environment = {"PATH": str(self.path), "PYENV_ROOT": str(self.of_pyenv), "TMPDIR": str(self.scratch)}
        done = subprocess.run(
            [self.root / ".ci/run"], cwd="/", env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert not list(self.scratch.iterdir())
        return done


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_every_other_python_runs_all_that_is_not_slow(machine: Machine) -> None:
    machine.install(machine.path / "python3.10", "3.10")
    machine.install(machine.path / "python3.11", "3.11")
    machine.install(machine.path / "python3.12", "3.12", broken=127)  # pyenv's shim, of a version that is not chosen
    machine.install(machine.of_pyenv / "versions/3.12.1/bin/python3.12", "3.12")
    done = machine.run()
    assert (done.returncode, done.stderr) == (0, ""), done
    said = done.stdout.splitlines()
    assert said[0] == "the test command: test"
    assert [line for line in said if " -m pytest " in line] == [
        f"{version}: -m pytest -n 3 --quiet -m not slow" for version in ("3.10", "3.12")
    ]
    assert said[-3:] == ["passed: the test command 3.10 3.12", "failed: none", "not found: 3.13 3.14"]


@pytest.mark.parametrize(("command", "python"), [(1, 0), (0, 1), (2, 5)])
def test_a_run_that_fails_keeps_no_other_from_running(machine: Machine, command: int, python: int) -> None:
    machine.install(machine.path / "python3.10", "3.10", code=python)
    machine.install(machine.path / "python3.13", "3.13")
    done = machine.run(code=command)
    assert done.returncode == 1, done
    assert "\n3.13: -m pytest " in done.stdout
    failed = " the test command" * bool(command) + " 3.10" * bool(python)
    assert f"\nfailed:{failed}\n" in done.stdout
