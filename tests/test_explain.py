"""What --explain says below each line of the trace: what is there to be said, once, and what has changed."""

from __future__ import annotations

import errno
import re
import subprocess
from typing import Any

import pexpect
import pytest

from common.channel.listener import Call
from common.cli.explain import Explainer
from common.ipc.sysv_calls import ShmidDs, _SemidDs
from tests.e2e.watch import segments
from tests.families import both
from tests.helpers import PATIENCE, Pair, ipc_table, wait_until

KEY = 0x01020AB3
UNDO = 0x1000


def ds(attached: int, mode: int = 0o660) -> ShmidDs:
    made = ShmidDs(size=8192, attached=attached)
    made.perm.mode = mode
    return made


def told(*calls: Call, label: str = "now") -> list[str]:
    """What stands behind this label, of each call; "" where it does not stand."""
    explainer = Explainer()
    found = []
    for call in calls:
        text = " ".join(line.removeprefix("#         ") for line in explainer.explain(call))
        match = re.search(rf"#   {label} +(.*?)(?:$| #   )", text)
        found.append(match[1] if match else "")
    return found


CREATE = Call("shmget", (KEY, 8192, 0o3660), 7, 0)
ATTACH = Call("shmat", (7, None, 0), 4096, 0)
DETACH = Call("shmdt", (4096,), 0, 0)
REMOVE = Call("shmctl", (7, 0, None), 0, 0)


def stat(attached: int, mode: int = 0o660) -> Call:
    return Call("shmctl", (7, 2, ds(attached, mode)), 0, 0)


@pytest.mark.parametrize(
    ("calls", "last"),
    [
        ([CREATE], "a segment of 8192 bytes is there, nattch 0"),
        ([CREATE, ATTACH], "nattch 0 -> 1"),
        ([stat(0), ATTACH], "nattch 0 -> 1"),
        ([stat(2), ATTACH], "nattch 2 -> 3"),
        ([stat(0), ATTACH, DETACH], "nattch 1 -> 0; it stays, with all that is in it, until somebody removes it"),
        ([stat(0), ATTACH, stat(3), DETACH], "nattch 3 -> 2"),
        (
            [stat(0), ATTACH, REMOVE],
            'it is marked ("dest" in ipcs -m), its key is free at once; nattch 1: it goes when that is 0',
        ),
        (
            [stat(0), REMOVE],
            'it is marked ("dest" in ipcs -m), its key is free at once; nattch 0: nobody has it any more and it is'
            " marked, so the kernel frees it now",
        ),
        (
            [stat(0), ATTACH, REMOVE, DETACH],
            "nattch 1 -> 0: nobody has it any more and it is marked, so the kernel frees it now",
        ),
        ([stat(2, 0o1660), DETACH], "nattch 2 -> 1: it goes when that is 0"),
        (
            [REMOVE, CREATE, ATTACH, DETACH],
            "nattch 1 -> 0; it stays, with all that is in it, until somebody removes it",
        ),
        ([ATTACH], "nattch is one more"),
        ([DETACH], "nattch is one less"),
        ([stat(0), ATTACH._replace(result=-1, errno=errno.ENOMEM)], ""),
        ([stat(0), ATTACH._replace(result=-1, errno=errno.ENOMEM), ATTACH], "nattch 0 -> 1"),
    ],
)
def test_what_becomes_of_nattch(calls: list[Call], last: str) -> None:
    assert told(*calls)[-1] == last


def test_the_kernel_may_remove_with_the_last_detach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.ipc.sysv_calls.forced_removal", lambda: True)
    said = "nattch 1 -> 0: kernel.shm_rmid_forced is 1, so the kernel removes it now"
    assert told(stat(1), DETACH) == ["", said]


OPENED = [Call("ftok", ("p", number), KEY + number, 0) for number in range(1, 7)]
OPENED += [Call("semget", (KEY + 2 + index, 0, 0o600), 20 + index, 0) for index in range(5)]


def test_a_semaphore_is_called_by_its_role() -> None:
    operations = [Call("semop", (20 + index, change, 0), 0, 0) for index in range(5) for change in (-1, 1)]
    roles = ["full_slots", "empty_slots", "writer_turn", "reader_turn", "writers"]
    assert told(*OPENED, label="why")[-5:] == [why for why in told(*OPENED, label="why")[-5:] if why]
    assert told(*OPENED, *operations)[len(OPENED) :] == [
        f"{role} is one {change}" for role in roles for change in ("less", "more")
    ]


