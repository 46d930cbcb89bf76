"""reader.py --status: one snapshot that changes nothing and in which the onlooker is not. Its looks: test_screen.py."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pexpect
import pytest

from common.channel.listener import Call
from common.cli.sources import MessageSource
from common.cli.talk import Talk
from common.errors import CallFailed
from common.geometry import Geometry
from common.ipc.family import Family
from common.ipc.lifecycle import find_channel
from common.ipc.place import Place
from common.ipc.posix_calls import PROT_READ
from common.ipc.posix_objects import PosixObjects
from common.ipc.sysv import SysvObjects
from common.ipc.sysv_calls import SHM_DEST, SHM_RDONLY
from common.layout import CHECKED, FINISHED, FIRST, LINES, PAGE, REMOVED, SEMAPHORES, UNKNOWN
from common.show import status as view
from common.show.slots import read_slots
from common.show.status import read_status, show_status
from tests.fuzz.crafted import falsified_channel
from tests.fuzz.pokes import Poke, header_poke, slot_poke
from tests.helpers import PATIENCE, Pair, finish, is_root, wait_until
from tests.in_process import (
    MODE,
    POSIX,
    SMALL,
    Collector,
    Local,
    as_nobody,
    place_of,
    segment_file,
    strange_semaphore,
    sysv,
    take_semaphore_away,
)


@pytest.fixture
def local(key_path: Path, family: Family) -> Iterator[Local]:
    with Local(key_path, family=family) as channel:
        yield channel


def snapshot(of: Local | Place, family: Family | None = None, *, marked: bool = False) -> dict[str, Any]:
    """What read_status says to an observer; `marked` is by an ipcrm, or rm, just before the observer attached."""
    place, family = (of.place, of.family) if isinstance(of, Local) else (of, family)
    assert family is not None
    objects = find_channel(family, place, observe=True)
    if isinstance(objects, SysvObjects):
        objects.seen = objects.seen._replace(mode=objects.seen.mode | (SHM_DEST if marked else 0))
    else:
        assert isinstance(objects, PosixObjects)
        objects.seen = objects.seen._replace(links=0 if marked else 1)
    try:
        return read_status(objects)
    finally:
        objects.detach()


def show(local: Local, *, as_json: bool, talk: Talk | None = None) -> int:
    ipc = "posix" if local.family is POSIX else "sysv"
    options = argparse.Namespace(key_path=local.place.path, channel=0, ipc=ipc, timeout=1, json=as_json)
    return show_status(options, talk or Talk("reader"))


def test_the_whole_snapshot(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    for message in (b"1", b"2"):
        writer.send(MessageSource(message))
    reader.receive(Collector())
    local.detach(reader)
    there, pid = writer.objects, os.getpid()
    status = snapshot(local)
    created_ns = status["header"].pop("created_ns")
    times = [status["segment"].pop(name) for name in ("attach_time", "detach_time", "change_time")]
    posix = isinstance(there, PosixObjects)
    if isinstance(there, SysvObjects):
        ids, names = [semaphore.id for semaphore in there.semaphores.opened], [""] * 5
    else:
        assert isinstance(there, PosixObjects)
        ids, names = [1] * 5, [semaphore.name for semaphore in there.semaphores.opened]
    second: dict[str, Any] = {
        "length": 1,
        "record": 1,
        "offset": 0,
        "total": 1,
        "records": 1,
        "taken": 0,
        "writer_pid": pid,
    }
    second["flags"] = ["first", "last"]
    locked = dict(zip(SEMAPHORES, [None, None, False, False, True], strict=True))
    assert status == {
        "key": f"{local.place.segment_key & 0xFFFFFFFF:#010x}",
        "key_path": local.place.path,
        "channel": 0,
        "segment": {
            "id": there.name if isinstance(there, PosixObjects) else there.shmid,
            "size": SMALL.segment_size,
            "mode": f"{MODE:04o}",
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "creator_uid": None if posix else os.geteuid(),
            "creator_gid": None if posix else os.getegid(),
            "creator_pid": None if posix else pid,
            "last_pid": None if posix else pid,
            "attached": True if posix else 1,
            "marked_for_removal": False,
        },
        "semaphores": {
            name: {"id": noted, "value": 1, "last_pid": None, "asleep": None, "name": of_kernel}
            | ({} if locked[name] is None else {"locked": locked[name]})
            if posix
            else {"id": noted, "value": 1, "last_pid": pid, "asleep": 0}
            for name, noted, of_kernel in zip(SEMAPHORES, ids, names, strict=True)
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
        "slots": [
            {"slot": 1, "fragment": 1, "state": "full", "pid": pid, **second},
            {"slot": 0, "fragment": 2, "state": "free", "pid": None},
        ],
        "newest": second,
        "turns": {"writer_turn": "nobody", "reader_turn": "nobody"},
        "ending": "going_on",
        "damage": None,
    }
    attach_time, detach_time, change_time = times
    assert abs(created_ns // 10**9 - change_time) <= 60
    if posix:
        assert (attach_time, detach_time) == (None, None)
    else:
        assert min(attach_time, detach_time) >= change_time


def test_looking_changes_nothing(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"data"))
    before = bytes(writer.objects.memory)
    first, second = snapshot(local), snapshot(local)
    assert bytes(writer.objects.memory) == before
    assert {**first, "segment": None} == {**second, "segment": None}
    assert writer.objects.alone()


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


def test_a_tail_that_moved_meanwhile_is_no_damage() -> None:
    """Between the looks at tail and head a whole ring may go by: they are looked at until they belong together."""

    class Busy:
        tails, heads = iter([0, 40, 40]), iter([41, 42])
        tail = property(lambda self: next(self.tails))
        head = property(lambda self: next(self.heads))

    assert view._read_counters(Busy()) == (40, 42)  # type: ignore[arg-type]


def test_a_tail_that_never_rests_is_given_up() -> None:
    class Scribbled:
        numbers = count()
        tail = property(lambda self: next(self.numbers))
        head = 7

    assert view._read_counters(Scribbled()) == (100, 7)  # type: ignore[arg-type]


READ_EMPTY = header_poke("tail", 1)
BEGUN = slot_poke(0, "flags", FIRST)


@pytest.mark.parametrize(
    ("stores", "ending"),
    [
        ((), "going_on"),
        ((READ_EMPTY,), "over"),
        ((READ_EMPTY, header_poke("writers_left", 0)), "broken_off"),
        ((READ_EMPTY, header_poke("writers_left", 0), header_poke("records_torn", 1)), "over"),
        ((READ_EMPTY, header_poke("writers_left", 0), header_poke("input_goodbye", 1)), "over"),
        ((READ_EMPTY, BEGUN), "torn"),
        ((header_poke("writers_joined", 0),), "not_begun"),
        ((header_poke("state", FINISHED),), "damaged"),
        ((header_poke("state", FINISHED), READ_EMPTY), "over"),
        ((header_poke("state", REMOVED),), "removed"),
        ((header_poke("version", 9),), None),
    ],
    ids=str,
)
def test_the_ending(key_path: Path, family: Family, stores: tuple[Poke, ...], ending: str | None) -> None:
    """It is that of common/ending.py's table, by what the header and the kernel say."""
    with falsified_channel(key_path, *stores, family=family) as place:
        status = snapshot(place, family)
        assert (status["ending"], bool(status["damage"])) == (ending, ending is None)


