"""Runs an experiment in a process of its own, so that whatever happens to it, what it made goes.

If that process is killed, we clear up behind it; if we are, the kernel tells it, and it clears up itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from common.lab.calls import Lab, die_with, libc
from common.lab.experiment import Experiment, Observed, Unobserved, Value
from common.lab.own import Own, as_ipcs, leave_namespace

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_SHARED = "shared"  # a file that says: the IPC namespace is not ours alone


class Page(Protocol):
    """Where it is written."""

    def line(self, text: str) -> None:
        """One line, at once."""

    def heading(self, text: str) -> None:
        """What comes now."""


class Outcome(NamedTuple):
    """What was observed, beside what is promised; `failed` says why there is nothing.

    `unproved` has the commands that remove what may be the experiment's, which is not proved and so is still there.
    """

    observed: list[Value]
    failed: str = ""
    unproved: tuple[str, ...] = ()


def perform(experiment: Experiment, page: Page) -> Outcome:
    """Run it and clear up; what it does is written as it happens."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what it leaves running becomes our child
    with _stage() as own:
        us, pid = os.getpid(), os.fork()
        if not pid:
            _perform_here(experiment, own, us, page)
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        finally:
            code = _end(pid)
            result, shared = _read(own.scratch), (own.scratch / _SHARED).exists()
            own.clear(pid)
    unproved = tuple(own.unproved()) if shared else ()
    if result is None:
        result = f"it was ended by {signal.Signals(-code).name}" if code < 0 else "it failed, see above"
    return Outcome([], result, unproved) if isinstance(result, str) else Outcome(result, "", unproved)


def _end(pid: int) -> int:
    """End the experiment's process, and with it what it has started, which is in its group; its exit code."""
    with contextlib.suppress(OSError):  # it may not have come to that itself
        os.setpgid(pid, pid)
    os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-pid, 0)
    return code


def _give_up(own: Own) -> NoReturn:
    """In the experiment's process, whose parent was killed: clear up.

    First all that was started here is ended, or it makes something when all has been cleared.
    """
    children = Path(f"/proc/self/task/{os.getpid()}/children")  # proc(5)
    with contextlib.suppress(OSError):
        while pids := children.read_text().split():
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)
    own.clear(os.getpid())
    os._exit(1)


@contextlib.contextmanager
def _stage() -> Iterator[Own]:
    """A directory, which others may enter, whose keys nobody has."""
    own = None
    while not own:
        with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as scratch:
            os.chmod(scratch, 0o711)
            own = Own.at(Path(scratch))
            if own:
                yield own


def _perform_here(experiment: Experiment, own: Own, parent: int, page: Page) -> NoReturn:
    """In the experiment's process: before, the calls, after; what it observed goes into a file."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # on a terminal the group is in the background, and may write
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # of a SIGSEGV
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGTERM, lambda *_: _give_up(own))
        die_with(parent, signal.SIGTERM)
        own = own._replace(alone=leave_namespace())
        if not own.alone:
            (own.scratch / _SHARED).touch()
        _observe(experiment, own, page)
        code = 0
    except BrokenPipeError:
        pass
    except Exception as error:
        os.write(2, f"lab: {experiment.name}: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _observe(experiment: Experiment, own: Own, page: Page) -> None:
    def say(line: str) -> None:
        page.line(f"    {line}")

    def look() -> list[str]:
        return as_ipcs(own.rows("shm", pid))

    def show_rows(when: str) -> None:
        page.heading(f"{when}, as ipcs -m shows it")
        for line in look():
            say(line)
        if names := own.names():
            page.heading(f"{when}, in /dev/shm")
        for path in names:
            status = path.lstat()
            say(f"{stat.filemode(status.st_mode)} {status.st_size:>8} {path.name}")

    pid = os.getpid()
    show_rows("before")
    page.heading("the calls as they happen")
    observed: Observed | str
    try:
        observed = experiment.observe(Lab(own.scratch, say, look))
    except Unobserved as reason:
        observed = str(reason)
    show_rows("after")
    (own.scratch / "observed.json").write_text(json.dumps(observed))


def _read(scratch: Path) -> list[Value] | str | None:
    """What was observed, or why nothing; None when the experiment did not get so far."""
    try:
        observed: list[Value] | str = json.loads((scratch / "observed.json").read_text())
    except FileNotFoundError:
        return None
    return observed
