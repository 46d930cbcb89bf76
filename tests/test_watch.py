"""reader.py --watch without a terminal: what moved between two looks, what others did, and that nobody is disturbed.

On terminals: e2e/test_watch.py. How a frame looks: test_screen.py.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import writer
from common.cli.leaving import find_family
from common.cli.sources import MessageSource
from common.cli.talk import Talk
from common.ipc.family import Family
from common.ipc.sysv import SysvObjects
from common.layout import PAGE
from common.show.screen import WIDEST, draw
from common.show.status import read_status
from common.show.watch import REMEMBERED, Frames, History, Others, look_anew
from tests.families import both
from tests.fuzz.crafted import falsified_channel, opened
from tests.fuzz.test_programs import Lie, named_lies
from tests.helpers import ROOT, Pair, finish, is_root
from tests.in_process import POSIX, Collector, Local, as_nobody, remove_objects

SIZES = ((80, 24), (200, 50), (40, 10))


def options_of(key_path: Path, family: Family) -> argparse.Namespace:
    return argparse.Namespace(
        key_path=str(key_path), channel=0, ipc="posix" if family is POSIX else "sysv", timeout=None
    )


@pytest.fixture
def frames(key_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch) -> Frames:
    """The frames of a terminal, in ASCII; so wide that the key path is in one piece."""
    monkeypatch.setattr("common.show.watch.terminal_size", lambda: (100, 24))
    monkeypatch.setattr("common.show.watch.wants_ascii", lambda: True)
    options, talk = options_of(key_path, family), Talk("reader")
    return Frames(options, find_family(options, talk), talk)


@pytest.fixture
def local(key_path: Path, family: Family) -> Iterator[Local]:
    with Local(key_path, family=family) as channel:
        yield channel


# What moved


def seen(
    head: int, record: int = 0, offset: int = 0, length: int = 0, records: int = 1, channel: int = 1
) -> dict[str, Any]:
    """What a History asks of a snapshot; record, offset, length and records are of the fragment published last."""
    newest = {"record": record, "offset": offset, "length": length, "records": records} if head else None
    return {"segment": {"id": channel}, "header": {"created_ns": channel, "head": head}, "newest": newest}


NOTHING = {**seen(5), "newest": {"damage": "..."}}


@pytest.mark.parametrize(
    ("looks", "total"),
    [
        ([seen(7, 3, 50, 10)], 0),  # what was there before is not ours to count
        ([seen(7, 3, 50, 10)] * 3, 0),
        ([None, seen(0), seen(1, 0, 0, 6)], 6),
        ([None, seen(1, 0, 0, 6)], 6),
        ([seen(7, 3, 50, 10, 0), seen(9, 3, 75, 5)], 20),  # in one record
        ([seen(7, 3, 50, 10), seen(9, 4, 75, 5)], 80),  # the next record, and all of it
        ([seen(7, 3, 0, 10, 12), seen(8, 15, 0, 6, 2)], 6),  # lines, many in a slot
        ([seen(7, 3, 50, 10), seen(8, 4, 0, 6)], 6),
        ([seen(7, 3, 50, 10), seen(10, 6, 0, 30)], 30 + 2 * 20),  # several
        ([seen(7, 3, 50, 10, 0), seen(9, 4, 0, 30)], 30 + 20),
        ([seen(7, 3, 50, 10), seen(3, 2, 0, 30, channel=2)], 30 + 2 * 15),  # removed and made again
        ([seen(7, 0, 50, 10), None, seen(1, 0, 0, 6, channel=2)], 6),
        ([seen(7, 3, 50, 10), seen(6, 3, 90, 10)], 0),  # nonsense
        ([seen(7, 3, 50, 10, 0), seen(8, 3, 20, 10)], 10),
        ([seen(0), NOTHING], 0),
    ],
)
def test_what_went_through(looks: list[dict[str, Any] | None], total: int) -> None:
    history = History()
    for look in looks:
        history.add(look, 0)
    assert history.moved().total == total


def test_second_by_second() -> None:
    """Of the seconds that are over; those without a look are there, too."""
    history = History()
    for when, head in ((10.0, 0), (10.9, 1), (11.1, 2), (11.9, 3), (14.0, 4), (15.0, 4)):
        history.add(seen(head, head, 0, 100), when)
    assert history.moved().seconds[-6:] == (0, 100, 200, 0, 0, 100)
    assert len(history.moved().seconds) == REMEMBERED
    history.add(seen(5, 5, 0, 100), 1e6)
    assert set(history.moved().seconds) == {0}
    assert history.moved().total == 500


def test_what_went_through_a_real_channel(local: Local, key_path: Path, family: Family) -> None:
    options, history = options_of(key_path, family), History()
    history.add(None, 0)
    end, reader = local.writer(), local.reader()
    sent = 0
    for data in (b"a message", b"x" * (2 * PAGE), b"another"):
        end.send(MessageSource(data))
        history.add(look_anew(options, family), 0)
        reader.receive(Collector())
        sent += len(data)
    assert history.moved().total == sent


# What others did to a segment that we attach and detach all the time


def stat_of(last_pid: int | None, attached: Any = 1, came: Any = 50, went: Any = 40, id: Any = 7) -> dict[str, Any]:
    return {"id": id, "attached": attached, "last_pid": last_pid, "attach_time": came, "detach_time": went}


ME = os.getpid()


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        (None, stat_of(11), stat_of(11)),
        (stat_of(11), stat_of(ME, came=90, went=91), stat_of(11)),
        (stat_of(11), stat_of(12, 2, came=92, went=91), stat_of(12, 2, came=92, went=40)),
        (stat_of(11), stat_of(12, 0, came=90, went=92), stat_of(12, 0, came=50, went=92)),
        (stat_of(11), stat_of(12, 1, came=92, went=93), stat_of(12, 1, came=92, went=93)),
        (stat_of(11), stat_of(12, came=92, went=0, id=8), stat_of(12, came=92, went=0, id=8)),
        (stat_of(None, False, None, None, "/x"), stat_of(None, True, None, None, "/x"), None),
    ],
)
def test_we_are_not_in_what_we_show(before: dict[str, Any] | None, now: dict[str, Any], shown: Any) -> None:
    others, expected = Others(), dict(shown or now)
    if before:
        others.show_only_them(before)
    for _ in range(2):
        again = dict(now)
        others.show_only_them(again)
        assert again == expected
        now = stat_of(ME, now["attached"], came=98, went=99, id=now["id"]) if now["last_pid"] else now


def test_a_real_segment_looks_as_if_nobody_looked(key_path: Path, tmp_path: Path) -> None:
    Pair(key_path, tmp_path).write("hello")
    options, others = options_of(key_path, find_family(options_of(key_path, POSIX), Talk("x"))), Others()
    family = find_family(options, Talk("reader"))
    looks = [look_anew(options, family)["segment"] for _ in range(5)]
    first = dict(looks[0])
    assert looks[1]["last_pid"] == ME, "the kernel notes whoever looked last"
    for look in looks:
        others.show_only_them(look)
        assert look == first
    Pair(key_path, tmp_path).read()


# One frame after the other


def says(frames: Frames, text: str) -> bool:
    """Whether the next one has this text, wherever it is broken into lines."""
    return "".join(text.split()) in "".join(frames.next().split())


def test_none_yet_and_there_and_gone_and_there_again(frames: Frames, local: Local) -> None:
    for _ in range(2):
        assert says(frames, f"state waiting: {local.family.names.find}(")
        assert says(frames, ": ENOENT (No such file or directory): ") and says(frames, "; start `writer.py")
        assert says(frames, f" --key-path {local.place.path}`, or check")
        end = local.writer()
        assert "\nslots    [..] unread 0: empty\nboth     0 free\n         1 free\n" in frames.next()
        end.send(MessageSource(b"hello"))
        assert f"\ntail     0 full         pid {ME} ".ljust(36) in frames.next()
        assert "     5 B record 0, whole\nhead     1 free\n" in frames.next()
        local.detach(end)
        remove_objects(local.place, local.family)


def test_what_it_says_while_somebody_keeps_the_doorway_shut(frames: Frames, local: Local, key_path: Path) -> None:
    local.writer()
    with key_path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert says(frames, f"the doorway is shut: another process holds the lock on {key_path} rate")
    assert "unread 0" in frames.next()


def test_a_key_path_that_was_replaced(frames: Frames, local: Local, key_path: Path) -> None:
    """It has another key, and may go away altogether."""
    local.writer()
    key_path.rename(key_path.with_name("before"))
    assert says(frames, f"state {key_path}: ENOENT (No such file or directory)")
    key_path.with_name("before").rename(key_path)
    assert "unread 0" in frames.next()


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
def test_a_channel_that_we_may_not_read(frames: Frames, local: Local) -> None:
    local.writer()
    with as_nobody():
        assert says(frames, "EACCES (Permission denied)")
    assert "unread 0" in frames.next()


def test_what_rests_is_not_drawn_again(frames: Frames, local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    end = local.writer()
    monkeypatch.setattr("common.show.watch.time", argparse.Namespace(time=lambda: 5.0, monotonic=lambda: 5.0))
    frames.next()  # whose look the kernel notes
    first = frames.next()
    assert frames.next() is first
    end.send(MessageSource(b"x"))
    assert frames.next() != first


@named_lies
def test_no_lie_crashes_the_onlooker(
    frames: Frames, key_path: Path, family: Family, lie: Lie, monkeypatch: pytest.MonkeyPatch
) -> None:
    with falsified_channel(key_path, *lie.stores, family=family):
        for columns, height in SIZES:
            monkeypatch.setattr("common.show.watch.terminal_size", lambda size=(columns, height): size)
            shown = frames.next().splitlines()
            assert shown[0].startswith("channel 0 of") and len(shown) <= height
            assert max(map(len, shown)) <= min(columns, WIDEST)


def test_no_garbage_crashes_the_onlooker(frames: Frames, key_path: Path, family: Family) -> None:
    """Whatever stands behind magic and geometry, in the header and in the slots, and whoever counts tokens."""
    chance, shown = random.Random(11), set[str]()
    with falsified_channel(key_path, family=family) as place:
        for _ in range(100):
            with opened(place, family) as memory:
                for at in (chance.randrange(48, 2 * PAGE) for _ in range(chance.randrange(1, 40))):
                    memory[at] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
                for at in (128, 192):  # head and tail, near each other
                    memory[at : at + 8] = bytes([chance.randrange(4), *bytes(7)])
            shown.add(frames.next())
    assert len(shown) > 50


# Nobody is disturbed


def is_shut(key_path: Path) -> bool:
    """Whether somebody is inside the doorway; a flock belongs to the opened file, so we ourselves count."""
    with key_path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def attached_to(there: Any) -> int:
    """How many have a channel's segment attached: nattch, or the mappings of this process."""
    if isinstance(there, SysvObjects):
        return there.stat().attached
    return Path("/proc/self/maps").read_text().count(f"/dev/shm{there.name}\n")


