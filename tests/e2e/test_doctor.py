"""reader.py --doctor on machines of every kind: low limits, a small /dev/shm, other users. What it says comes true.

All of it happens apart from the channels of other tests: the doctor looks at every one that there is.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.layout import PAGE
from tests.e2e.watch import key_of, shut_doorway
from tests.families import only
from tests.faults.tools import patched, private_ipc, private_mounts
from tests.helpers import PATIENCE, ROOT, Finished, Pair, finish, wait_until
from tests.lab.conftest import tmp_path
from tests.lab.shell import STRANGER, second_user

__all__ = ["tmp_path"]  # which another user may enter


@pytest.fixture
def inside(pair: Pair) -> list[str]:
    """The command that runs another one where IPC namespace and /dev/shm live as long as the test."""
    mount = "mount -t tmpfs -o mode=1777 shm /dev/shm && echo mounted && exec sleep infinity"
    holder = pair.spawn([*private_ipc(), *private_mounts(), "sh", "-c", mount])
    assert holder.stdout and holder.stdout.readline() == b"mounted\n"
    return ["nsenter", f"--target={holder.pid}", "--ipc", "--mount"]


@pytest.fixture
def apart(pair: Pair, inside: list[str]) -> Pair:
    """The pair in there."""
    return pair.under(*inside)


Shell = Callable[[str], Finished]


@pytest.fixture
def shell(pair: Pair, inside: list[str]) -> Shell:
    """Runs a script in there."""
    return lambda script: finish(pair.spawn([*inside, "sh", "-c", script]))


def examine(pair: Pair, *arguments: object) -> tuple[int, dict[str, Any], dict[str, dict[str, str]]]:
    """Exit code, all that --json says, and the findings by what they are about; of two libraries, the family's."""
    done = pair.read("--doctor", "--json", *arguments)
    assert done.err == "", done
    told = json.loads(done.out)
    marks = [finding["mark"] for finding in told["findings"]]
    assert (told["in_the_way"], done.code) == (marks.count("stop"), 1 if "stop" in marks else 0)
    found = [finding for finding in told["findings"] if finding["about"] != "library" or finding["ipc"] == pair.ipc]
    return done.code, told, {finding["about"]: finding for finding in found}


def test_where_nothing_is_wrong(apart: Pair) -> None:
    """Lines of 80 columns, with marks, in ASCII; and a channel can be made."""
    done = apart.read("--doctor", env={**os.environ, "COLUMNS": "80", "LC_ALL": "C", "FORCE_COLOR": "1"})
    assert (done.code, done.err) == (0, ""), done
    title, *lines, verdict = done.out.decode("ascii").splitlines()
    assert title == f"channel 0 of {apart.key_path}, --ipc {apart.ipc}"
    assert verdict == "nothing stands in the way"
    commands = [line for line in lines if line.startswith(" " * 7) and not line.startswith(" " * 8)]
    assert max(len(line) for line in lines if line not in commands) <= 80 and b"\x1b" not in done.out
    assert {line[:5] for line in lines} <= {"ok   ", "note ", " " * 5}
    assert apart.write("--quiet", "hello").code == 0
    assert apart.read("--quiet").out == b"hello\n"


def test_it_changes_nothing(pair: Pair, apart: Pair, shell: Shell) -> None:
    """The kernel's tables are the same before and after, but for who looked last, and when."""
    writer = apart.start("writer", "--quiet", "--lines")
    wait_until(apart.status, "the channel")
    # Of a segment, not its last pid and the times of attach and detach, nor what of it is in memory.
    segments = "awk '{print $1, $2, $3, $4, $5, $7, $8, $9, $10, $11, $14}' /proc/sysvipc/shm"
    files = f"/dev/shm/*{key_of(pair, 1) & 0xFFFFFFFF:08x}*"
    tables = f"{segments}; cat /proc/sysvipc/sem; stat -c '%n %s %a %u %h %y %z' {files}"
    before = shell(tables).out
    assert len(before.splitlines()) > 5
    examine(apart)
    assert shell(tables).out == before
    assert finish(writer, b"").code == 0


LIMITS = [
    *(("shmmax", "8192", "SHMMAX"), ("shmall", "1000", "SHMALL"), ("shmmni", "0", "SHMMNI")),
    *(
        ("sem", numbers, about)
        for numbers, about in (
            *(("0 32000 500 32000", "SEMMSL"), ("32000 4 500 32000", "SEMMNS")),
            *(("32000 32000 0 32000", "SEMOPM"), ("32000 32000 500 4", "SEMMNI")),
        )
    ),
]


