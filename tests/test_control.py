"""IPC_SET and IPC_RMID on a whole channel: what changes, what is said, what is refused."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.channel.write import WriteEnd
from common.cli import control
from common.cli.control import change
from common.cli.sources import MessageSource
from common.cli.talk import Talk
from common.errors import CallFailed, ChannelError, Gone
from common.ipc.calls import key_text
from common.ipc.family import ChannelObjects, Family
from common.ipc.posix_objects import PosixObjects
from common.ipc.sysv import SysvObjects
from common.layout import FINISHED, HALF_MADE, OPEN, PAGE, REMOVED, SEMAPHORES
from tests.helpers import is_root, wait_until
from tests.in_process import (
    NOBODY,
    POSIX,
    Collector,
    Local,
    as_nobody,
    foreign_segment,
    in_thread,
    modes_and_owners,
    strange_semaphore,
    take_segment_away,
    take_semaphore_away,
)

needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user: run the tests as root")


@pytest.fixture
def local(key_path: Path, family: Family) -> Iterator[Local]:
    with Local(key_path, family=family) as channel:
        yield channel


class Listening(Talk):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__("writer")
        self.steps: list[str] = []

    def say(self, text: str) -> None:
        self.steps.append(text)


def ipc_of(local: Local) -> str:
    return "posix" if local.family is POSIX else "sysv"


def options_of(local: Local, **given: Any) -> argparse.Namespace:
    """writer.py's options for this channel."""
    named = {"key_path": local.place.path, "channel": local.place.channel, "ipc": ipc_of(local), "timeout": 1}
    return argparse.Namespace(**named | {"chmod": None, "chown": None, "remove": False} | given)


def run_control(local: Local, **given: Any) -> str:
    """Run writer.py's --chmod, --chown or --remove; the last thing it says."""
    listener = Listening()
    assert change(options_of(local, **given), listener) == 0
    assert len(listener.steps) == 2 and listener.steps[0].startswith("key 0x")
    return listener.steps[1]


def objects_of(end: WriteEnd) -> ChannelObjects:
    assert isinstance(end.objects, SysvObjects | PosixObjects)
    return end.objects


@needs_root
@pytest.mark.parametrize(
    ("given", "mode", "owner"),
    [
        ({"chmod": 0o600}, 0o600, (0, 0)),
        ({"chown": (NOBODY, None)}, 0o660, (NOBODY, 0)),
        ({"chown": (None, NOBODY)}, 0o660, (0, NOBODY)),
        ({"chmod": 0o640, "chown": (1, 2)}, 0o640, (1, 2)),
    ],
    ids=str,
)
def test_chmod_and_chown(local: Local, given: dict[str, Any], mode: int, owner: tuple[int, int]) -> None:
    writer = local.writer()
    said = run_control(local, **given)
    assert said == (f"{writer.objects} and its semaphores: mode {mode:04o}, uid {owner[0]}, gid {owner[1]}")
    stat = objects_of(writer).stat()
    assert (stat.mode, (stat.uid, stat.gid)) == (mode, owner)
    assert set(modes_and_owners(writer.objects)) == {(mode, *owner)}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"magic": HALF_MADE}, "which its creator left half-made"),
        ({"state": FINISHED}, "which its last reader left half-removed"),
    ],
    ids=["half-made", "half-removed"],
)
@pytest.mark.parametrize("given", [{"chmod": 0o600}, {"chown": (None, 0)}], ids=str)
def test_a_leftover_is_not_changed(local: Local, fields: dict[str, Any], why: str, given: dict[str, Any]) -> None:
    writer = local.writer()
    for name, value in fields.items():
        setattr(writer.ring.header, name, value)
    before = modes_and_owners(writer.objects)
    with pytest.raises(
        ChannelError, match=rf"^\w+ \S+, {why}, is no channel any more: its owner's next start clears it$"
    ):
        run_control(local, **given)
    assert modes_and_owners(writer.objects) == before
    writer.objects.remove()


def test_chmod_leaves_no_trace_in_the_ring(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"data"))
    before = bytes(writer.objects.memory)
    run_control(local, chmod=0o600)
    assert bytes(writer.objects.memory) == before
    assert writer.objects.alone()


def test_remove_takes_everything_whatever_is_in_it(local: Local) -> None:
    writer = local.writer()
    for message in (b"1", b"2"):
        writer.send(MessageSource(message))
    names, there = local.family.names, str(writer.objects)
    local.detach(writer)
    assert run_control(local, remove=True) == (
        f"{names.remove}: removed 5 semaphores, {names.removed.format(there)}: it is gone; 2 slots unread"
    )
    assert local.objects() == []