def test_an_onlooker_is_there_in_the_doorway_alone(
    frames: Frames, local: Local, key_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody asks who else is attached, nor waits for anything that we could hold up by being stopped."""
    there = local.writer().objects
    looks: list[tuple[bool, int]] = []

    def spied(*given: Any, **how: Any) -> Any:
        looks.append((is_shut(key_path), attached_to(there)))
        return draw(*given, **how) if how else read_status(*given)

    monkeypatch.setattr("common.show.status.read_status", spied)
    monkeypatch.setattr("common.show.watch.draw", spied)
    frames.next()
    assert looks == [(True, 2), (False, 1)]


def test_whoever_asks_whether_it_is_alone_asks_in_the_doorway(
    local: Local, key_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that leaves what it wrote, where the segment would go with its last detach."""
    end, asked = local.writer(), list[bool]()
    end.send(MessageSource(b"unread"))

    def ask() -> bool:
        asked.append(is_shut(key_path))
        return False

    monkeypatch.setattr(end.objects, "goes_with_us", ask)
    writer.wait(end, argparse.Namespace(wait=False), Talk("writer"))
    assert asked == [True]


LOOKS_ALL_THE_TIME = """
import argparse, sys, time
from common.cli.leaving import find_family
from common.cli.talk import Talk
from common.errors import CallFailed
from common.show.watch import look_anew
options = argparse.Namespace(key_path=sys.argv[1], channel=0, ipc=sys.argv[2], timeout=None)
family, said = find_family(options, Talk("reader")), False
print("looking", flush=True)
while True:
    time.sleep(0.005)
    try:
        look_anew(options, family)
    except CallFailed:
        continue
    if not said:
        print("seen", flush=True)
        said = True
"""


@both
def test_a_channel_ends_and_goes_as_without_an_onlooker(pair: Pair) -> None:
    """Its reader removes it, a writer that sent nothing does, and no byte is lost; the onlooker looks all the time."""
    child = pair.spawn([sys.executable, "-c", LOOKS_ALL_THE_TIME, str(pair.key_path), pair.ipc], cwd=ROOT)
    assert child.stdout and child.stdout.readline() == b"looking\n"
    data = os.urandom(2**20)
    for _ in range(3):
        assert pair.write("--lines").code == 0
        assert pair.status() is None, "whoever found itself alone removed it"
        reader = pair.start("reader", "--quiet", "--output", "received")
        assert pair.write("--quiet", "--slot-size", PAGE, "--slots", 4, stdin=data).code == 0
        assert finish(reader).code == 0
        assert (pair.directory / "received").read_bytes() == data
        assert pair.status() is None
    assert child.stdout.readline() == b"seen\n", "it did look"
    assert child.poll() is None, finish(child)
