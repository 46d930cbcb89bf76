"""Running a program: its signals, its errors and its exit code.

Exit codes: 0 done, 1 failed, 2 usage, 124 timed out, 128+N ended by signal N.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

from common.cli.talk import Talk, with_state
from common.errors import BadSegment, CallFailed, ChannelError, TimedOut
from common.ipc.doorway import ENDING

TIMED_OUT = 124


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. No `except Exception` may swallow it."""

    def __init__(self, number: int) -> None:
        self.number = number


def run(program: str, main: Callable[[Talk], int]) -> int:
    """Run a program's main with its signals, its errors and its exit code."""
    _open_standard_descriptors()
    talk = Talk(program)
    try:
        return _run(talk, main)
    except Interrupted as interruption:
        talk.release()  # it may have come before the doorway gave us our voice back
        talk.error(f"ended by {signal.Signals(interruption.number).name}")
        return 128 + interruption.number


def _run(talk: Talk, main: Callable[[Talk], int]) -> int:
    try:
        for number in ENDING:
            if number is signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, _interrupt)
        return main(talk)
    except TimedOut as error:
        talk.error(with_state(str(error), error.pid))
        return TIMED_OUT
    except (ChannelError, BadSegment, OSError, MemoryError) as error:
        talk.error(describe(error))
        return 1
    finally:
        # All is done and said: a signal that comes now would be a traceback.
        for number in ENDING:
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: object) -> None:
    # A second signal ends us at once: whatever we hold, the kernel gives back. But a window that closes sends two
    # SIGHUPs, one from the kernel and one from the shell.
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN if ending == signal.SIGHUP else signal.SIG_DFL)
    raise Interrupted(number)


def exit_on_signals() -> None:
    """Of what has no channel to leave: a signal that ends us is a SystemExit, and no second one interrupts that."""

    def end(number: int, frame: object) -> None:
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in ENDING:
        signal.signal(number, end)


def _open_standard_descriptors() -> None:
    """Stand in for closed ones, so that no file of ours becomes somebody's standard output; using them is EBADF."""
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)


def describe(error: BaseException) -> str:
    """One line: what failed, the errno by name, what it means and what to do."""
    try:
        return _describe(error)
    except OSError:  # EMFILE: not even the file that has the meanings can be opened
        what = getattr(error, "name", None) or getattr(error, "filename", None)
        number = getattr(error, "errno", None) or errno.EMFILE
        said = (
            f"{errno.errorcode[number]} ({os.strerror(number)}): no file can be opened to say more; raise `ulimit -n`"
        )
        return f"{what}: {said}" if what else said


def _describe(error: BaseException) -> str:
    if isinstance(error, CallFailed):
        from common.ipc.meanings import format_failure

        return format_failure(error)
    if isinstance(error, BadSegment):
        return f"the segment is damaged: {error}; {error.remedy}"
    if isinstance(error, OSError) and error.errno:
        from common.ipc.meanings import format_file_error

        return format_file_error(error)
    if isinstance(error, MemoryError):
        return "there is no memory left; a smaller --slot-size needs less, see also `ulimit -v` and `ulimit -d`"
    return str(error)
