"""The simulated processes: the real channel.py, each process in a greenlet that stops at every primitive operation.

A process sees the kernel only through `ask`, which hands an operation to the scheduler and returns its answer. So
between two operations nothing happens that another process could see, and what a process does next depends on the
answers so far and nothing else. `Behaviour` uses that: it runs the real code once for each new answer in each
local state, and remembers what the code asked for next. Interleavings are then explored without running it again.
"""

from __future__ import annotations

import ast
import errno
import sys
import zlib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]

from common.channel import end, ending, finish, fragments, input, output, read, write
from common.channel.listener import Listener, News
from common.channel.patience import Patience
from common.channel.ring import Ring
from common.errors import Gone, TornRecord
from common.ipc.removal import Removal
from common.layout import _U64, ABORTED, FINISHED, SEMAPHORES, SLOT, TAKEN_OFFSET, Header, SlotHeader
from common.notes import FileId
from tests.model.monitor import Plan, Record
from tests.model.world import FRAGMENT, GONE, Operation, compact, new_memory

FILES = tuple(Path(module.__file__ or "") for module in (ending, end, output, input, write, fragments, finish, read))


def channel_source() -> str:
    """The protocol as one text, each file behind those that it needs; what they import of each other is there."""
    return "\n".join(["from __future__ import annotations", *map(_without_own_imports, FILES)])


def _without_own_imports(path: Path) -> str:
    lines = path.read_text().splitlines()
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.ImportFrom) and node.module in ("__future__", *_OWN):
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
    return "\n".join(lines)


_OWN = tuple(f"common.channel.{path.stem}" for path in FILES)


class Process(greenlet):  # type: ignore[misc]
    """One simulated process.

    `event` is what the next move of the head means to the monitor, `consumes` the next move of the tail, `record` the
    number in the plan of what it is sending.
    """

    def __init__(self, index: int, plan: Plan, main: Callable[[], str]) -> None:
        super().__init__(main)
        self.index = index
        self.plan = plan
        self.event: tuple[Any, ...] | None = None
        self.consumes: tuple[Any, ...] = ("consumed",)
        self.record = 0
        self.unordered: Operation | None = None  # the store of a slot's header, which no fence has ordered yet
        self.discarded = False

    def discard(self) -> None:
        """Let go of it; nothing that it does while it unwinds reaches anybody."""
        self.discarded = True
        self.throw(GreenletExit)


def ask(*operation: Any) -> Any:
    """Hand an operation to the scheduler; its answer. Raises Gone.

    A weakly ordered processor may show the store of head before that of the slot's header: here it does, whenever
    there is no fence between the two.
    """
    process = getcurrent()
    overtakes = operation[:2] == ("store", _HEAD)
    if not overtakes:
        order_stores()
    answer = _hand_over(process, operation)
    order_stores()
    return answer


def order_stores() -> None:
    """What the fence does."""
    process = getcurrent()
    late, process.unordered = process.unordered, None
    if late:
        _hand_over(process, late)


_HEAD = Header.__dict__["head"].offset


def _hand_over(process: Process, operation: Operation) -> Any:
    if process.discarded:
        raise GreenletExit
    answer = process.parent.switch(operation)
    if answer is GONE:
        raise Gone("semop", (), errno.EIDRM)
    return answer


class _Shared:
    """A field of the header that more than one process uses: a load and a store are operations."""

    def __init__(self, name: str, event: Callable[[Process, int], tuple[Any, ...] | None] = lambda *_: None) -> None:
        field = Header.__dict__[name]
        self._at = field.offset
        self._size = 8 if isinstance(field, _U64) else 4
        self._event = event

    def __get__(self, header: SimulatedHeader, owner: object = None) -> int:
        return int.from_bytes(ask("load", self._at, self._size), sys.byteorder)

    def __set__(self, header: SimulatedHeader, value: int) -> None:
        ask("store", self._at, value.to_bytes(self._size, sys.byteorder), self._event(header.process, value))


def _sent(process: Process, head: int) -> tuple[Any, ...] | None:
    event, process.event = process.event, None
    return event


class SimulatedHeader(Header):
    """A header whose loads and stores are operations."""

    state = _Shared("state", lambda _, state: ("finished",) if state == FINISHED else None)
    writers_joined = _Shared("writers_joined")
    writer_pid = _Shared("writer_pid")
    reader_pid = _Shared("reader_pid")
    input_record = _Shared("input_record")
    input_dev = _Shared("input_dev")
    input_ino = _Shared("input_ino")
    input_mtime_ns = _Shared("input_mtime_ns")
    input_place = _Shared("input_place")
    input_goodbye = _Shared("input_goodbye")
    writers_left = _Shared("writers_left")
    records_torn = _Shared("records_torn")
    head = _Shared("head", _sent)
    tail = _Shared("tail", lambda process, _: process.consumes)

    def __init__(self, page: memoryview, process: Process) -> None:
        super().__init__(page)
        self.process = process