def test_a_live_writer_ends_nothing(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, READ_EMPTY, BEGUN, family=family) as place:
        there = family.open(place, None)
        there.open_semaphores()
        there.writers.enter()
        assert snapshot(place, family)["ending"] == "going_on"
        there.writers.leave()
        there.detach()


def test_what_live_writers_would_decide_is_left_open_without_their_semaphore(key_path: Path, family: Family) -> None:
    for stores, ending in (((READ_EMPTY,), None), ((), "going_on"), ((header_poke("state", REMOVED),), "removed")):
        with falsified_channel(key_path, *stores, family=family) as place:
            take_semaphore_away(place, family, "writers")
            assert (snapshot(place, family)["ending"], snapshot(place, family)["damage"]) == (ending, None)


def test_one_that_was_taken_away_meanwhile(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, family=family) as place:
        status = snapshot(place, family, marked=True)
        assert (status["segment"]["marked_for_removal"], status["segment"]["mode"]) == (True, "0660")
        assert status["ending"] == "taken_away"


@pytest.mark.parametrize(
    ("stores", "damage"),
    [
        ((header_poke("tail", 2),), "head 1 and tail 2 contradict each other (3 slots)"),
        ((header_poke("head", 5),), "head 5 and tail 0 contradict each other (3 slots)"),
        ((READ_EMPTY, slot_poke(0, "length", 9999)), "fragment 0 claims 9999 bytes, 0 of them taken"),
    ],
    ids=str,
)
def test_numbers_that_contradict_each_other_are_damage(
    key_path: Path, family: Family, stores: tuple[Poke, ...], damage: str
) -> None:
    with falsified_channel(key_path, *stores, family=family) as place:
        assert snapshot(place, family)["damage"] == damage


