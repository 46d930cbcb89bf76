"""What the channel relies on (common/channel/objects.py), of each family of the kernel's objects and of the model's.

The model proves the protocol over objects that are simulated: it proves as much as these behave as the kernel's do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.channel.patience import HEARTBEAT
from common.errors import Gone
from common.layout import SEMAPHORES
from tests.contract import KernelWorld, Peer, World
from tests.helpers import PATIENCE, wait_until
from tests.in_process import SMALL
from tests.model.by_hand import SimulatedWorld

COUNTERS = SEMAPHORES[:2]
TURNS = SEMAPHORES[2:4]

counters = pytest.mark.parametrize("counter", COUNTERS)
turns = pytest.mark.parametrize("turn", TURNS)
of_the_kernel = pytest.mark.parametrize("world", ["sysv", "posix"], indirect=True)


@pytest.fixture(params=["sysv", "posix", "model"])
def world(request: pytest.FixtureRequest, key_path: Path) -> Iterator[World]:
    made: World = SimulatedWorld() if request.param == "model" else KernelWorld(request.param, key_path)
    yield made
    made.close()


@pytest.fixture
def one(world: World) -> Peer:
    """The first process, which has created the channel."""
    return world.peer()


@pytest.fixture
def other(world: World, one: Peer) -> Peer:
    """Another one."""
    return world.peer()


def tokens(peer: Peer, counter: str) -> int:
    """How many tokens there are; they are taken, and put back."""
    found = 0
    while peer.do(f"{counter}.acquire", 0):
        found += 1
    for _ in range(found):
        peer.do(f"{counter}.release")
    return found


def test_a_new_channel(one: Peer) -> None:
    assert [tokens(one, counter) for counter in COUNTERS] == [0, SMALL.slot_count]
    assert [one.do(f"{turn}.holder") for turn in TURNS] == [None, None]
    assert [one.do(f"{turn}.acquire", 0) for turn in TURNS] == [True, True]
    assert not one.do("writers.present")
    assert (one.do("removed"), one.do("missing"), one.do("alone")) == (False, None, True)


# What one stores


def test_what_one_stores_the_others_find(world: World, one: Peer, other: Peer) -> None:
    one.do("writer_turn.acquire", 0)
    one.do("store", "head", 2**63)
    one.kill()
    assert [peer.do("load", "head") for peer in (other, world.peer())] == [2**63, 2**63]


# The counters


@counters
def test_tokens_go_from_one_process_to_another(one: Peer, other: Peer, counter: str) -> None:
    before = tokens(one, counter)
    for _ in range(2):
        one.do(f"{counter}.release")
    assert [other.do(f"{counter}.acquire", 0) for _ in range(before + 3)] == [True] * (before + 2) + [False]
    assert (one.do(f"{counter}.acquire", 0), one.do(f"{counter}.acquire", 0.001)) == (False, False)
    other.do(f"{counter}.release")
    assert one.do(f"{counter}.acquire", PATIENCE)


def test_each_token_wakes_one_that_waits(world: World, one: Peer, other: Peer) -> None:
    third = world.peer()
    for peer in (other, third):
        peer.begin("full_slots.acquire", PATIENCE)
    for _ in (other, third):
        one.do("full_slots.release")
    assert (other.end(), third.end(), tokens(one, "full_slots")) == (True, True, 0)


@counters
def test_nobody_gives_back_the_tokens_of_the_dead(one: Peer, other: Peer, counter: str) -> None:
    before = tokens(one, counter)
    one.do(f"{counter}.release")
    one.kill()
    assert tokens(other, counter) == before + 1
    other.do(f"{counter}.acquire", 0)
    assert tokens(other, counter) == before


# The turns


@turns
def test_a_turn_excludes_all_others_until_it_is_given_back(one: Peer, other: Peer, turn: str) -> None:
    assert one.do(f"{turn}.acquire", PATIENCE)
    assert (other.do(f"{turn}.acquire", 0), other.do(f"{turn}.acquire", 0.001)) == (False, False)
    other.begin(f"{turn}.acquire", PATIENCE)
    one.do(f"{turn}.release")
    assert (other.end(), one.do(f"{turn}.acquire", 0)) == (True, False)


def test_the_two_turns_are_two(one: Peer, other: Peer) -> None:
    assert one.do("writer_turn.acquire", 0)
    assert other.do("reader_turn.acquire", 0)
    assert (one.do("reader_turn.acquire", 0), other.do("writer_turn.acquire", 0)) == (False, False)


@turns
def test_whoever_waits_gets_the_turn_of_the_dead(one: Peer, other: Peer, turn: str) -> None:
    """At once, or at a heartbeat."""
    one.do(f"{turn}.acquire", 0)
    other.begin(f"{turn}.acquire", HEARTBEAT)
    one.kill()
    assert other.end() or wait_until(lambda: other.do(f"{turn}.acquire", HEARTBEAT), "the turn")


@turns
def test_a_death_gives_nothing_back_that_it_does_not_hold(world: World, one: Peer, other: Peer, turn: str) -> None:
    third = world.peer()
    one.do(f"{turn}.acquire", 0)
    one.do(f"{turn}.release")
    other.do(f"{turn}.acquire", 0)
    one.kill()
    assert not third.do(f"{turn}.acquire", 0)
    third.begin(f"{turn}.acquire", PATIENCE)
    third.kill()
    other.do(f"{turn}.release")
    assert other.do(f"{turn}.acquire", 0)


@of_the_kernel
@pytest.mark.parametrize(("turn", "field"), [("writer_turn", "writer_pid"), ("reader_turn", "reader_pid")])
def test_a_turn_names_its_holder(one: Peer, other: Peer, turn: str, field: str) -> None:
    """For messages only, so the model's does not: fewer states."""
    one.do(f"{turn}.acquire", 0)
    one.do("store", field, one.pid)  # as whoever takes it does: POSIX asks the header
    assert other.do(f"{turn}.holder") == one.pid
    one.do(f"{turn}.release")
    assert other.do(f"{turn}.holder") is None


