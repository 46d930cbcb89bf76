"""The scheduler: every order of the processes' operations, or some of them, each checked against the monitor.

A state is the kernel, the local state of each process, and the crashes still to come. `explore` visits every state
that a configuration can reach, breadth first, so the schedule it reports is a shortest one; states reached twice are
visited once, and so are states that differ only in which of two readers is which. `walk` follows a single schedule.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, count
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from tests.model.monitor import Plan, Seen, Violation
from tests.model.processes import Behaviour, Program, load_channel
from tests.model.world import NOWHERE, Kernel, Operation, boot, is_quiet, kill, operate, rename, role

NEVER, AFTER_A_CRASH, ALWAYS = "never", "after a crash", "always"


class Setting(NamedTuple):
    """What to explore: what each writer sends (see Plan), how many readers there are, and what goes wrong."""

    writers: tuple[tuple[int | str, ...], ...]
    readers: int
    crashes: int = 0
    heartbeats: str = AFTER_A_CRASH
    resume: bool = False  # a writer sends one record; when it was killed, another one continues it with --resume
    slots: int = 2
    loads: bool = True  # whether a load of what others can change is an operation of its own
    at_most: int | None = None  # each reader leaves after so many records, and another one starts
    quitters: int = 0  # so many writers are interrupted when they have sent all, and leave without having said so
    victims: tuple[int, ...] = ()  # whom the crashes kill, one after the other (anybody)
    patient: bool = False  # readers with --resume: what is broken off or torn, they wait for

    def __str__(self) -> str:
        sent = " ".join("+".join(map(str, shape)) for shape in self.writers)
        usual = self._field_defaults
        extras = [f"{name}={value}" for name, value in self._asdict().items() if usual.get(name, value) != value]
        return " ".join([f"{len(self.writers)}x{self.readers}", f"[{sent}]", *extras])


# How many bits of a packed state one process's local state has, and the crashes.
_LOCAL_BITS, _CRASH_BITS = 24, 4

# One plan for all models of a setting: their kernels can be compared.
_plan = cache(Plan)


class State(NamedTuple):
    kernel: Kernel
    locals: tuple[int, ...]
    crashes: int  # that may still come


class Move(NamedTuple):
    """What the scheduler can do next: `kind` is "step", "heartbeat" or "crash"; the operation's answer and effect."""

    kind: str
    process: int
    answer: Any
    kernel: Kernel