def asleep(pair: Pair) -> list[int]:
    """On each semaphore, in the order of SEMAPHORES."""
    status = pair.status()
    return [found["asleep"] for found in status["semaphores"].values()] if status else []


def test_who_holds_the_turns_and_who_sleeps(pair: Pair) -> None:
    """Two writers at a full ring: one has the turn and waits for room, the other for the turn; then two readers."""
    text = b"0123456789\n" * PAGE
    writers = [pair.start("writer", "--slots", 2, "--slot-size", PAGE, "--lines", stdin=PIPE) for _ in range(2)]
    feeds = [ThreadPoolExecutor(1).submit(finish, writer, text) for writer in writers]
    wait_until(lambda: asleep(pair) == [0, 1, 1, 0, 0], "one writer in each of the two queues")
    status = pair.status()
    assert status and status["header"]["writer_pid"] in [writer.pid for writer in writers]
    assert status["turns"] == {"writer_turn": f"pid {status['header']['writer_pid']}", "reader_turn": "nobody"}
    assert (status["header"]["unread"], status["ending"]) == (2, "going_on")
    assert pair.read("--count", 2 * PAGE, "--keep").code == 0
    assert [feed.result().code for feed in feeds] == [0, 0]

    pair.write("one")
    readers = [pair.start("reader", "--follow") for _ in range(2)]
    wait_until(lambda: asleep(pair) == [1, 0, 0, 1, 0], "one reader in each of the two queues")
    status = pair.status()
    assert status and status["turns"]["reader_turn"] in [f"pid {reader.pid}" for reader in readers]
    assert pair.write("--remove").code == 0
    assert [finish(reader).code for reader in readers] == [1, 1]


def at_work(of: Local) -> list[tuple[int, str, int | None]]:
    """The slots by number, what becomes of each, and through whom."""
    return [(slot["slot"], slot["state"], slot["pid"]) for slot in snapshot(of)["slots"]]


def test_the_slots_and_who_is_at_work_on_them(local: Local) -> None:
    """The one at the head is being filled while somebody has writer_turn, and the one at the tail is being read."""
    writer, pid = local.writer(), os.getpid()
    header, objects = writer.ring.header, writer.objects
    assert at_work(local) == [(0, "free", None), (1, "free", None)]
    assert objects.writer_turn.acquire(0)
    assert at_work(local) == [(0, "filling", None), (1, "free", None)]
    header.writer_pid = 4711
    assert at_work(local) == [(0, "filling", 4711), (1, "free", None)]
    objects.writer_turn.release()  # and died before it took its pid away
    assert at_work(local) == [(0, "free", None), (1, "free", None)]
    header.writer_pid = 0
    writer.send(MessageSource(b"1"))
    assert objects.reader_turn.acquire(0)
    header.reader_pid = 4712
    assert at_work(local) == [(0, "reading", 4712), (1, "free", None)]
    writer.send(MessageSource(b"2"))
    assert at_work(local) == [(0, "reading", 4712), (1, "full", pid)]
    assert objects.writer_turn.acquire(0)
    assert at_work(local) == [(0, "reading", 4712), (1, "full", pid)], "one that waits for room fills nothing"
    header.tail = 1
    assert at_work(local) == [(1, "reading", 4712), (0, "filling", None)]


@pytest.mark.parametrize("turn", ["writer_turn", "reader_turn"])
def test_without_the_semaphore_of_a_turn_its_pid_is_believed(local: Local, turn: str) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"1"))
    take_semaphore_away(local.place, local.family, turn)
    pid = os.getpid()
    assert at_work(local) == [(0, "full", pid), (1, "free", None)]
    writer.ring.header.writer_pid = writer.ring.header.reader_pid = 4711
    worked = {"writer_turn": [(0, "full", pid), (1, "filling", 4711)], "reader_turn": [(0, "reading", 4711)]}
    assert [slot for slot in worked[turn] if slot not in at_work(local)] == []


