"""What --trace shows: the calls as they are made, and between them, as `#` lines, the payload's stores and loads.

Loaded only when asked for. The lab's four calls and their likes are shown, of which one that only repeats the last one
is a look while waiting, and left out; with --trace=all, every call, and what is repeated while waiting is counted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from common.channel.listener import Call, Step
from common.geometry import Geometry
from common.ipc.trace import format_line
from common.layout import ABORTED, PAGE, SLOT, TAKEN_OFFSET, Header, SlotHeader
from common.words import plural

# The calls on the shared memory itself, of either family.
_SEGMENT_CALLS = frozenset(
    (
        *("shmget", "shmat", "shmdt", "shmctl"),
        *("shm_open", "ftruncate", "posix_fallocate", "mmap", "munmap", "shm_unlink"),
        *("fstat", "fchmod", "fchown", "close"),
    )
)
_SHOWN = {Step.PUBLISH: ("store", "head"), Step.COMMIT: ("load", "tail")}
WIDTH = 32  # of what is shown of a payload, in columns
_LONGEST_LOOK = 64  # calls; ours make about ten
_ESCAPES = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}

Write = Callable[..., None]  # of lines that belong together


class Tracer:
    """Hears calls and steps, and writes their lines: with `everything` all of them; `explain` says what they mean.

    `to_be_typed` makes the commands in that act on our channel, see Talk.
    """

    def __init__(
        self, write: Write, *, everything: bool, explain: bool, to_be_typed: Callable[[str], str] = str
    ) -> None:
        self._write = write
        self._everything = everything
        self._repeats: _NotTwice | _Counted = _Counted() if everything else _NotTwice()
        self._explainer = None
        if explain:
            from common.cli.explain import Explainer

            self._explainer = Explainer(to_be_typed)
        self._memory = memoryview(b"")
        self._address, self._geometry = 0, Geometry(1, 0)
        self._put_out: SlotHeader | None = None  # what is being read
        self._about: Callable[[], list[str]] | None = None  # the lines of the store or load that is on its way

    def attached(self, memory: memoryview, address: int, geometry: Geometry) -> None:
        """Where the payload's stores and loads will be."""
        self._memory, self._address, self._geometry = memory, address, geometry

    def call(self, call: Call) -> None:
        """A call has returned."""
        lines = self._done()
        if self._everything or _on_the_segment(call):
            line = format_line(call)
            lines += self._repeats.add(line, [line, *(self._explainer.explain(call) if self._explainer else [])])
        if lines:
            self._write(*lines)

    def step(self, step: Step, number: int, slot: SlotHeader | None) -> None:
        """A step is about to happen; it is over when the next one is about to happen, or has made a call."""
        if done := self._done():
            self._write(*done)
        if step is Step.PUT_OUT:
            self._put_out = slot
        elif slot and step in _SHOWN and not slot.flags & ABORTED:
            verb, counter = _SHOWN[step]
            # Now: when the tail has moved, a writer may fill the slot anew.
            lines = self._move(verb, number, slot.taken, slot.length, f"; {counter} {number} -> {number + 1}")
            self._about = lambda: lines if self._has_moved(counter, number) else []
        elif step is Step.COMMIT and self._put_out:
            start = self._put_out.taken
            self._about = lambda: self._move(
                "load", number, start, self._taken(number), f", a part of it; tail {number}"
            )

    def _move(self, verb: str, number: int, start: int, stop: int, then: str) -> list[str]:
        """The lines of what is stored into the slot of this fragment, or loaded: its bytes from `start` to `stop`."""
        index = number % self._geometry.slot_count
        at = self._geometry.payloads_at + index * self._geometry.slot_size + start
        length = stop - start
        with self._memory[at : at + min(length, WIDTH + 1)] as begin:
            text = quote(bytes(begin))
        where = f"at {self._address + at:#x}, offset {at}: slot {index}"
        line = f"# {verb} {plural(length, 'byte')} {where}{then}: {text}"
        return [line, *(self._explainer.explain_move(verb) if self._explainer else [])]

    def _has_moved(self, counter: str, number: int) -> bool:
        """Whether head or tail went past this fragment: a signal may come before it does."""
        with Header(self._memory) as header:
            return bool(getattr(header, counter) > number)

    def _taken(self, number: int) -> int:
        """How much of a slot is taken, bytes: a reader that stops inside it notes that, and no step tells it."""
        at = PAGE + number % max(self._geometry.slot_count, 2) * SLOT.size + TAKEN_OFFSET
        return int.from_bytes(self._memory[at : at + 4], sys.byteorder)

    def _done(self) -> list[str]:
        """The lines of a store or load that is done now, if there was one on its way."""
        if self._about is None:
            return []
        lines, self._about = self._about(), None
        return [*self._repeats.flush(), *lines] if lines else []

    def looked(self) -> None:
        """A heartbeat of a wait: what is called until the next one is one look."""
        if lines := self._repeats.looked():
            self._write(*lines)

    def flush(self) -> list[str]:
        """What is to be said before anything else is said."""
        return self._repeats.flush()