class SharedView:
    """A slot's payload or a part of it, which channel.py takes for a memoryview. A store is two operations."""

    def __init__(self, at: int, size: int) -> None:
        self._at = at
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> SharedView:
        start, stop, _ = part.indices(self._size)
        return SharedView(self._at + start, stop - start)

    def __setitem__(self, part: slice, data: bytes | memoryview) -> None:
        start, stop, _ = part.indices(self._size)
        process, data = getcurrent(), bytes(data)
        assert len(data) == stop - start, "a store beyond the view"
        process.event = ("sent", process.plan.find(data)[2])
        half = len(data) // 2
        ask("store", self._at + start, data[:half], None)
        ask("store", self._at + start + half, data[half:], None)

    def __bytes__(self) -> bytes:
        return ask("load", self._at, self._size) if self._size else b""

    def __enter__(self) -> SharedView:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class SimulatedRing(Ring):
    """The real ring, with the memory behind it made of operations."""

    header: SimulatedHeader

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory)
        self.header.release()
        self.header = SimulatedHeader(memory, getcurrent())
        self.fragment_size = FRAGMENT

    def read_slot(self, number: int) -> SlotHeader:
        at = self._slot_at(number)
        self._memory[at : at + SLOT.size] = ask("load", compact(at), SLOT.size)
        slot = super().read_slot(number)
        process = self.header.process
        process.consumes = ("torn",) if slot.flags & ABORTED else ("consumed",)
        return slot

    def write_slot(self, number: int, slot: SlotHeader) -> None:
        super().write_slot(number, slot)
        if slot.flags & ABORTED:
            self.header.process.event = ("aborted",)
        at = self._slot_at(number)
        self.header.process.unordered = ("store", compact(at), bytes(self._memory[at : at + SLOT.size]), None)

    def set_taken(self, number: int, taken: int) -> None:
        super().set_taken(number, taken)
        at = self._slot_at(number)
        start, stop = TAKEN_OFFSET, TAKEN_OFFSET + 4
        ask("store", compact(at + start), bytes(self._memory[at + start : at + stop]), ("consumed",))

    def payload(self, number: int, start: int, stop: int) -> Any:
        at = self._payloads_at + (number % self.slot_count) * self.geometry.slot_size
        return SharedView(compact(at) + start, stop - start)


class _Counter:
    def __init__(self, name: str) -> None:
        self._name = name

    def acquire(self, timeout: float) -> bool:
        return bool(ask("take" if timeout else "try", self._name))

    def release(self) -> None:
        ask("give", self._name)


class _Turn(_Counter):
    def acquire(self, timeout: float) -> bool:
        return bool(ask("take turn" if timeout else "try turn", self._name))

    def release(self) -> None:
        ask("give turn", self._name)

    def holder(self) -> int | None:
        ask("holder", self._name)
        return None


class _Presence:
    def enter(self) -> None:
        ask("enter", True)

    def leave(self) -> None:
        ask("enter", False)

    def present(self) -> bool:
        return bool(ask("present"))


class SimulatedFamily:
    """The Objects of the simulated segment."""

    removal = Removal()

    def __init__(self, slots: int) -> None:
        self.memory = memoryview(new_memory(slots))
        self.full_slots, self.empty_slots = _Counter("full_slots"), _Counter("empty_slots")
        self.writer_turn, self.reader_turn = _Turn("writer_turn"), _Turn("reader_turn")
        self.writers = _Presence()

    def removed(self) -> bool:
        return bool(ask("removed"))

    def missing(self) -> str | None:
        missing: str | None = ask("missing")
        return missing

    def alone(self) -> bool:
        return bool(ask("alone"))

    def goes_with_us(self) -> bool:
        return False

    def check_removable(self) -> None:
        """Everybody may."""

    def remove_semaphores(self) -> None:
        for name in SEMAPHORES:
            ask("remove semaphore", name)

    def remove(self) -> None:
        self.remove_semaphores()
        ask("remove segment")

    def detach(self) -> None:
        self.memory.release()
        ask("detach")


class SimulatedDoorway:
    def __enter__(self) -> None:
        ask("go in")

    def __exit__(self, *exc_info: object) -> None:
        ask("go out")


