"""What --trace and --trace=all show of calls and steps, and what they leave out, hold back and count."""

from __future__ import annotations

import errno
import re
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.channel.listener import Call, Step
from common.cli.tracer import WIDTH, Tracer, quote
from common.geometry import Geometry
from common.layout import ABORTED, FIRST, LAST, LINES, PAGE, SLOT, TAKEN_OFFSET, SlotHeader
from tests.families import both
from tests.helpers import Pair, finish, wait_until

GEOMETRY = Geometry(2, PAGE)
ADDRESS = 0x7F0000000000
AT = GEOMETRY.payloads_at


class Traced:
    """A tracer of an attached segment, and the lines that it wrote."""

    def __init__(self, *, everything: bool = False, explain: bool = False) -> None:
        self.lines: list[str] = []
        self.memory = bytearray(GEOMETRY.segment_size)
        self.tracer = Tracer(lambda *lines: self.lines.extend(lines), everything=everything, explain=explain)
        self.tracer.attached(memoryview(self.memory), ADDRESS, GEOMETRY)

    def move(self, step: Step, number: int, about: SlotHeader) -> None:
        """Tell that head or tail is about to move past this fragment, and move it."""
        self.tracer.step(step, number, about)
        struct.pack_into("Q", self.memory, 128 if step is Step.PUBLISH else 192, number + 1)

    def put(self, number: int, data: bytes) -> None:
        """Fill the slot of this fragment."""
        at = AT + number % 2 * PAGE
        self.memory[at : at + len(data)] = data


def slot(length: int, flags: int = FIRST | LAST, taken: int = 0) -> SlotHeader:
    return SlotHeader(length, flags, 0, 0, length, 1, 0, 1, taken)


# Which calls

ON_THE_SEGMENT = [
    Call("ftok", ("p", 1), 5, 0),
    Call("ftok", ("p", 9), 5, 0),  # of another channel
    Call("shmget", (5, 0, 0), -1, errno.ENOENT),
    Call("shmat", (7, None, 0), ADDRESS, 0),
    Call("shmctl", (7, 0, None), 0, 0),
    Call("shmdt", (ADDRESS,), 0, 0),
    Call("shm_open", ("/a", 0, 0), 3, 0),
    Call("ftruncate", (3, 1), 0, 0),
    Call("posix_fallocate", (3, 0, 1), 0, 0),
    Call("fstat", (3, None), -1, errno.EBADF),
    Call("lstat", ("/dev/shm/shmpair-1", None), -1, errno.ENOENT),
    Call("fchmod", (3, 0o600), 0, 0),
    Call("fchown", (3, 1, 1), 0, 0),
    Call("mmap", (None, 1, 3, 1, 3, 0), ADDRESS, 0),
    Call("munmap", (ADDRESS, 1), 0, 0),
    Call("close", (3,), 0, 0),
    Call("shm_unlink", ("/a",), 0, 0),
]
ON_OTHERS = [
    Call("ftok", ("p", 2), 5, 0),
    Call("ftok", ("p", 14), 5, 0),
    Call("flock", (3, 6), 0, 0),
    Call("semget", (5, 0, 0), 7, 0),
    Call("semctl", (7, 0, "GETVAL"), 0, 0),
    Call("semop", (7, 1, 0), 0, 0),
    Call("semtimedop", (7, -1, 0, 0.1), 0, 0),
    Call("sem_open", ("/a", 0), ADDRESS, 0),
    Call("sem_post", (ADDRESS,), 0, 0),
    Call("lstat", ("/dev/shm/sem.shmpair-1-2-writers", None), -1, errno.ENOENT),
    Call("chmod", ("/dev/shm/sem.a", 0o600), 0, 0),
    Call("lchown", ("/dev/shm/sem.a", 1, 1), 0, 0),
]


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("call", ON_THE_SEGMENT + ON_OTHERS, ids=lambda call: call.name)
def test_only_all_shows_semaphores_and_the_doorway(call: Call, everything: bool) -> None:
    traced = Traced(everything=everything)
    traced.tracer.call(call)
    assert bool(traced.lines) is (everything or call in ON_THE_SEGMENT)


