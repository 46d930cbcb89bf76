"""Waiting: when it ends, and looking again a little later each time, with a clock of our own."""

from __future__ import annotations

import pytest

from common.channel.listener import Listener, Reason
from common.channel.patience import FIRST_PAUSE, LONGEST_PAUSE, Patience
from common.errors import TimedOut

WAITING = Reason("waiting for data")


class Waits(Listener):
    """A listener that remembers how long who had waited."""

    def __init__(self) -> None:
        self.told: list[tuple[Reason, float]] = []

    def wait(self, reason: Reason, seconds: float) -> None:
        self.told.append((reason, seconds))


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("common.channel.patience.monotonic", clock.monotonic)
    monkeypatch.setattr("common.channel.patience.sleep", clock.sleep)
    return clock


def test_patience_without_a_timeout_only_tells() -> None:
    waits = Waits()
    Patience(None, waits).beat(WAITING, 1e9)
    assert waits.told == [(WAITING, 1e9)]


@pytest.mark.parametrize(("waited", "ends"), [(0.0, False), (2.4, False), (2.5, True), (99.0, True)])
def test_patience_ends_with_its_timeout(waited: float, ends: bool) -> None:
    patience = Patience(2.5, Listener())
    if not ends:
        patience.beat(WAITING, waited)
        return
    with pytest.raises(TimedOut, match=r"^gave up after 2.5 s of waiting for data$"):
        patience.beat(WAITING, waited)


@pytest.mark.parametrize("found", ["it", "", 0, False])
def test_what_is_there_is_found_at_once(clock: Clock, found: object) -> None:
    """None alone says that it is not there; and no timeout is too short for a first look."""
    waits = Waits()
    assert Patience(0, waits).look_until(lambda: found, lambda: WAITING) is found
    assert (waits.told, clock.pauses) == ([], [])


def test_each_look_in_vain_tells_its_reason_and_pauses_a_little_longer(clock: Clock) -> None:
    waits = Waits()
    looks = iter([None] * 9 + ["it"])
    reasons = (Reason(f"look {number}") for number in range(9))
    assert Patience(None, waits).look_until(lambda: next(looks), lambda: next(reasons)) == "it"
    assert clock.pauses == [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(9)]
    assert clock.pauses[-1] == LONGEST_PAUSE
    # How long it has waited before each pause, the one that is to come not counted.
    assert [reason.text for reason, _ in waits.told] == [f"look {number}" for number in range(9)]
    assert [waited for _, waited in waits.told] == pytest.approx([sum(clock.pauses[:n]) for n in range(9)])


@pytest.mark.parametrize("timeout", [0, 1])
def test_looking_ends_with_the_timeout(clock: Clock, timeout: float) -> None:
    waits = Waits()
    with pytest.raises(TimedOut, match=rf"^gave up after {timeout} s of waiting for data$"):
        Patience(timeout, waits).look_until(lambda: None, lambda: WAITING)
    assert timeout <= clock.now < timeout + LONGEST_PAUSE
    assert len(waits.told) == len(clock.pauses), "the last look ends it instead of telling"


def test_whoever_moves_starts_the_time_anew(clock: Clock) -> None:
    waits = Waits()
    with pytest.raises(TimedOut, match=r"^gave up after 1 s of waiting for data$"):
        Patience(1, waits).look_until(lambda: None, lambda: WAITING, lambda: clock.now < 5)
    assert clock.now == pytest.approx(5 + 1, abs=2 * LONGEST_PAUSE)
    assert all(waited < 1 for _, waited in waits.told)