def test_what_a_slot_says_of_its_fragment(key_path: Path, family: Family) -> None:
    stores = (slot_poke(0, "flags", CHECKED | LINES), slot_poke(0, "total", UNKNOWN), slot_poke(0, "taken", 2))
    with falsified_channel(key_path, *stores, family=family) as place:
        (slot, *_) = snapshot(place, family)["slots"]
        assert (slot["flags"], slot["total"], slot["taken"]) == (["checked", "lines"], None, 2)


def test_nonsense_in_a_slot_is_said_of_that_slot(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, slot_poke(0, "length", 9999), family=family) as place:
        status = snapshot(place, family)
        damage = "fragment 0 claims 9999 bytes, 0 of them taken"
        assert status["slots"][0] == {"slot": 0, "fragment": 0, "state": "full", "pid": None, "damage": damage}
        assert (status["newest"], status["damage"]) == ({"damage": damage}, None)


@pytest.mark.parametrize(
    ("tail", "head", "shown"),
    [
        (0, 0, [*range(64)]),
        (0, 100, [*range(64)]),
        (10, 73, [*range(10, 74)]),
        (10, 74, [*range(10, 73), 74]),
        (99, 198, [*range(99, 162), 198]),
        (2**64 - 70, 2**64 - 2, [*range(2**64 - 70, 2**64 - 7), 2**64 - 2]),
    ],
)
def test_of_many_slots_the_next_to_be_read_and_the_one_at_the_head(
    key_path: Path, tail: int, head: int, shown: list[int]
) -> None:
    with Local(key_path, Geometry(100, PAGE)) as channel:
        ring = channel.writer().ring
        ring.header.tail, ring.header.head = tail, head
        slots = snapshot(channel)["slots"]
        assert [slot["fragment"] for slot in slots] == shown
        assert all(slot["slot"] == slot["fragment"] % 100 for slot in slots)


