"""The simulated kernel: a segment, five semaphores, the doorway, as values that one operation maps to the next.

Nothing here is modified in place. A `Kernel` is a tuple, `operate` and `kill` return a new one, so the explorer can
compare kernels, keep them, and go back to one at will. What a process may ask for is in `_VERBS`; what the kernel
does for a process that dies (SEM_UNDO, flock) is in `kill`. That the kernel does the same is for tests/test_contract.py
to show.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from common.geometry import Geometry
from common.layout import FINISHED, MAGIC, OPEN, PAGE, SEMAPHORES, SLOT, VERSION, Header
from tests.model.monitor import NOBODY, Debts, Seen, Violation

MOST_SLOTS = 2
FRAGMENT = 4  # bytes in a slot
HEADER = 368  # bytes of the header's page that mean something

MOST_TOKENS = 4  # our SEMVMX, beyond which sysv.release_semaphore() adds nothing; each torn end may leave one more

NOWHERE = -1
_ALL = (1 << len(SEMAPHORES)) - 1
_BIT = {name: 1 << index for index, name in enumerate(SEMAPHORES)}

Operation = tuple[Any, ...]  # a verb of _VERBS and its arguments


class _Gone:
    """The answer to an operation on a semaphore that was removed."""

    def __repr__(self) -> str:
        return "gone"


GONE = _Gone()


class Segment(NamedTuple):
    """One segment and its semaphores. A new one with the same key may exist before everyone has left the old one."""

    memory: bytes  # the parts that mean something, see compact()
    full_slots: int
    empty_slots: int
    writer_turn: int  # the process that holds it, or NOBODY
    reader_turn: int
    writers: int  # a bit for each process that entered
    semaphores: int  # a bit for each that exists
    marked: bool  # for removal
    debts: Debts  # what an observer knows of its writers, for as long as anybody has it attached


class Kernel(NamedTuple):
    """All that the processes share, and what an observer has `seen` come out at the other end."""

    doorway: int  # the process inside, or NOBODY
    current: int  # the segment that the key leads to, or NOWHERE
    segments: tuple[Segment | None, ...]
    attached: tuple[int, ...]  # for each process its segment, or NOWHERE
    seen: Seen


def compact(at: int) -> int:
    """Where the byte at offset `at` of a segment is in Segment.memory, which leaves out what nobody may touch."""
    if at < HEADER:
        return at
    if 0 <= at - PAGE < MOST_SLOTS * SLOT.size:
        return HEADER + at - PAGE
    slot, byte = divmod(at - 2 * PAGE, PAGE)
    if 0 <= slot < MOST_SLOTS and byte < FRAGMENT:
        return HEADER + MOST_SLOTS * SLOT.size + slot * FRAGMENT + byte
    raise AssertionError(f"offset {at} belongs to nobody")


def new_memory(slots: int) -> bytearray:
    """A segment's bytes as its creator leaves them."""
    geometry = Geometry(slots, PAGE)
    memory = bytearray(geometry.segment_size)
    header = Header(memoryview(memory))
    header.magic, header.version, header.state = MAGIC, VERSION, OPEN
    header.slot_count, header.slot_size = geometry
    header.segment_size = geometry.segment_size
    header.release()
    return memory


@cache
def _new_segment(slots: int) -> Segment:
    memory = new_memory(slots)
    payloads = bytes(MOST_SLOTS * FRAGMENT)
    parts = memory[:HEADER], memory[PAGE : PAGE + MOST_SLOTS * SLOT.size], payloads
    return Segment(b"".join(parts), 0, slots, NOBODY, NOBODY, 0, _ALL, False, Debts())


STATE = Header.__dict__["state"].offset

# What is needed to store a field of the header. Whoever has it reads what nobody else can change.
_DOORWAY = ("state", "writers_joined", "writers_left", *(name for name in vars(Header) if name.startswith("input_")))
_GUARDS = {
    **dict.fromkeys((name for name in _DOORWAY if name != "input_note"), "doorway"),
    **dict.fromkeys(("head", "writer_pid"), "writer_turn"),
    **dict.fromkeys(("tail", "reader_pid", "records_torn"), "reader_turn"),
}
_GUARD_AT = {Header.__dict__[name].offset: guard for name, guard in _GUARDS.items()}


