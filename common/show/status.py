"""What there is, for a person or a program: reader.py --status, and each frame of --watch. How it looks is screen.py's.

A view shows one snapshot and never touches the ring. It takes no turn, so the snapshot is not atomic: head, tail and
the semaphores may have moved between one look and the next. An onlooker does not see itself: what IPC_STAT says is
from before it attached.
"""

from __future__ import annotations

import argparse
import errno
import json
import locale
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.channel.ending import Ending, Facts, judge
from common.channel.ring import Ring
from common.cli.leaving import find_doorway, find_family
from common.cli.run import describe
from common.cli.sinks import StreamSink
from common.cli.talk import Talk, state_of
from common.errors import BadSegment, ChannelError
from common.ipc.calls import key_text
from common.ipc.doorway import FlockDoorway
from common.ipc.family import ChannelObjects, Family
from common.ipc.lifecycle import find_channel
from common.ipc.place import Place
from common.layout import FINISHED, OPEN, REMOVED, SEMAPHORES, UNKNOWN, Header
from common.show.slots import is_taken, read_newest, read_slots

_STATES = {OPEN: "open", FINISHED: "finished", REMOVED: "removed"}
_LOOKS = 10  # at a ring that moves: then what is seen may be of two moments
_AS_THEY_ARE = (
    *("slot_count", "slot_size", "created_ns", "creator_pid", "writers_joined", "writers_left", "records_torn"),
    *("writer_pid", "reader_pid"),
)


def show_status(options: argparse.Namespace, talk: Talk) -> int:
    """Show the ring, IPC_STAT and the semaphores. Raises CallFailed (ENOENT, EACCES), NotOurs."""
    status = look(find_family(options, talk), options, find_doorway(options, talk))
    if options.json:
        text = json.dumps(status, indent=2) + "\n"
    else:
        from common.show.screen import draw
        from common.show.terminal import terminal_size

        # On a terminal the prompt has the line below it.
        height = terminal_size()[1] - 1 if os.isatty(1) else None
        text = draw(status, now=time.time(), plain=wants_ascii(), color=wants_color(), height=height)
    put_out(text)
    return 0


def put_out(text: str) -> None:
    """What there is, to standard output."""
    try:
        StreamSink(1).write(memoryview(text.encode()))
    except BrokenPipeError:
        pass  # whoever was looking has seen enough
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ChannelError(
            f"{error.filename}: ENOSPC ({error.strerror}): what there is could not be shown; nothing was consumed"
        ) from None


def look(family: Family, options: argparse.Namespace, doorway: FlockDoorway) -> dict[str, Any]:
    """One snapshot, see read_status. Raises as looking()."""
    with looking(family, options, doorway) as objects:
        return read_status(objects)


@contextmanager
def looking(family: Family, options: argparse.Namespace, doorway: FlockDoorway) -> Iterator[ChannelObjects]:
    """The channel's objects, to be read. Raises CallFailed (ENOENT, EACCES), ChannelError, TimedOut, BadSegment."""
    place = Place.of(family.calls, options.key_path, options.channel, doorway.identity(), family.keys)
    with doorway:
        objects = find_channel(family, place, observe=True)
        try:
            yield objects
        finally:
            objects.detach()  # in the doorway: an onlooker must not pass for somebody who stays


def wants_color() -> bool:
    """Whether standard output is a terminal that shows colours to somebody who does not refuse them."""
    return os.isatty(1) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def wants_ascii() -> bool:
    """Whether the locale, or PYTHONIOENCODING, is another than UTF-8: it may lack what we draw with."""
    # In the C locale Python itself writes UTF-8 (PEP 540): what it says is half of the answer.
    asked = (locale.nl_langinfo(locale.CODESET), getattr(sys.stdout, "encoding", None) or "utf-8")
    return any(encoding.lower().replace("-", "") != "utf8" for encoding in asked)