def _on_the_segment(call: Call) -> bool:
    """Whether the call is on the shared memory and not on its semaphores."""
    if call.name == "ftok":  # 8N+1 is the segment's, see place.py
        return bool(call.arguments[1] % 8 == 1)
    if call.name == "lstat":
        return not call.arguments[0].startswith("/dev/shm/sem.")
    return call.name in _SEGMENT_CALLS


def quote(data: bytes) -> str:
    """The bytes as C would have them, in ASCII, up to WIDTH columns."""
    text = ""
    for byte in data:
        shown = _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
        if len(text) + len(shown) > WIDTH:
            return f'"{text}"...'
        text += shown
    return f'"{text}"'


class _NotTwice:
    """Leaves out a call that is the last one again, with the same result."""

    def __init__(self) -> None:
        self._last = ""

    def add(self, line: str, lines: list[str]) -> list[str]:
        """A call, and the lines of it; those to be written now."""
        again, self._last = line == self._last, line
        return [] if again else lines

    def looked(self) -> list[str]:
        """Nothing is counted."""
        return []

    def flush(self) -> list[str]:
        """Nothing is held back."""
        return []


class _Counted:
    """Counts the looks that are the one before again. A look is what was called between two heartbeats of a wait."""

    def __init__(self) -> None:
        self._look: list[str] = []  # the calls since the last heartbeat
        self._before: list[str] = []  # the look that this one may repeat, empty while there is none
        self._held: list[str] = []  # of this look: the lines to be written if it does not
        self._times = 0

    def add(self, line: str, lines: list[str]) -> list[str]:
        """A call, and the lines of it; those to be written now."""
        # A wait until a moment of the clock has another one each time.
        self._look.append(re.sub(r"\{tv_sec=\d+, tv_nsec=\d+\}", "", line))
        del self._look[:-_LONGEST_LOOK]  # where nobody waits, it has no end
        length = len(self._look)
        if any(self._before[at : at + length] == self._look for at in range(len(self._before) - length + 1)):
            self._held += lines
            return []
        before, self._before = self.flush(), []
        return [*before, *lines]

    def looked(self) -> list[str]:
        """A heartbeat; the lines to be written now."""
        lines = [] if self._count() else self.flush()
        self._before, self._look = self._look or self._before, []
        return lines

    def _count(self) -> bool:
        """Whether this look was the one before again, which may have begun before the wait did."""
        if not self._look or self._before[-len(self._look) :] != self._look:
            return False
        self._before = self._look
        self._times += 1
        self._held = []
        return True

    def flush(self) -> list[str]:
        """What was counted, and what was held back."""
        lines = []
        if self._count():
            self._look = []
        if self._times:
            calls = "the last call" if len(self._before) == 1 else f"the last {len(self._before)} calls"
            lines = [f"# {calls} {plural(self._times, 'time')} more, while waiting"]
            self._times = 0
        if self._held:
            lines += self._held
            self._before, self._held = [], []
        return lines
