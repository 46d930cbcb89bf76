"""No one gets in: what another user can do to a channel, what is ever created, and whose objects we remove.

What another user tries, a program under another uid really tries (intruder.py); those tests need root and say so.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

from common.channel.patience import Patience
from common.errors import ChannelError
from common.geometry import read_geometry
from common.ipc.doorway import FlockDoorway
from common.ipc.lifecycle import DEFAULT_GEOMETRY, create_channel, find_channel, open_channel
from common.ipc.place import Place
from common.layout import FINISHED, HALF_MADE, MAGIC, NOT_CREATED, OPEN, PAGE, REMOVED, SEMAPHORES, VERSION, Header
from tests.e2e.watch import segment_file, segments, semaphore
from tests.families import both
from tests.faults.tools import remove
from tests.helpers import PATIENCE, Pair, clear_away, finish, wait_until
from tests.in_process import FAMILIES, FAMILY, LISTENER, as_nobody, place_of, sysv
from tests.lab.calls import calls_in
from tests.lab.shell import ended, second_user, start, strace

INTRUDER = Path(__file__).with_name("intruder.py")
READING = {"shmat SHM_RDONLY", "shmctl IPC_STAT", "semctl GETVAL"}
OWNING = {"shmctl IPC_SET", "semctl IPC_RMID", "shmctl IPC_RMID"}


def _intrude(*arguments: object, group: int | None = None) -> str:
    """Run intruder.py as another user, who is a member of `group`."""
    prefix = second_user()
    if group is not None:
        prefix[prefix.index("--regid") + 1] = str(group)
    words = [*prefix, sys.executable, str(INTRUDER), *map(str, arguments)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _key(pair: Pair, index: int) -> int:
    """The key of the channel's segment (1) or of one of its semaphores (2 to 6)."""
    return int(sysv_ipc.ftok(str(pair.key_path), index, silence_warning=True))


def _keys(pair: Pair) -> set[int]:
    """The keys of all six objects."""
    return {_key(pair, index) for index in range(1, 7)}


def _lasting(pair: Pair) -> dict[str, Any]:
    """All of the status that a mere look at the channel does not change."""
    status = pair.status()
    assert status
    for name in ("last_pid", "attached", "attach_time", "detach_time"):
        del status["segment"][name]
    return status


# Another user's hands


@pytest.mark.parametrize(
    ("mode", "group", "allowed"),
    [
        ("0600", None, set()),
        ("0600", os.getgid(), set()),
        ("0640", None, set()),
        ("0640", os.getgid(), READING),
        ("0660", None, set()),
        ("0644", None, READING),
    ],
)
def test_the_kernel_keeps_another_user_out(pair: Pair, mode: str, group: int | None, allowed: set[str]) -> None:
    pair.write("--mode", mode, "hello")
    before = _lasting(pair)
    semids = [semaphore["id"] for semaphore in before["semaphores"].values()]
    for outcomes in json.loads(_intrude("try", before["segment"]["id"], *semids, group=group)):
        assert {call for call, outcome in outcomes.items() if outcome == "done"} == allowed
        assert {outcomes[call] for call in OWNING} == {"EPERM"}
        assert {outcomes[call] for call in set(outcomes) - OWNING - allowed} <= {"EACCES"}
    assert _lasting(pair) == before
    assert pair.read().out == b"hello\n"


TAKING_PART = [("writer", "intruding"), ("reader", "--timeout", "0")]
CHANGING = [("writer", "--remove"), ("writer", "--chmod", "0777"), ("writer", "--chown", "65534:65534")]
# At 0666 anybody may take part; what its owner alone may do is still refused.
REFUSED = [(mode, command) for mode in ("0600", "0640", "0644") for command in TAKING_PART + CHANGING]
REFUSED += [("0666", command) for command in CHANGING]


@both
@pytest.mark.parametrize(("mode", "command"), REFUSED)
def test_our_programs_tell_another_user_so(pair: Pair, mode: str, command: tuple[str, ...]) -> None:
    stranger = pair.under(*second_user(pair.ipc))
    program, *arguments = command
    pair.write("--mode", mode, "hello")
    before = _lasting(pair)
    done = stranger.run(program, "--quiet", *arguments)
    assert done.code == 1 and done.out == b"", done
    assert done.err.count("\n") == 1 and ("EACCES (" in done.err or "EPERM (" in done.err), done
    assert _lasting(pair) == before
    assert pair.read().out == b"hello\n"


@both
def test_what_explain_tells_to_type_acts_on_this_channel(pair: Pair) -> None:
    stranger = pair.under(*second_user(pair.ipc))
    pair.write("--quiet", "--channel", 3, "--mode", "0600", "hello")
    said = stranger.run("reader", "--channel", 3, "--status", "--explain").err
    (errno_line,) = (line for line in said.splitlines() if line.startswith("#   errno EACCES"))
    family = " --ipc posix" if pair.ipc == "posix" else ""
    assert f"`writer.py --chmod MODE{family} --key-path {pair.key_path} --channel 3`" in errno_line
    assert pair.read("--quiet", "--channel", 3).out == b"hello\n"


