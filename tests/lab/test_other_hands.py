"""Other hands on the channel: ipcrm, another user, a user namespace, a machine without /proc. Data is lost to none.

What another user or another namespace may do is the kernel's to say; we ask it first, and say what we did.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

from common.ipc.lifecycle import DEFAULT_GEOMETRY, create_channel, find_channel
from common.ipc.sysv import SysvObjects
from common.layout import SEMAPHORES
from tests.crash.doomed import run_doomed
from tests.e2e.watch import objects_of
from tests.families import both, only
from tests.faults.tools import private_mounts, remove
from tests.helpers import Pair, wait_until
from tests.in_process import FAMILIES, FAMILY, as_nobody, place_of, python, sysv
from tests.lab.shell import STRANGER, second_user


def family_of(pair: Pair) -> SysvObjects:
    """The channel, to look at; detach it."""
    found = find_channel(FAMILY, place_of(pair.key_path), observe=True)
    assert isinstance(found, SysvObjects)
    return found


# A user namespace in which no uid of the world outside has a number: all of them read as 65534


def strange_namespace() -> list[str]:
    command = ["unshare", "--user"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace: sysctl user.max_user_namespaces, or allow the container CAP_SYS_ADMIN")
    return command


def of_a_stranger(pair: Pair) -> None:
    """A channel that another user made, open to everybody, with a record in it that nobody has read."""
    second_user()  # root, or skip
    with as_nobody():
        create_channel(FAMILIES[pair.ipc], place_of(pair.key_path), DEFAULT_GEOMETRY, 0o666).detach()
    assert pair.write("--quiet", "kept").code == 0


@both
def test_a_remove_that_the_kernel_refuses_destroys_nothing(pair: Pair) -> None:
    """In there we and the owner have one uid to the eye, and the kernel knows better."""
    of_a_stranger(pair)
    done = pair.under(*strange_namespace()).write("--quiet", "--remove")
    assert (done.code, done.out) == (1, b""), done
    call = {"sysv": "shmctl", "posix": "fchmod"}[pair.ipc]
    assert done.err.startswith(f"writer: {call}(") and ": EPERM (" in done.err and done.err.count("\n") == 1, done
    status = pair.status()
    assert status and status["header"]["state"] == "open"
    assert pair.write("--quiet", "more").code == 0
    assert pair.read("--quiet").out == b"kept\nmore\n"


@both
def test_a_reader_that_may_not_remove_finishes_nothing(pair: Pair) -> None:
    of_a_stranger(pair)
    done = pair.under(*strange_namespace()).read("--quiet")
    assert (done.code, done.out) == (1, b"kept\n"), done
    assert done.err.startswith("reader: EPERM: all ") and done.err.count("\n") == 1, done
    status = pair.status()
    assert status and status["header"]["state"] == "open"
    assert pair.write("--quiet", "more").code == 0
    assert pair.read("--quiet").out == b"more\n"


@both
def test_semaphores_are_not_made_anew_by_whom_the_kernel_refuses(pair: Pair) -> None:
    of_a_stranger(pair)
    for name in SEMAPHORES:
        remove(pair, name)
    done = pair.under(*strange_namespace()).write("--quiet", "intruding")
    assert done.code == 1 and ": EPERM (" in done.err and done.err.count("\n") == 1, done
    assert objects_of(pair) == ["segment"]
    assert pair.write("--quiet", "--remove").code == 0


def test_orphans_are_not_cleared_by_whom_the_kernel_refuses(pair: Pair) -> None:
    """Not even the first, which is ours: all of it or nothing."""
    of_a_stranger(pair)
    remove(pair, "segment")
    remove(pair, "full_slots")
    sysv_ipc.Semaphore(place_of(pair.key_path).semaphore_keys[0], sysv_ipc.IPC_CREX, 0o600)
    done = pair.under(*strange_namespace()).write("--quiet", "--remove")
    assert done.code == 1 and ": EPERM (" in done.err and done.err.count("\n") == 1, done
    assert objects_of(pair) == list(SEMAPHORES)
    for name in SEMAPHORES:
        remove(pair, name)


@both
def test_whoever_may_remove_may_do_so_in_any_namespace(pair: Pair) -> None:
    for program, arguments, out in (("writer", ("--remove",), b""), ("reader", (), b"ours\n")):
        assert pair.write("--quiet", "ours").code == 0
        done = pair.under(*strange_namespace()).run(program, "--quiet", *arguments)
        assert (done.code, done.out, done.err) == (0, out, "")
        assert objects_of(pair) == []


ASK = """
import ctypes, sys
from tests.in_process import sysv
assert not ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER
print("outside", flush=True)
sys.stdin.readline()
shmid, semaphore = sysv.open_segment(int(sys.argv[1])), sysv.open_semaphore(int(sys.argv[2]))
stats = sysv.stat_segment(shmid), sysv.stat_semaphore(semaphore)
print(*((stat.uid, stat.gid) for stat in stats))
sysv.check_segment_removable(shmid, stats[0])
sysv.check_semaphore_removable(semaphore, stats[1])
"""


def test_asking_gives_nothing_away(pair: Pair) -> None:
    """The owner has no number in there, he reads as 65534; and 65534 is somebody, who must not get the channel."""
    second_user()  # root, or skip
    strange_namespace()
    assert pair.write("--quiet", "kept").code == 0
    assert pair.write("--quiet", "--chown", "1:1").code == 0
    place = place_of(pair.key_path)
    with python(ASK, place.segment_key, place.semaphore_keys[0]) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == "outside\n"
        for kind in ("uid", "gid"):
            Path(f"/proc/{child.pid}/{kind}_map").write_text("0 0 1\n65534 65534 1\n")
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "(65534, 65534) (65534, 65534)\n"
    assert child.returncode == 0
    family = family_of(pair)
    for owned in (family.stat(), sysv.stat_semaphore(family.semaphores.open(0))):
        assert (owned.uid, owned.gid) == (1, 1)
    family.detach()
    assert pair.read("--quiet").out == b"kept\n"


def test_a_semaphore_that_may_not_be_removed_keeps_the_channel(pair: Pair) -> None:
    """The segment was given away by hand, its semaphores were not: its new owner may remove the one alone."""
    stranger = second_user()
    assert pair.write("--quiet", "--mode", "0666", "kept").code == 0
    sysv.set_segment(sysv.open_segment(place_of(pair.key_path).segment_key), uid=STRANGER)
    done = pair.under(*stranger).write("--quiet", "--remove")
    assert done.code == 1 and done.err.startswith("writer: semctl(") and ": EPERM (" in done.err, done
    status = pair.status()
    assert status and status["header"]["state"] == "open"
    assert pair.read("--quiet").out == b"kept\n"


# Another user's channel


@only("sysv", "who gave a POSIX object away can do no more to it than others")
def test_a_mode_of_our_own_is_not_promised_in_a_bait(pair: Pair) -> None:
    """He made it, and gave it to us: as its creator he may still read it, whatever its mode."""
    stranger = second_user()
    assert pair.under(*stranger).write("--quiet", "--mode", "0600", "bait").code == 0
    assert pair.under(*stranger).write("--quiet", "--chown", "0:0").code == 0
    refused = pair.write("--quiet", "--mode", "0600", "secret")
    assert refused.code == 1 and refused.err.startswith("writer: EACCES: "), refused
    assert f"uid {STRANGER} made it" in refused.err and refused.err.count("\n") == 1
    joined = pair.write("joined")
    assert joined.code == 0 and f"is not ours alone: uid {STRANGER} made it\n" in joined.err, joined
    received = pair.read()
    assert received.out == b"bait\njoined\n"
    assert f"is not ours alone: uid {STRANGER} made it\n" in received.err, received


@only("sysv", "POSIX knows no maker: only the owner makes them anew")
def test_semaphores_made_anew_go_to_the_owner_of_the_segment(pair: Pair) -> None:
    stranger = second_user()
    assert pair.write("--quiet", "--mode", "0600", "his").code == 0
    assert pair.write("--quiet", "--chown", f"{STRANGER}:{STRANGER}").code == 0
    remove(pair, "writers")
    assert "made all five anew" in pair.write("his too").err
    received = pair.under(*stranger).read("--quiet")
    assert (received.code, received.out, received.err) == (0, b"his\nhis too\n", "")


# ipcrm, and --remove after it


def orphaned(pair: Pair) -> list[int]:
    """The ids of the semaphores of a channel that has lost its segment."""
    assert pair.write("--quiet", "lost").code == 0
    family = family_of(pair)
    ids = [family.semaphores.open(index).id for index in range(len(SEMAPHORES))]
    family.detach()
    remove(pair, "segment")
    return ids


def assert_kept(pair: Pair, ids: list[int], why: str) -> None:
    """--remove touches nothing, and the writer does not promise that it would."""
    for done in (pair.write("--quiet", "--remove"), pair.write("--quiet", "new")):
        assert done.code == 1 and done.err.count("\n") == 1, done
        assert done.err.endswith(f"ipcrm -s {' -s '.join(map(str, ids))}\n"), done
        assert objects_of(pair) == list(SEMAPHORES)
    assert why in pair.write("--quiet", "--remove").err


def test_orphans_with_a_semaphore_of_another_user_are_kept(pair: Pair) -> None:
    second_user()
    ids = orphaned(pair)
    remove(pair, "empty_slots")
    with as_nobody():
        ids[1] = sysv_ipc.Semaphore(place_of(pair.key_path).semaphore_keys[1], sysv_ipc.IPC_CREX, 0o666).id
    assert_kept(pair, ids, f"semaphore {ids[1]} (it is uid {STRANGER}'s and uid {STRANGER} made it)")
    for name in SEMAPHORES:
        remove(pair, name)


SLEEP = "import sys, sysv_ipc; sysv_ipc.Semaphore(int(sys.argv[1])).{}()"


@pytest.mark.parametrize(("index", "sleep"), [(4, "acquire"), (3, "Z")])
def test_orphans_that_a_process_sleeps_on_are_kept(pair: Pair, index: int, sleep: str) -> None:
    ids = orphaned(pair)
    key = place_of(pair.key_path).semaphore_keys[index]
    semaphore: Any = sysv_ipc.Semaphore(key)
    with subprocess.Popen([sys.executable, "-c", SLEEP.format(sleep), str(key)]) as sleeper:
        try:
            wait_until(lambda: semaphore.waiting_for_nonzero or semaphore.waiting_for_zero, "a sleeper")
            assert_kept(pair, ids, f"semaphore {ids[index]} (a process sleeps on it)")
        finally:
            sleeper.kill()
    assert pair.write("--quiet", "--remove").code == 0
    assert objects_of(pair) == []


def test_remove_says_what_was_gone_and_what_stays(pair: Pair) -> None:
    """Somebody else's semaphore in the place of one of ours stays; the user's word, said again, clears it."""
    assert pair.write("--quiet", "hello").code == 0
    remove(pair, "writers")
    remove(pair, "full_slots")
    other = sysv_ipc.Semaphore(place_of(pair.key_path).semaphore_keys[0], sysv_ipc.IPC_CREX, 0o600, 1)
    done = pair.write("--quiet", "--remove")
    assert done.code == 1 and done.err.count("\n") == 1, done
    assert done.err.startswith(
        "writer: shmctl(IPC_RMID): removed 3 semaphores"
        f" (writers was gone; left semaphore {other.id} (full_slots): the channel does not note it), marked segment"
    ), done
    assert objects_of(pair) == ["full_slots"]
    assert pair.write("--quiet", "--remove").code == 0
    assert objects_of(pair) == []


# No /proc


def without_proc() -> list[str]:
    """The command that runs another one where /proc is not mounted."""
    without = [*private_mounts(), "sh", "-c", 'umount -l /proc && exec "$@"', "sh"]
    if subprocess.run([*without, "test", "!", "-e", "/proc/self"], capture_output=True).returncode:
        pytest.skip("/proc cannot be unmounted here: allow the container CAP_SYS_ADMIN")
    return without


@pytest.mark.parametrize(("ipc", "leftover"), [("sysv", False), ("sysv", True), ("posix", False)])
def test_nothing_needs_proc(pair: Pair, leftover: bool) -> None:
    """Not even the look at a semaphore that a dead creator had made and not noted."""
    if leftover:
        run_doomed(pair, "set_semaphore_value:3", "writer", "lost")
        assert objects_of(pair) == ["segment", "full_slots", "empty_slots", "writer_turn"]
    without = without_proc()
    written = pair.under(*without).write("--quiet", "hello")
    assert (written.code, written.err) == (0, "")
    read = pair.under(*without).read("--quiet")
    assert (read.code, read.out, read.err) == (0, b"hello\n", "")


def test_a_semaphore_of_somebody_else_is_refused_without_proc(pair: Pair) -> None:
    foreign = sysv_ipc.Semaphore(place_of(pair.key_path).semaphore_keys[2], sysv_ipc.IPC_CREX, 0o600)
    foreign.release()
    done = pair.under(*without_proc()).write("--quiet", "hello")
    assert done.code == 1 and done.err.startswith(f"writer: semaphore {foreign.id} has our key"), done
    assert objects_of(pair) == ["writer_turn"]
    foreign.remove()