class _Source:
    """One record of the plan as a source."""

    def __init__(self, record: Record) -> None:
        self._data = record.data
        self.file = (1, int.from_bytes(self._data[:2], "big"))
        self.identity = FileId(*self.file, 1)
        self._at = 0
        self.total = len(self._data)

    def fill(self, room: Any) -> int:
        part = self._data[self._at : self._at + len(room)]
        self._at += len(part)
        room[: len(part)] = part
        return len(part)

    def skip_to(self, offset: int) -> None:
        self._at = offset


class _Stream:
    """Standard output."""

    identity = file = None
    size = 0

    def __init__(self, *, settled: bool) -> None:
        self.settled = settled  # from the start: that it goes on behind what was received is taken as given

    def write(self, data: Any) -> None:
        ask("put out", bytes(data))

    def cut(self, size: int) -> None:
        """A stream cannot be taken back."""


class Program(NamedTuple):
    """What a process runs: writing from record `first` of the plan on, or readers that leave after `at_most`."""

    process: int
    writes: bool
    first: int = 0
    single: bool = False  # each record is sent by a writer of its own, as `writer.py --file` sends one
    resume: bool = False  # with --resume: the first of these writers, or all of the readers
    whole: bool = False  # record `first` was sent, which the writer that died may not have known
    quits: bool = False  # a signal comes before the writer knows that all is sent
    at_most: int | None = None


class _Ear(Listener):
    """A person who hears of torn records."""

    def news(self, news: News) -> None:
        if "torn" in news.text:
            ask("report torn")


def run(channel: Any, program: Program, plan: Plan) -> str:
    """The body of a process. The flow is that of writer.py and reader.py."""
    patience = Patience(None, Listener())
    try:
        if program.writes:
            _write(channel, patience, plan, program)
        else:
            while True:
                _read(channel, plan, program)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def _write(channel: Any, patience: Any, plan: Plan, program: Program) -> None:
    total = len(plan.records[program.process])
    if not program.single:
        _write_some(channel, patience, plan, program, range(program.first, total))
        return
    for number in range(program.first, total):
        first = number == program.first
        one = program._replace(first=number, resume=program.resume and first, whole=program.whole and first)
        getcurrent().record = number
        _write_some(channel, patience, plan, one, range(number, number + 1))


def _write_some(channel: Any, patience: Any, plan: Plan, program: Program, numbers: range) -> None:
    """One writer.py, which sends these records."""
    doorway, records = SimulatedDoorway(), plan.records[program.process]
    with doorway:
        if program.whole and not ask("look"):
            return  # all of it was consumed and the channel is no more: nobody resumes that
        ask("open", plan.slots, True)
        end = channel.WriteEnd(SimulatedFamily(plan.slots), doorway, patience)
        source = _first_source([records[number] for number in numbers])
        end.join(source, resume=program.resume)
    for number in numbers:
        record = records[number]
        getcurrent().record = number
        if record.lines:
            end.send_lines(record.data, len(record.pieces))
        else:
            _send(end, record, program.resume)
    if not program.quits:
        ask("report all said", program.resume and source is not None)
        end.all_said = True
    with doorway:
        end.leave()
        end.detach()


def _first_source(records: list[Record]) -> _Source | None:
    """What writer.py has opened when it joins: the file, and nothing when it sends lines."""
    return None if not records or records[0].lines else _Source(records[0])


def _send(end: Any, record: Record, resume: bool) -> None:
    try:
        end.send(_Source(record), resume=resume)
    except TornRecord:
        if not resume:
            raise
        end.send(_Source(record))  # another writer had gone on: what we began was given up


def _read(channel: Any, plan: Plan, program: Program) -> None:
    """One reader.py after another, as `while true; do reader.py; done` would run them."""
    doorway = SimulatedDoorway()
    ask("wait for a channel")
    with doorway:
        if not ask("open", plan.slots, False):
            return
    end = channel.ReadEnd(SimulatedFamily(plan.slots), doorway, Patience(None, _Ear()), resume=program.resume)
    receipt, success, sink = None, True, _Stream(settled=program.resume)
    at_most = program.at_most
    try:
        while at_most is None or end.records < at_most:
            receipt = end.receive(sink, at_most and at_most - end.records)
            if receipt is None:
                break
    except TornRecord:
        success = False
        ask("report unfinished")
    with doorway:
        over = end.leave() or (success and receipt is None)
        ask("report end", success and not end.incomplete, over, program.resume)
        end.detach()


