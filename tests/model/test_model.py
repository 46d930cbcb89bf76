"""Every interleaving: the real channel.py keeps its promises in every order of operations, with crashes at any of them.

The small settings are explored to the last state. Of the larger ones the first states (breadth first: all schedules
up to some length) and many single schedules are explored here, and more by `python -m tests.model`.
"""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import layout
from common.channel import end, ending, finish, fragments, input, output, read, ring, write
from common.layout import Header
from tests.model import explorer
from tests.model.explorer import (
    ALWAYS,
    NEVER,
    Findings,
    Graph,
    Model,
    Setting,
    State,
    as_told,
    at_random,
    explore,
    reachable,
    walk,
)
from tests.model.monitor import Debts, Plan, Seen, Violation
from tests.model.mutations import MUTATIONS, Mutation, mutated
from tests.model.processes import SimulatedHeader
from tests.model.settings import COMPLETE, LARGE, LARGER_THAN_CI

# States of a larger setting that are explored here; a few seconds each.
BEGINNING = 50_000
WALKS = 50


def story(findings: Findings) -> str:
    """What went wrong and the shortest schedule that shows it."""
    return "\n".join([*findings.schedule, str(findings.violation)])


@pytest.mark.parametrize("setting", COMPLETE, ids=str)
def test_every_schedule_of_a_small_setting_keeps_the_promises(setting: Setting) -> None:
    findings = explore(setting)
    assert findings.violation is None, story(findings)
    assert findings.complete


@pytest.mark.parametrize("setting", LARGER_THAN_CI, ids=str)
def test_every_short_schedule_of_a_larger_setting_keeps_the_promises(setting: Setting) -> None:
    findings = explore(setting, limit=BEGINNING)
    assert findings.violation is None, story(findings)
    assert findings.states >= BEGINNING


@pytest.mark.parametrize("setting", LARGE, ids=str)
def test_random_schedules_of_a_large_setting_keep_the_promises(setting: Setting) -> None:
    model = Model(setting)
    try:
        lengths = [walk(model, at_random(seed)) for seed in range(WALKS)]
    finally:
        model.behaviour.close()
    assert min(lengths) > sum(len(pieces) for pieces in model.plan.pieces)


@settings(max_examples=100, deadline=None)
@given(
    writers=st.lists(st.lists(st.sampled_from([1, 2, 3, "lines"]), max_size=2).map(tuple), min_size=1, max_size=3),
    readers=st.integers(1, 3),
    crashes=st.integers(0, 3),
    slots=st.integers(1, 2),
    heartbeats=st.sampled_from([NEVER, ALWAYS]),
    schedule=st.lists(st.integers(0, 1000), max_size=300),
)
def test_guided_schedules_keep_the_promises(
    writers: list[tuple[int | str, ...]], readers: int, crashes: int, slots: int, heartbeats: str, schedule: list[int]
) -> None:
    model = Model(Setting(tuple(writers), readers, crashes, heartbeats, slots=slots))
    try:
        walk(model, as_told(schedule))
    finally:
        model.behaviour.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_planted_bug_is_caught(mutation: Mutation) -> None:
    findings = explore(mutation.setting, mutated(mutation))
    assert findings.violation, f"every schedule of {mutation.setting} kept the promises"
    assert findings.violation.promise == mutation.promise, story(findings)
    assert findings.schedule


def test_a_mutation_that_changes_nothing_fails_loudly() -> None:
    with pytest.raises(AssertionError, match=r"channel\.py has changed"):
        mutated(MUTATIONS[0]._replace(old="no such passage"))


def test_local_states_that_are_taken_for_one_behave_as_one() -> None:
    """Without merging, a local state is the whole history of a process; the same kernels must be reachable."""
    setting = Setting(((1,),), 1, slots=1)
    merged, unmerged = Model(setting), Model(setting, merge=False)
    try:
        assert {state.kernel for state in reachable(merged)} == {state.kernel for state in reachable(unmerged)}
        assert len(merged.behaviour.states) < len(unmerged.behaviour.states)
    finally:
        merged.behaviour.close()
        unmerged.behaviour.close()