def test_root_without_the_right_to_remove_changes_nothing(pair: Pair) -> None:
    """A container's root has no CAP_SYS_ADMIN: another user's data must outlive its --remove."""
    shorn = [*second_user()[:1], "--bounding-set=-sys_admin"]  # needs root and setpriv, or skips
    with as_nobody():
        create_channel(FAMILY, place_of(pair.key_path), DEFAULT_GEOMETRY, 0o666).detach()
    pair.write("hello")
    before = _lasting(pair)
    done = pair.under(*shorn).write("--quiet", "--remove")
    assert (done.code, done.out) == (1, b""), done
    assert done.err.startswith("writer: shmctl(") and ": EPERM (Operation not permitted): " in done.err, done
    assert done.err.count("\n") == 1
    assert _lasting(pair) == before
    assert pair.read().out == b"hello\n"


# Observers


@contextmanager
def _observing(pair: Pair) -> Iterator[memoryview]:
    doorway = FlockDoorway(str(pair.key_path), Patience(PATIENCE, LISTENER))
    with doorway:
        family = find_channel(FAMILIES[pair.ipc], place_of(pair.key_path), observe=True)
    yield family.memory
    family.detach()
    doorway.close()


@both
def test_an_observer_cannot_write(pair: Pair) -> None:
    """Neither through the memoryview, which refuses, nor past it: the kernel has mapped the pages read-only."""
    pair.write("hello")
    with _observing(pair) as memory:
        assert memory.readonly
        with pytest.raises(TypeError):
            memory[0] = 0
        header = Header(memory)
        with pytest.raises(TypeError):
            header.tail = 1
        header.release()
        name = {"sysv": "SYSV", "posix": str(segment_file(pair))}[pair.ipc]
        mapped = [line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines() if name in line]
        assert mapped == ["r--s"]
    assert pair.read().out == b"hello\n"


def test_looking_attaches_read_only(pair: Pair) -> None:
    pair.write("hello")
    for program, *arguments in (("reader", "--status"), ("writer", "--chmod", "0600")):
        calls = calls_in(pair.run(program, "--trace", *arguments).err)
        assert [call.arguments.split(", ")[2] for call in calls if call.name == "shmat"] == ["SHM_RDONLY"]
    assert pair.read().out == b"hello\n"


# What is created


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o666])
def test_everything_is_born_with_the_mode_asked_for(pair: Pair, mode: int, umask: int) -> None:
    """Not made wider and narrowed later: the creating calls have the mode in them, and nothing sets it again."""
    watched = strace("-f", "-o", "log", "-e", "trace=%ipc")
    before = os.umask(umask)
    try:
        child = start(pair.under(*watched), "writer", "--mode", f"{mode:o}", "hello")
    finally:
        os.umask(before)
    assert ended(child).code == 0
    calls = calls_in((pair.directory / "log").read_text())
    created = [call.arguments for call in calls if "IPC_CREAT" in call.arguments]
    assert len(created) == 6 and all(arguments.endswith(f"IPC_CREAT|IPC_EXCL|{mode}") for arguments in created)
    assert not [call for call in calls if "IPC_SET" in call.arguments]
    assert _modes(pair) == [mode] * 6
    assert pair.read().out == b"hello\n"


def _modes(pair: Pair) -> list[int]:
    """The mode of the segment and of each semaphore, as the kernel has it."""
    found = [*segments(pair), *(semaphore(pair, name) for name in SEMAPHORES)]
    return [facts.mode for facts in found if facts]


@both
def test_semaphores_made_anew_have_the_mode_of_the_segment(pair: Pair) -> None:
    pair.write("--mode", "0600", "hello")
    remove(pair, "writers")
    assert pair.write("again").code == 0
    assert _modes(pair) == [0o600] * 6
    assert pair.read().out == b"hello\nagain\n"


@both
def test_a_new_segment_shows_nothing_of_an_old_one(pair: Pair) -> None:
    (pair.directory / "secret").write_bytes(b"secret" * 100_000)
    for _ in range(2):
        assert pair.write("--file", "secret").code == 0
        assert pair.write("--remove").code == 0
    pair.write("hello")
    with _observing(pair) as memory:
        payloads = bytes(memory[read_geometry(memory).payloads_at :])
    assert payloads.rstrip(b"\0") == b"hello\n"
    assert pair.read().out == b"hello\n"


# Whose objects are removed