def load_channel(source: str = "") -> ModuleType:
    """A copy of the protocol with the simulated ring, pids and clock; `source` is its text when that was changed."""
    module = ModuleType("common.channel")
    exec(compile(source or channel_source(), "common/channel", "exec"), module.__dict__)
    module.__dict__.update(
        Ring=SimulatedRing,
        fence=order_stores,
        monotonic=lambda: 0.0,
        os=SimpleNamespace(getpid=lambda: 1 + getcurrent().index),
        zlib=SimpleNamespace(crc32=lambda data: zlib.crc32(bytes(data))),
    )
    return module


class Local(NamedTuple):
    """A process between two operations: what it asks for, and how it came here (`answer` in local state `before`)."""

    operation: Operation
    program: Program
    record: int
    before: int
    answer: Any


class Behaviour:
    """What the programs do: the graph of their local states, learned from the real code as it is needed.

    Two histories that leave a process at the same place with the same memory (`fingerprint`) are one local state,
    unless `merge` is false: then each history is a state of its own.
    """

    def __init__(self, channel: ModuleType, plan: Plan, *, merge: bool = True) -> None:
        self._merge = merge
        self._channel = channel
        self._plan = plan
        self.states: list[Local] = []
        self._next: list[dict[Any, int]] = []
        self._known: dict[Any, int] = {}
        self._starts: dict[Program, int] = {}
        self._parked: dict[int, Process] = {}

    def start(self, program: Program) -> int:
        """The local state of a fresh process."""
        if program not in self._starts:
            process, operation = self._boot(program)
            self._starts[program] = self._note(process, Local(operation, program, process.record, -1, None))
        return self._starts[program]

    def step(self, local: int, answer: Any) -> int:
        """The local state after the pending operation of `local` was answered."""
        found = self._next[local].get(answer)
        if found is None:
            found = self._next[local][answer] = self._learn(local, answer)
        return found

    def _learn(self, local: int, answer: Any) -> int:
        process = self._parked.pop(local, None) or self._replay(local)
        operation = process.switch(answer)
        return self._note(process, Local(operation, self.states[local].program, process.record, local, answer))

    def _boot(self, program: Program) -> tuple[Process, Operation]:
        process = Process(program.process, self._plan, lambda: run(self._channel, program, self._plan))
        return process, process.switch()

    def _replay(self, local: int) -> Process:
        """A process that runs again to a local state."""
        process, _ = self._boot(self.states[local].program)
        for answer in self.history(local):
            process.switch(answer)
        return process

    def history(self, local: int) -> list[Any]:
        """The answers that lead to a local state."""
        answers = []
        while self.states[local].before >= 0:
            answers.append(self.states[local].answer)
            local = self.states[local].before
        return answers[::-1]

    def _note(self, process: Process, local: Local) -> int:
        if process.dead:
            local = local._replace(operation=("end", local.operation))
        identity: tuple[Any, ...] = (local.before, local.answer, local.program)
        if self._merge:
            identity = (
                local.program.process,
                process.event,
                process.consumes,
                process.record,
                process.unordered,
                local.operation,
                *fingerprint(process),
            )
        number = self._known.setdefault(identity, len(self.states))
        if number == len(self.states):
            self.states.append(local)
            self._next.append({})
            self._parked[number] = process
        elif not process.dead:
            process.discard()
        return number

    def close(self) -> None:
        """Let go of every process that is still in the middle."""
        for process in self._parked.values():
            if not process.dead:
                process.discard()
        self._parked.clear()


def fingerprint(process: Process) -> Iterator[Any]:
    """Where a process is and what it remembers: for each frame its code, its position and its variables.

    What a statement has loaded and not stored yet is on Python's stack, which nobody can look at: so no statement
    of channel.py may load two fields that processes share. A test sees to that.
    """
    frame: FrameType | None = process.gr_frame
    while frame:
        if frame.f_code not in _HANDING_OVER:
            code = frame.f_code
            yield code.co_name, code.co_firstlineno, frame.f_lasti
            yield tuple((name, _plain(value)) for name, value in frame.f_locals.items())
        frame = frame.f_back


_HANDING_OVER = (ask.__code__, order_stores.__code__, _hand_over.__code__)


def _plain(value: Any) -> Any:
    """A value as something that can be compared; objects that never change or hold nothing stand for themselves."""
    if value is None or isinstance(value, (int, float, str, bytes)):
        return value
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    if isinstance(value, BaseException):
        return type(value).__name__, str(value)
    if isinstance(value, memoryview):
        try:
            return bytes(value)
        except ValueError:
            return "released"
    if type(value).__name__ in _REMEMBERING:
        return type(value).__name__, *((name, _plain(item)) for name, item in vars(value).items())
    return getattr(value, "__qualname__", type(value).__name__)


_REMEMBERING = ("WriteEnd", "ReadEnd", "Input", "Output", "_Source", "_Stream", "SharedView")