class Model:
    """One setting with one version of channel.py."""

    def __init__(self, setting: Setting, channel: ModuleType | None = None, *, merge: bool = True) -> None:
        self.setting = setting
        self.plan = _plan(setting.writers, setting.slots)
        self.behaviour = Behaviour(channel or load_channel(), self.plan, merge=merge)
        self._same: dict[Any, Any] = {}
        self._kernels: list[Kernel] = []
        self._kernel_numbers: dict[Kernel, int] = {}

    def start(self) -> State:
        setting = self.setting
        writers = [
            Program(i, True, single=setting.resume, quits=i < setting.quitters) for i in range(len(setting.writers))
        ]
        # All readers have the number of the first: nothing that they do depends on it, so they can be exchanged.
        readers = [Program(len(writers), False, at_most=setting.at_most, resume=setting.patient)] * setting.readers
        locals_ = tuple(self.behaviour.start(program) for program in (*writers, *readers))
        return State(boot(len(locals_), Seen.nothing(self.plan)), locals_, setting.crashes)

    def pack(self, state: State) -> int:
        """The state as a number, the same for all states that differ only in which reader is which."""
        kernel, locals_, crashes = self._in_order(state)
        number = self._kernel_numbers.get(kernel, -1)
        if number < 0:
            number = len(self._kernels)
            self._kernels.append(self._share(kernel))
            self._kernel_numbers[self._kernels[-1]] = number
        for local in locals_:
            number = number << _LOCAL_BITS | local
        return number << _CRASH_BITS | crashes

    def _share(self, kernel: Kernel) -> Kernel:
        """An equal kernel with the parts of earlier ones, which saves most of the memory."""
        same = self._same.setdefault
        segments = tuple(same(segment, segment) for segment in kernel.segments)
        seen, attached = same(kernel.seen, kernel.seen), same(kernel.attached, kernel.attached)
        return Kernel(kernel.doorway, kernel.current, segments, attached, seen)

    def unpack(self, number: int) -> State:
        """The state that was packed."""
        number, crashes = divmod(number, 1 << _CRASH_BITS)
        locals_: list[int] = []
        for _ in range(len(self.setting.writers) + self.setting.readers):
            number, local = divmod(number, 1 << _LOCAL_BITS)
            locals_.insert(0, local)
        return State(self._kernels[number], tuple(locals_), crashes)

    def _in_order(self, state: State) -> State:
        """The same state with its readers in a certain order."""
        kernel, locals_, crashes = state
        first = len(self.setting.writers)
        readers = range(first, len(locals_))
        order = sorted(readers, key=lambda reader: (locals_[reader], role(kernel, reader)))
        if order == list(readers):
            return state
        names = tuple(range(first)) + tuple(order.index(reader) + first for reader in readers)
        return State(rename(kernel, names), (*locals_[:first], *(locals_[reader] for reader in order)), crashes)

    def moves(self, state: State) -> Iterator[Move]:
        """Everything that can come next. Raises Violation."""
        kernel, steps = state.kernel, 0
        for process in range(len(state.locals)):
            operation = self._pending(state, process)
            if operation[0] == "end":
                if operation[1] != "done":
                    raise Violation("no failure", f"process {process} ended with {operation[1]}")
                continue
            outcome = operate(kernel, process, operation)
            if outcome:
                steps += 1
                yield Move("step", process, *outcome)
            elif operation[0] in ("take", "take turn") and self._heart_beats(state):
                steps += 1
                yield Move("heartbeat", process, False, kernel)
            if self._may_die(state, process) and (kernel.attached[process] != NOWHERE or kernel.doorway == process):
                yield Move("crash", process, None, kernel)
        if not steps:
            self._check_the_end(state)

    def apply(self, state: State, move: Move) -> State:
        """The state after a move. Raises Violation."""
        if move.kind == "crash":
            return self._crash(state, move.process)
        return self._after(state, move.process, move.answer, move.kernel)

    def _may_die(self, state: State, process: int) -> bool:
        victims = self.setting.victims
        return bool(state.crashes) and (not victims or victims[-state.crashes] == process)

    def _pending(self, state: State, process: int) -> Operation:
        return self.behaviour.states[state.locals[process]].operation

    def _heart_beats(self, state: State) -> bool:
        beats = self.setting.heartbeats
        return beats == ALWAYS or (beats == AFTER_A_CRASH and state.crashes < self.setting.crashes)

    def _after(self, state: State, process: int, answer: object, kernel: Kernel) -> State:
        following = self.behaviour.step(state.locals[process], answer)
        operation = self.behaviour.states[following].operation
        while self._belongs_to_the_last(kernel, process, operation):
            answer, kernel = operate(kernel, process, operation)  # type: ignore[misc]
            following = self.behaviour.step(following, answer)
            operation = self.behaviour.states[following].operation
        return State(kernel, _changed(state.locals, process, following), state.crashes)

    def _belongs_to_the_last(self, kernel: Kernel, process: int, operation: Operation) -> bool:
        """Whether it is no operation of its own."""
        return (operation[0] == "load" and not self.setting.loads) or is_quiet(kernel, process, operation)

    def _crash(self, state: State, process: int) -> State:
        """The process dies and a fresh one takes its place, which has yet to do its first operation."""
        local = self.behaviour.states[state.locals[process]]
        kernel = kill(state.kernel, process)
        program = local.program
        if program.writes and self.setting.resume:
            whole = self.plan.record_at(process, kernel.seen.sent[process]) > local.record
            program = program._replace(first=local.record, resume=True, whole=whole)
        elif program.writes:
            program = program._replace(first=self.plan.record_at(process, kernel.seen.sent[process]))
        return State(kernel, _changed(state.locals, process, self.behaviour.start(program)), state.crashes - 1)

    def _check_the_end(self, state: State) -> None:
        """Nobody can go on: everything must be done, and nothing left behind."""
        operations = [self.behaviour.states[local].operation[0] for local in state.locals]
        asleep = [f"{p} in {op}" for p, op in enumerate(operations) if op not in ("end", "wait for a channel")]
        if asleep:
            raise Violation("no one sleeps for ever", f"all sleep: process {', '.join(asleep)}")
        state.kernel.seen.complete()
        if state.kernel.segments:
            raise Violation("nothing is left behind", "a segment is left")

    def describe(self, state: State, move: Move) -> str:
        """One line: who does what."""
        operation = self.behaviour.states[state.locals[move.process]].operation
        who = "writer" if move.process < len(self.setting.writers) else "reader"
        what = " ".join(map(str, operation)) if move.kind == "step" else f"{move.kind} in {operation[0]}"
        return f"{who} {move.process}: {what}"


class Findings(NamedTuple):
    """What an exploration found. `schedule` is the shortest way to the violation, one line an operation.

    `schedules` is how many different ones lead from the start to an end, None when some can go on in circles (a
    heartbeat that finds nothing new) or not all states were visited.
    """

    states: int
    moves: int
    violation: Violation | None = None
    schedule: tuple[str, ...] = ()
    complete: bool = False
    schedules: int | None = None