def test_a_posix_semaphore_too() -> None:
    opened = [Call("sem_open", (f"/shmpair-1-2-{role}", 0), 99, 0) for role in ("empty_slots",)]
    assert told(*opened, Call("sem_trywait", (99,), 0, 0), Call("sem_post", (99,), 0, 0))[1:] == [
        "empty_slots is one less",
        "empty_slots is one more",
    ]


def test_what_the_kernel_takes_back_is_told_as_long_as_there_is_something() -> None:
    take, give = Call("semop", (22, -1, UNDO), 0, 0), Call("semop", (22, 1, UNDO), 0, 0)
    failed = take._replace(result=-1, errno=errno.EAGAIN)
    plain = Call("semop", (22, -1, 0), 0, 0)
    undone, nothing = (
        "; if we die, the kernel takes that back (SEM_UNDO)",
        "; now there is nothing to take back (SEM_UNDO)",
    )
    assert told(*OPENED, take, give, failed, take, plain)[len(OPENED) :] == [
        f"writer_turn is one less{undone}",
        f"writer_turn is one more{nothing}",
        "",
        f"writer_turn is one less{undone}",
        "writer_turn is one less",
    ]


def test_what_was_said_is_not_said_again_but_for_the_change() -> None:
    explainer = Explainer()
    first, second = explainer.explain(CREATE), explainer.explain(CREATE)
    assert [line.split()[1] for line in first if line[4] != " "] == ["what", "why", "now"]
    assert second == ["#   now   a segment of 8192 bytes is there, nattch 0"]
    explainer.explain(stat(0))
    assert explainer.explain(stat(0)) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("shmget", (KEY, 0, 0), -1, errno.ENOENT), "ENOENT: no segment has this key: a writer makes one"),
        (Call("shmget", (KEY, 0, 0), -1, errno.EACCES), "EACCES: the segment with this key belongs to someone else"),
        (Call("shmctl", (7, 2, None), -1, errno.EIDRM), "EIDRM: the channel, or this part of it, was removed"),
        (Call("shmctl", (7, 1, ds(0)), -1, errno.EINVAL), "EINVAL: this user or group has no number"),
        (Call("semctl", (7, 0, "IPC_SET", _SemidDs()), -1, errno.EPERM), "EPERM: only its owner, its creator or root"),
        (Call("semop", (7, -1, 0), -1, errno.EAGAIN), "EAGAIN: it has no token"),
        (Call("semtimedop", (7, -1, 0, 0.1), -1, errno.EINTR), "EINTR: a signal woke us"),
        (Call("sem_clockwait", (99, 1, 0.1), -1, errno.ETIMEDOUT), "ETIMEDOUT: no token came"),
        (Call("flock", (3, 6), -1, errno.EAGAIN), "EAGAIN: somebody else is in the doorway"),
    ],
    ids=lambda value: value.name if isinstance(value, Call) else "",
)
def test_an_errno_is_told_by_what_it_means_here(call: Call, said: str) -> None:
    (found,) = told(call, label="errno")
    assert found.startswith(said)


def test_asking_with_an_owner_who_is_nobody_is_told_as_what_it_is() -> None:
    """Nothing is stored, so that EINVAL is a yes."""
    nobody, own = ShmidDs(), _SemidDs()
    nobody.perm.uid = own.perm.uid = 2**32 - 1
    for call in (Call("shmctl", (7, 1, nobody), -1, 0), Call("semctl", (7, 0, "IPC_SET", own), -1, 0)):
        refused, may = call._replace(errno=errno.EPERM), call._replace(errno=errno.EINVAL)
        assert "who may is told EINVAL, who may not EPERM, and nothing is stored" in told(may, label="what")[0]
        assert told(may, refused, label="errno")[0].startswith("EINVAL: we may, and nothing has changed")
        assert told(refused, label="errno")[0].startswith("EPERM: only its owner, its creator or root")
    assert "here those that it has already" in told(Call("shmctl", (7, 1, ShmidDs()), 0, 0), label="what")[0]


def test_a_command_in_it_is_one_for_this_channel() -> None:
    explainer = Explainer(lambda text: text.replace("MODE`", "MODE --channel 3`"))
    lines = explainer.explain(Call("shmget", (KEY, 0, 0), -1, errno.EACCES))
    assert "`writer.py --chmod MODE --channel 3`" in " ".join(lines)


def test_an_errno_that_nobody_foresaw_has_no_line() -> None:
    assert told(Call("shmat", (7, None, 0), -1, errno.EXDEV), label="errno") == [""]


# The programs


