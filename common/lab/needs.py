"""What some experiments cannot do without: whether it is here, and what to do where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from common.ipc.machine import missing_capabilities
from common.lab.own import leave_namespace


class Need(NamedTuple):
    """Whether it is here, and one line for whom it is not."""

    met: Callable[[], bool]
    missing: str


def _root() -> bool:
    return os.geteuid() == 0 and not missing_capabilities("CAP_SETUID", "CAP_IPC_OWNER")


def _in_namespace(setting: Path | None = None) -> bool:
    """Whether we get an IPC namespace, and may change this limit there; tried in another process."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if leave_namespace():
                if setting:
                    setting.write_text("4096\n")
                code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _strace() -> bool:
    """Whether it can trace this Python."""
    traced = ["strace", "-o", os.devnull, os.readlink("/proc/self/exe"), "-c", ""]
    return bool(shutil.which("strace")) and subprocess.run(traced, capture_output=True).returncode == 0


def _memory_is_counted() -> bool:
    return Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "1"


_ROOT_OR_CONTAINER = "be root (sudo -s); root in a container needs one that was started with --privileged"

NEEDS = {
    "root": Need(_root, "root, who has everybody's rights and can become a second user: sudo -s"),
    "namespace": Need(_in_namespace, f"an IPC namespace of its own: {_ROOT_OR_CONTAINER}"),
    "limits": Need(
        lambda: _in_namespace(Path("/proc/sys/kernel/shmmni")),
        f"an IPC namespace of its own whose limits it may change: {_ROOT_OR_CONTAINER}",
    ),
    "strace": Need(_strace, "strace, and leave to trace: sudo apt install strace"),
    "cc": Need(lambda: shutil.which("cc") is not None, "a C compiler: sudo apt install gcc libc6-dev"),
    "overcommit": Need(_memory_is_counted, "a kernel that counts memory: sysctl vm.overcommit_memory is 1"),
}


def missing(needs: tuple[str, ...]) -> list[str]:
    """One line for each that is not here."""
    return [NEEDS[need].missing for need in needs if not NEEDS[need].met()]