def boot(processes: int, seen: Seen) -> Kernel:
    """A kernel with no segment yet."""
    return Kernel(NOBODY, NOWHERE, (), (NOWHERE,) * processes, seen)


Outcome = tuple[Any, Kernel]


def operate(kernel: Kernel, process: int, operation: Operation) -> Outcome | None:
    """The operation's answer and the kernel after it; None while it must wait."""
    return _VERBS[operation[0]](kernel, process, *operation[1:])


def kill(kernel: Kernel, process: int) -> Kernel:
    """The kernel after the death of a process: its turns, presence, doorway and attachment are given back.

    Tokens that it took or had yet to give stay lost.
    """
    inside = kernel.doorway == process
    kernel = kernel._replace(doorway=NOBODY if inside else kernel.doorway, seen=kernel.seen.died(process))
    if kernel.attached[process] == NOWHERE:
        return kernel
    segment = _segment(kernel, process)
    segment = segment._replace(
        writer_turn=NOBODY if segment.writer_turn == process else segment.writer_turn,
        reader_turn=NOBODY if segment.reader_turn == process else segment.reader_turn,
        writers=segment.writers & ~(1 << process),
        debts=segment.debts.died(process),
    )
    return _detach(_with(kernel, process, segment), process)[1]


def rename(kernel: Kernel, names: tuple[int, ...]) -> Kernel:
    """The same kernel with reader n called names[n]; writers keep their names."""
    attached = list(kernel.attached)
    for reader, name in enumerate(names):
        attached[name] = kernel.attached[reader]
    names = (*names, NOBODY)  # which is -1
    segments = tuple(
        segment and segment._replace(reader_turn=names[segment.reader_turn]) for segment in kernel.segments
    )
    return Kernel(names[kernel.doorway], kernel.current, segments, tuple(attached), kernel.seen.renamed(names[:-1]))


def role(kernel: Kernel, reader: int) -> tuple[int, ...]:
    """What this reader is to the kernel."""
    turns = (segment is not None and segment.reader_turn == reader for segment in kernel.segments)
    return kernel.attached[reader], kernel.doorway == reader, *turns, *kernel.seen.role(reader)


def _segment(kernel: Kernel, process: int) -> Segment:
    segment = kernel.segments[kernel.attached[process]]
    assert segment, "a process uses a segment that it has not attached"
    return segment


def _changed(segment: Segment, name: str, value: Any) -> Segment:
    return segment._replace(**{name: value})


def _with(kernel: Kernel, process: int, segment: Segment | None) -> Kernel:
    """The kernel with the process's segment changed."""
    return _put(kernel, kernel.attached[process], segment)


def _put(kernel: Kernel, index: int, segment: Segment | None) -> Kernel:
    segments = kernel.segments
    segments = (*segments[:index], segment, *segments[index + 1 :])
    while segments and segments[-1] is None:
        segments = segments[:-1]
    return Kernel(kernel.doorway, kernel.current, segments, kernel.attached, kernel.seen)


def _has(kernel: Kernel, process: int, guard: str) -> bool:
    held = kernel.doorway if guard == "doorway" else getattr(_segment(kernel, process), guard)
    return bool(held == process)


def is_quiet(kernel: Kernel, process: int, operation: Operation) -> bool:
    """Whether the operation looks at nothing that anybody else can change now: then its order makes no difference."""
    if operation[0] == "removed":  # the mark is set in the doorway, too
        return kernel.doorway == process
    if operation[0] == "load" and operation[1] in _GUARD_AT:
        return _has(kernel, process, _GUARD_AT[operation[1]])
    return False


def _load(kernel: Kernel, process: int, at: int, size: int) -> Outcome:
    return _segment(kernel, process).memory[at : at + size], kernel