# Stores and loads


def test_a_store_is_shown_when_it_is_done_and_before_the_next_call() -> None:
    traced = Traced()
    traced.put(3, b"hello\n")
    traced.move(Step.PUBLISH, 3, slot(6))
    assert traced.lines == []
    traced.tracer.call(ON_THE_SEGMENT[-1])
    assert traced.lines == [
        f'# store 6 bytes at {ADDRESS + AT + PAGE:#x}, offset {AT + PAGE}: slot 1; head 3 -> 4: "hello\\n"',
        'shm_unlink("/a") = 0',
    ]


@pytest.mark.parametrize("step", [Step.PUBLISH, Step.COMMIT])
def test_what_a_signal_prevents_is_not_told(step: Step) -> None:
    """It came before head or tail had moved."""
    traced = Traced()
    for number in (0, 1):
        traced.move(step, number, slot(1))
        traced.tracer.step(Step.GIVE_TURN, -1, None)
    traced.tracer.step(step, 2, slot(1))
    traced.tracer.step(Step.LEAVE, -1, None)
    assert len(traced.lines) == 2


def test_a_call_that_is_not_shown_ends_a_store_too() -> None:
    traced = Traced()
    traced.move(Step.PUBLISH, 0, slot(0))
    traced.tracer.call(Call("semop", (7, 1, 0), 0, 0))
    assert traced.lines == [f'# store 0 bytes at {ADDRESS + AT:#x}, offset {AT}: slot 0; head 0 -> 1: ""']


def test_a_load_shows_what_was_there_before_the_tail_moved() -> None:
    traced = Traced()
    traced.put(2, b"taken, and the rest")
    traced.tracer.step(Step.PUT_OUT, 2, slot(19, taken=7))
    traced.move(Step.COMMIT, 2, slot(19, taken=7))
    traced.put(2, b"a writer fills the slot anew")
    traced.tracer.step(Step.FREE, 2, None)
    at = AT + 7
    assert traced.lines == [
        f'# load 12 bytes at {ADDRESS + at:#x}, offset {at}: slot 0; tail 2 -> 3: "and the rest"'
    ]  # fmt: skip


def test_a_load_of_a_part_of_a_slot_shows_what_is_taken_of_it() -> None:
    traced = Traced()
    traced.put(1, b"one\ntwo\nthree\n")
    traced.tracer.step(Step.PUT_OUT, 1, slot(14, LINES | FIRST | LAST, taken=4))
    traced.tracer.step(Step.COMMIT, 1, None)
    struct.pack_into("I", traced.memory, PAGE + SLOT.size + TAKEN_OFFSET, 8)
    traced.tracer.step(Step.GIVE_TURN, -1, None)
    at = AT + PAGE + 4
    assert traced.lines == [
        f'# load 4 bytes at {ADDRESS + at:#x}, offset {at}: slot 1, a part of it; tail 1: "two\\n"'
    ]  # fmt: skip


@pytest.mark.parametrize("step", [Step.PUBLISH, Step.COMMIT])
def test_a_record_that_was_given_up_has_no_bytes(step: Step) -> None:
    traced = Traced()
    for flags in (ABORTED, ABORTED | LINES):
        traced.move(step, 0, slot(0, flags))
        traced.tracer.step(Step.LEAVE, -1, None)
    assert traced.lines == []


def test_every_store_is_shown() -> None:
    traced = Traced()
    for number in range(100):
        traced.move(Step.PUBLISH, number, slot(1))
    traced.tracer.step(Step.LEAVE, -1, None)
    assert [line.rpartition("; ")[2] for line in traced.lines] == [
        f'head {number} -> {number + 1}: "\\000"' for number in range(100)
    ]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", '""'),
        (b"hello\n", r'"hello\n"'),
        (b'say "a\\b"\t\r', r'"say \"a\\b\"\t\r"'),
        (b"\x00\x01\x1b\x7f1", r'"\000\001\033\1771"'),
        ("ü".encode(), r'"\303\274"'),
        (b"x" * WIDTH, f'"{"x" * WIDTH}"'),
        (b"x" * (WIDTH + 1), f'"{"x" * WIDTH}"...'),
        (b"x" * (WIDTH - 3) + b"\xff", f'"{"x" * (WIDTH - 3)}"...'),  # no half of an escape
    ],
)
def test_bytes_as_text(data: bytes, shown: str) -> None:
    assert quote(data) == shown


