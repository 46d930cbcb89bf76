"""The picture of --status as it lives: reader.py --watch.

Each frame is one look like that of --status: inside the doorway, read-only, and gone again before it is drawn. So no
channel stays for an onlooker, and one that is stopped, or whose terminal is slow, holds up nobody.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from errno import ENOENT
from typing import Any, NamedTuple

from common.channel.listener import Listener
from common.channel.patience import HEARTBEAT, Patience
from common.cli.leaving import find_doorway, find_family, find_place
from common.cli.run import describe
from common.cli.talk import Talk
from common.errors import BadSegment, CallFailed, ChannelError, TimedOut
from common.ipc.doorway import FlockDoorway
from common.ipc.family import Family
from common.show.screen import BESIDE_RATE, WIDEST, Moved, draw, draw_message
from common.show.status import look, wants_ascii, wants_color
from common.show.terminal import Terminal, terminal_size

INTERVAL = 0.1  # seconds from one look to the next
REMEMBERED = WIDEST - BESIDE_RATE  # seconds of the past


def watch(options: argparse.Namespace, talk: Talk) -> int:
    """Show what there is ten times a second, until somebody presses q. Raises ChannelError, CallFailed, OSError."""
    term = os.environ.get("TERM")
    if not os.isatty(1) or term in (None, "dumb"):
        why = f"TERM is {term or 'not set'}, so it cannot place text" if os.isatty(1) else "standard output is none"
        raise ChannelError(f"--watch needs a terminal: {why}; `reader.py --status` is one frame of it")
    family, doorway = find_family(options, talk), find_doorway(options, talk)
    find_place(options, family, doorway, talk)  # says the key, and what is wrong with the key path
    doorway.close()
    frames = Frames(options, family, talk)
    with Terminal() as terminal:
        began = time.monotonic()
        while "q" not in terminal.pause(began + INTERVAL - time.monotonic()).lower():
            began = time.monotonic()
            terminal.show(frames.next())
    return 0


class Frames:
    """One picture after the other."""

    def __init__(self, options: argparse.Namespace, family: Family, talk: Talk) -> None:
        self._options = options
        self._family = family
        self._talk = talk
        self._history = History()
        self._others = Others()
        self._seen: tuple[object, ...] = ()
        self._drawn = ""

    def next(self) -> str:
        """One look, drawn; or why there is nothing to see, which may change until the next one."""
        found = self._find()
        seen = found, self._history.moved(), terminal_size(), int(time.time())
        if seen != self._seen:  # to draw takes much longer than to look, and most channels rest
            self._seen, self._drawn = seen, self._draw(*seen)
        return self._drawn

    def _find(self) -> dict[str, Any] | str:
        """The snapshot, or why there is none."""
        try:
            status = look_anew(self._options, self._family)
        except TimedOut:
            return f"the doorway is shut: another process holds the lock on {self._options.key_path}"
        except (ChannelError, BadSegment, OSError, MemoryError) as error:
            if not (isinstance(error, CallFailed) and (error.name, error.errno) == (self._family.names.find, ENOENT)):
                return describe(error)
            self._history.add(None, time.monotonic())
            return f"waiting: {describe(error)}"
        self._history.add(status, time.monotonic())
        self._others.show_only_them(status["segment"])
        return status

    def _draw(self, found: dict[str, Any] | str, moved: Moved, size: tuple[int, int], now: float) -> str:
        style: dict[str, Any] = {"plain": wants_ascii(), "color": wants_color(), "width": size[0], "moved": moved}
        if not isinstance(found, str):
            return draw(found, now=now, height=size[1], **style)
        where = {"channel": self._options.channel, "key_path": os.path.abspath(self._options.key_path)}
        return draw_message(where, self._talk.to_be_typed(found), **style)


def look_anew(options: argparse.Namespace, family: Family) -> dict[str, Any]:
    """A key path that was replaced has another key: it is opened anew each time. Raises as look(), and OSError."""
    doorway = FlockDoorway(options.key_path, Patience(HEARTBEAT, Listener()))
    try:
        return look(family, options, doorway)
    finally:
        doorway.close()


class Others:
    """What others did to a segment that we attach and detach at every look, and the kernel notes the last one only."""

    def __init__(self) -> None:
        self._before: dict[str, Any] = {}

    def show_only_them(self, segment: dict[str, Any]) -> None:
        """Put what was there before us in the place of our own pid and times, in what IPC_STAT said."""
        before, ours = self._before, segment["last_pid"] == os.getpid()
        if before.get("id") == segment["id"]:
            more = segment["attached"] - before["attached"]
            kept = {"last_pid": ours, "attach_time": ours or more < 0, "detach_time": ours or more > 0}
            segment |= {name: before[name] for name, is_ours in kept.items() if is_ours}
        self._before = dict(segment)


class _Point(NamedTuple):
    """How far a channel had come at one look: by the fragment published last, and by where it goes on."""

    channel: tuple[Any, ...]  # which one: its id may come again
    head: int = 0
    length: int = 0  # of that fragment
    record: int = 0
    end: int = 0  # of that fragment in its record
    next_record: int = 0
    next_offset: int = 0


class History:
    """What went through the channels with one key, while somebody looked: bytes, second by second, and in all."""

    def __init__(self) -> None:
        self._seconds = deque([0] * (REMEMBERED + 1), maxlen=REMEMBERED + 1)  # the last one is not over yet
        self._second: int | None = None
        self._total = 0
        self._last: _Point | None = None
        self._looked = False

    def add(self, status: dict[str, Any] | None, when: float) -> None:
        """One more look, at `when` in seconds; None when there was no channel."""
        second = int(when)
        for _ in range(min(second - (self._second or second), REMEMBERED + 1)):
            self._seconds.append(0)
        self._second = second
        now = _point_of(status) if status else None
        if now and self._looked:
            length = _bytes_between(self._last if self._last and self._last.channel == now.channel else None, now)
            self._seconds[-1] += length
            self._total += length
        self._last, self._looked = now, True

    def moved(self) -> Moved:
        """As far as it can be shown: the seconds that are over."""
        return Moved(tuple(self._seconds)[:-1], self._total)


def _point_of(status: dict[str, Any]) -> _Point:
    channel, head = (status["segment"]["id"], status["header"]["created_ns"]), status["header"]["head"]
    newest = status["newest"]
    if not newest or "damage" in newest:
        return _Point(channel, head)
    end = newest["offset"] + newest["length"]
    goes_on = 0 if newest["records"] else end
    return _Point(channel, head, newest["length"], newest["record"], end, newest["record"] + newest["records"], goes_on)


def _bytes_between(before: _Point | None, now: _Point) -> int:
    """How many bytes were published; `before` is None for a channel that was not there when we looked last.

    To the byte, where one record has moved. Of several, each fragment but the last is taken for as long as the mean of
    that one and the one seen before.
    """
    before = before or _Point(now.channel)
    if now.head <= before.head:
        return 0
    if now.record == before.next_record and now.end >= before.next_offset:
        return now.end - before.next_offset
    return now.length + (now.head - before.head - 1) * (before.length + now.length) // 2
