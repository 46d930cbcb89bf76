"""Every call and errno of the lab: the documented command provokes it, the message names it, and nothing is spoilt."""

from __future__ import annotations

import re

import pytest
import sysv_ipc

from tests.e2e.watch import SHM_DEST, segment
from tests.helpers import ROOT, Pair, wait_until
from tests.lab.cases import CASES, ON_THE_SHEET, SHEET, Case
from tests.lab.shell import require, run_shell, type_row

_NAMESPACES = [case for case in CASES if case.command.startswith("unshare --ipc ")]


def _name(case: Case) -> str:
    return case.name


def test_the_figure_counts_the_rows() -> None:
    assert f"| {len(CASES)} commands |" in (ROOT / "tests/README.md").read_text()


def test_the_sheet_is_there_in_its_order() -> None:
    assert [re.split("[:,] ", case.what)[0] for case in SHEET] == [re.split("[:,] ", what)[0] for what in ON_THE_SHEET]
    assert all(case.command and case.line and case.needs in ("", "root", "strace", "overcommit") for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_command_shows_the_line(pair: Pair, case: Case) -> None:
    """And an error is that one line, with code 1 where nothing is typed behind it; the channel is not spoilt."""
    pair, done, found = type_row(pair, case)
    if _names_errno(found[0]):
        assert len(found) == 1, done
        assert "; " in case.command or done.code == 1, done
        assert re.fullmatch(r".*: E\w+ \([\w ]+\): .{20,}", found[0]), "no advice"
        assert _blamed(found[0]) in ("", case.what.split()[0]), "the line blames another call"
    if pair.status():
        assert pair.read("--quiet", "--timeout", "10").out in (b"hello\n", b""), done
    if pair.status():
        assert pair.write("--remove").code == 0


def _names_errno(line: str) -> bool:
    """Whether it is an error of our programs."""
    return bool(re.match(r"(writer|reader): .*: E[A-Z]+ \(", line))


def _blamed(line: str) -> str:
    """The call that an error of our programs names; none if it says what it was doing."""
    called = re.match(r"(?:writer|reader): (\w+)\(", line)
    return called[1] if called else ""


@pytest.mark.parametrize("geometry", [("1", "16777216T"), ("8", "2097152T"), ("4294967295", "16777215T")])
def test_a_size_that_no_size_t_can_hold_is_refused(pair: Pair, geometry: tuple[str, str]) -> None:
    """It must not come to the kernel modulo 2^64, as a small one that it would grant."""
    slots, slot_size = geometry
    done = pair.write("--quiet", "--slots", slots, "--slot-size", slot_size, "hello")
    assert done.code == 1 and re.fullmatch(r"writer: shmget\(.*\): EINVAL \(.*\n", done.err), done


@pytest.mark.parametrize("address", ["0", "1", "4095"])
def test_an_address_that_shm_rnd_makes_null_is_a_usage_error(pair: Pair, address: str) -> None:
    done = pair.write("--attach-at", address, "hello")
    assert done.code == 2 and f"'{address}' is not an address" in done.err, done


@pytest.mark.parametrize("case", _NAMESPACES, ids=_name)
def test_a_creation_that_the_kernel_refuses_leaves_nothing(pair: Pair, case: Case) -> None:
    """Inside the namespace too, which otherwise takes its evidence along when it ends.

    Without any semop (E2BIG) the creation succeeds, and only joining fails.
    """
    require(case.needs)
    _check_nothing_left_inside(pair, case.command)


@pytest.mark.parametrize("semaphores", range(5))
def test_a_creation_without_all_its_semaphores_leaves_nothing(pair: Pair, semaphores: int) -> None:
    require("root")
    limits = f"32000 1024000000 500 {semaphores}"
    command = f"unshare --ipc sh -c 'echo {limits} > /proc/sys/kernel/sem; python writer.py hello'"
    _check_nothing_left_inside(pair, command)


def _check_nothing_left_inside(pair: Pair, command: str) -> None:
    """The command's own shell looks: the kernel's tables show each process those of its own namespace.

    So does /dev/shm, if the command mounts one of its own; everybody's has the objects of others.
    """
    listing = "ls -A /dev/shm; " if "tmpfs /dev/shm;" in command else ""
    looking = f"; code=$?; cat /proc/sysvipc/shm /proc/sysvipc/sem; {listing}exit $code'"
    done = run_shell(pair, command.removesuffix("'") + looking)
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()] == [b"key", b"key"], done


def test_a_waiting_reader_hears_that_the_channel_was_removed(pair: Pair) -> None:
    """The same end as the waiting writer's in CASES, in the other program."""
    pair.write("hello")
    reader = pair.start("reader", "--follow")
    assert reader.stdout and reader.stdout.readline() == b"hello\n"
    full_slots = sysv_ipc.Semaphore(sysv_ipc.ftok(str(pair.key_path), 2, silence_warning=True))
    wait_until(lambda: full_slots.waiting_for_nonzero, "the reader's sleep")
    assert pair.write("--remove").code == 0
    error = reader.communicate()[1].decode().splitlines()[-1]
    assert re.match(r"reader: (sem(timed)?op\(.*\): )?(EIDRM|EINVAL)\b.*was removed", error), error
    assert reader.returncode == 1


def test_removal_is_deferred_until_the_last_detach(pair: Pair) -> None:
    """--remove under an observer: "dest" in ipcs, the key free at once, the memory only at the last shmdt."""
    pair.write("hello")
    status = pair.status()
    assert status
    shmid, key = status["segment"]["id"], int(status["key"], 16)
    observer = sysv_ipc.attach(shmid, None, sysv_ipc.SHM_RDONLY)
    done = pair.write("--remove")
    assert done.code == 0 and f"marked segment {shmid} for removal" in done.err, done
    row = segment(shmid)
    assert row and row["key"] == 0 and row["perms"] & SHM_DEST, row
    assert pair.write("again").code == 0
    fresh = pair.status()
    assert fresh and int(fresh["key"], 16) == key and fresh["segment"]["id"] != shmid
    assert bytes(memoryview(observer)[:8]) == b"SHMPAIR1"
    observer.detach()
    assert segment(shmid) is None
    assert pair.read().out == b"again\n"