# The presence of writers


def test_a_writer_is_present_until_it_leaves(one: Peer, other: Peer) -> None:
    def present() -> list[bool]:
        return [peer.do("writers.present") for peer in (one, other)]

    assert present() == [False, False], "who has it attached need not write"
    one.do("writers.enter")
    assert present() == [True, True]
    other.do("writers.enter")
    one.do("writers.leave")
    assert present() == [True, True]
    other.do("writers.leave")
    assert present() == [False, False]
    assert not one.do("alone")


def test_the_dead_are_forgotten_and_no_one_else(world: World, one: Peer, other: Peer) -> None:
    third = world.peer()
    for peer in (one, other):
        peer.do("writers.enter")
    one.kill()
    assert third.do("writers.present")
    other.kill()
    assert not third.do("writers.present")


def test_one_that_left_and_died_is_not_counted_out_twice(world: World, one: Peer, other: Peer) -> None:
    third = world.peer()
    one.do("writers.enter")
    one.do("writers.leave")
    other.do("writers.enter")
    one.kill()
    assert third.do("writers.present")


# Who has it attached


def test_alone_while_no_other_process_has_it_attached(world: World, one: Peer) -> None:
    other, third = world.peer(), world.peer()
    other.do("detach")
    assert (one.do("alone"), third.do("alone")) == (False, False)
    third.kill()
    assert one.do("alone")


def test_a_detach_takes_nothing_along(world: World, one: Peer, other: Peer) -> None:
    one.do("full_slots.release")
    one.do("detach")
    assert (other.do("removed"), other.do("missing"), tokens(other, "full_slots")) == (False, None, 1)
    other.do("detach")
    assert tokens(world.peer(), "full_slots") == 1


# The end of it


def test_all_who_have_it_attached_see_that_it_was_removed(one: Peer, other: Peer) -> None:
    one.do("remove")
    assert (one.do("removed"), other.do("removed")) == (True, True)
    other.do("remove")  # by another one at the same time: what is gone already is passed over
    assert other.do("removed")


def test_ipcrm_of_the_segment_alone_is_a_removal(world: World, one: Peer, other: Peer) -> None:
    world.take_away("segment")
    assert [(peer.do("removed"), peer.do("missing")) for peer in (one, other)] == [(True, None)] * 2
    assert not one.do("alone")


def test_the_first_semaphore_that_is_missing_is_named(world: World, one: Peer, other: Peer) -> None:
    for name in reversed(SEMAPHORES):
        world.take_away(name)
        assert (one.do("missing"), other.do("missing")) == (name, name)
    assert not one.do("removed")


@pytest.mark.parametrize("name", ["full_slots", "reader_turn"])
def test_whoever_waits_for_what_was_removed_is_not_held_up(one: Peer, other: Peer, name: str) -> None:
    """At once, or when its heartbeat lets it look."""
    one.do("reader_turn.acquire", 0)
    other.begin(f"{name}.acquire", HEARTBEAT)
    one.do("remove")
    try:
        assert not other.end()
    except Gone:
        pass
    assert other.do("removed")


def test_the_next_channel_has_nothing_of_a_removed_one(world: World, one: Peer, other: Peer) -> None:
    one.do("full_slots.release")
    one.do("writers.enter")
    for turn in TURNS:
        one.do(f"{turn}.acquire", 0)
    one.do("store", "head", 7)
    one.do("remove")
    test_a_new_channel(world.peer())
    assert (one.do("removed"), one.do("alone"), other.do("load", "head")) == (True, False, 7)


@pytest.mark.parametrize("last", ["detach", "kill"])
def test_the_memory_goes_with_the_last_who_has_it(world: World, one: Peer, other: Peer, last: str) -> None:
    one.do("remove")
    one.do("detach")
    assert other.do("load", "head") == 0
    assert world.left() != []
    other.do("detach") if last == "detach" else other.kill()
    assert world.left() == []


# The doorway


@pytest.mark.parametrize("dies", [False, True])
def test_one_is_in_the_doorway_at_a_time(one: Peer, other: Peer, dies: bool) -> None:
    one.do("go_in", "state")
    other.begin("go_in", "writers_left")
    one.do("store", "writers_left", 7)
    one.kill() if dies else one.do("go_out")
    assert other.end() == 7
