"""The proof of ownership: every row, and that nothing but these rows makes a segment ours."""

from __future__ import annotations

from itertools import product

import pytest

from common.geometry import Geometry
from common.ipc.proof import Facts, Kind, judge
from common.layout import FINISHED, HALF_MADE, MAGIC, OPEN, PAGE, REMOVED

OUR_PATH, ANOTHER, NONE = (1, 2), (1, 3), (0, 0)
SIZE = Geometry(8, PAGE).segment_size
SMALLEST = Geometry(1, PAGE).segment_size
NOTHING = bytes(8)

IN_USE = Facts(SIZE, MAGIC, OUR_PATH, OUR_PATH, OPEN, abandoned=False, empty=False)


@pytest.mark.parametrize(
    ("change", "kind", "why"),
    [
        ({}, Kind.OURS, ""),
        ({"abandoned": True}, Kind.OURS, ""),
        ({"state": 77}, Kind.OURS, ""),  # damaged, and ours all the same
        ({"state": FINISHED}, Kind.LEFTOVER, "which its last reader left half-removed"),
        ({"state": REMOVED}, Kind.LEFTOVER, "left half-removed"),
        ({"magic": HALF_MADE}, Kind.LEFTOVER, "which its creator left half-made"),
        ({"magic": HALF_MADE, "path": NONE, "abandoned": True}, Kind.LEFTOVER, "which its creator left half-made"),
        ({"magic": HALF_MADE, "path": NONE}, Kind.FOREIGN, "its header notes no key path"),
        ({"path": ANOTHER}, Kind.OF_ANOTHER_PATH, ""),
        ({"path": ANOTHER, "magic": HALF_MADE, "abandoned": True}, Kind.OF_ANOTHER_PATH, ""),
        ({"path": NONE}, Kind.FOREIGN, "its header notes no key path"),
        ({"magic": b"SOMEBODY"}, Kind.FOREIGN, f"its first bytes are b'SOMEBODY', not {MAGIC!r}"),
        ({"size": PAGE - 1, "magic": NOTHING}, Kind.FOREIGN, "its 4095 bytes are fewer than a header"),
        ({"size": PAGE - 1, "path": NONE}, Kind.FOREIGN, "its 4095 bytes are fewer than a header"),
        ({"size": PAGE - 1, "path": ANOTHER}, Kind.OF_ANOTHER_PATH, ""),
        ({"size": PAGE - 1}, Kind.LEFTOVER, "which was cut off at 4095 bytes"),
    ],
    ids=str,
)
def test_the_verdict(change: dict[str, object], kind: Kind, why: str) -> None:
    assert judge(Facts(**{**IN_USE._asdict(), **change})) == (kind, why)


EMPTY = Facts(SIZE, NOTHING, NONE, OUR_PATH, 0, abandoned=True, empty=True)


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"size": SMALLEST}, True),
        ({"abandoned": False}, False),
        ({"empty": False}, False),
        ({"size": SMALLEST - PAGE}, False),
        ({"size": SIZE + 1}, False),
    ],
    ids=str,
)
def test_an_empty_one_is_ours_only_if_its_creator_is_dead_and_a_channel_can_have_its_size(
    change: dict[str, int], ours: bool
) -> None:
    assert (judge(Facts(**{**EMPTY._asdict(), **change})).kind is Kind.LEFTOVER) == ours


def test_without_our_path_nothing_that_is_not_abandoned_is_ours() -> None:
    """The one sentence that the rest of the project rests on."""
    for size, magic, path, state, empty in product(
        (PAGE, SMALLEST, SIZE),
        (MAGIC, HALF_MADE, NOTHING),
        (ANOTHER, NONE),
        (0, OPEN, FINISHED, REMOVED),
        (False, True),
    ):
        verdict = judge(Facts(size, magic, path, OUR_PATH, state, abandoned=False, empty=empty))
        assert verdict.kind in (Kind.FOREIGN, Kind.OF_ANOTHER_PATH)
