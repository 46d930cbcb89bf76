"""When a channel is over: every row of the table in DESIGN.md, section 5, and the rows that cannot be."""

from __future__ import annotations

from itertools import product

import pytest

from common.channel.ending import _TABLE, Ending, Facts, judge
from common.errors import BadSegment
from common.layout import FINISHED, OPEN, REMOVED

# Two writers joined and left, none lives, all is read and the last record has its end.
OVER = Facts(OPEN, marked=False, joined=2, left=2, live=False, unread=0, unfinished=False)


@pytest.mark.parametrize(
    ("facts", "ending"),
    [
        (OVER._replace(state=REMOVED), Ending.REMOVED),
        (OVER._replace(state=REMOVED, marked=True, joined=0, left=0, unread=1), Ending.REMOVED),
        (OVER._replace(state=FINISHED), Ending.OVER),
        (OVER._replace(state=FINISHED, marked=True), Ending.OVER),
        (OVER._replace(state=FINISHED, left=1), Ending.BROKEN_OFF),
        (OVER._replace(state=FINISHED, unread=1), Ending.DAMAGED),
        (OVER._replace(state=FINISHED, unread=1, left=0), Ending.DAMAGED),
        (OVER._replace(marked=True), Ending.TAKEN_AWAY),
        (OVER._replace(marked=True, live=True, unread=1), Ending.TAKEN_AWAY),
        (OVER._replace(marked=True, joined=0, left=0), Ending.TAKEN_AWAY),
        (OVER._replace(joined=0, left=0), Ending.NOT_BEGUN),
        (OVER._replace(joined=0, left=0, live=True), Ending.NOT_BEGUN),
        (OVER._replace(left=1, live=True), Ending.GOING_ON),
        (OVER._replace(left=1, live=True, unread=1, unfinished=True), Ending.GOING_ON),
        (OVER._replace(unread=1), Ending.GOING_ON),
        (OVER._replace(left=1, unread=1, unfinished=True), Ending.GOING_ON),
        (OVER._replace(left=1, unfinished=True), Ending.TORN),
        (OVER, Ending.OVER),
        (OVER._replace(left=0), Ending.BROKEN_OFF),
        (OVER._replace(left=1), Ending.BROKEN_OFF),
    ],
)
def test_a_row_of_the_table(facts: Facts, ending: Ending) -> None:
    assert judge(facts) is ending


def every_fact() -> list[Facts]:
    """Every combination of what the table tells apart."""
    counts = [(0, 0), (2, 0), (2, 1), (2, 2), (2, 3), (0, 1)]
    choices = product((OPEN, FINISHED, REMOVED), (False, True), counts, (False, True), (0, 1), (False, True))
    return [Facts(state, marked, *count, live, unread, end) for state, marked, count, live, unread, end in choices]


def fits(row: tuple[int | bool | None, ...], facts: Facts) -> bool:
    joined, left = facts.joined > 0, facts.left >= facts.joined
    given = (facts.state, facts.marked, joined, left, facts.live, facts.unread > 0, facts.unfinished)
    return all(wanted in (None, value) for wanted, value in zip(row, given, strict=True))


@pytest.mark.parametrize("facts", every_fact(), ids=lambda facts: "-".join(map(str, facts)))
def test_exactly_one_row_fits_whatever_is_found(facts: Facts) -> None:
    assert [ending for row, ending in _TABLE if fits(row, facts)] == [judge(facts)]


def test_every_row_is_needed() -> None:
    assert all(any(fits(row, facts) for facts in every_fact()) for row, _ in _TABLE)
    assert {ending for _, ending in _TABLE} == set(Ending)


@pytest.mark.parametrize("facts", [facts for facts in every_fact() if facts.left < facts.joined])
def test_nothing_is_over_while_a_goodbye_is_missing(facts: Facts) -> None:
    assert judge(facts) is not Ending.OVER


@pytest.mark.parametrize("unread", [0, 1])
@pytest.mark.parametrize("unfinished", [False, True])
def test_more_goodbyes_than_writers_is_as_many(unread: int, unfinished: bool) -> None:
    """Garbage in the header: it must not keep anybody waiting for a writer that never was."""
    facts = OVER._replace(unread=unread, unfinished=unfinished)
    assert judge(facts._replace(left=2**64 - 1)) is judge(facts)


@pytest.mark.parametrize("left", [1, 2])
def test_a_live_writer_keeps_an_unfinished_record_from_being_torn(left: int) -> None:
    assert judge(OVER._replace(left=left, live=True, unfinished=True)) is Ending.GOING_ON


@pytest.mark.parametrize("state", [0, 4, 2**32 - 1])
def test_a_state_that_means_nothing_has_no_row(state: int) -> None:
    with pytest.raises(BadSegment, match="means nothing"):
        judge(OVER._replace(state=state))