def _store(kernel: Kernel, process: int, at: int, data: bytes, event: tuple[Any, ...] | None) -> Outcome:
    segment = _segment(kernel, process)
    memory = segment.memory
    changed = memory[:at] + data + memory[at + len(data) :]
    if at in _GUARD_AT and not _has(kernel, process, _GUARD_AT[at]):
        raise Violation("one at a time", f"process {process} stores at {at} without the {_GUARD_AT[at]}")
    segment = segment._replace(memory=changed)
    if not event or changed == memory:
        return None, _with(kernel, process, segment)
    seen = kernel.seen.noted(process, *event)
    debts = segment.debts.noted(event[0], by_writer=process < len(seen.sent))
    return None, _with(kernel, process, segment._replace(debts=debts))._replace(seen=seen)


def _take(kernel: Kernel, process: int, name: str) -> Outcome | None:
    segment = _segment(kernel, process)
    if not segment.semaphores & _BIT[name]:
        return GONE, kernel
    value = getattr(segment, name)
    return (True, _with(kernel, process, _changed(segment, name, value - 1))) if value else None


def _try(kernel: Kernel, process: int, name: str) -> Outcome:
    return _take(kernel, process, name) or (False, kernel)


def _try_turn(kernel: Kernel, process: int, name: str) -> Outcome:
    return _take_turn(kernel, process, name) or (False, kernel)


def _give(kernel: Kernel, process: int, name: str) -> Outcome:
    segment = _segment(kernel, process)
    if not segment.semaphores & _BIT[name]:
        return GONE, kernel
    return None, _with(kernel, process, _changed(segment, name, min(getattr(segment, name) + 1, MOST_TOKENS)))


def _take_turn(kernel: Kernel, process: int, name: str) -> Outcome | None:
    segment = _segment(kernel, process)
    if not segment.semaphores & _BIT[name]:
        return GONE, kernel
    if getattr(segment, name) != NOBODY:
        return None
    return True, _with(kernel, process, _changed(segment, name, process))


def _give_turn(kernel: Kernel, process: int, name: str) -> Outcome:
    segment = _segment(kernel, process)
    if not segment.semaphores & _BIT[name]:
        return GONE, kernel
    if getattr(segment, name) != process:
        raise Violation("one at a time", f"process {process} releases {name}, which it does not hold")
    return None, _with(kernel, process, _changed(segment, name, NOBODY))


def _holder(kernel: Kernel, process: int, name: str) -> Outcome:
    # For messages only, so every holder gives the same answer: fewer states.
    return None if _segment(kernel, process).semaphores & _BIT[name] else GONE, kernel


def _enter(kernel: Kernel, process: int, inside: bool) -> Outcome:
    segment = _segment(kernel, process)
    if not segment.semaphores & _BIT["writers"]:
        return GONE, kernel
    bit = 1 << process
    writers = segment.writers | bit if inside else segment.writers & ~bit
    debts = segment.debts.entered(process) if inside else segment.debts
    return None, _with(kernel, process, segment._replace(writers=writers, debts=debts))


def _present(kernel: Kernel, process: int) -> Outcome:
    segment = _segment(kernel, process)
    return bool(segment.writers) if segment.semaphores & _BIT["writers"] else GONE, kernel


def _go_in(kernel: Kernel, process: int) -> Outcome | None:
    return (None, kernel._replace(doorway=process)) if kernel.doorway == NOBODY else None


def _go_out(kernel: Kernel, process: int) -> Outcome:
    assert kernel.doorway == process, "a process leaves a doorway that it is not in"
    if kernel.attached[process] != NOWHERE:
        segment = _segment(kernel, process)
        kernel = _with(kernel, process, segment._replace(debts=segment.debts.joined(process)))
    return None, kernel._replace(doorway=NOBODY)


def _wait_for_channel(kernel: Kernel, process: int) -> Outcome | None:
    return (None, kernel) if kernel.current != NOWHERE else None


def _look(kernel: Kernel, process: int) -> Outcome:
    """Whether anything was sent in the channel that the key leads to."""
    segment = kernel.segments[kernel.current] if kernel.current != NOWHERE else None
    return segment is not None and segment.memory[STATE] == OPEN and segment.debts.spoken, kernel