def explained(pair: Pair, program: str, *arguments: Any) -> list[tuple[str, list[str]]]:
    """Each line of the trace, and what is said below it."""
    found: list[tuple[str, list[str]]] = []
    for line in pair.run(program, "--quiet", "--explain", *arguments).err.splitlines():
        if line.startswith("#   "):
            found[-1][1].append(line)
        else:
            found.append((line, []))
    return found


@both
@pytest.mark.parametrize("trace", ["--trace", "--trace=all"])
def test_each_kind_of_line_is_explained(pair: Pair, trace: str) -> None:
    """The first one of each call says what it does; why, where that was not said of another one."""
    for program, *arguments in (
        ("writer", "hello"),
        ("reader", "--status", "--json"),
        ("writer", "--chmod", "0600"),
        ("reader", "--keep"),
        ("writer", "again"),
        ("reader",),
    ):
        seen: set[str] = set()
        for line, below in explained(pair, program, trace, *arguments):
            name = re.match(r"(?:# )?(\w+)", line)
            assert name and not line.startswith((program, "  ")), line
            assert name[1] in seen or below[0].startswith("#   what "), line
            assert "None" not in "".join(below) and "{" not in "".join(below), below
            assert not ("-1 E" in line and name[1] not in seen) or "#   errno E" in "\n".join(below), line
            seen.add(name[1])


@both
def test_the_reason_of_a_removal_is_true_of_each(pair: Pair) -> None:
    """Of a channel that nobody had been in, too: its making fails, there is no room for it in our address space."""
    python, *arguments = pair.command("writer", "--quiet", "--explain", "--slot-size", "64M", "hello")
    limited = ["sh", "-c", 'ulimit -v 400000; exec "$@"', "sh", python, *arguments]
    done = subprocess.run(limited, capture_output=True, text=True, cwd=pair.directory)
    assert done.returncode == 1
    removal = done.stderr.partition("IPC_RMID, NULL) = 0\n" if pair.ipc == "sysv" else "shm_unlink(")[2]
    (why,) = re.findall("#   why +(.*)", removal)[:1]
    for reason in ("all is read and no writer is left", "--remove asked for it", "its making failed"):
        assert reason in why
    assert ("kernel.shm_rmid_forced" in why) == (pair.ipc == "sysv")


def test_nattch_is_what_the_kernel_counts(pair: Pair) -> None:
    pair.write("--quiet", "hello")
    reader = pair.start("reader", "--quiet", "--follow")
    wait_until(lambda: (status := pair.status()) and status["segment"]["attached"] == 1, "the reader's shmat")
    (segment,) = segments(pair)
    said = dict(explained(pair, "writer", "more"))
    nows = {line.partition("(")[0]: below[-1] for line, below in said.items() if line.startswith(("shmat", "shmdt"))}
    assert nows == {"shmat": "#   now   nattch 1 -> 2", "shmdt": "#   now   nattch 2 -> 1"}
    removal = dict(explained(pair, "writer", "--remove"))
    (marked,) = (" ".join(below) for line, below in removal.items() if ", IPC_RMID" in line)
    assert "nattch 2: it goes" in re.sub(r" #\s+", " ", marked), marked
    reader.wait(PATIENCE)
    assert segment.id not in [row["shmid"] for row in ipc_table("shm")]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_it_is_as_wide_as_the_terminal(pair: Pair, columns: int) -> None:
    command, *arguments = pair.command("writer", "--quiet", "--explain", "hello")
    terminal = pexpect.spawn(command, arguments, dimensions=(50, columns), encoding="utf-8", timeout=PATIENCE)
    terminal.expect(pexpect.EOF)
    terminal.close()
    lines = terminal.before.splitlines()
    below = [line for line in lines if line.startswith("#   ")]
    assert below and max(map(len, below)) < columns
    assert max(map(len, below)) > min(columns, 120) * 0.75
    assert pair.read("--quiet").out == b"hello\n"


def test_in_a_pipe_each_text_is_one_line(pair: Pair) -> None:
    said = pair.write("--quiet", "--explain", "hello").err.splitlines()
    assert not [line for line in said if line.startswith("#     ")]
    assert max(map(len, said)) > 160
    assert pair.read("--quiet").out == b"hello\n"


def test_in_the_c_locale_it_is_ascii(pair: Pair) -> None:
    command = pair.under(LC_ALL="C").command("writer", "--explain", "--trace=all", "é")
    done = subprocess.run(command, capture_output=True, cwd=pair.directory, check=True)
    assert done.stderr.isascii()
    assert pair.read("--quiet").out == "é\n".encode()