def test_remove_under_others_frees_the_key_and_waits_for_their_detach(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    said = run_control(local, remove=True)
    others = "" if local.family is POSIX else ", of 2 others"  # whom POSIX does not count
    assert f"it goes with the last detach{others}; 0 slots unread" in said
    assert local.objects() == []
    assert writer.ring.header.state == reader.ring.header.state == REMOVED
    again = local.writer()
    assert again.ring.header.state == OPEN
    assert (writer.objects.removed(), again.objects.removed()) == (True, False)


def test_remove_ends_a_waiting_reader(local: Local) -> None:
    local.writer()
    reader = local.reader()
    with in_thread(lambda: reader.receive(Collector())) as received:
        wait_until(lambda: local.heard.reasons, "a heartbeat of the waiting reader")
        run_control(local, remove=True)
        with pytest.raises((Gone, ChannelError)):
            received()


def test_remove_of_a_damaged_ring(local: Local) -> None:
    writer = local.writer()
    writer.ring.header.head, writer.ring.header.tail = 5, 2**64 - 1
    assert run_control(local, remove=True).endswith("; 0 slots unread")
    assert local.objects() == []


@pytest.mark.parametrize("given", [{"chmod": 0o600}, {"chown": (0, None)}], ids=str)
def test_where_there_is_no_channel(local: Local, given: dict[str, Any]) -> None:
    with pytest.raises(CallFailed) as error:
        run_control(local, **given)
    assert (error.value.name, error.value.strerror) == (local.family.names.find, "No such file or directory")


def test_nothing_to_remove_is_no_failure(local: Local) -> None:
    key = key_text(local.place.segment_key)
    said = f"nothing to remove: no channel has key {key} ({local.place.path}, channel 0)"
    assert run_control(local, remove=True) == said


def test_a_removal_that_may_not_even_look_fails(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CallFailed("shmget", (1, 0, 0), errno.EACCES)

    monkeypatch.setattr(control, "find_channel", refuse)
    with pytest.raises(CallFailed):
        run_control(local, remove=True)


def untouched(end: WriteEnd) -> list[tuple[int, ...]]:
    """What a refused change leaves as it is."""
    stat = objects_of(end).stat()
    return [(stat.mode, stat.uid, stat.gid, stat.size), *modes_and_owners(end.objects)]


@needs_root
@pytest.mark.parametrize("given", [{"remove": True}, {"chmod": 0o600}, {"chown": (NOBODY, None)}], ids=str)
def test_another_user_may_change_nothing(local: Local, tmp_path: Path, given: dict[str, Any]) -> None:
    writer = local.writer()
    objects_of(writer).set_mode(0o666)
    before = untouched(writer)
    doorway = writer.doorway
    with pytest.MonkeyPatch.context() as patch, as_nobody():
        # Another user could not reach this test's directory: hand over the door and the keys.
        patch.setattr(control, "find_doorway", lambda *_: doorway)
        patch.setattr(control, "find_place", lambda *_: local.place)
        with pytest.raises(CallFailed) as error:
            change(
                options_of(local, **given),
                Talk("writer"),
            )
    refused = ("fchown" if "chown" in given else "fchmod") if local.family is POSIX else "shmctl"
    assert (error.value.name, error.value.strerror) == (refused, "Operation not permitted")
    assert untouched(writer) == before
    assert writer.ring.header.state != REMOVED
    assert local.objects() == ["segment", *SEMAPHORES]


@needs_root
def test_an_owner_who_gives_the_channel_away_has_succeeded(local: Local) -> None:
    """Of System V he is not its creator, so he may not even look at it any more; in POSIX only root gives away."""
    writer = local.writer()
    there = objects_of(writer)
    there.set_mode(0o600)
    there.set_owner(NOBODY, NOBODY)
    listener = Listening()
    with pytest.MonkeyPatch.context() as patch, as_nobody():
        patch.setattr(control, "find_doorway", lambda *_: writer.doorway)
        patch.setattr(control, "find_place", lambda *_: local.place)
        options = options_of(local, chown=(1, None))
        if local.family is POSIX:
            with pytest.raises(CallFailed, match="Operation not permitted"):
                change(options, listener)
        else:
            assert change(options, listener) == 0
            assert listener.steps == [f"{there} and its semaphores: done"]
    owner = NOBODY if local.family is POSIX else 1
    assert {uid for _, uid, _ in modes_and_owners(there)} | {there.stat().uid} == {owner}


def test_a_foreign_segment_is_not_removed(local: Local) -> None:
    foreign = foreign_segment(local.place, local.family, b"somebody" * PAGE)
    with pytest.raises(ChannelError, match=f"{foreign.remove}$"):
        run_control(local, remove=True)
    assert local.objects() == ["segment"]


def test_remove_of_what_ipcrm_left(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"lost"))
    take_segment_away(local.place, local.family)
    local.detach(writer)
    assert local.objects() == list(SEMAPHORES)
    said = "removed 5 semaphores, whose segment was gone already"
    assert run_control(local, remove=True) == said
    assert local.objects() == []


def test_remove_fails_when_something_of_ours_stays(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    writer = local.writer()
    names, there = local.family.names, str(writer.objects)
    local.detach(writer)
    take_semaphore_away(local.place, local.family, "empty_slots")
    other = strange_semaphore(local.place, local.family, "empty_slots")
    with pytest.raises(AssertionError):  # the exit code is 1
        run_control(local, remove=True)
    typed = " --ipc posix" if local.family is POSIX else ""
    remove = f"`writer.py --remove{typed} --key-path {local.place.path}`"
    gone = "empty_slots was gone; " if local.family is POSIX else ""  # the stranger has another name, and no key
    assert capfd.readouterr().err == (
        f"writer: {names.remove}: removed 4 semaphores ({gone}left semaphore {other} (empty_slots): the channel does"
        f" not note it), {names.removed.format(there)}: it is gone; 0 slots unread; if nobody needs what was left,"
        f" {remove} once more clears it\n"
    )
    assert local.objects() == ["empty_slots"]
    assert run_control(local, remove=True) == "removed 1 semaphore, whose segment was gone already"
    assert local.objects() == []
