"""Running the documented commands as a person's shell would, and what this machine lets us run.

A function that finds a tool or a right missing skips the test and says what to install or to allow.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.transcripts import normalise
from tests.helpers import ROOT, Finished, Pair, finish, is_root
from tests.lab.cases import Case

STRANGER = 65534  # "nobody": owns nothing that we make
_SETPRIV = f"setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups"


def start(pair: Pair, program: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own: a strace that is killed leaves it running, and ended() does not."""
    return pair.start(program, *arguments, start_new_session=True)


def ended(child: subprocess.Popen[bytes], stdin: bytes = b"") -> Finished:
    """Wait for its end; nothing that it started is left running."""
    try:
        return finish(child, stdin)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def run_shell(pair: Pair, command: str) -> Finished:
    """Run a documented command on the test's own key path."""
    return ended(pair.spawn(["sh", "-c", _translate(pair, command)], start_new_session=True))


def type_row(pair: Pair, case: Case) -> tuple[Pair, Finished, list[str]]:
    """Type a row's command: the pair over its family, how it ended, and the lines with what to look for, one or more.

    All is as normalise() has it. Skips the test where the machine lacks what the row needs.
    """
    require(case.needs)
    pair = Pair(pair.key_path, pair.directory, ipc=case.ipc)
    done = run_shell(pair, case.command)
    (looked_for,) = normalise([case.line])
    found = [line for line in normalise((done.out.decode() + done.err).splitlines()) if looked_for in line]
    assert found, done
    assert "Traceback" not in done.err
    return pair, done, found


def _translate(pair: Pair, command: str) -> str:
    """The documented command with our interpreter, our key path and a second user who can read both."""
    if _SETPRIV in command:
        command = command.replace(_SETPRIV, shlex.join(second_user(pair.ipc)))
    command = command.replace('ftok(".",', f'ftok("{pair.key_path}",')  # a reader's key path is the project
    command = re.sub(r"\bpython -c", f"{shlex.quote(sys.executable)} -c", command)
    return re.sub(r"\bpython (writer|reader)\.py", lambda match: shlex.join(pair.command(match[1])), command)


def require(need: str) -> None:
    """Skip the test unless this machine has what a command needs (Case.needs)."""
    checks: dict[str, Callable[[], object]] = {
        "": lambda: None,
        "root": _private_namespace,
        "strace": strace,
        "overcommit": _counted_memory,
    }
    checks[need]()


@functools.cache
def _works(*command: str) -> bool:
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


def second_user(ipc: str = "sysv") -> list[str]:
    """What to put before a command so that it runs as another user.

    CAP_DAC_OVERRIDE lets that user read this project and its Python wherever they are installed. It opens files and
    no System V object: those have a capability of their own, CAP_IPC_OWNER (see capabilities(7)). Objects of POSIX are
    files: there it would be no other user, as far as they go.
    """
    if not is_root():
        pytest.skip("a second user needs root: run the tests as root")
    if not shutil.which("setpriv"):
        pytest.skip("a second user needs setpriv: apt-get install util-linux")
    plain = _SETPRIV.split()
    reading = [plain[0], "--inh-caps=+dac_override", "--ambient-caps=+dac_override", *plain[1:]]
    for prefix in (plain, reading) if ipc == "sysv" else (plain,):
        if _works(*prefix, sys.executable, str(ROOT / "reader.py"), "--help"):
            return prefix
    pytest.skip(
        "another user cannot run this Python, and CAP_DAC_OVERRIDE is not ours to give, or opens the objects too"
    )


def _private_namespace() -> None:
    if not is_root():
        pytest.skip("a private IPC namespace and a second user need root: run the tests as root")
    if not _works("unshare", "--ipc", "sh", "-c", "echo 0 > /proc/sys/kernel/shmmni"):
        pytest.skip("`unshare --ipc` is not allowed here: in a container, add CAP_SYS_ADMIN")


def strace(*options: str) -> list[str]:
    """A strace command that says nothing of its own on standard error."""
    if not shutil.which("strace"):
        pytest.skip("needs strace: apt-get install strace")
    if not _works("strace", "-qq", "-o", "/dev/null", "true"):
        pytest.skip("strace may not trace here: in a container, add CAP_SYS_PTRACE")
    return ["strace", "-qq", "-e", "signal=none", *options]


def _counted_memory() -> None:
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1":
        pytest.skip("this kernel never says ENOMEM: sysctl vm.overcommit_memory is 1")