# What is repeated

A, B, C = (Call("close", (fd,), 0, 0) for fd in (1, 2, 3))
LINE = {A: "close(1) = 0", B: "close(2) = 0", C: "close(3) = 0"}
BEAT = None  # a heartbeat of a wait


def traced(events: Sequence[Call | None], *, everything: bool) -> list[str]:
    made = Traced(everything=everything)
    for event in events:
        if event is BEAT:
            made.tracer.looked()
        else:
            made.tracer.call(event)
    made.lines += made.tracer.flush()
    names = {line: name for name, line in zip("ABC", LINE.values(), strict=True)}
    return [names.get(line, line.removeprefix("# the last ").removesuffix(", while waiting")) for line in made.lines]


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([A, A, A], ["A"]),
        ([A, BEAT, A, BEAT, A], ["A"]),
        ([A, B, A, B], ["A", "B", "A", "B"]),
        ([A, A, B, B, A], ["A", "B", "A"]),
    ],
)
def test_in_the_lab_a_call_that_only_repeats_the_last_is_left_out(
    events: Sequence[Call | None], shown: list[str]
) -> None:
    assert traced(events, everything=False) == shown


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([A, A, A], ["A", "A", "A"]),  # no wait
        ([A, BEAT], ["A"]),
        ([A, BEAT, A], ["A", "call 1 time more"]),
        ([A, BEAT, A, BEAT, A, BEAT], ["A", "call 2 times more"]),
        ([A, B, BEAT, A, B, BEAT, A, B, BEAT], ["A", "B", "2 calls 2 times more"]),
        ([A, B, BEAT, A, B, BEAT, A, C], ["A", "B", "2 calls 1 time more", "A", "C"]),  # it is there
        ([A, B, BEAT, A, C, BEAT, A, C, BEAT], ["A", "B", "A", "C", "2 calls 1 time more"]),
        ([C, A, B, BEAT, A, B, BEAT, A, B], ["C", "A", "B", "2 calls 2 times more"]),  # C was before the wait
        ([A, C, B, A, BEAT, B, A, BEAT, B, A, BEAT], ["A", "C", "B", "A", "2 calls 2 times more"]),
        ([A, B, BEAT, A, BEAT, A, BEAT], ["A", "B", "A", "call 1 time more"]),  # half a look is another one
        ([A, A, BEAT, A, A, BEAT], ["A", "A", "2 calls 1 time more"]),
        ([A, B, BEAT, B, A, BEAT], ["A", "B", "B", "A"]),
        ([A, BEAT, A, BEAT, B, A, A], ["A", "call 1 time more", "B", "A", "A"]),  # the wait is over
        ([A, BEAT, BEAT, A, BEAT], ["A", "call 1 time more"]),  # one look called nothing
        ([BEAT, BEAT], []),
    ],
)
def test_with_all_what_a_look_repeats_is_counted(events: Sequence[Call | None], shown: list[str]) -> None:
    assert traced(events, everything=True) == shown


def test_what_is_counted_adds_up_to_every_call() -> None:
    """Whatever is said in between."""
    made = Traced(everything=True)
    looks = [A, B] * 3 + [A] + [A] * 4
    for number, call in enumerate(looks):
        made.tracer.call(call)
        if call is B or number > 5:
            made.tracer.looked()
        if number % 3 == 2:
            made.lines += [*made.tracer.flush(), "reader: something"]
    made.lines += made.tracer.flush()
    told: list[str] = []
    for line in made.lines:
        counted = re.fullmatch(r"# the last (?:(\d+) calls|call) (\d+) times? more, while waiting", line)
        if counted:
            told += told[-int(counted[1] or 1) :] * int(counted[2])
        elif not line.startswith("reader"):
            told.append(line)
    assert told == [LINE[call] for call in looks]