def test_an_operation_that_looks_at_what_nobody_can_change_has_no_place_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it is an operation of its own, the same kernels must be reachable."""
    setting = Setting(((1,),), 1, crashes=1, heartbeats=NEVER)
    fewer, all_of_them = Model(setting), Model(setting)
    try:
        states = reachable(fewer)
        monkeypatch.setattr(explorer, "is_quiet", lambda *_: False)
        more = reachable(all_of_them)
        assert {state.kernel for state in states} == {state.kernel for state in more}
        assert len(states) < len(more)
    finally:
        fewer.behaviour.close()
        all_of_them.behaviour.close()


def test_two_readers_can_be_exchanged() -> None:
    """A packed state stands for two; whichever of them goes on, it comes to the same packed states."""
    setting = Setting(((1,),), 2, loads=False)
    model = Model(setting)

    def after(state: State) -> list[int]:
        return sorted(model.pack(model.apply(state, move)) for move in model.moves(state))

    try:
        states = reachable(model)
        packed = {model.pack(state) for state in states}
        assert len(packed) == explore(setting).states < len(states)
        for state in states:
            other = model.unpack(model.pack(state))
            assert model.pack(other) == model.pack(state)
            assert after(other) == after(state)
    finally:
        model.behaviour.close()


def test_every_field_that_processes_share_is_simulated() -> None:
    """A new field of the header that is not the creator's alone has to be added to SimulatedHeader."""
    creators = {"version", "slot_count", "slot_size", "segment_size", "key_dev", "key_ino", "created_ns", "creator_pid"}
    creators |= {"nonce"}
    fields = {name for name, value in vars(Header).items() if hasattr(value, "__set__") and hasattr(value, "offset")}
    assert fields - set(vars(SimulatedHeader)) == creators


def loads(node: ast.AST) -> int:
    """How many shared fields of the header the expression loads before it can give a value away."""
    if isinstance(node, ast.BoolOp):  # what decides it is popped before the next operand
        return max(map(loads, node.values))
    if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
        return 0
    own = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in SHARED
    return own + sum(map(loads, ast.iter_child_nodes(node)))


SHARED = {name for name in vars(SimulatedHeader) if hasattr(vars(SimulatedHeader)[name], "__set__")}


@pytest.mark.parametrize(
    "source",
    [layout, ring, ending, end, output, input, write, fragments, finish, read],
    ids=lambda module: module.__name__,
)
def test_no_statement_loads_two_fields(source: ModuleType) -> None:
    """The first would wait on Python's stack for the second, where fingerprint() cannot see it."""
    statements = [node for node in ast.walk(ast.parse(inspect.getsource(source))) if isinstance(node, ast.stmt)]
    found = [node.lineno for node in statements if sum(map(loads, ast.iter_child_nodes(node))) > 1]
    assert not found


def graph_of(*after: list[int]) -> Graph:
    graph = Graph()
    for moves in after:
        graph.moves.extend(moves)
        graph.ends.append(len(graph.moves))
    return graph


def test_two_orders_of_two_moves_are_two_schedules() -> None:
    diamond = graph_of([1, 2], [3], [3], [])
    assert (diamond.count_schedules(), diamond.cannot_end()) == (2, None)


def test_a_circle_with_a_way_out_is_no_stuck_state() -> None:
    circle = graph_of([1], [0, 2], [])
    assert (circle.count_schedules(), circle.cannot_end()) == (None, None)


def test_a_circle_without_a_way_out_is_a_stuck_state() -> None:
    assert graph_of([1, 2], [], [3], [2]).cannot_end() == 2


SEEN = Seen.nothing(Plan(((2,), (1,)), 2))


@pytest.mark.parametrize(
    ("promise", "outputs"),
    [
        ("no tear", [b"A0"]),
        ("no tear", [b"A00.", b"B00."]),
        ("no loss, in order", [b"A01"]),
        ("no repeat", [b"A00.", b"A00."]),
    ],
)
def test_the_monitor_sees_a_broken_promise(promise: str, outputs: list[bytes]) -> None:
    seen = SEEN
    for data in outputs[:-1]:
        seen = seen.put_out(2, data)
    with pytest.raises(Violation) as caught:
        seen.put_out(2, outputs[-1])
    assert caught.value.promise == promise