def _open(kernel: Kernel, process: int, slots: int, create: bool) -> Outcome:
    """Join the channel as sysv_family.py does: what a dead remover left half-way is cleared, `create` makes one."""
    segment = kernel.segments[kernel.current] if kernel.current != NOWHERE else None
    if segment and segment.memory[STATE] != OPEN:
        kernel = _mark(kernel, kernel.current, segment._replace(semaphores=0))
        segment = None
    if segment:
        return "opened", _attach(kernel, process, kernel.current)
    if not create:
        return "", kernel
    index = next((i for i, other in enumerate(kernel.segments) if other is None), len(kernel.segments))
    kernel = _put(kernel, index, _new_segment(slots))._replace(current=index)
    return "created", _attach(kernel, process, index)


def _attach(kernel: Kernel, process: int, index: int) -> Kernel:
    attached = kernel.attached
    return kernel._replace(attached=(*attached[:process], index, *attached[process + 1 :]))


def _detach(kernel: Kernel, process: int) -> Outcome:
    index = kernel.attached[process]
    segment = _segment(kernel, process)
    kernel = _attach(_with(kernel, process, segment._replace(debts=segment.debts.left(process))), process, NOWHERE)
    left = kernel.segments[index]
    if left and left.marked and index not in kernel.attached:
        kernel = _put(kernel, index, None)
    return None, kernel


def _mark(kernel: Kernel, index: int, segment: Segment) -> Kernel:
    """IPC_RMID: the key is free at once, the memory goes with the last detach."""
    kernel = _put(kernel, index, segment._replace(marked=True) if index in kernel.attached else None)
    return kernel._replace(current=NOWHERE) if kernel.current == index else kernel


def _removed(kernel: Kernel, process: int) -> Outcome:
    return _segment(kernel, process).marked, kernel


def _missing(kernel: Kernel, process: int) -> Outcome:
    there = _segment(kernel, process).semaphores
    return next((name for name in SEMAPHORES if not there & _BIT[name]), None), kernel


def _alone(kernel: Kernel, process: int) -> Outcome:
    return kernel.attached.count(kernel.attached[process]) == 1, kernel


def _remove_semaphore(kernel: Kernel, process: int, name: str) -> Outcome:
    segment = _segment(kernel, process)
    return None, _with(kernel, process, segment._replace(semaphores=segment.semaphores & ~_BIT[name]))


def _remove_segment(kernel: Kernel, process: int) -> Outcome:
    if kernel.doorway != process:
        raise Violation("one at a time", f"process {process} removes the channel outside the doorway")
    return None, _mark(kernel, kernel.attached[process], _segment(kernel, process))


def _put_out(kernel: Kernel, process: int, data: bytes) -> Outcome:
    return None, kernel._replace(seen=kernel.seen.put_out(process, data))


def _report_torn(kernel: Kernel, process: int) -> Outcome:
    return None, kernel._replace(seen=kernel.seen.told(process))


def _report_unfinished(kernel: Kernel, process: int) -> Outcome:
    return None, kernel._replace(seen=kernel.seen.unfinished())


def _report_end(kernel: Kernel, process: int, success: bool, over: bool, patient: bool) -> Outcome:
    segment = _segment(kernel, process)
    finished = segment.memory[STATE] == FINISHED
    return None, kernel._replace(seen=kernel.seen.ended(process, success, over, finished, patient, segment.debts))


def _report_all_said(kernel: Kernel, process: int, succeeds: bool) -> Outcome:
    segment = _segment(kernel, process)
    return None, _with(kernel, process, segment._replace(debts=segment.debts.said_all(process, succeeds)))


_VERBS: dict[str, Callable[..., Outcome | None]] = {
    "load": _load,
    "store": _store,
    "try": _try,
    "take": _take,
    "try turn": _try_turn,
    "give": _give,
    "take turn": _take_turn,
    "give turn": _give_turn,
    "holder": _holder,
    "enter": _enter,
    "present": _present,
    "go in": _go_in,
    "go out": _go_out,
    "wait for a channel": _wait_for_channel,
    "look": _look,
    "open": _open,
    "detach": _detach,
    "removed": _removed,
    "missing": _missing,
    "alone": _alone,
    "remove semaphore": _remove_semaphore,
    "remove segment": _remove_segment,
    "put out": _put_out,
    "report torn": _report_torn,
    "report unfinished": _report_unfinished,
    "report end": _report_end,
    "report all said": _report_all_said,
}