@only("sysv", "/proc/sys/kernel limits System V alone; it is seen that POSIX is not in its way")
@pytest.mark.parametrize(("name", "value", "about"), LIMITS, ids=[about for *_, about in LIMITS])
def test_a_limit_in_the_way(apart: Pair, shell: Shell, name: str, value: str, about: str) -> None:
    """The writer fails as foretold; over POSIX it does not; and what the doctor says to type mends it."""
    shell(f"echo {value} > /proc/sys/kernel/{name}")
    code, _, found = examine(apart)
    assert (code, [key for key, finding in found.items() if finding["mark"] == "stop"]) == (1, [about])
    assert apart.write("--quiet", "hello").code == 1
    assert examine(apart, "--ipc", "posix")[0] == 0
    setting = found[about]["do"].removeprefix("sysctl -w kernel.").replace('"', "")
    shell(f"echo {setting.partition('=')[2]} > /proc/sys/kernel/{setting.partition('=')[0]}")
    assert examine(apart)[0] == 0
    assert apart.write("--quiet", "hello").code == 0
    shell(f"echo {value} > /proc/sys/kernel/{name}")
    assert examine(apart)[0] == (1 if about == "SEMOPM" else 0), "the channel is there already"


ONE, PAGES = 5, 1026  # sets and semaphores, and pages, of a channel of the default geometry


@only("sysv", "/proc/sys/kernel limits System V alone")
@pytest.mark.parametrize(
    ("name", "exhausted", "enough"),
    [
        ("shmall", 2 * PAGES - 1, 2 * PAGES),
        ("shmmni", 1, 2),
        ("sem", f"1 {2 * ONE - 1} 1 99", f"1 {2 * ONE} 1 99"),
        ("sem", f"1 99 1 {2 * ONE - 1}", f"1 99 1 {2 * ONE}"),
    ],
)
def test_what_is_used_counts(apart: Pair, shell: Shell, name: str, exhausted: object, enough: object) -> None:
    """Beside one channel there is no room for a second one, or just enough; and so it is."""
    assert apart.write("--quiet", "first").code == 0
    for value, code in ((exhausted, 1), (enough, 0)):
        shell(f"echo {value} > /proc/sys/kernel/{name}")
        assert examine(apart, "--channel", 1)[0] == code
        assert apart.write("--quiet", "--channel", 1, "second").code == code


MOUNTS = {
    "small": ("mount -t tmpfs -o size=4M,mode=1777 shm /dev/shm", 1),
    "few files": ("mount -t tmpfs -o nr_inodes=7,mode=1777 shm /dev/shm", 1),
    "read-only": ("mount -t tmpfs -o ro,mode=1777 shm /dev/shm", 1),
    "just enough": ("mount -t tmpfs -o size=4222976,nr_inodes=8,mode=1777 shm /dev/shm", 0),
    "without limit": ("mount -t tmpfs -o size=0,nr_inodes=0,mode=1777 shm /dev/shm", 0),
    "not sticky": ("mount -t tmpfs -o mode=0777 shm /dev/shm", 0),
}


@only("posix", "System V has no file system; it is seen that it is not in its way")
@pytest.mark.parametrize("kind", MOUNTS)
def test_dev_shm(pair: Pair, tmp_path: Path, kind: str) -> None:
    """The writer fails as foretold, or not; and what the doctor says to type mends it."""
    mount, code = MOUNTS[kind]
    doctor = shlex.join(pair.command("reader", "--doctor", "--json"))
    writer = shlex.join(pair.command("writer", "--quiet", "hello"))
    sysv = shlex.join(Pair(pair.key_path, tmp_path).command("reader", "--doctor"))
    take = 'do=$(sed -n \'/"\\/dev\\/shm"/,/"do"/s/ *"do": "\\(.*\\)",/\\1/p\' found)'
    script = (
        f"{mount}; {sysv} >sysv; echo $?; {doctor} >found; echo $?; {writer} 2>/dev/null; echo $?; {take}; eval $do"
    )
    words = [*private_ipc(), *private_mounts(), "sh", "-c", f"{script}; {doctor} >after; echo $?; {writer}; echo $?"]
    done = finish(pair.spawn(words, cwd=tmp_path))
    assert done.out.split() == [b"%d" % number for number in (0, code, code, 0, 0)], done
    found = json.loads((tmp_path / "found").read_text())["findings"]
    (finding,) = (finding for finding in found if finding["about"] == "/dev/shm")
    assert finding["mark"] == ("stop" if code else "note" if kind == "not sticky" else "ok")


