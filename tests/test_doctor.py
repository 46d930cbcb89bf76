"""reader.py --doctor in this process: each finding by its facts, each state of a channel over real objects.

What it does to a whole machine, with limits and mounts of its own, is in tests/e2e/test_doctor.py.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from common.channel.listener import Call, Listener
from common.channel.patience import Patience
from common.cli.leaving import options_of_channel
from common.cli.sources import MessageSource
from common.errors import BadSegment, Gone, NotOurs
from common.ipc import machine
from common.ipc.family import Family
from common.ipc.lifecycle import open_channel
from common.ipc.machine import FIRST_NAMESPACE, NO_LIMIT, DevShm, Limits, Used
from common.ipc.place import CHANNELS, Place
from common.ipc.posix_calls import semaphore_path
from common.ipc.posix_survey import PosixSurvey
from common.ipc.survey import Candidate, Survey, users
from common.ipc.sysv_survey import SysvSurvey
from common.layout import FINISHED, FIRST, HALF_MADE, MAGIC, PAGE, SEMAPHORES, Header
from common.show import channels as view
from common.show import here as place_view
from common.show.channels import Channel, look_at
from common.show.doctor import draw
from common.show.findings import (
    NOTE,
    OK,
    STOP,
    Finding,
    check_dev_shm,
    check_file_size,
    check_forced_removal,
    check_limits,
    check_logout,
    check_namespace,
    check_platform,
    check_temporary,
    check_user,
)
from common.show.here import check_here
from tests.fuzz.crafted import falsified_channel, falsify
from tests.fuzz.pokes import header_poke, slot_poke
from tests.helpers import ROOT, is_root
from tests.in_process import (
    FAMILY,
    NOBODY,
    POSIX,
    SMALL,
    Local,
    as_nobody,
    attached,
    foreign_segment,
    objects,
    place_of,
    posix_name,
    remove_objects,
    segment_file,
    strange_semaphore,
    sysv,
    take_segment_away,
    take_semaphore_away,
)
from tests.lab.conftest import tmp_path

__all__ = ["tmp_path"]  # which another user may enter

SIZE, PAGES = 4202496, 1026  # of a channel of the default geometry
PLENTY = Limits(2**63, 2**50, 4096, 32000, 1024000000, 500, 32000)
NOTHING = Used(0, 0, 0, 0)


def marks(found: list[Finding]) -> dict[str, str]:
    return {finding.about: finding.mark for finding in found}


def test_the_machine_that_the_tests_run_on_is_one() -> None:
    assert check_platform().mark == OK


@pytest.mark.parametrize(("machine_name", "mark"), [("x86_64", OK), ("aarch64", OK), ("ppc64le", STOP)])
def test_a_machine_with_other_structs(monkeypatch: pytest.MonkeyPatch, machine_name: str, mark: str) -> None:
    there = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*there[:4], machine_name)))
    assert check_platform().mark == mark


@pytest.mark.parametrize(
    ("uid", "missing", "mark"),
    [(0, [], OK), (0, ["CAP_SYS_ADMIN"], NOTE), (1000, ["CAP_SYS_ADMIN", "CAP_IPC_OWNER"], OK)],
)
def test_root_that_is_none(uid: int, missing: list[str], mark: str) -> None:
    found = check_user(uid, uid, missing)
    assert found.mark == mark
    assert ("CAP_SYS_ADMIN" in found.text) == (mark == NOTE)


@pytest.mark.parametrize(("name", "mark"), [(FIRST_NAMESPACE, OK), ("ipc:[4026532179]", NOTE)])
def test_the_namespace(name: str, mark: str) -> None:
    found = check_namespace(name)
    assert (found.mark, found.ipc, name in found.text) == (mark, "sysv", True)


ENOUGH = Limits(SIZE, PAGES + 7, 3, 1, 15, 1, 25)
SOME = Used(7, 2, 10, 20)


def test_limits_that_are_just_enough() -> None:
    assert set(marks(check_limits(ENOUGH, SOME)).values()) == {OK}


@pytest.mark.parametrize("limit", Limits._fields)
def test_a_limit_that_is_one_too_low(limit: str) -> None:
    """Only that one is in the way, and the command says what would do."""
    low = getattr(ENOUGH, limit) - 1
    found = check_limits(ENOUGH._replace(**{limit: low}), SOME)
    assert [finding.about for finding in found if finding.mark == STOP] == [limit.upper()]
    (stop,) = (finding for finding in found if finding.mark == STOP)
    name = f"kernel.{limit}={low + 1}" if limit.startswith("shm") else 'kernel.sem="1 15 1 25"'
    assert stop.do == f"sysctl -w {name}"
    assert str(low) in stop.text


def test_where_the_channel_is_there_no_room_is_needed_for_one() -> None:
    none = check_limits(Limits(*[0] * 7), NOTHING)
    assert {finding.mark for finding in none} == {STOP}
    weighed = marks([finding.weigh("sysv", exists=True) for finding in none])
    assert [about for about, mark in weighed.items() if mark == STOP] == ["SEMOPM"], "each operation needs that"
    assert set(weighed.values()) == {STOP, NOTE}


def test_what_concerns_the_other_family_is_in_nobodys_way() -> None:
    stop = Finding(STOP, "it", "is", ipc="posix")
    assert [stop.weigh(ipc, exists=False).mark for ipc in ("sysv", "posix")] == [NOTE, STOP]
    assert stop._replace(ipc="").weigh("sysv", exists=True).mark == STOP
    assert stop._replace(mark=OK).weigh("sysv", exists=False).mark == OK


@pytest.mark.parametrize(("forced", "mark"), [(False, OK), (True, NOTE)])
def test_forced_removal(forced: bool, mark: str) -> None:
    assert check_forced_removal(forced).mark == mark


ROOM = DevShm(2**26, 2**25, 1000, readonly=False, writable=True, sticky=True)
NEED = (PAGES + 5) * PAGE


@pytest.mark.parametrize(
    ("there", "mark", "said", "do"),
    [
        (ROOM, OK, "33554432 of 67108864 bytes free; a channel takes 4222976", ""),
        (ROOM._replace(room=NEED), OK, f"{NEED} of", ""),
        (ROOM._replace(room=NEED - 1), STOP, f"{NEED - 1} of", "mount -o remount,size=67108865 /dev/shm"),
        (ROOM._replace(size=0, room=NO_LIMIT), OK, "no limit", ""),
        (ROOM._replace(files=7), OK, "free", ""),
        (ROOM._replace(files=6), STOP, "6 files may be made; a channel takes 7", "nr_inodes"),
        (ROOM._replace(readonly=True), STOP, "read-only", "remount,rw"),
        (ROOM._replace(writable=False), STOP, "uid 7 may make nothing", "chmod 1777"),
        (ROOM._replace(sticky=False), NOTE, "any user can remove", "chmod 1777"),
        (None, STOP, "not there", "mount -t tmpfs"),
    ],
    ids=str,
)
def test_dev_shm(there: DevShm | None, mark: str, said: str, do: str) -> None:
    found = check_dev_shm(there, 7)
    assert (found.mark, found.ipc) == (mark, "posix")
    assert said in found.text and do in found.do and bool(do) == bool(found.do)


@pytest.mark.parametrize(
    ("soft", "hard", "uid", "mark", "said", "do"),
    [
        (NO_LIMIT, NO_LIMIT, 7, OK, "no limit; a channel takes 4202496", ""),
        (SIZE, SIZE, 7, OK, f"{SIZE} bytes a file; a channel takes {SIZE}", ""),
        (SIZE - 1, NO_LIMIT, 7, STOP, f"{SIZE - 1} bytes a file; a channel takes {SIZE}", "ulimit -f unlimited"),
        (102400, 102400, 0, STOP, "102400 bytes a file", "ulimit -f unlimited"),
        (102400, 102400, 7, STOP, "root or a new login raises it", ""),
    ],
    ids=str,
)
def test_how_large_a_file_may_be(soft: int, hard: int, uid: int, mark: str, said: str, do: str) -> None:
    found = check_file_size(soft, hard, uid)
    assert (found.mark, found.ipc, found.do, said in found.text) == (mark, "posix", do, True)
    assert found.weigh("posix", exists=True).mark != STOP


@pytest.mark.parametrize(
    ("uid", "removes", "lingers", "mark"),
    [
        *((1000, False, False, OK), (1000, None, False, NOTE), (1000, True, False, NOTE)),
        *((1000, True, True, OK), (999, True, False, OK), (0, True, False, OK)),
    ],
)
def test_what_the_last_logout_takes(uid: int, removes: bool | None, lingers: bool, mark: str) -> None:
    assert check_logout(uid, removes, lingers=lingers).mark == mark


@pytest.mark.parametrize(
    ("script", "removes"),
    [
        ('[ "$*" = "get-property org.freedesktop.login1 /org/freedesktop/login1'
         ' org.freedesktop.login1.Manager RemoveIPC" ] && echo b true', True),
        ("echo b false", False),
        ("echo no such bus >&2; exit 1", None),
    ],
    ids=["yes", "no", "silent"],
)  # fmt: skip
def test_logind_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, removes: bool | None) -> None:
    """A stand-in for busctl(1), and for a system that systemd has booted."""
    (tmp_path / "busctl").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system")
    assert machine.removes_at_logout() is removes
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert machine.removes_at_logout() is None
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert machine.removes_at_logout() is False


def test_files_that_a_killed_sem_open_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEV_SHM", str(tmp_path))
    for name, size in (("sem.a1B2c3", 32), ("sem.XXXXXX", 32), ("sem.a1B2c4", 16), ("sem.a1B2c3d", 32), ("x", 32)):
        (tmp_path / name).write_bytes(bytes(size))
    assert machine.temporary_semaphores(os.geteuid()) == 2
    assert machine.temporary_semaphores(os.geteuid() + 1) == 0
    assert [check_temporary(count).mark for count in (0, 2)] == [OK, NOTE]
    assert "2 sem.XXXXXX" in check_temporary(2).text


def test_who_holds_a_lock(key_path: Path) -> None:
    status = key_path.stat()
    identity = (status.st_dev, status.st_ino)
    assert machine.lock_holder(identity) == 0
    with key_path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert machine.lock_holder(identity) == os.getpid()


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_key_tells_the_place(key_path: Path, channel: int) -> None:
    """Number, semaphores' keys and what can be its path, as ftok makes them."""
    place = place_of(key_path, channel)
    found = Candidate(place.segment_key, "", "", 0, 0)
    identity = (place.dev, place.ino)
    assert found.place(place.path, identity) == place
    assert found.may_be_of(identity)
    assert not found.may_be_of((place.dev, place.ino + 1)) and not found.may_be_of((place.dev + 1, place.ino))


