"""reader.py --status: one snapshot, as JSON for a program and as tables for a person, that changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import cli, sysv
from common.ipc import CallFailed
from common.layout import FINISHED, PAGE, REMOVED, SEMAPHORES
from common.streams import MessageSource
from common.sysv_family import SysvFamily, find_channel
from common.view import read_status, show_status
from tests.helpers import Pair, finish, wait_until
from tests.in_process import MODE, SMALL, Collector, Local, place_of


@pytest.fixture
def local(key_path: Path) -> Iterator[Local]:
    with Local(key_path) as channel:
        yield channel


def snapshot(local: Local) -> dict[str, Any]:
    """What read_status says to an observer."""
    family = find_channel(local.place, observe=True)
    try:
        return read_status(family)
    finally:
        family.detach()


def show(local: Local, *, as_json: bool) -> int:
    options = argparse.Namespace(key_path=local.place.path, channel=0, timeout=1, json=as_json)
    return show_status(options, cli.Talk("reader"))


def test_the_whole_snapshot(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    for message in (b"1", b"2"):
        writer.send(MessageSource(message))
    reader.receive(Collector())
    local.detach(reader)
    assert isinstance(writer.family, SysvFamily)
    stat, pid = writer.family.stat(), os.getpid()
    ids = [semaphore.id for semaphore in writer.family.semaphores]
    status = snapshot(local)
    created_ns = status["header"].pop("created_ns")
    times = [status["segment"].pop(name) for name in ("attach_time", "detach_time", "change_time")]
    assert status == {
        "key": f"{local.place.segment_key & 0xFFFFFFFF:#010x}",
        "key_path": local.place.path,
        "channel": 0,
        "segment": {
            "id": writer.family.shmid,
            "size": SMALL.segment_size,
            "mode": f"{MODE:04o}",
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "creator_uid": os.geteuid(),
            "creator_gid": os.getegid(),
            "creator_pid": pid,
            "last_pid": pid,
            "attached": 1,
            "marked_for_removal": False,
        },
        "semaphores": {
            name: {"id": semid, "value": value, "last_pid": last}
            for name, semid, value, last in zip(SEMAPHORES, ids, [1, 1, 1, 1, 1], [pid] * 5, strict=True)
        },
        "header": {
            "magic": "SHMPAIR1",
            "version": 2,
            "state": "open",
            "slot_count": 2,
            "slot_size": PAGE,
            "creator_pid": pid,
            "writers_joined": 1,
            "writers_left": 0,
            "records_torn": 0,
            "writer_pid": 0,
            "reader_pid": 0,
            "head": 2,
            "tail": 1,
            "unread": 1,
        },
        "damage": None,
    }
    assert abs(created_ns // 10**9 - stat.change_time) <= 60
    assert all(seconds >= stat.change_time for seconds in times)


def test_looking_changes_nothing(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"data"))
    assert isinstance(writer.family, SysvFamily)
    before = bytes(writer.family.memory)
    first, second = snapshot(local), snapshot(local)
    assert bytes(writer.family.memory) == before
    assert {**first, "segment": None} == {**second, "segment": None}
    assert writer.family.alone()


def test_the_onlooker_is_not_in_what_it_shows(pair: Pair) -> None:
    """Not its attach, its pid or its time; what earlier ones left in the segment is there."""
    pair.write("hello")
    shmid = sysv.open_segment(place_of(pair.key_path).segment_key)
    before = sysv.stat_segment(shmid)
    wait_until(lambda: time.time() > before.attach_time + 1, "another second")
    child = pair.start("reader", "--status", "--json")
    shown = json.loads(finish(child).out)["segment"]
    after = sysv.stat_segment(shmid)
    assert (after.last_pid, after.attach_time > before.attach_time) == (child.pid, True), "it did attach"
    kernels = [shown[name] for name in ("last_pid", "attached", "attach_time", "detach_time", "change_time")]
    assert kernels == [before.last_pid, 0, before.attach_time, before.detach_time, before.change_time]
    assert pair.read().out == b"hello\n"


@pytest.mark.parametrize(
    ("state", "name"), [(1, "open"), (FINISHED, "finished"), (REMOVED, "removed"), (77, "77")], ids=str
)
def test_the_state_by_name(local: Local, state: int, name: str) -> None:
    local.writer().ring.header.state = state
    assert snapshot(local)["header"]["state"] == name


def test_damage_is_named_and_the_rest_is_shown(local: Local) -> None:
    writer = local.writer()
    writer.ring.header.version = 9
    writer.ring.header.head, writer.ring.header.tail = 1, 2**64 - 1
    status = snapshot(local)
    assert status["damage"] == "its header has version 9; this program knows version 2"
    assert (status["header"]["version"], status["header"]["unread"]) == (9, 2 - 2**64)


@pytest.mark.parametrize("index", range(5))
def test_a_removed_semaphore_is_shown_as_an_error(local: Local, index: int) -> None:
    writer = local.writer()
    assert isinstance(writer.family, SysvFamily)
    semid = writer.family.semaphores[index].id
    sysv.remove_semaphore(writer.family.semaphores[index])
    shown = snapshot(local)["semaphores"]
    assert (shown[SEMAPHORES[index]]["id"], shown[SEMAPHORES[index]]["value"]) == (semid, None)
    assert "ENOENT" in shown[SEMAPHORES[index]]["error"]
    assert [name for name in SEMAPHORES if shown[name]["value"] is None] == [SEMAPHORES[index]]


@pytest.mark.parametrize("index", range(5))
def test_a_foreign_semaphore_with_our_key_is_not_shown_as_ours(local: Local, index: int) -> None:
    writer = local.writer()
    assert isinstance(writer.family, SysvFamily)
    semid = writer.family.semaphores[index].id
    sysv.remove_semaphore(writer.family.semaphores[index])
    sysv.create_semaphore(local.place.semaphore_keys[index], MODE, 7)
    shown = snapshot(local)["semaphores"][SEMAPHORES[index]]
    assert (shown["id"], shown["value"]) == (semid, None)
    assert "ENOENT" in shown["error"]


def test_json_on_standard_output(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    local.writer()
    assert show(local, as_json=True) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out).keys() == snapshot(local).keys()
    assert out.endswith("}\n")


@pytest.mark.parametrize("damaged", [False, True])
def test_tables_on_standard_output(local: Local, capfd: pytest.CaptureFixture[str], damaged: bool) -> None:
    writer = local.writer()
    if damaged:
        writer.ring.header.version = 9
    assert show(local, as_json=False) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    assert "mode 0660" in lines
    assert "slot count 2" in lines
    assert "detach time never" in lines
    assert ("damaged: its header has version 9; this program knows version 2" in lines) is damaged
    assert any(line.startswith("empty slots 2 (id") for line in lines)


def test_where_there_is_no_channel(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CallFailed) as error:
        show(local, as_json=True)
    assert (error.value.name, error.value.strerror) == ("shmget", "No such file or directory")
    assert capfd.readouterr().out == ""


def test_a_reader_that_saw_enough_is_no_error(local: Local) -> None:
    """`reader.py --status | head -1`: standard output is a pipe that nobody reads any more."""
    local.writer()
    read_end, write_end = os.pipe()
    os.close(read_end)
    before = os.dup(1)
    os.dup2(write_end, 1)
    try:
        assert show(local, as_json=True) == 0
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(write_end)