@contextmanager
def _foreign_segment(pair: Pair, content: bytes, mode: int = 0o600) -> Iterator[sysv_ipc.SharedMemory]:
    """A segment with the channel's key that another program of ours uses; it must survive unchanged."""
    segment = sysv_ipc.SharedMemory(_key(pair, 1), sysv_ipc.IPC_CREX, mode, len(content), b"\0")
    try:
        segment.write(content)
        yield segment
        assert (segment.read(len(content)), segment.mode, segment.number_attached) == (content, mode, 1)
    finally:
        segment.detach()
        segment.remove()


EVERY_USE = [
    ("writer", ("hello",)),
    ("writer", ("--exclusive", "hello")),
    ("reader", ()),
    ("reader", ("--status",)),
    ("writer", ("--chmod", "0666")),
    ("writer", ("--remove",)),
]


@pytest.mark.parametrize(("program", "arguments"), EVERY_USE)
@pytest.mark.parametrize("content", [b"x" * 100, b"somebody else's " * 1000, bytes(2 * PAGE)])
def test_a_foreign_segment_is_refused_untouched(
    pair: Pair, content: bytes, program: str, arguments: tuple[str, ...]
) -> None:
    with _foreign_segment(pair, content) as segment:
        done = pair.run(program, "--quiet", *arguments)
        assert done.code == 1 and done.err.count("\n") == 1, done
        assert f"segment {segment.id} " in done.err and f"ipcrm -m {segment.id}" in done.err


def test_an_empty_segment_in_use_is_refused_untouched(pair: Pair) -> None:
    """It is of our uid, all zeros, and who made it is dead: only that somebody has it attached speaks for it."""
    words = [sys.executable, str(INTRUDER), "segment", str(_key(pair, 1)), bytes(PAGE).hex()]
    shmid = int(subprocess.run(words, check=True, capture_output=True).stdout)
    user = sysv_ipc.attach(shmid)
    try:
        done = pair.write("--quiet", "hello")
        assert done.code == 1 and f"segment {shmid} " in done.err, done
        assert user.read() == bytes(PAGE)
    finally:
        user.detach()
        user.remove()


@pytest.mark.parametrize(("program", "arguments"), EVERY_USE)
@pytest.mark.parametrize("magic", [MAGIC, HALF_MADE])
def test_the_channel_of_another_path_is_refused_untouched(
    pair: Pair, magic: bytes, program: str, arguments: tuple[str, ...]
) -> None:
    """ftok keeps 16 bits of an inode: two paths may have one key, and the header says whose channel it is."""
    identity = pair.key_path.stat()
    with _foreign_segment(pair, _header(magic, identity.st_dev, identity.st_ino + 2**16)) as segment:
        done = pair.run(program, "--quiet", *arguments)
        assert done.code == 1 and done.err.count("\n") == 1, done
        assert "already belongs to another path" in done.err and f"segment {segment.id}" in done.err


def _header(magic: bytes, dev: int, ino: int, state: int = OPEN, first_semaphore: int = NOT_CREATED) -> bytes:
    """A forged header: whoever can make a segment can write into it whatever he likes."""
    page = bytearray(PAGE)
    header = Header(memoryview(page))
    header.magic, header.version, header.state = magic, VERSION, state
    header.key_dev, header.key_ino = dev, ino
    for index in range(len(SEMAPHORES)):
        header.set_semaphore_id(index, first_semaphore if index == 0 else NOT_CREATED)
    header.release()
    return bytes(page)


def test_a_key_path_swapped_under_us_joins_nothing(pair: Pair) -> None:
    """The doorway is one file and the key, a moment later, another's: the header betrays it."""
    other = pair.directory / "other"
    other.touch()
    pair.write("hello")
    doorway = FlockDoorway(str(other), Patience(PATIENCE, LISTENER))
    with doorway, pytest.raises(ChannelError, match="already belongs to another path"):
        open_channel(FAMILY, Place.of(sysv, str(pair.key_path), 0, doorway.identity()))
    doorway.close()
    assert pair.read().out == b"hello\n"


@both
def test_a_symbolic_link_is_the_file_behind_it(pair: Pair) -> None:
    link = pair.directory / "link"
    link.symlink_to(pair.key_path)
    through_link = Pair(link, pair.directory, ipc=pair.ipc)
    assert through_link.write("hello").code == 0
    assert pair.read().out == b"hello\n"


def test_a_foreign_semaphore_is_refused_untouched(pair: Pair) -> None:
    semaphore = sysv_ipc.Semaphore(_key(pair, 3), sysv_ipc.IPC_CREX, 0o600, 1)
    semaphore.release()
    try:
        done = pair.write("--quiet", "hello")
        assert done.code == 1 and f"semaphore {semaphore.id} has our key" in done.err, done
        assert "clears it" in done.err and done.err.count("\n") == 1, done
        assert (semaphore.value, semaphore.mode) == (2, 0o600)
        assert pair.status() is None  # the segment that was made for it is gone again
    finally:
        semaphore.remove()