def test_a_wait_until_another_moment_is_the_same_look() -> None:
    made = Traced(everything=True)
    for until in (1.5, 1.6, 1.7):
        made.tracer.call(Call("sem_clockwait", (ADDRESS, 1, until), -1, errno.ETIMEDOUT))
        made.tracer.looked()
    assert len(made.lines) == 1
    assert made.tracer.flush() == ["# the last call 2 times more, while waiting"]


def test_a_store_tells_what_was_counted_first() -> None:
    made = Traced(everything=True)
    for _ in range(3):
        made.tracer.call(A)
        made.tracer.looked()
    made.move(Step.PUBLISH, 0, slot(0))
    made.tracer.step(Step.LEAVE, -1, None)
    assert [line.split()[1] for line in made.lines] == ["=", "the", "store"]


# The programs


@both
def test_the_bytes_are_where_the_trace_says(pair: Pair) -> None:
    written = pair.write("--quiet", "--trace", "hello").err
    read = pair.read("--quiet", "--trace").err
    for said, verb, counter in ((written, "store", "head"), (read, "load", "tail")):
        attached = re.search(r"^(?:shmat|mmap)\(.*\) = (0x\w+)$", said, re.MULTILINE)
        moved = re.search(
            rf'^# {verb} 6 bytes at (0x\w+), offset (\d+): slot 0; {counter} 0 -> 1: "hello\\n"$', said, re.MULTILINE
        )
        assert attached and moved, said
        assert int(moved[1], 16) - int(attached[1], 16) == int(moved[2]) == 8192
        assert not re.search(r"^(sem|flock|fcntl)", said, re.MULTILINE), said


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [([], set()), (["--trace"], {"tracer"}), (["--trace=all"], {"tracer"}), (["--explain"], {"tracer", "explain"})],
)
def test_it_is_loaded_only_when_asked_for(pair: Pair, arguments: list[str], loaded: set[str]) -> None:
    command = pair.command("writer", *arguments, "hello")
    done = finish(pair.spawn([command[0], "-X", "importtime", *command[1:]]))
    assert set(re.findall(r"common\.cli\.(tracer|explain)$", done.err, re.MULTILINE)) == loaded
    assert ("common.ipc.meanings" in done.err) is ("explain" in loaded)
    assert pair.read("--quiet").out == b"hello\n"


def sleeps_of(pid: int) -> int:
    """How often a process went to sleep (proc_pid_status(5))."""
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def said_while_waiting(pair: Pair, *arguments: str) -> list[str]:
    """What a reader says that looks many times, and is then interrupted: from the first look's last line on."""
    said = pair.directory / "said"
    with said.open("wb") as log:
        reader = pair.start("reader", "--quiet", *arguments, stderr=log)
    looked = wait_until(lambda: re.search(r"ENOENT|ETIMEDOUT|semtimedop.*EAGAIN", said.read_text()), "the first look")
    asleep = sleeps_of(reader.pid)
    wait_until(lambda: sleeps_of(reader.pid) > asleep + 12, "twelve looks")
    reader.send_signal(signal.SIGINT)
    assert finish(reader).code == 128 + signal.SIGINT
    return said.read_text()[looked.end() :].splitlines()[1:]


@both
def test_who_waits_for_a_channel_asks_in_one_line(pair: Pair) -> None:
    assert said_while_waiting(pair, "--trace") == ["reader: ended by SIGINT"]
    unlock, counted, ended = said_while_waiting(pair, "--trace=all")
    assert unlock == "flock(3, LOCK_UN) = 0" and ended == "reader: ended by SIGINT"
    assert re.fullmatch(r"# the last 3 calls \d+ times more, while waiting", counted)


@both
def test_who_waits_for_data_counts_its_looks(pair: Pair) -> None:
    pair.write("--quiet", "hello")
    said = said_while_waiting(pair, "--trace=all", "--follow")
    counted = [line for line in said if line.startswith("#")]
    assert len(counted) == 1 and re.fullmatch(r"# the last \d+ calls \d+ times more, while waiting", counted[0]), said
    assert pair.status() is None