def test_the_monitor_accepts_the_fragment_that_a_dead_reader_had_put_out_once() -> None:
    seen = SEEN.put_out(2, b"A00.").died(2).put_out(3, b"A00.")
    with pytest.raises(Violation, match="no repeat"):
        seen.put_out(3, b"A00.")


def test_the_monitor_allows_no_repeat_of_what_was_committed() -> None:
    seen = SEEN.put_out(2, b"A00.").noted(2, "consumed").died(2)
    with pytest.raises(Violation, match="no repeat"):
        seen.put_out(3, b"A00.")


def ended(seen: Seen, reader: int, debts: Debts, *, success: bool, over: bool = True, patient: bool = False) -> Seen:
    return seen.ended(reader, success, over, finished=True, patient=patient, debts=debts)


JOINED = Debts().entered(0).joined(0)
THROUGH = JOINED.said_all(0, succeeds=False)
DEAD = JOINED.died(0)
SUCCEEDED = DEAD.entered(0).joined(0)
TORN = THROUGH.left(0).noted("aborted", by_writer=True)


@pytest.mark.parametrize(
    "debts",
    [JOINED, DEAD, JOINED.left(0), SUCCEEDED, SUCCEEDED.said_all(0, succeeds=False).left(0), TORN],
    ids=["owing", "dead", "gone", "dead and resumed", "dead, and another one said what it had to", "torn"],
)
def test_success_with_an_open_debt_is_false(debts: Debts) -> None:
    with pytest.raises(Violation, match="no false success"):
        ended(SEEN._replace(informed=4), 2, debts, success=True)
    assert ended(SEEN._replace(informed=4), 2, debts, success=False)


@pytest.mark.parametrize(
    "debts",
    [
        Debts(),
        THROUGH.left(0),
        SUCCEEDED.said_all(0, succeeds=True).left(0),
        Debts().entered(0).died(0).entered(0).joined(0).said_all(0, succeeds=True).left(0),
    ],
    ids=["nobody came", "left", "dead, and its successor paid", "killed on its way in, and its successor paid"],
)
def test_no_success_without_a_debt_is_an_alarm_for_nothing(debts: Debts) -> None:
    with pytest.raises(Violation, match="no false alarm"):
        ended(SEEN, 2, debts, success=False)
    assert ended(SEEN, 2, debts, success=True)


@pytest.mark.parametrize(
    "debts", [THROUGH.died(0), Debts().entered(0).died(0)], ids=["on its way out", "on its way in"]
)
@pytest.mark.parametrize("success", [True, False])
def test_a_writer_killed_in_the_doorway_may_count_or_not(debts: Debts, success: bool) -> None:
    assert ended(SEEN, 2, debts, success=success)


def test_a_reader_without_the_beginning_of_a_record_has_no_success() -> None:
    seen = SEEN.put_out(2, b"A00.").noted(2, "consumed").died(2).put_out(2, b"A01")
    for over in (True, False):
        with pytest.raises(Violation, match="no false success"):
            ended(seen, 2, Debts(), success=True, over=over)
    assert ended(ended(seen, 2, Debts(), success=False), 2, Debts(), success=True), "the next one lacks nothing"


def test_a_reader_that_repeats_what_a_dead_one_put_out_has_the_beginning() -> None:
    seen = SEEN.put_out(2, b"A00.").died(2).put_out(3, b"A00.").noted(3, "consumed").put_out(3, b"A01")
    assert ended(seen, 3, Debts(), success=True)


def test_a_torn_record_has_to_be_told_by_every_reader_that_sees_the_end() -> None:
    with pytest.raises(Violation, match="torn is told"):
        ended(SEEN, 2, TORN, success=False)


def test_a_reader_that_waits_for_a_successor_does_not_end_without() -> None:
    with pytest.raises(Violation, match="who resumes waits"):
        ended(SEEN, 2, DEAD, success=False, patient=True)


def test_a_writer_does_not_remove_what_a_reader_has_to_hear_of() -> None:
    debts = DEAD.noted("finished", by_writer=True).noted("sent", by_writer=True).noted("finished", by_writer=False)
    with pytest.raises(Violation, match="no false success"):
        debts.noted("finished", by_writer=True)