def test_slots_that_are_filled_anew_while_we_look_are_looked_at_again(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole ring goes by between the counters and the slots: what is shown belongs together."""
    writer, reader = local.writer(), local.reader()
    for message in (b"1", b"22"):
        writer.send(MessageSource(message))
    moves = iter([True, False])

    def late(*arguments: Any) -> Any:
        if next(moves):
            for message in (b"333", b"4444"):
                reader.receive(Collector())
                writer.send(MessageSource(message))
        return read_slots(*arguments)

    monkeypatch.setattr(view, "read_slots", late)
    status = snapshot(local)
    assert [(slot["fragment"], slot["length"]) for slot in status["slots"]] == [(2, 3), (3, 4)]
    assert (status["header"]["tail"], status["newest"]["length"]) == (2, 4)


@pytest.mark.parametrize("turn", ["writer_turn", "reader_turn"])
def test_a_turn_that_is_taken_and_not_noted(local: Local, capfd: pytest.CaptureFixture[str], turn: str) -> None:
    """In the moment between the two, or by hand: it is not nobody's."""
    end = local.writer()
    lock = getattr(end.objects, turn)
    assert lock.acquire(0)
    assert show(local, as_json=True) == 0
    turns = json.loads(capfd.readouterr().out)["turns"]
    assert turns.pop(turn) == "somebody who is not noted"
    assert list(turns.values()) == ["nobody"]
    lock.release()


def test_what_became_of_the_holder_of_a_turn(pair: Pair) -> None:
    writer = pair.start("writer", stdin=PIPE)
    wait_until(lambda: (status := pair.status()) and status["header"]["writer_pid"], "the turn")
    os.kill(writer.pid, signal.SIGSTOP)
    turn = wait_until(lambda: "(" in (status := pair.status() or {})["turns"]["writer_turn"] and status["turns"])
    assert turn["writer_turn"] == f"pid {writer.pid} (stopped)"
    writer.kill()
    writer.wait()
    status = pair.status()
    assert status and status["turns"]["writer_turn"] == f"pid {writer.pid} (which is no more)"
    assert status["semaphores"]["writer_turn"]["value"] == 1, "the kernel gave it back"
    assert pair.write("--remove").code == 0


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
    local.writer()
    noted = snapshot(local)["semaphores"][SEMAPHORES[index]]["id"]
    take_semaphore_away(local.place, local.family, SEMAPHORES[index])
    shown = snapshot(local)["semaphores"]
    assert (shown[SEMAPHORES[index]]["id"], shown[SEMAPHORES[index]]["value"]) == (noted, None)
    assert (shown[SEMAPHORES[index]]["asleep"], shown[SEMAPHORES[index]]["errno"]) == (None, "ENOENT")
    assert "ENOENT" in shown[SEMAPHORES[index]]["error"]
    assert [name for name in SEMAPHORES if shown[name]["value"] is None] == [SEMAPHORES[index]]


@pytest.mark.parametrize("index", range(5))
def test_a_foreign_semaphore_with_our_key_is_not_shown_as_ours(local: Local, index: int) -> None:
    local.writer()
    noted = snapshot(local)["semaphores"][SEMAPHORES[index]]["id"]
    take_semaphore_away(local.place, local.family, SEMAPHORES[index])
    strange_semaphore(local.place, local.family, SEMAPHORES[index])
    shown = snapshot(local)["semaphores"][SEMAPHORES[index]]
    assert (shown["id"], shown["value"]) == (noted, None)
    assert "ENOENT" in shown["error"]


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
def test_a_semaphore_that_we_may_not_read_is_shown_as_an_error(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, family=family) as place:
        if family is POSIX:
            segment_file(place).chmod(0o644)
        else:
            sysv.set_segment(sysv.open_segment(place.segment_key), mode=0o644)
        with as_nobody():
            status = snapshot(place, family)
        assert {found["errno"] for found in status["semaphores"].values()} == {"EACCES"}
        assert {found["value"] for found in status["semaphores"].values()} == {None}
        assert (status["ending"], status["damage"], status["header"]["unread"]) == ("going_on", None, 1)


def test_json_on_standard_output(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    local.writer()
    assert show(local, as_json=True) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out).keys() == snapshot(local).keys()
    assert out.endswith("}\n")


@pytest.mark.parametrize("damaged", [False, True])
def test_a_picture_on_standard_output(local: Local, capfd: pytest.CaptureFixture[str], damaged: bool) -> None:
    writer = local.writer()
    if damaged:
        writer.ring.header.version = 9
    assert show(local, as_json=False) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "\nverdict  " in out
    assert ("damaged: its header has version 9; this program knows version 2" in out) is damaged


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({"LC_ALL": "C.UTF-8"}, False),
        ({"LC_ALL": "C"}, True),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}, True),
        ({"LC_ALL": "C.UTF-8", "FORCE_COLOR": "1", "TERM": "xterm-256color"}, False),
    ],
    ids=str,
)
def test_in_a_pipe(pair: Pair, environment: dict[str, str], ascii_only: bool) -> None:
    """No escape codes whatever the environment says, ASCII where another encoding than UTF-8 is asked for."""
    pair.write("hello")
    done = pair.read("--status", env={**os.environ, "COLUMNS": "40", **environment})
    assert (done.code, done.err) == (0, "")
    assert b"\x1b" not in done.out
    assert done.out.isascii() is ascii_only
    assert max(map(len, done.out.decode().splitlines())) <= 40
    pair.read()


@pytest.mark.parametrize(("columns", "most"), [(80, 24), (40, 29)])
@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal(pair: Pair, columns: int, most: int, no_color: str) -> None:
    """Its own width and colours, unless they are not wanted. At 40 the key path alone may take four lines."""
    pair.write("hello")
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "NO_COLOR": no_color}
    environment.pop("COLUMNS", None)
    command, *arguments = pair.command("reader", "--status")
    terminal = pexpect.spawn(command, arguments, env=environment, dimensions=(24, columns), encoding="utf-8")
    terminal.expect(pexpect.EOF, timeout=PATIENCE)
    terminal.close()
    shown = terminal.before
    assert terminal.exitstatus == 0
    assert ("\x1b[" in shown) is not bool(no_color)
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= columns and len(lines) <= most
    pair.read()


def test_an_onlooker_attaches_read_only(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    local.writer()
    talk, calls = Talk("reader"), list[Call]()
    talk.call = calls.append
    assert show(local, as_json=True, talk=talk) == 0
    if local.family is POSIX:
        assert [call.arguments[1] for call in calls if call.name == "shm_open"] == [os.O_RDONLY]
        assert [call.arguments[2] for call in calls if call.name == "mmap"] == [PROT_READ]
    else:
        assert [call.arguments[2] for call in calls if call.name == "shmat"] == [SHM_RDONLY]
    assert capfd.readouterr().err == ""


def test_where_there_is_no_channel(local: Local, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CallFailed) as error:
        show(local, as_json=True)
    assert (error.value.name, error.value.strerror) == (local.family.names.find, "No such file or directory")
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
