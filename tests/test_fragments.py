"""What a reader demands of a fragment. How it meets the others of a record: test_channel.py."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from common.channel.fragments import Expected
from common.errors import BadSegment


@pytest.mark.parametrize(
    ("offset", "tail", "moved"),
    [
        (0, 6, True),
        (0, 7, False),
        (0, 8, False),  # another reader was here
        (0, 1000, False),
        (4096, 6, True),
        (4096, 7, False),
        (4096, 8, True),
    ],
)
def test_no_tail_goes_back_and_none_moves_inside_a_record(offset: int, tail: int, moved: bool) -> None:
    expected = Expected(number=7, record=3, offset=offset)
    text = rf"^the tail moved from 7 to {tail} under its reader$"
    with pytest.raises(BadSegment, match=text) if moved else nullcontext():
        expected.check_tail(tail)
