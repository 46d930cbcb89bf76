"""What the slots of a ring hold, and who is at work on one. How that looks is ring.py's.

Whoever looks keeps nobody out: a slot may be filled anew while it is read, and anything may stand in it.
"""

from __future__ import annotations

from typing import Any

from common.channel.ring import Ring
from common.errors import BadSegment
from common.layout import ABORTED, CHECKED, FIRST, LAST, LINES, UNKNOWN

MOST = 64  # slots in a snapshot: as many lines as the tallest screens have
_FLAGS = {FIRST: "first", LAST: "last", ABORTED: "aborted", CHECKED: "checked", LINES: "lines"}
# Free slots wait for the writer; the one at the head is being filled while somebody has writer_turn, likewise the tail.
FREE, FILLING, FULL, READING = "free", "filling", "full", "reading"


def is_taken(turn: dict[str, Any]) -> bool | None:
    """Whether somebody has this turn; None when its semaphore cannot be read."""
    if turn["value"] is None:
        return None
    return bool(turn.get("locked", turn["value"] == 0))


def read_slots(ring: Ring, header: dict[str, Any], semaphores: dict[str, Any]) -> list[dict[str, Any]]:
    """The slots from the tail on, MOST at most, the one at the head among them; `pid` is whose work each is."""
    head, tail = header["head"], header["tail"]
    numbers = list(range(tail, tail + min(ring.slot_count, MOST)))
    if numbers[-1] < head < tail + ring.slot_count:
        numbers[-1] = head
    at_work = {}
    for number, state, who in ((head, FILLING, "writer"), (tail, READING, "reader")):
        pid, taken = header[f"{who}_pid"], is_taken(semaphores[f"{who}_turn"])
        if taken or (taken is None and pid):
            at_work[number, state] = pid or None
    return [_read_slot(ring, number, number < head, at_work) for number in numbers]


def _read_slot(ring: Ring, number: int, published: bool, at_work: dict[tuple[int, str], int | None]) -> dict[str, Any]:
    where = {"slot": number % ring.slot_count, "fragment": number}
    fragment = _read_fragment(ring, number) if published else {}
    state, rests = (READING, FULL) if published else (FILLING, FREE)
    if (number, state) in at_work:
        return {**where, "state": state, "pid": at_work[number, state], **fragment}
    return {**where, "state": rests, "pid": fragment.get("writer_pid"), **fragment}


def read_newest(ring: Ring, head: int) -> dict[str, Any] | None:
    """The fragment published last, read or not; None before the first."""
    return _read_fragment(ring, head - 1) if head else None


def _read_fragment(ring: Ring, number: int) -> dict[str, Any]:
    """What its slot says of it, or what is wrong with that (`damage`)."""
    try:
        slot = ring.read_slot(number)
    except BadSegment as error:
        return {"damage": str(error)}
    said = {name: getattr(slot, name) for name in ("length", "record", "offset", "records", "taken", "writer_pid")}
    total = None if slot.total == UNKNOWN else slot.total
    return {**said, "total": total, "flags": [name for flag, name in _FLAGS.items() if slot.flags & flag]}
