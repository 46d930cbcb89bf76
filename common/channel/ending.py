"""When a channel is over: one table, asked by both ends.

A pure function from facts to a verdict: it knows no segment and no semaphore. The verdict is final only when the
facts were gathered in the doorway.
"""

from __future__ import annotations

from enum import Enum

from common.errors import BadSegment
from common.layout import FINISHED, OPEN, REMOVED
from common.typed import NamedTuple


class Ending(Enum):
    """How a channel stands; the value says it to a person."""

    NOT_BEGUN = "not begun: no writer has joined yet"
    GOING_ON = "going on"
    TORN = "torn: its last record is unfinished"
    OVER = "over: every writer has left and all is read"
    BROKEN_OFF = "broken off: a writer stopped before its end"
    REMOVED = "removed by `writer.py --remove`"
    TAKEN_AWAY = "removed by ipcrm or rm"
    DAMAGED = "damaged: marked as finished, with fragments unread"


class Facts(NamedTuple):
    """What the verdict rests on."""

    state: int  # of the header
    marked: bool  # the segment is removed, and there only for those who have it attached
    joined: int  # writers, ever
    left: int  # writers that said all they had to, or whose record was given up
    live: bool  # whether any writer lives
    unread: int  # fragments
    unfinished: bool  # the last record has no end


_ANY = None


# (state, marked, joined, left, live, unread, unfinished); "left" is: as many as have joined.
_TABLE: tuple[tuple[tuple[int | bool | None, ...], Ending], ...] = (
    ((REMOVED, _ANY, _ANY, _ANY, _ANY, _ANY, _ANY), Ending.REMOVED),
    ((FINISHED, _ANY, _ANY, _ANY, _ANY, True, _ANY), Ending.DAMAGED),
    ((FINISHED, _ANY, _ANY, True, _ANY, False, _ANY), Ending.OVER),
    ((FINISHED, _ANY, _ANY, False, _ANY, False, _ANY), Ending.BROKEN_OFF),
    ((OPEN, True, _ANY, _ANY, _ANY, _ANY, _ANY), Ending.TAKEN_AWAY),
    ((OPEN, False, False, _ANY, _ANY, _ANY, _ANY), Ending.NOT_BEGUN),
    ((OPEN, False, True, _ANY, True, _ANY, _ANY), Ending.GOING_ON),
    ((OPEN, False, True, _ANY, False, True, _ANY), Ending.GOING_ON),
    ((OPEN, False, True, _ANY, False, False, True), Ending.TORN),
    ((OPEN, False, True, True, False, False, False), Ending.OVER),
    ((OPEN, False, True, False, False, False, False), Ending.BROKEN_OFF),
)


def judge(facts: Facts) -> Ending:
    """The verdict: the one row of the table that fits. Raises BadSegment for a state that means nothing."""
    given = (
        facts.state,
        facts.marked,
        facts.joined > 0,
        facts.left >= facts.joined,
        facts.live,
        facts.unread > 0,
        facts.unfinished,
    )
    for row, ending in _TABLE:
        if all(wanted is _ANY or wanted == value for wanted, value in zip(row, given, strict=True)):
            return ending
    raise BadSegment(f"its state is {facts.state}, which means nothing")