@only("posix", "what is missing is POSIX's")
def test_without_dev_shm(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").touch()
    empty = "mount --bind /dev/null dev/null; mount --rbind dev /dev"
    command = shlex.join(pair.command("reader", "--doctor"))
    done = finish(pair.spawn([*private_ipc(), *private_mounts(), "sh", "-c", f"{empty}; exec {command}"]))
    assert (done.code, done.err) == (1, "")
    assert b"stop /dev/shm    not there\n       mount -t tmpfs -o mode=1777 shm /dev/shm\n" in done.out


@only("posix", "a segment of System V is no file; it is seen that it is not in its way")
def test_a_limit_on_files(apart: Pair) -> None:
    """The writer fails as foretold, and not over System V."""
    limited = apart.under("sh", "-c", 'ulimit -f 100; exec "$@"', "sh")
    code, _, found = examine(limited)
    assert (code, found["ulimit -f"]["mark"], found["ulimit -f"]["do"]) == (1, "stop", "ulimit -f unlimited")
    assert "EFBIG" in limited.write("--quiet", "hello").err
    assert examine(limited, "--ipc", "sysv")[0] == 0
    assert examine(apart)[0] == 0


def test_forced_removal(apart: Pair, shell: Shell) -> None:
    """It is noted; what somebody has is looked at, and lives on."""
    shell("echo 1 > /proc/sys/kernel/shm_rmid_forced")
    writer = apart.start("writer", "--quiet", "--lines", stdin=-1)
    wait_until(apart.status, "the channel")
    code, told, found = examine(apart)
    assert (code, found["rmid_forced"]["mark"], found["key"]["mark"]) == (0, "note", "ok")
    assert [channel["state"] for channel in told["channels"] if channel["key_path"] == str(apart.key_path)] == ["alive"]
    reader = apart.start("reader", "--quiet")
    assert finish(writer, b"hello\n").code == 0
    assert finish(reader).out == b"hello\n"


def test_the_namespace_and_the_library(apart: Pair) -> None:
    _, _, found = examine(apart)
    assert found["namespace"]["mark"] == "note" and "ipc:[" in found["namespace"]["text"]
    lacks = "semtimedop" if apart.ipc == "sysv" else "sem_clockwait"
    assert f"lacks {lacks}: called through ctypes" in found["library"]["text"]
    assert found["system"]["mark"] == "ok"
    assert found["RemoveIPC"]["mark"] in ("ok", "note")


@pytest.mark.parametrize("library", ["posix_ipc"])
def test_a_library_that_is_not_installed(apart: Pair, library: str) -> None:
    """Of System V's the program itself says so."""
    code, _, found = examine(patched(apart, f"import sys; sys.modules[{library!r}] = None"))
    assert code == (1 if apart.ipc == "posix" else 0)
    if code:
        assert (found["library"]["mark"], "key" in found) == ("stop", False)
        assert found["library"]["text"].startswith("posix_ipc is not installed")


def test_root_without_its_rights(pair: Pair, inside: list[str]) -> None:
    second_user()  # needs root and setpriv, or skips
    code, _, found = examine(pair.under("setpriv", "--bounding-set=-sys_admin").under(*inside))
    assert (code, found["user"]["mark"]) == (0, "note")
    assert "CAP_SYS_ADMIN" in found["user"]["text"] and "CAP_IPC_OWNER" not in found["user"]["text"]


def test_another_user(pair: Pair, apart: Pair, inside: list[str]) -> None:
    """What is not readable is listed, and not called ours; that it is in the way of the same channel is said."""
    stranger = pair.under(*second_user(pair.ipc)).under(*inside)
    assert examine(stranger)[0] == 0
    assert apart.write("--quiet", "--mode", "0600", "hello").code == 0
    code, told, found = examine(stranger)
    assert (code, found["key"]["mark"], "EACCES" in found["key"]["text"]) == (1, "stop", True)
    assert found["user"]["text"] == f"uid {STRANGER}, gid {STRANGER}"
    assert f"--key-path {pair.key_path}`" in found["key"]["text"], "what is to be typed is about this channel"
    shmid = (apart.status() or {})["segment"]["id"]
    name = f"segment {shmid}" if pair.ipc == "sysv" else shmid
    (seen,) = (channel for channel in told["channels"] if channel["name"] == name)
    assert (seen["state"], seen["clear"], seen["ending"]) == ("not readable", "", None)
    assert f"note segment     not readable: {name} of uid 0\n" in stranger.read("--doctor").out.decode()
    assert apart.read("--quiet").out == b"hello\n"


@only("posix", "what a killed sem_open leaves is a file")
def test_files_of_a_killed_sem_open(pair: Pair, tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o mode=1777 shm /dev/shm; head -c 32 /dev/zero > /dev/shm/sem.a1B2c3; exec "$@"'
    command = pair.command("reader", "--doctor")
    done = finish(pair.spawn([*private_ipc(), *private_mounts(), "sh", "-c", script, "sh", *command]))
    assert done.code == 0
    assert b"note sem files   1 sem.XXXXXX: of a killed sem_open, or in use: never proved\n" in done.out


def test_every_channel_of_both_families(pair: Pair, apart: Pair, inside: list[str], shell: Shell) -> None:
    """Alive, waiting and orphaned ones, of another key path than the one that is asked about."""
    other = "posix" if apart.ipc == "sysv" else "sysv"
    opposite = Pair(pair.key_path, pair.directory, inside, ipc=other)
    assert apart.write("--quiet", "--channel", 1, "hello").code == 0
    assert opposite.write("--quiet", "--channel", 2, "hello").code == 0
    source = apart.directory / "source"
    source.write_bytes(bytes(20 * PAGE))
    torn = apart.start("writer", "--quiet", "--channel", 3, "--slots", 1, "--slot-size", PAGE, "--file", source)
    wait_until(lambda: apart.read("--channel", 3, "--status", "--json").code == 0, "a channel to be torn")
    alive = {channel["name"]: channel for channel in _channels(apart)}
    assert [channel["pids"] for channel in alive.values() if channel["state"] == "alive"] == [[torn.pid]]
    torn.send_signal(signal.SIGKILL)
    torn.wait()
    assert apart.read("--quiet", "--channel", 3).code == 1
    seen = {(channel["ipc"], channel["channel"]): channel for channel in _channels(apart)}
    assert seen[apart.ipc, 1]["state"] == seen[other, 2]["state"] == "waiting"
    for channel in seen.values():
        assert shell(channel["clear"].replace("python writer.py", f"{sys.executable} {ROOT}/writer.py")).code == 0
    assert _channels(apart) == []


def test_a_channel_of_the_project_is_known_by_its_path(apart: Pair) -> None:
    """Whatever key path is asked about, and though nobody has it attached."""
    assert apart.write("--quiet", "--key-path", ROOT, "hello").code == 0
    (seen,) = examine(apart)[1]["channels"]
    family = " --ipc posix" if apart.ipc == "posix" else ""
    assert (seen["key_path"], seen["clear"]) == (str(ROOT), f"python writer.py --remove{family}")
    assert apart.write("--quiet", "--remove", "--key-path", ROOT).code == 0


def _channels(pair: Pair) -> list[dict[str, Any]]:
    """Those of the pair's key path."""
    told = examine(pair)[1]["channels"]
    return [channel for channel in told if channel["key_path"] == str(pair.key_path)]


def test_timeout_is_how_long_a_lock_may_be_held(apart: Pair) -> None:
    """Longer than by itself: it has said what it waits for, and goes on when the lock is free."""
    with shut_doorway(apart):
        assert examine(apart)[2]["key path"]["mark"] == "stop"
        doctor = apart.start("reader", "--doctor", "--timeout", PATIENCE)
        assert doctor.stderr and doctor.stderr.readline().startswith(b"reader: waiting for the lock on ")
    assert finish(doctor).code == 0


def test_a_consumer_that_saw_enough(pair: Pair, shell: Shell) -> None:
    done = shell(f"{shlex.join(pair.command('reader', '--doctor'))} | head -n 1")
    assert (done.code, done.err) == (0, "") and done.out.startswith(b"channel 0 of ")


def test_standard_output_that_is_closed(pair: Pair, shell: Shell) -> None:
    done = shell(f"{shlex.join(pair.command('reader', '--doctor'))} >&-")
    assert (done.code, done.err.count("\n")) == (1, 1) and "EBADF" in done.err