def read_status(objects: ChannelObjects) -> dict[str, Any]:
    """The snapshot, of what find_channel found: plain values only.

    `slots` are the slots from the tail on, as many as fit any screen, the one at the head among them, and `newest` is
    the fragment published last. `damage` is what is wrong with the header, None if nothing is; `ending` is the name of
    the verdict, None when there is damage or when `writers` cannot be read.
    """
    place, segment = objects.place, objects.describe()
    semaphores = {name: _read_semaphore(objects, index) for index, name in enumerate(SEMAPHORES)}
    header = _read_header(objects)
    slots: list[dict[str, Any]] = []
    ending = newest = damage = None
    try:
        ring = Ring(objects.memory)
        try:
            header, slots, newest = _read_ring(objects, ring, semaphores)
            alive = semaphores["writers"]["value"]
            ending = _judge(ring, header, marked=segment["marked_for_removal"], alive=alive)
        finally:
            ring.release()
    except BadSegment as error:
        damage = str(error)
    return {
        "key": key_text(place.segment_key),
        "key_path": os.path.abspath(place.path),
        "channel": place.channel,
        "segment": segment,
        "semaphores": semaphores,
        "header": header,
        "slots": slots,
        "newest": newest,
        "turns": {
            turn: _holder(header[turn.replace("turn", "pid")], semaphores[turn])
            for turn in ("writer_turn", "reader_turn")
        },
        "ending": ending.name.lower() if ending else None,
        "damage": damage,
    }


def _read_ring(
    objects: ChannelObjects, ring: Ring, semaphores: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any] | None]:
    """The header, and the slots that go with it: once more when the tail moved, or a slot may be filled anew by now.

    Raises BadSegment.
    """
    for _ in range(_LOOKS):
        header = _read_header(objects)
        head, tail = header["head"], header["tail"]
        if not 0 <= header["unread"] <= ring.slot_count or head == UNKNOWN:
            raise BadSegment(f"head {head} and tail {tail} contradict each other ({ring.slot_count} slots)")
        slots, newest = read_slots(ring, header, semaphores), read_newest(ring, head)
        if ring.header.tail == tail:
            break
    return header, slots, newest


def _read_header(objects: ChannelObjects) -> dict[str, Any]:
    with Header(objects.memory) as header:
        tail, head = _read_counters(header)
        return {
            "magic": ascii(header.magic)[2:-1],
            "version": header.version,
            "state": _STATES.get(header.state, str(header.state)),
            **{name: getattr(header, name) for name in _AS_THEY_ARE},
            "head": head,
            "tail": tail,
            "unread": head - tail,
        }


def _read_counters(header: Header) -> tuple[int, int]:
    """Tail and head that were true at the same time, if they can be had: a tail too old would look like damage."""
    tail = header.tail
    for _ in range(100):
        before, head, tail = tail, header.head, header.tail
        if tail == before:
            break
    return tail, head


def _read_semaphore(objects: ChannelObjects, index: int) -> dict[str, Any]:
    noted = objects.noted_semaphore(index)
    try:
        return {"id": noted, **objects.describe_semaphore(index)}
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        return {"id": noted, "value": None, "asleep": None, "errno": name, "error": describe(error)}


def _holder(pid: int, semaphore: dict[str, Any]) -> str:
    """Who has a turn, by the pid that the header notes, and what has become of that process as far as /proc tells."""
    if pid:
        return f"pid {pid}{state_of(pid)}"
    return "somebody who is not noted" if is_taken(semaphore) else "nobody"


def _judge(ring: Ring, header: dict[str, Any], *, marked: bool, alive: int | None) -> Ending | None:
    """The verdict on these facts; None when it would rest on writers that cannot be counted. Raises BadSegment."""
    head, unread = header["head"], header["unread"]
    state = ring.header.state
    joined = ring.header.count_joined()
    left = ring.header.count_left() + header["records_torn"]
    # A live writer may be filling that slot anew; and only at the end does it matter how the last record stands.
    at_the_end = state == OPEN and alive == 0 and unread == 0 and head > 0
    unfinished = at_the_end and not ring.read_slot(head - 1).ends_record
    possible = {
        judge(Facts(state, marked, joined, left, live, unread, unfinished))
        for live in ((True, False) if alive is None else (alive > 0,))
    }
    return possible.pop() if len(possible) == 1 else None
