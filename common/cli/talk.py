"""What is said to a person, on standard error."""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
from collections import deque

from common.channel.listener import Listener, News, Reason, Step
from common.geometry import Geometry
from common.ipc.family import ChannelObjects, Names
from common.layout import ABORTED, SlotHeader
from common.typed import TYPE_CHECKING
from common.words import plural

if TYPE_CHECKING:
    from common.cli.pace import Pace
    from common.cli.tracer import Tracer

# A wait shorter than this is nothing to talk about, in seconds.
WORTH_SAYING = 1.0


# Any wait as long as this is: somebody may be stopped.
LONG_WAIT = 3.0


# How long a program that a signal ends waits for a full pipe behind standard error.
LAST_WORDS = 1.0


# What is shown of a record on its way: the step, what is done, and which counter moves.
_SHOWN = {Step.PUBLISH: ("store", "head"), Step.COMMIT: ("load", "tail")}


# A command to be typed, as every text of ours has it.
_COMMAND = r"`((?:writer|reader)\.py[^`]*)`"


_CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(32), 127)}


class Talk(Listener):
    """Says on standard error what the program does; never fails, whatever became of that descriptor.

    In the doorway, what is said is noted, and written when it has opened.
    """

    def __init__(self, program: str, *, quiet: bool = False) -> None:
        self.program = program
        self.quiet = quiet
        self.names = Names("", "", "", "")  # of the calls, once the family is known
        self.before_text = ""  # what takes a progress bar away
        self.where = ""  # the key and the path, once they are known
        self.channel_options = ""  # what leads a command to our channel, where that is not the default
        self.tracer: Tracer | None = None  # what --trace asked for
        self._pace: Pace | None = None  # --slow or --pause-at: it says each step
        self._slots = 0, Geometry(1, 0)  # the segment's address, and how it is divided, once it is attached
        self._about = ""  # to be done: the store or load that will be shown
        self._told = ""  # of a missing side, in this wait
        self._said: set[str] = set()  # of long waits, ever
        self._notes: list[tuple[bytes, deque[int]]] = []  # not yet written
        self._inside = False
        self._last_words = LAST_WORDS

    def obey(self, options: argparse.Namespace) -> None:
        """--quiet, --trace, --explain, --slow and --pause-at."""
        self.quiet = options.quiet
        if options.trace:
            from common.cli.tracer import Tracer

            everything = options.trace == "all"
            self.tracer = Tracer(
                self.write_lines, everything=everything, explain=options.explain, to_be_typed=self.to_be_typed
            )
            self.call, self.step = self.tracer.call, self.tracer.step
        if options.slow is not None or options.pause_at:
            from common.cli.pace import Pace

            self._pace = Pace(self, options.slow or 0, options.pause_at or (), told_before=self.step)
            self.step, self.pauses = self._pace.step, True

    def attached(self, objects: ChannelObjects, geometry: Geometry) -> None:
        """How the segment came about and where it is now; from now on the first store or load is shown."""
        seen, names = objects.seen, self.names
        self.say(
            f"{names.find}: {'created' if objects.created else 'opened'} {objects}: {seen.size} bytes,"
            f" {plural(geometry.slot_count, 'slot')} of {geometry.slot_size}, mode {seen.mode & 0o777:04o},"
            f" uid {seen.uid}"
        )
        self.say(f"{names.attach}: attached it at {objects.address:#x}")
        self._slots = objects.address, geometry
        if self.tracer:
            self.tracer.attached(objects.memory, objects.address, geometry)
        if self._pace:
            self._pace.geometry = geometry
        self.show_next()

    def show_next(self) -> None:
        """Show the next store or load of a record, too; --trace shows them all, --slow and --pause-at each step."""
        if not (self.quiet or self.tracer or self._pace):
            self.step = self._show

    def _show(self, step: Step, number: int, slot: SlotHeader | None) -> None:
        if self._about:  # a step is over when the next one is about to happen
            self.step = None
            self.say(self._about)
            self._about = ""
        elif slot and step in _SHOWN and not slot.flags & ABORTED:
            verb, counter = _SHOWN[step]
            address, geometry = self._slots
            index = number % geometry.slot_count
            offset = geometry.payloads_at + index * geometry.slot_size
            self._about = (
                f"{verb} {plural(slot.length, 'byte')} at {address + offset:#x}, offset {offset}: slot {index};"
                f" {counter} {number} -> {number + 1}"
            )

    def say(self, text: str) -> None:
        """What a student can follow; --quiet leaves it out."""
        if not self.quiet:
            self.error(text)

    def news(self, news: News) -> None:
        """What became of others; what is missing is said with --quiet, too."""
        (self.error if news.lost else self.say)(news.text)

    def error(self, text: str) -> None:
        """One line that is always said."""
        self.write_lines(*(self.tracer.flush() if self.tracer else ()), f"{self.program}: {self.to_be_typed(text)}")

    def to_be_typed(self, text: str) -> str:
        """The text, in which what is to be typed, `writer.py --remove`, acts on our own channel."""
        if not self.channel_options:
            return text
        return re.sub(_COMMAND, lambda command: f"`{command[1]}{self.channel_options}`", text)

    def prompt(self, text: str = "> ") -> None:
        """Ask for the next line, and show its store."""
        self.show_next()
        if not self.quiet:
            self.write(text)

    def nothing(self) -> None:
        """The prompt when nobody types."""

    def write_lines(self, *lines: str) -> None:
        """Lines that stay together, whatever is in the names that they mention."""
        self.write("".join(f"{line.translate(_CONTROL)}\n" for line in lines))

    def write(self, text: str) -> None:
        """Raw text to standard error, in one write so that lines of several processes do not mix."""
        text = self.before_text + text
        self._notes.append((text.encode(errors="surrogateescape"), deque([0], maxlen=1)))
        if not self._inside:
            self._write_notes()

    def hold(self) -> None:
        """From now on only note what is said."""
        self._inside = True

    def release(self) -> None:
        """Write what was noted, in order."""
        self._inside = False
        self._write_notes()

    def _write_notes(self) -> None:
        # A note goes when it is out: a signal that ends the wait for a full pipe loses none. And how much of it is out
        # is known in the one call, all C, that writes it: a signal that comes right behind repeats none.
        while self._notes:
            text, out = self._notes[0]
            rest = text[out[0] :]
            if not rest:
                del self._notes[0]
                continue
            try:
                if self.is_ending() and not select.select((), (2,), (), self._last_words)[1]:
                    self._last_words = 0
                    self._notes.clear()
                    return
                out.extend(map(out[0].__add__, map(os.write, (2,), (rest,))))
            except OSError:
                out.append(len(text))

    def is_ending(self) -> bool:
        """Whether a signal has come, and with it the next one will end us at once."""
        return signal.getsignal(signal.SIGINT) == signal.SIG_DFL

    def wait(self, reason: Reason, waited: float) -> None:
        """Heard at each heartbeat of a wait: says once what it waits for, a missing side soon, anything else later."""
        if self.tracer:
            self.tracer.looked()
        if waited < WORTH_SAYING:
            self._told = ""
        elif reason.missing and reason.text != self._told:
            self._told = reason.text
            self.say(reason.text + ("; the next signal ends us at once" if self.is_ending() else ""))
        if waited >= LONG_WAIT and not self.quiet and (self.where or not reason.missing):
            text = with_state(reason.text, reason.pid)
            line = "; ".join(filter(None, (text, _NOT_GIVEN_BACK if _NO_MORE in text else "", self.where)))
            if line not in self._said:
                self._said.add(line)
                self.say(line)


def with_state(text: str, pid: int) -> str:
    """The text, with what has become of the process that it names."""
    named = f"pid {pid}"
    return text.replace(named, named + state_of(pid)) if pid else text


_NO_MORE = " (which is no more)"
_NOT_GIVEN_BACK = "the kernel gives back what the dead had, so somebody set this; `writer.py --remove` ends the channel"


def state_of(pid: int) -> str:
    """What a person should know of a process, as far as /proc tells."""
    try:
        os.kill(pid, 0)  # where /proc hides the processes of others, ENOENT would not say so much
    except (ProcessLookupError, OverflowError):
        return _NO_MORE
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            letter = stat.read().rpartition(b")")[2].split()[0]
    except OSError:
        return ""
    return {b"T": " (stopped)", b"t": " (stopped)", b"Z": _NO_MORE}.get(letter, "")
