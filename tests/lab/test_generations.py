"""Two generations (tests/lab/README.md): what the table says of either family is seen by its command."""

from __future__ import annotations

import pytest

from tests.helpers import Pair, keys_of, left_behind, left_in_dev_shm
from tests.lab.cases import LAB_README, Case, rows_under
from tests.lab.shell import type_row

ROWS = [row for row in rows_under(LAB_README, "Two generations") if row[0].strip("- ")]
WORDS = [row for row in ROWS if len(row) == 3]
SEEN = [
    Case(f"{what}: {ipc}", command.strip("`"), line.strip("`"), needs)
    for what, *shown, needs in (row for row in ROWS if len(row) == 6 and row[1] != "System V")
    for ipc, command, line in (("System V", *shown[:2]), ("POSIX", *shown[2:]))
]


def test_every_row_is_seen_for_either_family() -> None:
    assert [f"{row[0]}: {ipc}" for row in WORDS for ipc in ("System V", "POSIX")] == [case.what for case in SEEN]
    assert all(case.command and case.line for case in SEEN)


@pytest.mark.parametrize("case", SEEN, ids=lambda case: case.what.replace(" ", "-"))
def test_the_command_shows_it(pair: Pair, case: Case) -> None:
    """And leaves no object of either family."""
    keys = keys_of(pair.key_path)
    assert not left_behind(keys) and not left_in_dev_shm(keys)
    _, done, _ = type_row(pair, case)
    assert not left_behind(keys) and not left_in_dev_shm(keys), done
