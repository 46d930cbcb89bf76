"""Hostile headers against joining, looking and removing, over real objects in this process.

Whatever the first page says: it is joined, shown, removed or refused with an error that makes one line; and a
semaphore of somebody else keeps its value. (POSIX's are found by name, and the header has no say in it but for the
nonce, of which pokes() thinks as well.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sysv_ipc
from hypothesis import given
from hypothesis import strategies as st

from common.cli import control
from common.errors import BadSegment
from common.ipc.family import ChannelObjects, Family
from common.ipc.lifecycle import Wanted, find_channel, join_channel, open_channel
from common.ipc.place import Place
from common.layout import HALF_MADE, MAGIC, PAGE
from common.show.status import read_status
from tests.fuzz.crafted import falsified_channel, opened
from tests.fuzz.effort import effort
from tests.fuzz.pokes import Poke, header_poke, pokes
from tests.fuzz.scenarios import ONE_LINE

Visit = Callable[[Family, Place], Any]


def _detached(objects: ChannelObjects | None) -> None:
    if objects:
        objects.detach()


def _status(family: Family, place: Place) -> None:
    objects = find_channel(family, place, observe=True)
    try:
        read_status(objects)
    finally:
        objects.detach()


VISITS: dict[str, Visit] = {
    "a reader joins": lambda family, place: _detached(open_channel(family, place)),
    "a writer joins": lambda family, place: _detached(join_channel(family, place, Wanted(None, None, 0o660, False))),
    "a writer joins with a wish": lambda family, place: _detached(
        join_channel(family, place, Wanted(2, 2 * PAGE, 0o660, True))
    ),
    "somebody looks": _status,
    "somebody removes": lambda family, place: control._remove(family, place),
}
every_visit = pytest.mark.parametrize("visit", VISITS.values(), ids=VISITS)


@pytest.fixture
def stranger() -> Iterator[sysv_ipc.Semaphore]:
    """A semaphore of somebody else: not under any key of ours."""
    semaphore = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX, 0o600, 7)
    yield semaphore
    semaphore.remove()


def visit_once(visit: Visit, family: Family, place: Place) -> None:
    with suppress(*ONE_LINE):
        visit(family, place)


@every_visit
@effort(40)
@given(stores=st.lists(pokes(3), min_size=1, max_size=4), half_made=st.booleans())
def test_any_stores_into_the_header(
    key_path: Path, family: Family, stranger: sysv_ipc.Semaphore, visit: Visit, stores: list[Poke], half_made: bool
) -> None:
    magic = header_poke("magic", int.from_bytes(HALF_MADE if half_made else MAGIC, "little"))
    with falsified_channel(
        key_path, magic, header_poke("semaphore_id_0", stranger.id), *stores, family=family
    ) as place:
        visit_once(visit, family, place)
    assert stranger.value == 7


@every_visit
@effort(40)
@given(seed=st.integers(0), known=st.sampled_from([0, 8, 12, 32, 48, 64]))
def test_a_random_page(
    key_path: Path, family: Family, stranger: sysv_ipc.Semaphore, visit: Visit, seed: int, known: int
) -> None:
    """The first `known` bytes are true, the rest of the header is noise."""
    with falsified_channel(key_path, family=family) as place:
        with opened(place, family) as memory:
            memory[known:PAGE] = Random(seed).randbytes(PAGE - known)
        visit_once(visit, family, place)
    assert stranger.value == 7


def test_the_errors_that_are_passed_over_are_those_that_make_one_line() -> None:
    assert issubclass(BadSegment, ONE_LINE)
    assert not issubclass(ValueError, ONE_LINE)
    assert not issubclass(OverflowError, ONE_LINE)
