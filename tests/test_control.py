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
from common.ipc.sysv import SysvObjects
from common.layout import PAGE, REMOVED, SEMAPHORES
from tests.helpers import is_root, wait_until
from tests.in_process import NOBODY, Collector, Local, as_nobody, by_library, in_thread, sysv

needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user: run the tests as root")


@pytest.fixture
def local(key_path: Path) -> Iterator[Local]:
    with Local(key_path) as channel:
        yield channel


class Listening(Talk):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__("writer")
        self.steps: list[str] = []

    def say(self, text: str) -> None:
        self.steps.append(text)


def run_control(local: Local, **given: Any) -> str:
    """Run writer.py's --chmod, --chown or --remove; the last thing it says."""
    options = argparse.Namespace(
        **{
            "key_path": local.place.path,
            "channel": local.place.channel,
            "ipc": "sysv",
            "timeout": 1,
            "chmod": None,
            "chown": None,
            "remove": False,
        }
        | given
    )
    listener = Listening()
    assert change(options, listener) == 0
    assert len(listener.steps) == 2 and listener.steps[0].startswith("key 0x")
    return listener.steps[1]


def shmid_of(end: WriteEnd) -> int:
    assert isinstance(end.objects, SysvObjects)
    return end.objects.shmid


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
    assert said == (f"segment {shmid_of(writer)} and its semaphores: mode {mode:04o}, uid {owner[0]}, gid {owner[1]}")
    assert isinstance(writer.objects, SysvObjects)
    stat = writer.objects.stat()
    assert (stat.mode, (stat.uid, stat.gid)) == (mode, owner)
    assert {(s.mode, (s.uid, s.gid)) for s in map(by_library, writer.objects.semaphores.opened)} == {(mode, owner)}


def test_chmod_leaves_no_trace_in_the_ring(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"data"))
    assert isinstance(writer.objects, SysvObjects)
    before = bytes(writer.objects.memory)
    run_control(local, chmod=0o600)
    assert bytes(writer.objects.memory) == before
    assert writer.objects.alone()


def test_remove_takes_everything_whatever_is_in_it(local: Local) -> None:
    writer = local.writer()
    for message in (b"1", b"2"):
        writer.send(MessageSource(message))
    shmid = shmid_of(writer)
    local.detach(writer)
    assert run_control(local, remove=True) == (
        f"shmctl(IPC_RMID): removed 5 semaphores, marked segment {shmid} for removal: it is gone; 2 slots unread"
    )
    assert local.objects() == []
    with pytest.raises(Gone):
        sysv.stat_segment(shmid)


def test_remove_under_others_frees_the_key_and_waits_for_their_detach(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    said = run_control(local, remove=True)
    assert "it goes with the last detach, of 2 others; 0 slots unread" in said
    assert local.objects() == []
    assert writer.ring.header.state == reader.ring.header.state == REMOVED
    again = local.writer()
    assert shmid_of(again) != shmid_of(writer)


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
    assert (error.value.name, error.value.strerror) == ("shmget", "No such file or directory")


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


@needs_root
@pytest.mark.parametrize("given", [{"remove": True}, {"chmod": 0o600}, {"chown": (NOBODY, None)}], ids=str)
def test_another_user_may_change_nothing(local: Local, tmp_path: Path, given: dict[str, Any]) -> None:
    writer = local.writer()
    assert isinstance(writer.objects, SysvObjects)
    writer.objects.set_mode(0o666)
    before = writer.objects.stat()
    doorway = writer.doorway
    with pytest.MonkeyPatch.context() as patch, as_nobody():
        # Another user could not reach this test's directory: hand over the door and the keys.
        patch.setattr(control, "find_doorway", lambda *_: doorway)
        patch.setattr(control, "find_place", lambda *_: local.place)
        with pytest.raises(CallFailed) as error:
            change(
                argparse.Namespace(**{"ipc": "sysv", "chmod": None, "chown": None, "remove": False} | given),
                Talk("writer"),
            )
    assert (error.value.name, error.value.strerror) == ("shmctl", "Operation not permitted")
    assert writer.objects.stat()._replace(attach_time=0, detach_time=0, last_pid=0) == before._replace(
        attach_time=0, detach_time=0, last_pid=0
    )
    assert writer.ring.header.state != REMOVED
    assert local.objects() == ["segment", *SEMAPHORES]


@needs_root
def test_an_owner_who_gives_the_channel_away_has_succeeded(local: Local) -> None:
    """He is not its creator, so he may not even look at it any more."""
    writer = local.writer()
    assert isinstance(writer.objects, SysvObjects)
    writer.objects.set_mode(0o600)
    writer.objects.set_owner(NOBODY, NOBODY)
    listener = Listening()
    with pytest.MonkeyPatch.context() as patch, as_nobody():
        patch.setattr(control, "find_doorway", lambda *_: writer.doorway)
        patch.setattr(control, "find_place", lambda *_: local.place)
        assert change(argparse.Namespace(ipc="sysv", chmod=None, chown=(1, None), remove=False), listener) == 0
    assert listener.steps == [f"segment {shmid_of(writer)} and its semaphores: done"]
    assert {owned.uid for owned in (writer.objects.stat(), *map(by_library, writer.objects.semaphores.opened))} == {1}


def test_a_foreign_segment_is_not_removed(local: Local) -> None:
    shmid = sysv.create_segment(local.place.segment_key, PAGE, 0o600)
    with pytest.raises(ChannelError, match=f"ipcrm -m {shmid}$"):
        run_control(local, remove=True)
    assert local.objects() == ["segment"]


def test_remove_of_what_ipcrm_left(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"lost"))
    sysv.remove_segment(shmid_of(writer))
    local.detach(writer)
    assert local.objects() == list(SEMAPHORES)
    assert run_control(local, remove=True) == "shmctl(IPC_RMID): removed 5 semaphores, whose segment was gone already"
    assert local.objects() == []


def test_remove_fails_when_something_of_ours_stays(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    writer = local.writer()
    shmid = shmid_of(writer)
    local.detach(writer)
    sysv.remove_semaphore(sysv.open_semaphore(local.place.semaphore_keys[1]))
    other = sysv.create_semaphore(local.place.semaphore_keys[1], 0o600, 0)
    with pytest.raises(AssertionError):  # the exit code is 1
        run_control(local, remove=True)
    assert capfd.readouterr().err == (
        f"writer: shmctl(IPC_RMID): removed 4 semaphores (left semaphore {other.id} (empty_slots): the channel does not"
        " note it), marked"
        f" segment {shmid} for removal: it is gone; 0 slots unread; if nobody needs what was left, `writer.py --remove`"
        " once more clears it\n"
    )
    assert local.objects() == ["empty_slots"]
    assert run_control(local, remove=True) == "shmctl(IPC_RMID): removed 1 semaphore, whose segment was gone already"
    assert local.objects() == []