def explore(setting: Setting, channel: ModuleType | None = None, limit: int = 0) -> Findings:
    """Visit every state, or the first `limit` ones, breadth first; stop at the first violation."""
    model = Model(setting, channel)
    try:
        return _explore(model, limit)
    finally:
        model.behaviour.close()


def _explore(model: Model, limit: int) -> Findings:
    queue = [model.pack(model.start())]
    known = {queue[0]: 0}
    came_from = array("I", [0])
    graph = Graph()
    for number, packed in enumerate(queue):
        state = model.unpack(packed)
        try:
            for move in model.moves(state):
                following = model.pack(model.apply(state, move))
                index = known.setdefault(following, len(queue))
                if index == len(queue):
                    queue.append(following)
                    came_from.append(number)
                graph.moves.append(index)
        except Violation as violation:
            schedule = _schedule(model, queue, came_from, number)
            return Findings(len(queue), len(graph.moves), violation, schedule)
        graph.ends.append(len(graph.moves))
        if limit and len(queue) >= limit:
            return Findings(len(queue), len(graph.moves))
    stuck = graph.cannot_end()
    if stuck is None:
        return Findings(len(queue), len(graph.moves), complete=True, schedules=graph.count_schedules())
    schedule = _schedule(model, queue, came_from, stuck)
    return Findings(len(queue), len(graph.moves), Violation("no stuck state", "from here no end is in reach"), schedule)


class Graph:
    """The visited states by number: state n leads to moves[ends[n] : ends[n + 1]]; one that leads nowhere is an end."""

    def __init__(self) -> None:
        self.ends = array("I", [0])
        self.moves = array("I")

    def _after(self, number: int) -> array[int]:
        return self.moves[self.ends[number] : self.ends[number + 1]]

    def cannot_end(self) -> int | None:
        """The first state from which no end can be reached, if there is one."""
        can_end = bytearray(len(self.ends) - 1)
        changed = True
        while changed:
            changed = False
            for number in range(len(can_end) - 1, -1, -1):
                if not can_end[number]:
                    after = self._after(number)
                    if not after or any(can_end[to] for to in after):
                        can_end[number] = changed = True
        found = can_end.find(0)
        return None if found < 0 else found

    def count_schedules(self) -> int | None:
        """How many ways lead from state 0 to an end; None when there are circles."""
        arrivals = array("I", bytes(4 * (len(self.ends) - 1)))
        for to in self.moves:
            arrivals[to] += 1
        ways = {0: 1}
        ready, passed, total = [] if arrivals[0] else [0], 0, 0
        while ready:
            number = ready.pop()
            after, mine = self._after(number), ways.pop(number)
            passed += 1
            total += 0 if after else mine
            for to in after:
                ways[to] = ways.get(to, 0) + mine
                arrivals[to] -= 1
                if not arrivals[to]:
                    ready.append(to)
        return total if passed == len(arrivals) else None


def _schedule(model: Model, queue: list[int], came_from: array[int], last: int) -> tuple[str, ...]:
    """The moves that lead from the start to state `last`, one line each."""
    path = [last]
    while path[-1]:
        path.append(came_from[path[-1]])
    state, lines = model.start(), []
    for number in path[-2::-1]:
        move = next(move for move in model.moves(state) if model.pack(model.apply(state, move)) == queue[number])
        lines.append(model.describe(state, move))
        state = model.apply(state, move)
    return tuple(lines)


def _changed(locals_: tuple[int, ...], process: int, local: int) -> tuple[int, ...]:
    return (*locals_[:process], local, *locals_[process + 1 :])


def walk(model: Model, choose: Callable[[list[Move]], int], longest: int = 20_000) -> int:
    """Follow one schedule to its end: `choose` says which of the moves comes next. The number of operations.

    Raises Violation.
    """
    state = model.start()
    for operations in range(longest):
        moves = list(model.moves(state))
        if all(move.kind == "crash" for move in moves):
            return operations
        state = model.apply(state, moves[choose(moves)])
    raise Violation("no stuck state", f"no end after {longest} operations")


def at_random(seed: int) -> Callable[[list[Move]], int]:
    """A choice for walk() in which crashes are rare, so that they come at any time."""
    generator = Random(seed)

    def choose(moves: list[Move]) -> int:
        steps = [number for number, move in enumerate(moves) if move.kind != "crash"]
        return generator.choice(steps if generator.random() < 0.98 else range(len(moves)))

    return choose


def as_told(numbers: list[int]) -> Callable[[list[Move]], int]:
    """A choice for walk() that follows `numbers`, and gives every process its turn when they are used up."""
    told = chain(numbers, count())
    return lambda moves: next(told) % len(moves)


def reachable(model: Model) -> set[State]:
    """Every state that the model can reach, whichever reader is which."""
    known = [model.start()]
    seen = set(known)
    for state in known:
        new = {model.apply(state, move) for move in model.moves(state)} - seen
        seen |= new
        known += new
    return seen