@both
def test_a_held_doorway_only_delays(pair: Pair) -> None:
    """Anybody who may read the key path can hold its lock. That stops us; it gives him nothing."""
    with open(pair.key_path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for program, *arguments in (("writer", "hello"), ("reader",), ("writer", "--remove")):
            done = pair.run(program, "--quiet", "--timeout", "0.1", *arguments)
            assert done.code == 124 and "the lock on" in done.err, done
    assert pair.write("hello").code == 0
    assert pair.read().out == b"hello\n"


@both
@pytest.mark.parametrize("arguments", [(), ("--count", "1"), ("--output", "copy")], ids=str)
def test_a_reader_that_may_not_remove_says_who_has_to(pair: Pair, arguments: tuple[str, ...]) -> None:
    stranger = pair.under(*second_user(pair.ipc))
    pair.write("--mode", "0666", "hello")
    copy = pair.directory / "copy"
    copy.touch()
    copy.chmod(0o666)
    done = stranger.read("--quiet", *arguments)
    assert (done.code, done.out + copy.read_bytes()) == (1, b"hello\n"), done
    assert done.err == (
        "reader: EPERM: all that was in the channel has arrived, and removing it is not for us: its owner,"
        f" uid {os.geteuid()}, has to, with `writer.py --remove`; with --keep we would not try\n"
    )
    assert pair.write("--remove").code == 0


@both
@pytest.mark.parametrize("arguments", [(), ("--keep",)], ids=str)
def test_an_output_that_is_gone_is_not_said_to_have_all(pair: Pair, arguments: tuple[str, ...]) -> None:
    """Of two errors, the one that lost something."""
    stranger = pair.under(*second_user(pair.ipc))
    writer = pair.start("writer", "--quiet", "--mode", "0666", "--lines")
    assert writer.stdin
    writer.stdin.write(b"hello\n")
    writer.stdin.flush()
    copy = pair.directory / "copy"
    copy.touch()
    copy.chmod(0o666)
    reader = stranger.start("reader", "--quiet", "--output", "copy", *arguments)
    wait_until(lambda: copy.read_bytes() == b"hello\n", "the record in the output")
    copy.unlink()
    assert finish(writer, b"").code == 0
    done = finish(reader)
    assert done.code == 1 and done.err.startswith("reader: copy was removed while it was written: "), done
    assert done.err.count("\n") == 1, done
    assert pair.write("--remove").code == 0


# Another user's traps: he owns an object with our key before we come


@pytest.fixture
def trapped(pair: Pair) -> Iterator[Pair]:
    """The traps are removed afterwards, whatever became of them."""
    yield pair
    clear_away(_keys(pair))


def test_an_empty_segment_of_another_user_is_not_cleared(trapped: Pair) -> None:
    """Ours, zero in every byte and with a dead creator, would be a leftover of ours; this one is not."""
    shmid = int(_intrude("segment", _key(trapped, 1), bytes(PAGE).hex()))
    done = trapped.write("--quiet", "hello")
    assert done.code == 1 and f"segment {shmid} of uid 65534" in done.err, done
    assert sysv_ipc.attach(shmid).read() == bytes(PAGE)


def test_an_unused_semaphore_of_another_user_is_not_adopted(trapped: Pair) -> None:
    """Taking it over would let its owner work our channel's semaphores."""
    semid = int(_intrude("semaphore", _key(trapped, 2)))
    done = trapped.write("--quiet", "--mode", "0600", "hello")
    assert done.code == 1 and f"ipcrm -s {semid}" in done.err, done
    assert trapped.status() is None


@pytest.mark.parametrize(("magic", "state"), [(HALF_MADE, OPEN), (MAGIC, FINISHED), (MAGIC, REMOVED)])
@pytest.mark.parametrize(("program", "arguments"), [("writer", ("hello",)), ("writer", ("--remove",))])
def test_a_forged_header_cannot_make_us_remove_a_semaphore(
    trapped: Pair, magic: bytes, state: int, program: str, arguments: tuple[str, ...]
) -> None:
    """Another program of ours has a semaphore with one of our keys, and he forges a channel that claims it."""
    semaphore = sysv_ipc.Semaphore(_key(trapped, 2), sysv_ipc.IPC_CREX, 0o600, 1)
    semaphore.release()
    identity = trapped.key_path.stat()
    forged = _header(magic, identity.st_dev, identity.st_ino, state, first_semaphore=semaphore.id)
    _intrude("segment", _key(trapped, 1), forged.hex())
    done = trapped.run(program, "--quiet", "--timeout", "1", *arguments)
    assert "Traceback" not in done.err
    assert (semaphore.value, semaphore.mode) == (2, 0o600)
