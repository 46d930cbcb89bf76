"""The whole screen of a terminal, and its keys as they are pressed; given back as it was, whatever ends or stops us.

What is written is ECMA-48 but for the second screen, which is xterm's (DECSET 1049): every terminal of today has it.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from contextlib import suppress
from typing import Any

from common.cli.sinks import StreamSink

# The second screen, where nothing scrolls away what was said before; and no cursor, which would stand in the picture.
_TAKE, _GIVE_BACK = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
# Stop us, or end us without another word: Ctrl-\ is a key, the others are what a person sends with kill(1).
_LEAVE = (signal.SIGTSTP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal behind standard output, as they are now; one that does not know has 80 and 24.

    Raises OSError.
    """
    columns, lines = os.get_terminal_size(1)
    return columns or 80, lines or 24


class Terminal:
    """`with`: the terminal behind standard output is ours, as long as we are in its foreground.

    Ctrl-Z stops us in pause() alone: whoever is stopped in the doorway stops everybody.
    """

    def __init__(self) -> None:
        self._output = StreamSink(1)
        self._modes: list[Any] | None = None  # what they were before the terminal became ours
        self._continued = False  # by SIGCONT: others may have had it meanwhile
        self._before: dict[int, Any] = {}  # what each signal did

    def __enter__(self) -> Terminal:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTSTP,))
        self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._go_on)
        for number in _LEAVE:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._leave)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._give_back()
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTSTP,))

    def _leave(self, number: int, frame: object) -> None:
        """Ctrl-Z: stop as everybody does, or die of the others so, and leave the terminal as it was."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._leave)

    def _go_on(self, number: int, frame: object) -> None:
        """From a SIGSTOP, too, before which there was no time to give anything back."""
        self._continued = True

    def _take(self) -> bool:
        """Whether the terminal is ours: while we are in the background, it is the shell's."""
        if not _in_foreground():
            return False
        if self._modes is None or self._continued:
            self._continued = False
            self._modes = self._modes or termios.tcgetattr(1)
            tty.setcbreak(1, termios.TCSANOW)
            self._output.write(memoryview(_TAKE))
        return True

    def _give_back(self) -> None:
        if self._modes is None:
            return
        with suppress(OSError, termios.error):  # it may be gone
            os.write(1, _GIVE_BACK)
            if _in_foreground():  # in the background, the modes are what the shell wants
                termios.tcsetattr(1, termios.TCSANOW, self._modes)
        self._modes = None

    def show(self, text: str) -> None:
        """Show these lines, as many as there is room for, in the place of what is there. Raises OSError."""
        if not self._take():
            return
        lines = text.splitlines()[: terminal_size()[1]]
        shown = _HOME + "\r\n".join(f"{line}{_END_OF_LINE}" for line in lines) + _END_OF_SCREEN
        self._output.write(memoryview(shown.encode()))

    def pause(self, seconds: float) -> str:
        """Wait so long, or until keys are pressed: which ones. "q" is said of a terminal that is gone, too."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTSTP,))
        try:
            keys = (0,) if self._modes is not None and os.isatty(0) else ()
            if not select.select(keys, (), (), max(seconds, 0))[0]:
                return ""
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTSTP,))
        return os.read(0, 1024).decode(errors="replace") or "q" if _in_foreground() else ""


def _in_foreground() -> bool:
    """Whether the terminal is in our hands; one that is of no session, or of another, nobody else has."""
    try:
        return os.tcgetpgrp(1) == os.getpgrp()
    except OSError:
        return True