# What follows looks at one channel alone: others on this machine belong to other tests.
PATIENCE = Patience(0.05, Listener())


def survey_of(family: Family, listener: Listener | None = None) -> Survey:
    return (PosixSurvey if family is POSIX else SysvSurvey)(listener or Listener())


def candidate(place: Place, family: Family) -> Candidate | None:
    return next((found for found in survey_of(family).candidates() if found.key == place.segment_key), None)


def look(place: Place, family: Family, *, path: bool = True, listener: Listener | None = None) -> Channel | None:
    """What is seen of the channel at `place`, by one who knows its key path or finds it in a process."""
    found = candidate(place, family)
    assert found is not None
    return look_at(
        survey_of(family, listener), found, [place.path] if path else [], users().get(found.mapped, []), PATIENCE
    )


def must_see(place: Place, family: Family, *, path: bool = True) -> Channel:
    seen = look(place, family, path=path)
    assert seen is not None
    return seen


@pytest.fixture
def local(key_path: Path, family: Family) -> Iterator[Local]:
    with Local(key_path, family=family) as channel:
        yield channel


def test_one_that_is_alive(local: Local) -> None:
    writer = local.writer()
    writer.send(MessageSource(b"data"))
    seen = must_see(local.place, local.family)
    assert (seen.state, seen.uid, seen.unread, seen.ending) == ("alive", os.geteuid(), 1, "going_on")
    assert seen.attached == (True if local.family is POSIX else 1)
    assert (seen.pids, seen.said) == ((os.getpid(),), f"pid {os.getpid()}, 1 slot unread")
    assert seen.key_path == local.place.path
    assert (seen.finding().mark, seen.finding().do) == (OK, ""), "what is in use is not to be cleared"


