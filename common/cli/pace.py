"""One step at a time, for whoever looks on: --slow and --pause-at say each step before it happens, and wait.

Loaded only when they are asked for. No step is told in the doorway, so a pause holds up those alone who wait for what
the paused process has anyway: its turn, its slots.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import time
from collections.abc import Callable, Collection

from common.channel.listener import Step
from common.geometry import Geometry
from common.layout import ABORTED, SlotHeader
from common.typed import NamedTuple, Protocol
from common.words import plural

# The steps of each program in the order in which they happen, and what is said before each.
_WRITER = {
    Step.JOIN: "in the doorway: open the segment, or make it; attach; count us in",
    Step.TAKE_TURN: "take writer_turn: we alone send until we give it back",
    Step.WAIT_SLOT: "wait until head - tail is below {slots}: until a slot is free",
    Step.FILL: "put input into slot {slot}, at offset {at}, {size} bytes at most",
    Step.PUBLISH: "store head {number} -> {next}: from now on readers see slot {slot}, {bytes}",
    Step.GIVE_TURN: "give writer_turn back: another writer may send",
    Step.LEAVE: "in the doorway: say goodbye, wake a reader, detach",
    Step.REMOVE: "all is read, nobody else here: in the doorway, if so, remove all",
}
_READER = {
    Step.JOIN: "in the doorway: open the segment, once there is one; attach it",
    Step.TAKE_TURN: "take reader_turn: we alone receive until we give it back",
    Step.WAIT_DATA: "wait until head is above tail: until a slot is full",
    Step.READ: "look at the header of slot {slot}: of which record, how many bytes",
    Step.PUT_OUT: "write out {bytes} of slot {slot}, straight from offset {at}",
    Step.COMMIT: "store tail {number} -> {next}: {bytes} out, slot {slot} may be filled anew",
    Step.FREE: "put a token into empty_slots: wakes a writer that waits for room",
    Step.GIVE_TURN: "give reader_turn back: another reader may receive",
    Step.REMOVE: "all is read, no writer left: in the doorway, if so, remove all",
    Step.LEAVE: "in the doorway: detach",
}
_STEPS = {"writer.py": _WRITER, "reader.py": _READER}
_PART = "note in slot {slot} how much of it is out; tail stays"  # the commit of a part of a slot (--count)


class PauseAt(NamedTuple):
    """Before which step to pause; before the `nth` of this name only, or before each: 0."""

    step: Step
    nth: int = 0


class Voice(Protocol):
    """What says the lines, see Talk."""

    program: str

    def say(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...
    def is_ending(self) -> bool: ...


def parse_pause(program: str, text: str) -> PauseAt:
    """STEP or STEP:N, of "writer.py" or "reader.py"; help lists them and exits. Raises ArgumentTypeError."""
    if text == "help":
        print(list_steps(program))
        raise SystemExit(0)
    name, colon, nth = text.partition(":")
    for step in _STEPS[program]:
        if step.value == name and (not colon or (nth.isascii() and nth.isdigit() and int(nth))):
            return PauseAt(step, int(nth or 0))
    names = [step.value for step in _STEPS[program]]
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a step of {program}: {', '.join(names)}; {names[1]}:3 is only the third {names[1]}"
    )


def list_steps(program: str) -> str:
    """The steps of "writer.py" or "reader.py", a line each."""
    shown = dict(zip(_FACTS, ("N", "N+1", "S", "A", "SIZE", "SLOTS", "B bytes"), strict=True))
    lines = [f"  {step.value:<9}  {text.format(**shown)}" for step, text in _STEPS[program].items()]
    return "\n".join([f"The steps of {program}, and what is about to happen at each:", *lines, _DOORWAY])


_FACTS = ("number", "next", "slot", "at", "size", "slots", "bytes")
_DOORWAY = "The doorway is a lock on the key path, in which one process at a time is: the pause is before it."


class Pace:
    """Who hears of each step: says it, then waits `slow` seconds, or at the steps of `pause_at` until told to go on.

    `told_before` hears of it first: what the last step did is shown before this one is said.
    """

    def __init__(
        self,
        voice: Voice,
        slow: float,
        pause_at: Collection[PauseAt],
        told_before: Callable[[Step, int, SlotHeader | None], None] | None = None,
    ) -> None:
        self.geometry = Geometry(1, 0)  # how the segment is divided, once it is attached
        self._voice = voice
        self._told_before = told_before
        self._texts = _STEPS[f"{voice.program}.py"]
        self._slow = slow
        self._pause_at = pause_at
        self._met: dict[Step, int] = {}  # how often each step came

    def step(self, step: Step, number: int, slot: SlotHeader | None) -> None:
        """Say the step, and wait; once a signal has come, only say it."""
        if self._told_before:
            self._told_before(step, number, slot)
        self._voice.say(f"{step.value}: {self._describe(step, number, slot)}")
        if self._voice.is_ending():
            return
        self._met[step] = self._met.get(step, 0) + 1
        if PauseAt(step) in self._pause_at or PauseAt(step, self._met[step]) in self._pause_at:
            self._pause(step)
        else:
            time.sleep(self._slow)

    def _describe(self, step: Step, number: int, slot: SlotHeader | None) -> str:
        text = _PART if step is Step.COMMIT and slot is None else self._texts[step]
        slots, size = self.geometry
        index = number % slots
        length = ""
        if slot is not None:
            length = plural(slot.length - slot.taken, "byte")
            length += f" (record {slot.record} is given up)" if slot.flags & ABORTED else ""
        facts = number, number + 1, index, self.geometry.payloads_at + index * size, size, slots, length
        return text.format(**dict(zip(_FACTS, facts, strict=True)))

    def _pause(self, step: Step) -> None:
        """Until SIGCONT, or Enter at the terminal where we are in its foreground; any other signal is as ever."""
        heard, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.signal(signal.SIGCONT, lambda *_: None), signal.set_wakeup_fd(wakes)
        terminal = _foreground_terminal()
        try:
            pid = os.getpid()
            enter = "" if terminal is None else "Enter or "
            # Said when it is true: whoever reads it may send the signal at once.
            how = f"{enter}`kill -CONT {pid}` goes on, `kill -9 {pid}` ends it here"
            self._voice.error(f"paused before {step.value}, pid {pid}: {how}")
            self._wait(heard, terminal)
        finally:
            signal.set_wakeup_fd(before[1])
            signal.signal(signal.SIGCONT, before[0])
            for descriptor in (heard, wakes, terminal):
                if descriptor is not None:
                    os.close(descriptor)

    def _wait(self, heard: int, terminal: int | None) -> None:
        sources = [heard] if terminal is None else [heard, terminal]
        while True:
            ready, _, _ = select.select(sources, (), ())
            if heard in ready:
                if signal.SIGCONT in os.read(heard, 512):
                    return
                continue
            typed = _read(sources[1])
            text = typed.decode(errors="replace").strip()
            if typed and not text:
                return
            if typed:
                self._voice.error(f"{text!r} was typed in a pause and goes nowhere; Enter alone goes on")
            else:  # Ctrl-D, or its window is closed
                del sources[1]
                self._voice.error(f"Enter is heard no more; `kill -CONT {os.getpid()}` goes on")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def _foreground_terminal() -> int | None:
    """Our terminal, whatever standard input is; None where there is none, or a read of it would stop us (SIGTTIN)."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return None
    try:
        if os.tcgetpgrp(terminal) == os.getpgrp():
            return terminal
    except OSError:
        pass
    os.close(terminal)
    return None
