"""What goes in comes out: any bytes, split in any way into records, through a ring of any geometry.

Hypothesis chooses, and when something fails it looks for the smallest case that does. Each example has a channel of
its own, and leaves no object behind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from common.channel.read import ReadEnd
from common.channel.write import WriteEnd
from common.cli import sources
from common.cli.descriptors import Descriptor
from common.cli.sources import MessageSource
from common.geometry import Geometry
from common.ipc.family import Family
from common.layout import PAGE, UNKNOWN
from tests.helpers import PATIENCE, Pair, finish
from tests.in_process import Collector, Died, Local, Script, in_thread, stream

# The machines are shared, and the key path serves all examples of a test. A failing example with two threads takes a
# heartbeat or more, so none is made smaller: that would take minutes.
SETTINGS = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

# Small ones, any, and those around the slots' sizes, where the edges are.
sizes = st.one_of(
    st.integers(0, 20),
    st.integers(0, 5 * PAGE),
    st.builds(lambda pages, off: max(pages * PAGE + off, 0), st.integers(0, 4), st.integers(-2, 2)),
)
geometries = st.builds(Geometry, st.integers(1, 5), st.sampled_from([PAGE, 2 * PAGE, 3 * PAGE]))
pieces = st.lists(st.integers(1, 2 * PAGE), min_size=1, max_size=8)
seeds = st.integers(0, 2**32)


class Item(NamedTuple):
    """Something to send: bytes, how they are sent, and the lengths of the reads that they come in."""

    kind: str  # "message", "stream" or "lines"
    data: bytes
    pieces: list[int]

    @property
    def records(self) -> list[bytes]:
        return self.data.splitlines(keepends=True) if self.kind == "lines" else [self.data]

    def reads(self) -> Iterator[int]:
        """The lengths of the reads, over and over."""
        while True:
            yield from self.pieces

    def send(self, end: WriteEnd, *, verify: bool) -> None:
        if self.kind == "message":
            end.send(MessageSource(self.data), verify=verify)
        elif self.kind == "stream":
            end.send(ShortReads(self), verify=verify)
        else:
            source, reads = memoryview(self.data), self.reads()

            def read(input_: Descriptor, size: int) -> bytes:
                nonlocal source
                piece = bytes(source[: min(size, next(reads))])
                source = source[len(piece) :]
                return piece

            def read_into(input_: Descriptor, room: memoryview) -> int:
                piece = read(input_, len(room))
                room[: len(piece)] = piece
                return len(piece)

            with patch.multiple(Descriptor, read=read, read_into=read_into):
                sources.send_lines(end, 0, verify=verify)


class ShortReads(Script):
    """A pipe: its size is unknown, and it gives what it likes, not what there is room for."""

    def __init__(self, item: Item) -> None:
        super().__init__(item.data, total=UNKNOWN)
        self._reads = item.reads()

    def fill(self, room: memoryview) -> int:
        return super().fill(room[: next(self._reads)])


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def text(seed: int, lengths: list[int], ended: bool) -> bytes:
    """Lines of these lengths; the last one with or without its newline."""
    lines = [random_bytes(seed + n, length).translate(NO_NEWLINE) for n, length in enumerate(lengths)]
    return b"\n".join(lines) + (b"\n" if ended else b"")


# splitlines() takes \r for the end of a line too.
NO_NEWLINE = bytes(0x20 if value in b"\n\r" else value for value in range(256))

texts = st.builds(text, seeds, st.lists(sizes, max_size=6), st.booleans())
items = st.one_of(
    st.builds(Item, st.sampled_from(["message", "stream"]), st.builds(random_bytes, seeds, sizes), pieces),
    st.builds(Item, st.just("lines"), texts, pieces),
)


@settings(SETTINGS, max_examples=100, phases=[Phase.generate])
@given(
    geometry=geometries, sent=st.lists(items, max_size=6), verify=st.booleans(), at_most=st.none() | st.integers(1, 3)
)
def test_what_goes_in_comes_out(
    key_path: Path, family: Family, geometry: Geometry, sent: list[Item], verify: bool, at_most: int | None
) -> None:
    """A writer and a reader, each in its thread, at whatever speed."""
    expected = [record for item in sent for record in item.records]
    ends = list(accumulate(map(len, expected), initial=0))
    with Local(key_path, geometry, family=family) as local:
        writer, reader = local.writer(), local.reader()

        def write() -> None:
            with local.removed_on_failure():
                for item in sent:
                    item.send(writer, verify=verify)
            local.leave(writer)

        sink = Collector()
        with in_thread(write) as written, local.removed_on_failure():
            while receipt := reader.receive(sink, at_most):
                assert receipt.records and receipt.aborted is None
                assert sink.size == ends[reader.records], "a receipt ends where its last record ends"
            written()
        assert sink.data == b"".join(expected)
        assert reader.records == len(expected)
        assert local.objects() == []


@settings(SETTINGS, max_examples=40, phases=[Phase.generate])
@given(
    geometry=geometries,
    batches=st.lists(st.lists(st.builds(random_bytes, seeds, sizes), max_size=4), min_size=2, max_size=3),
    readers=st.integers(1, 2),
)
def test_records_of_several_writers_stay_whole_and_in_order(
    key_path: Path, family: Family, geometry: Geometry, batches: list[list[bytes]], readers: int
) -> None:
    """Writers take turns, and each record goes to exactly one reader."""
    labelled = [[b"%d/%d:" % (w, n) + data for n, data in enumerate(batch)] for w, batch in enumerate(batches)]
    with Local(key_path, geometry, family=family) as local, ThreadPoolExecutor() as pool:
        writers, ends = [local.writer() for _ in labelled], [local.reader() for _ in range(readers)]
        writing = [pool.submit(send_all, local, end, records) for end, records in zip(writers, labelled, strict=True)]
        reading = [pool.submit(receive_all, end) for end in ends]
        with local.removed_on_failure():
            for future in writing:
                future.result(PATIENCE)
            received = [future.result(PATIENCE) for future in reading]
        assert local.objects() == []
    assert sorted(chain(*received)) == sorted(chain(*labelled))
    for got in received:
        for records in labelled:
            mine = [records.index(record) for record in got if record in records]
            assert mine == sorted(mine), "a reader sees each writer's records in their order"


def send_all(local: Local, end: WriteEnd, records: list[bytes]) -> None:
    with local.removed_on_failure():
        for record in records:
            end.send(MessageSource(record))
    local.leave(end)


def receive_all(end: ReadEnd) -> list[bytes]:
    received: list[bytes] = []
    while True:
        sink = Collector()
        if not end.receive(sink):
            return received
        received.append(sink.data)


class Slots(NamedTuple):
    """What the model knows of a record in the ring: the bytes of its fragments, and whether it is whole."""

    data: bytes
    fragments: int
    lines: int = 1
    whole: bool = True


class RingMachine(RuleBasedStateMachine):
    """One thread writes and reads by turns, with deaths in between, beside a model that is a plain list.

    A rule runs only when it need not wait, so one thread is enough; nothing depends on time.
    """

    path: Path  # the key path, the same for all examples
    family: Family

    def __init__(self) -> None:
        super().__init__()
        self.ring: list[Slots] = []
        self.expected = b""
        self.torn: Script | None = None  # the source of a record whose writer died
        self.sink = Collector()

    @initialize(geometry=geometries)
    def create(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.local = Local(self.path, geometry, timeout=0, family=self.family)
        self.writer, self.reader = self.local.writer(), self.local.reader()

    def teardown(self) -> None:
        if not hasattr(self, "local"):
            return
        with self.local:
            if self.torn is None:
                self.local.leave(self.writer)
                while self.reader.receive(self.sink):
                    pass
                self.expected += b"".join(record.data for record in self.ring)
                assert self.sink.data == self.expected
                assert self.local.objects() == []

    @property
    def free(self) -> int:
        """How many fragments can be sent without waiting; the one that says ABORTED is sent first."""
        aborted = 1 if self.torn else 0
        return self.geometry.slot_count - sum(record.fragments for record in self.ring) - aborted

    def _was_sent(self, data: bytes, fragments: int, lines: int = 1) -> None:
        if self.torn:
            torn = self.ring.pop() if self.ring and not self.ring[-1].whole else Slots(b"", 0)
            self.ring.append(torn._replace(fragments=torn.fragments + 1, whole=True))
            self.torn = None
        self.ring.append(Slots(data, fragments, lines))

    @rule(size=sizes, seed=seeds, verify=st.booleans())
    def send_message(self, size: int, seed: int, verify: bool) -> None:
        fragments = max(-(-size // self.geometry.slot_size), 1)
        if fragments <= self.free:
            data = random_bytes(seed, size)
            self.writer.send(MessageSource(data), verify=verify)
            self._was_sent(data, fragments)

    @rule(size=sizes, seed=seeds)
    def send_stream(self, size: int, seed: int) -> None:
        fragments = -(-size // self.geometry.slot_size) + 1  # its end is a fragment of its own
        if fragments <= self.free:
            data = random_bytes(seed, size)
            self.writer.send(stream(data))
            self._was_sent(data, fragments)

    @precondition(lambda self: self.free >= 1)
    @rule(lengths=st.lists(st.integers(0, 100), min_size=1, max_size=9), seed=seeds, verify=st.booleans())
    def send_lines(self, lengths: list[int], seed: int, verify: bool) -> None:
        data = text(seed, lengths, ended=True)
        self.writer.send_lines(data, len(lengths), verify=verify)
        self._was_sent(data, 1, len(lengths))

    @precondition(lambda self: self.torn is None)
    @rule(fragments=st.integers(1, 3), more=st.integers(1, PAGE), seed=seeds)
    def writer_dies(self, fragments: int, more: int, seed: int) -> None:
        """Behind its `fragments`-th fragment, with `more` bytes still to send."""
        if fragments < self.free:  # it dies while it fills the next one
            size = fragments * self.geometry.slot_size
            source = Script(random_bytes(seed, size + more), dies_at=size)
            with pytest.raises(Died):
                self.writer.send(source)
            self.writer.objects.writers.leave()  # as the kernel does for a process
            self.local.detach(self.writer)
            self.writer = self.local.writer()
            self.ring.append(Slots(random_bytes(seed, size + more)[:size], fragments, whole=False))
            self.torn = Script(random_bytes(seed, size + more))

    @precondition(lambda self: self.torn is not None and self.free >= 0)
    @rule()
    def resume(self) -> None:
        assert self.torn is not None
        self.writer.send(self.torn, resume=True)
        begun = self.ring.pop()
        self.ring.append(Slots(self.torn.data, begun.fragments + 1))
        self.torn = None

    @precondition(lambda self: self.ring and self.ring[0].whole)
    @rule(at_most=st.none() | st.integers(1, 4))
    def receive(self, at_most: int | None) -> None:
        receipt = self.reader.receive(self.sink, at_most)
        assert receipt is not None
        first = self.ring.pop(0)
        data = first.data
        if first.lines > 1:
            assert receipt.records == min(at_most or first.lines, first.lines)
        if at_most and at_most < first.lines:
            data = b"".join(data.splitlines(keepends=True)[:at_most])
            self.ring.insert(0, first._replace(data=first.data[len(data) :], lines=first.lines - at_most))
        self.expected += data
        assert self.sink.data == self.expected

    @precondition(lambda self: self.ring and self.ring[0].whole)
    @rule()
    def reader_dies(self) -> None:
        """Before its first commit: the next reader gets that fragment again."""
        with pytest.raises(Died):
            self.reader.receive(Collector(dies_at=0))
        self.local.detach(self.reader)
        self.reader = self.local.reader()

    @rule()
    def another_reader(self) -> None:
        self.reader = self.local.reader()

    @rule()
    def another_writer(self) -> None:
        self.local.leave(self.writer)
        self.writer = self.local.writer()


def test_reading_and_writing_by_turns(key_path: Path, family: Family) -> None:
    class Machine(RingMachine):
        path = key_path

    Machine.family = family
    run_state_machine_as_test(Machine, settings=settings(SETTINGS, max_examples=100, stateful_step_count=25))


def says_something(item: Item) -> bool:
    """No line at all leaves no channel, for which a reader that comes later would wait."""
    return bool(item.records)


@settings(SETTINGS, max_examples=5, phases=[Phase.generate])
@given(item=items.filter(says_something), slots=st.integers(1, 4), verify=st.booleans(), reader_first=st.booleans())
def test_through_the_real_programs(pair: Pair, item: Item, slots: int, verify: bool, reader_first: bool) -> None:
    """As a file, from a pipe, or line by line."""
    arguments: list[object] = ["--slots", slots, "--slot-size", PAGE, *(["--verify"] if verify else [])]
    if item.kind == "message":
        (pair.directory / "input").write_bytes(item.data)
        arguments += ["--file", "input"]
    elif item.kind == "lines":
        arguments += ["--lines"]
    started = {}
    for program in ("reader", "writer") if reader_first else ("writer", "reader"):
        started[program] = pair.start(program, *(arguments if program == "writer" else []))
    writer, reader = started["writer"], started["reader"]
    with in_thread(lambda: finish(writer, item.data)) as wrote:
        read = finish(reader)
        assert (wrote().code, read.code, read.out) == (0, 0, item.data), (wrote(), read)