def test_the_key_path_is_found_in_a_process_that_has_it_open(local: Local) -> None:
    local.writer()
    assert must_see(local.place, local.family, path=False).key_path == local.place.path


def test_a_key_path_that_is_deleted_cannot_be_named(local: Local) -> None:
    """The doorway is still there, in the process that has it open."""
    local.writer()
    os.unlink(local.place.path)
    seen = must_see(local.place, local.family, path=False)
    assert (seen.state, seen.key_path) == ("alive", None)
    assert seen.clear.startswith("rm /dev/shm/" if local.family is POSIX else "ipcrm -m ")
    Path(local.place.path).touch()


def test_more_than_can_be_seen_are_counted(local: Local) -> None:
    """Two ends in one process, or another user's."""
    local.writer()
    local.reader()
    said = must_see(local.place, local.family).said
    assert said == (f"pid {os.getpid()}, 0 slots unread" if local.family is POSIX else "2 attached, 0 slots unread")
    found = candidate(local.place, local.family)
    assert found is not None
    seen = look_at(survey_of(local.family), found, [local.place.path], [], PATIENCE)
    assert seen and seen.said == said.replace(f"pid {os.getpid()}", "in use")


READ_EMPTY = header_poke("tail", 1)


@pytest.mark.parametrize(
    ("stores", "state", "said"),
    [
        ((), "waiting", "1 slot unread"),
        ((READ_EMPTY,), "orphaned", "over"),
        ((READ_EMPTY, header_poke("writers_left", 0)), "orphaned", "broken off"),
        ((READ_EMPTY, slot_poke(0, "flags", FIRST)), "orphaned", "torn"),
        ((header_poke("version", 9),), "orphaned", "damaged"),
        ((header_poke("state", FINISHED), READ_EMPTY), "orphaned", "which its last reader left half-removed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [True, False])
def test_one_that_nobody_has(
    key_path: Path, family: Family, stores: tuple[object, ...], state: str, said: str, path: bool
) -> None:
    with falsified_channel(key_path, *stores, family=family) as place:  # type: ignore[arg-type]
        seen = must_see(place, family, path=path)
        assert (seen.state, seen.said, seen.pids) == (state, said, ())
        finding = seen.finding()
        assert (finding.mark, finding.about, finding.ipc) == (NOTE, "channel", "posix" if family is POSIX else "sysv")
        assert finding.text == f"{state}: {seen.name} of uid {os.geteuid()}, {said}"


@pytest.mark.parametrize("path", [True, False])
@pytest.mark.parametrize("lost", [False, True])
def test_the_command_clears_just_that(key_path: Path, family: Family, path: bool, lost: bool) -> None:
    """All of it, also where a semaphore is lost, and nothing that is not provably part of it."""
    with falsified_channel(key_path, family=family) as place:
        strange = ""
        if lost:
            take_semaphore_away(place, family, "writers")
            strange = strange_semaphore(place, family, "writers")
        clear = must_see(place, family, path=path).clear
        assert clear.startswith("python writer.py --remove " if path else "rm " if family is POSIX else "ipcrm ")
        words = clear.replace("python writer.py", shlex.join([sys.executable, str(ROOT / "writer.py")]))
        code = subprocess.run(words, shell=True, capture_output=True).returncode
        assert code == (1 if path and lost else 0), "what is left is said by --remove"
        assert objects(place, family) == (["writers"] if lost else [])
        assert bool(strange) is lost


def test_what_is_not_ours_is_not_called_so(key_path: Path, family: Family) -> None:
    place = place_of(key_path)
    for content in (b"somebody else's".ljust(SMALL.segment_size, b"."), MAGIC.ljust(SMALL.segment_size, b"\0")):
        foreign_segment(place, family, content)
        assert look(place, family) is None
        assert look(place, family, path=False) is None
        remove_objects(place, family)


def test_one_of_a_path_that_makes_another_key_is_forged(key_path: Path, family: Family) -> None:
    """Its magic is ours, and ftok makes no such key of the path that it notes."""
    with falsified_channel(key_path, header_poke("key_ino", key_path.stat().st_ino + 1), family=family) as place:
        assert look(place, family, path=False) is None


def test_one_of_another_path_with_the_same_key(key_path: Path, family: Family) -> None:
    """It is ours, and not at this path: what would remove it here would refuse."""
    with falsified_channel(key_path, header_poke("key_ino", key_path.stat().st_ino + 65536), family=family) as place:
        seen = must_see(place, family)
        assert (seen.state, seen.key_path) == ("waiting", None)


def test_one_that_its_creator_left_half_made(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, family=family) as place:
        there = family.find(place, observe=False)
        there.memory[:8] = HALF_MADE
        there.detach()
        assert must_see(place, family).said == "which its creator left half-made"


def test_one_that_is_gone_by_now(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, family=family) as place:
        found = candidate(place, family)
    assert found is not None
    assert look_at(survey_of(family), found, [], [], PATIENCE) is None


@pytest.mark.parametrize(
    "error", [Gone("shmctl", (1, 2, None), errno.EIDRM), NotOurs(""), BadSegment("it was cut off")]
)
def test_one_that_goes_or_changes_while_we_look(
    key_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    with falsified_channel(key_path, family=family) as place:
        monkeypatch.setattr(view, "facts_of", fail)
        seen = look(place, family)
    assert (
        seen is None if not isinstance(error, BadSegment) else seen and seen.said.startswith("the segment is damaged")
    )


def test_what_cannot_be_a_channel_is_not_even_looked_at(key_path: Path, family: Family) -> None:
    """By its key, the second of a channel's; of System V, by its size, too, which is that of a whole one."""
    place = place_of(key_path)
    second = place._replace(segment_key=place.semaphore_keys[0])
    cases = [(second, SMALL.segment_size)]
    if family is not POSIX:
        cases += [(place, SMALL.segment_size - 1), (place, 2 * PAGE)]
    for where, size in cases:
        foreign_segment(where, family, bytes(size))
        assert candidate(where, family) is None
        remove_objects(where, family)


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
@pytest.mark.parametrize("path", [True, False])
def test_one_that_we_may_not_read(key_path: Path, family: Family, path: bool) -> None:
    """It may be a channel, and is not called one."""
    with falsified_channel(key_path, family=family) as place, as_nobody():
        seen = must_see(place, family, path=path)
        assert (seen.state, seen.said, seen.clear, seen.ending) == ("not readable", "", "", None)
        assert seen.finding().about == "segment"
        assert seen.finding().text == f"not readable: {seen.name} of uid 0"


def test_looking_leaves_no_trace_in_the_doorway(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """It attaches read-only while it holds the lock, and nobody else can be inside."""
    local.writer()
    before, calls, locked = attached(local.place, local.family), list[Call](), list[bool]()
    listener = Listener()

    def hear(call: Call) -> None:
        calls.append(call)
        with open(local.place.path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked.append(False)
            except BlockingIOError:
                locked.append(True)

    listener.call = hear
    assert look(local.place, local.family, path=False, listener=listener)
    assert attached(local.place, local.family) == before
    assert calls and all(locked)
    changing = {"shmctl IPC_SET", "shmctl IPC_RMID", "semop", "semtimedop", "fchmod", "chmod", "sem_post"}
    assert not changing & {call.name for call in calls}
    modes = [call.arguments[2 if call.name == "shmat" else 1] for call in calls if call.name in ("shmat", "shm_open")]
    assert modes == [os.O_RDONLY if local.family is POSIX else 0o10000]


def test_one_whose_doorway_is_shut_is_left_alone(local: Local) -> None:
    local.writer()
    with open(local.place.path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        seen = must_see(local.place, local.family)
    assert (seen.state, seen.said) == ("not looked at", "its key path is locked")


def test_one_that_our_detach_would_destroy_is_left_alone(key_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With kernel.shm_rmid_forced a segment ends with its last detach, whoever's that is."""
    with falsified_channel(key_path, family=FAMILY) as place:
        before = sysv.stat_segment(sysv.open_segment(place.segment_key))
        monkeypatch.setattr(view, "forced_removal", lambda: True)
        monkeypatch.setattr(place_view, "forced_removal", lambda: True)
        assert must_see(place, FAMILY).state == "not looked at"
        found, exists = here(place, FAMILY)
        assert (found["key"].mark, exists, "not looked at" in found["key"].text) == (NOTE, True, True)
        assert sysv.stat_segment(sysv.open_segment(place.segment_key)) == before


def here(place: Place, family: Family) -> tuple[dict[str, Finding], bool]:
    """What is found of the key path and of the key, and whether there is a segment."""
    options = argparse.Namespace(key_path=place.path, channel=0, ipc="posix" if family is POSIX else "sysv")
    found, exists = check_here(survey_of(family), options, PATIENCE)
    return {finding.about: finding for finding in found}, exists


def test_a_key_that_is_free(key_path: Path, family: Family) -> None:
    found, exists = here(place_of(key_path), family)
    assert (found["key"].mark, found["key path"].mark, exists) == (OK, OK, False)
    assert f"inode {key_path.stat().st_ino}" in found["key path"].text


def test_one_that_goes_before_we_attach_it_leaves_the_key_free(
    key_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise Gone("shmctl", (1, 2, None), errno.EINVAL)

    monkeypatch.setattr(place_view, "find_channel", fail)
    found, exists = here(place_of(key_path), family)
    assert (found["key"].mark, exists) == (OK, False)


def test_a_channel_that_is_ours_to_use(local: Local) -> None:
    local.writer()
    found, exists = here(local.place, local.family)
    assert (found["key"].mark, exists) == (OK, True)


def join(place: Place, family: Family) -> None:
    there = open_channel(family, place)
    assert there
    there.detach()


def test_a_semaphore_that_is_lost(key_path: Path, family: Family) -> None:
    """It keeps nobody out, and is made anew."""
    with falsified_channel(key_path, family=family) as place:
        take_semaphore_away(place, family, "full_slots")
        found = here(place, family)[0]["key"]
        assert (found.mark, "makes all five anew" in found.text) == (NOTE, True)
        join(place, family)
        assert here(place, family)[0]["key"].mark == OK


@pytest.mark.skipif(not is_root(), reason="needs root, to give a semaphore away")
def test_a_semaphore_that_is_not_provably_ours(key_path: Path, family: Family) -> None:
    """It keeps everybody out, until it is removed as the doctor says."""
    with falsified_channel(key_path, family=family) as place:
        if family is POSIX:
            os.chown(semaphore_path(posix_name(place, "full_slots")), NOBODY, NOBODY)
        else:
            take_semaphore_away(place, family, "full_slots")
            strange_semaphore(place, family, "full_slots")
        found = here(place, family)[0]["key"]
        assert found.mark == STOP
        assert found.text.endswith(" is ours, its full_slots not provably")
        with pytest.raises(NotOurs):
            join(place, family)
        assert subprocess.run(found.do, shell=True).returncode == 0
        assert here(place, family)[0]["key"].mark == NOTE
        join(place, family)
        assert here(place, family)[0]["key"].mark == OK


@pytest.mark.parametrize("noted", [0, 2**31 - 1])
def test_semaphores_that_the_header_does_not_note(key_path: Path, noted: int) -> None:
    with falsified_channel(key_path, family=FAMILY) as place:
        there = FAMILY.find(place, observe=False)
        with Header(there.memory) as header:
            for index in range(1, len(SEMAPHORES)):
                header.set_semaphore_id(index, noted)
        there.detach()
        found = here(place, FAMILY)[0]["key"]
        assert (found.mark, found.text.partition(", its ")[2]) == (STOP, f"{', '.join(SEMAPHORES[1:])} not provably")


def test_a_key_path_that_is_not_there(key_path: Path, family: Family) -> None:
    place = place_of(key_path)
    found, exists = here(place._replace(path=f"{place.path}x"), family)
    assert (list(found), found["key path"].mark, exists) == (["key path"], STOP, False)
    assert "ENOENT" in found["key path"].text


def test_a_key_path_that_somebody_locks(key_path: Path, family: Family) -> None:
    with key_path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found, _ = here(place_of(key_path), family)
    assert list(found) == ["key path"]
    assert (found["key path"].mark, found["key path"].text) == (
        STOP,
        f"pid {os.getpid()} holds the lock on it, so nobody can join",
    )


def test_a_foreign_segment_with_our_key(key_path: Path, family: Family) -> None:
    place = place_of(key_path)
    foreign = foreign_segment(place, family, b"x" * SMALL.segment_size)
    found, exists = here(place, family)
    assert (found["key"].mark, exists) == (STOP, True)
    assert "is not a channel of ours" in found["key"].text and foreign.remove == found["key"].do
    remove_objects(place, family)


def test_a_key_that_another_path_has(key_path: Path, family: Family) -> None:
    with falsified_channel(key_path, header_poke("key_ino", key_path.stat().st_ino + 65536), family=family) as place:
        found, _ = here(place, family)
        assert (found["key"].mark, "belongs to another path" in found["key"].text) == (STOP, True)
        assert subprocess.run(found["key"].do, shell=True).returncode == 0
        assert objects(place, family) == [], "with its semaphores"


@pytest.mark.parametrize(
    ("store", "mark", "said"),
    [
        (header_poke("version", 9), STOP, "the segment is damaged: its header has version 9"),
        (header_poke("state", FINISHED), STOP, "marked as finished, with fragments unread"),
        (header_poke("magic", int.from_bytes(HALF_MADE, "little")), NOTE, "a start clears it"),
    ],
    ids=["version", "finished", "half-made"],
)
def test_what_has_our_key_and_cannot_be_used_as_it_is(
    key_path: Path, family: Family, store: object, mark: str, said: str
) -> None:
    with falsified_channel(key_path, family=family) as place:
        if said == "a start clears it":
            there = family.find(place, observe=False)
            there.memory[:8] = HALF_MADE
            there.detach()
        else:
            falsify(place, store, family=family)  # type: ignore[arg-type]
        found, _ = here(place, family)
        assert (found["key"].mark, said in found["key"].text) == (mark, True)


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_mode_that_keeps_us_out(key_path: Path, family: Family, mode: int) -> None:
    """Also one that lets us look and not take part."""
    with falsified_channel(key_path, family=family) as place:
        if family is POSIX:
            segment_file(place).chmod(mode)
        else:
            sysv.set_segment(sysv.open_segment(place.segment_key), mode=mode)
        with as_nobody():
            found, exists = here(place, family)
    assert (found["key"].mark, exists, "EACCES" in found["key"].text) == (STOP, True, True)


def test_semaphores_without_a_segment(key_path: Path, family: Family) -> None:
    """What `ipcrm -m` leaves keeps a new channel of System V from being made; names of POSIX are new each time."""
    with falsified_channel(key_path, family=family) as place:
        take_segment_away(place, family)
        found, exists = here(place, family)
        if family is POSIX:
            assert (found["key"].mark, exists) == (NOTE, False)
            assert re.match("5 semaphores named after /shmpair-[0-9a-f]{8} and no object$", found["key"].text)
            assert found["key"].do == f"python writer.py --remove --ipc posix --key-path {place.path}"
            family.remove_orphans(place)
            assert here(place, family)[0]["key"].mark == OK
            return
        assert (found["key"].mark, exists) == (STOP, False)
        assert found["key"].text.startswith("5 semaphores with keys of 0x")
        assert found["key"].do == f"python writer.py --remove --key-path {place.path}"
        semaphore = sysv.open_semaphore(place.semaphore_keys[0])
        sysv.remove_semaphore(semaphore)
        assert found["key"].do != here(place, family)[0]["key"].do or here(place, family)[0]["key"].text.startswith(
            "4 "
        )


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
def test_what_another_user_left_is_said_to_be_theirs(key_path: Path, family: Family) -> None:
    """No command that we may not carry out is advised: of a channel, of one with a strange semaphore, of the rest."""
    with falsified_channel(key_path, family=family) as place:
        there = family.find(place, observe=False)
        there.set_mode(0o666)
        there.detach()
        with as_nobody():
            seen = must_see(place, family)
        assert (seen.state, seen.said, seen.clear) == ("waiting", "1 slot unread; uid 0's to remove", "")
        if family is not POSIX:
            take_semaphore_away(place, family, "full_slots")
            strange_semaphore(place, family, "full_slots")
            sysv.set_semaphore(sysv.open_semaphore(place.semaphore_keys[0]), mode=0o666)
            with as_nobody():
                found = here(place, family)[0]["key"]
            assert (found.mark, found.do) == (STOP, "")
            assert found.text.endswith(", its full_slots not provably: it is uid 0's and uid 0 made it")
        take_segment_away(place, family)
        with as_nobody():
            found = here(place, family)[0]["key"]
        assert (found.do, ", not ours to remove: it is " in found.text) == ("", True)
        assert here(place, family)[0]["key"].do


def test_semaphores_that_are_not_ours_to_clear(key_path: Path) -> None:
    place = place_of(key_path)
    made = sysv._semget(place.semaphore_keys[0], 2, 0o1600)  # IPC_CREAT: two in a set are nobody's of ours
    assert here(place, FAMILY)[0]["key"].do == f"ipcrm -s {made.id}"
    sysv.remove_semaphore(made)


FOUND = [
    Finding(OK, "SHMMAX", "18446744073692774399 bytes a segment; a channel takes 4202496"),
    Finding(STOP, "key path", "/tmp/\u00fc\x1b[2J\udcff: EACCES", "python writer.py --remove --key-path " + "x" * 90),
    Finding(NOTE, "channel", "[bold]word[/bold] " * 12),
]


@pytest.mark.parametrize("width", [80, 40])
def test_how_it_looks(width: int) -> None:
    """Marks without colour, a line a finding where it fits, and a command that can be copied whole."""
    lines = draw(FOUND, "title", "verdict", plain=True, color=False, width=width).splitlines()
    assert lines[0] == "title" and lines[-1] == "verdict"
    assert f"       {FOUND[1].do}" in lines
    assert max(len(line) for line in lines if line.strip() != FOUND[1].do) <= width
    shown = "\n".join(lines)
    assert shown.isascii() and "\x1b" not in shown and "[bold]word" in shown
    assert [line.split()[0] for line in lines if line[:4].strip() in (OK, NOTE, STOP)] == [OK, STOP, NOTE]
    if width == 80:
        assert lines[1] == f"ok   SHMMAX      {FOUND[0].text}"
        assert lines[2] == "stop key path    /tmp/\\xc3\\xbc\\x1b[2J\\xff: EACCES"


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", ["k", "\u00fc", "\u00fc \n\x1b\udcff'\\"])
def test_a_command_is_shown_as_it_can_be_typed(name: str, plain: bool) -> None:
    options = argparse.Namespace(ipc="sysv", key_path=name, channel=0)
    found = Finding(NOTE, "key", "", f"printf %s{options_of_channel(options)}")
    typed = draw([found], "", "", plain=plain, color=False).splitlines()[-2]
    assert typed.isascii() or not plain
    assert subprocess.check_output(["bash", "-c", typed]) == os.fsencode(f"--key-path{name}")


def test_how_it_looks_in_colour() -> None:
    shown = draw(FOUND, "title", "verdict", plain=False, color=True, width=80)
    assert "\x1b[32mok" in shown and "\x1b[1;31mstop" in shown and "/tmp/\u00fc\\x1b[2J" in shown
