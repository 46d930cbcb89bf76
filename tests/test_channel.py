"""The ring protocol, its edges by name, with both ends in one process over real objects of both families."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.channel.end import End
from common.channel.ending import Ending
from common.channel.listener import Call, News, Reason, Step
from common.channel.output import Output
from common.channel.read import ReadEnd
from common.channel.write import WriteEnd
from common.cli.sinks import FileSink
from common.cli.sources import FileSource, MessageSource
from common.errors import BadSegment, ChannelError, TimedOut, TornRecord
from common.geometry import Geometry
from common.ipc.family import Family
from common.layout import (
    ABORTED,
    CHECKED,
    FINISHED,
    FIRST,
    LAST,
    LINES,
    OPEN,
    PAGE,
    REMOVED,
    SEMAPHORES,
    UNKNOWN,
    Header,
    SlotHeader,
)
from tests.helpers import wait_until
from tests.in_process import (
    POSIX,
    Collector,
    Died,
    Heard,
    Local,
    Script,
    in_thread,
    observing,
    stream,
    take_all,
    take_segment_away,
    take_semaphore_away,
    tokens,
)

PID = os.getpid()


@pytest.fixture
def local(key_path: Path, family: Family) -> Iterator[Local]:
    with Local(key_path, family=family) as channel:
        yield channel


def slots(end: End) -> list[SlotHeader]:
    """The headers of what is in the ring."""
    return [end.ring.read_slot(number) for number in range(end.ring.header.tail, end.ring.header.head)]


def payload(end: End, number: int) -> bytes:
    with end.ring.payload(number, 0, end.ring.read_slot(number).length) as data:
        return bytes(data)


def send(end: WriteEnd, *messages: bytes) -> None:
    for message in messages:
        end.send(MessageSource(message))


def die_in_a_record(end: WriteEnd, data: bytes, total: int | None = None) -> None:
    """Publish `data` in whole fragments as the beginning of a record of `total` bytes, then die."""
    with pytest.raises(Died):
        end.send(Script(data, total=len(data) + 1 if total is None else total, dies_at=len(data)))


def rewrite(end: End, number: int, **change: int) -> None:
    """Scribble into a slot header."""
    end.ring.write_slot(number, end.ring.read_slot(number)._replace(**change))


# One record and its fragments


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, [0]),
        (1, [1]),
        (PAGE - 1, [PAGE - 1]),
        (PAGE, [PAGE]),
        (PAGE + 1, [PAGE, 1]),
        (2 * PAGE, [PAGE, PAGE]),
    ],
)
def test_a_record_takes_as_many_fragments_as_it_fills(local: Local, size: int, lengths: list[int]) -> None:
    writer = local.writer()
    writer.send(MessageSource(bytes(size)))
    last = len(lengths) - 1
    assert slots(writer) == [
        SlotHeader(
            length=length,
            flags=(0 if i else FIRST) | (LAST if i == last else 0),
            record=0,
            offset=i * PAGE,
            total=size,
            writer_pid=PID,
            crc32=0,
            records=int(i == last),
        )
        for i, length in enumerate(lengths)
    ]


def test_a_stream_that_ends_at_a_slots_end_has_an_empty_last_fragment(local: Local) -> None:
    writer = local.writer()
    writer.send(stream(bytes(PAGE)))
    assert [(slot.length, slot.flags, slot.total) for slot in slots(writer)] == [
        (PAGE, FIRST, UNKNOWN),
        (0, LAST, PAGE),
    ]


def test_lines_share_a_slot_and_count_as_records(local: Local) -> None:
    writer = local.writer()
    writer.send_lines(b"one\ntwo\nthree\n", 3)
    send(writer, b"more")
    assert [(slot.flags, slot.record, slot.records, slot.total) for slot in slots(writer)] == [
        (LINES | FIRST | LAST, 0, 3, 14),
        (FIRST | LAST, 3, 1, 4),
    ]
    assert payload(writer, 0) == b"one\ntwo\nthree\n"
    assert (writer.records, writer.bytes) == (4, 18)


def test_what_is_sent_is_received_in_order(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    got = []
    for message in (b"first", b"", bytes(range(256)), b"x" * 2 * PAGE):
        send(writer, message)
        sink = Collector()
        receipt = reader.receive(sink)
        got.append((receipt.records if receipt else None, sink.data))
    assert got == [(1, b"first"), (1, b""), (1, bytes(range(256))), (1, b"x" * 2 * PAGE)]
    assert (reader.records, reader.bytes) == (writer.records, writer.bytes) == (4, 261 + 2 * PAGE)


def test_progress_is_heard_after_each_fragment(local: Local) -> None:
    """With what its slot says, and once the end counts it."""
    writer, reader = local.writer(), local.reader()
    heard: list[tuple[str, SlotHeader, int, int, int]] = []

    def hear(verb: str, end: End) -> None:
        end.listener = Heard()
        end.listener.progress = lambda slot, length: heard.append((verb, slot, length, end.records, end.bytes))

    hear("sent", writer)
    hear("received", reader)
    send(writer, bytes(PAGE + 5))
    first, last = slots(writer)
    reader.receive(Collector())
    assert (first.end, last.end) == (PAGE, PAGE + 5)
    assert heard == [
        ("sent", first, PAGE, 0, PAGE),
        ("sent", last, 5, 1, PAGE + 5),
        ("received", first, PAGE, 0, PAGE),
        ("received", last, 5, 1, PAGE + 5),
    ]


def test_progress_is_what_went_through_just_now(local: Local) -> None:
    """Not all of a slot, of which others have taken the rest."""
    writer, reader = local.writer(), local.reader()
    writer.send_lines(LINES_SENT, 4)
    lengths: list[int] = []
    reader.listener.progress = lambda slot, length: lengths.append(length)
    reader.receive(Collector(), 2)
    reader.receive(Collector(), 2)
    assert lengths == [5, 11]


def test_each_step_is_told_in_order_before_it_happens(local: Local) -> None:
    """A record of two fragments, and the end: all steps but joining and leaving, which the programs tell."""
    told: list[tuple[Step, int, SlotHeader | None]] = []
    stood: list[tuple[int, int]] = []

    def hear(step: Step, number: int, slot: SlotHeader | None) -> None:
        told.append((step, number, slot))
        stood.append((reader.ring.header.head, reader.ring.header.tail))

    writer, reader = local.writer(), local.reader()
    local.heard.step, local.heard.pauses = hear, True
    send(writer, bytes(PAGE + 5))
    first, last = slots(writer)
    local.leave(writer)
    take_all(reader)
    assert told == [
        (Step.TAKE_TURN, -1, None),
        (Step.WAIT_SLOT, -1, None),
        (Step.FILL, 0, None),
        (Step.PUBLISH, 0, first),
        (Step.WAIT_SLOT, -1, None),
        (Step.FILL, 1, None),
        (Step.PUBLISH, 1, last),
        (Step.GIVE_TURN, -1, None),
        (Step.TAKE_TURN, -1, None),
        (Step.WAIT_DATA, -1, None),
        (Step.READ, 0, None),
        (Step.PUT_OUT, 0, first),
        (Step.COMMIT, 0, first),
        (Step.FREE, 0, None),
        (Step.WAIT_DATA, -1, None),
        (Step.READ, 1, None),
        (Step.PUT_OUT, 1, last),
        (Step.COMMIT, 1, last),
        (Step.FREE, 1, None),
        (Step.GIVE_TURN, -1, None),
        (Step.TAKE_TURN, -1, None),
        (Step.WAIT_DATA, -1, None),
        (Step.REMOVE, -1, None),
    ]
    assert {step for step, _, _ in told} == set(Step) - {Step.JOIN, Step.LEAVE}
    at = {(step, number): where for (step, number, _), where in zip(told, stood, strict=True)}
    assert (at[Step.PUBLISH, 0], at[Step.PUBLISH, 1]) == ((0, 0), (1, 0))
    assert (at[Step.COMMIT, 0], at[Step.FREE, 0]) == ((2, 0), (2, 1))


def test_a_record_far_larger_than_the_ring_passes_through(local: Local) -> None:
    data = os.urandom(100 * PAGE + 77)
    writer, reader = local.writer(), local.reader()
    sink = Collector()
    with in_thread(lambda: reader.receive(sink)) as received:
        writer.send(MessageSource(data))
        assert received() == (1, None)
    assert sink.data == data


# The edges of the ring


def test_a_new_channel_is_empty_and_its_reader_waits_for_a_writer(local: Local) -> None:
    local.leave(local.writer())
    writer = local.writer()
    assert (writer.ring.header.head, writer.ring.header.tail, writer.unread()) == (0, 0, 0)
    reader = local.reader(timeout=0)
    with pytest.raises(
        TimedOut, match=r"^gave up after 0 s of waiting for data; a writer is there, and sends nothing$"
    ):
        reader.receive(Collector())


def test_a_channel_that_no_writer_ever_joined_is_not_over(local: Local) -> None:
    writer = local.writer()
    writer.objects.writers.leave()
    writer.ring.header.writers_joined = 0
    reader = local.reader(timeout=0)
    with pytest.raises(TimedOut, match=r"^gave up after 0 s of waiting for a writer; start `writer.py`$"):
        reader.receive(Collector())


def test_exactly_full_needs_no_reader(local: Local) -> None:
    writer = local.writer(timeout=0)
    send(writer, b"1", b"2")
    assert writer.ring.lag() == writer.ring.slot_count == 2


def test_one_more_than_full_waits_for_a_reader(local: Local) -> None:
    writer = local.writer(timeout=0)
    send(writer, b"1", b"2")
    with pytest.raises(TimedOut) as timeout:
        send(writer, b"3")
    assert str(timeout.value) == (
        "gave up after 0 s of waiting for room: all 2 slots are full and nobody is reading; start `reader.py`"
    )
    assert writer.ring.lag() == 2

    reader = local.reader()
    reader.receive(Collector())
    send(writer, b"3")
    assert [payload(writer, number) for number in (1, 2)] == [b"2", b"3"]


def test_a_full_ring_with_a_reader_at_work_is_not_called_readerless(local: Local) -> None:
    writer = local.writer(timeout=0)
    send(writer, b"1", b"2")
    reader = local.reader()
    assert reader.objects.reader_turn.acquire(0)
    reader.ring.header.reader_pid = PID
    with pytest.raises(TimedOut, match=rf"all 2 slots are full, and pid {PID} has the turn to read$"):
        send(writer, b"3")


@pytest.mark.parametrize("slot_count", [1, 2, 3])
def test_slots_are_reused_for_ever(key_path: Path, family: Family, slot_count: int) -> None:
    with Local(key_path, Geometry(slot_count, PAGE), family=family) as local:
        writer, reader = local.writer(), local.reader()
        for number in range(3 * slot_count + 1):
            send(writer, b"%d" % number)
            sink = Collector()
            reader.receive(sink)
            assert sink.data == b"%d" % number
        assert writer.ring.header.tail == 3 * slot_count + 1


def test_nothing_is_visible_until_it_is_published(local: Local) -> None:
    class Peeking(Script):
        def fill(self, room: memoryview) -> int:
            length = super().fill(room)
            seen.append((writer.ring.header.head, writer.ring.lag()))
            return length

    seen: list[tuple[int, int]] = []
    writer = local.writer()
    writer.send(Peeking(bytes(PAGE + 1)))
    assert seen == [(0, 0), (1, 1)]
    assert writer.ring.lag() == 2


class Watched:
    """A semaphore that notes head and tail whenever a token is put back."""

    def __init__(self, end: End, counter: Any) -> None:
        self.seen: list[tuple[int, int]] = []
        self._end = end
        self._counter = counter

    def acquire(self, timeout: float) -> bool:
        return bool(self._counter.acquire(timeout))

    def release(self) -> None:
        self.seen.append((self._end.ring.header.head, self._end.ring.header.tail))
        self._counter.release()


def test_head_moves_before_the_reader_is_woken(local: Local) -> None:
    writer = local.writer()
    objects: Any = writer.objects
    watched = objects.full_slots = Watched(writer, objects.full_slots)
    send(writer, bytes(2 * PAGE))
    assert watched.seen == [(1, 0), (2, 0)]


def test_the_bytes_are_out_before_tail_moves_and_tail_moves_before_the_writer_is_woken(local: Local) -> None:
    class Peeking(Collector):
        def write(self, data: memoryview) -> None:
            super().write(data)
            tails.append(reader.ring.header.tail)

    tails: list[int] = []
    writer, reader = local.writer(), local.reader()
    objects: Any = reader.objects
    watched = objects.empty_slots = Watched(reader, objects.empty_slots)
    send(writer, bytes(2 * PAGE))
    reader.receive(Peeking())
    assert tails == [0, 1]
    assert watched.seen == [(2, 1), (2, 2)]


def test_tokens_follow_head_and_tail(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    assert list(tokens(writer).values()) == [0, 2, 1, 1, 1]
    send(writer, b"1", b"2")
    assert list(tokens(writer).values()) == [2, 0, 1, 1, 1]
    reader.receive(Collector())
    assert list(tokens(writer).values()) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("extra", ["full_slots", "empty_slots"])
def test_an_extra_token_changes_nothing(local: Local, extra: str) -> None:
    writer, reader = local.writer(timeout=0), local.reader(timeout=0)
    for _ in range(3):
        getattr(writer.objects, extra).release()
    with pytest.raises(TimedOut):
        reader.receive(Collector())
    send(writer, b"1", b"2")
    with pytest.raises(TimedOut):
        send(writer, b"3")
    assert [payload(writer, number) for number in (0, 1)] == [b"1", b"2"]


@pytest.mark.parametrize("lost", ["full_slots", "empty_slots"])
def test_a_lost_token_does_not_hang_anyone(local: Local, lost: str) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"1")
    while getattr(writer.objects, lost).acquire(0):
        pass
    sink = Collector()
    reader.receive(sink)
    send(writer, b"2", b"3")
    reader.receive(sink)
    reader.receive(sink)
    assert sink.data == b"123"


# Turns


def test_a_turn_notes_its_holder_and_clears_the_note(local: Local) -> None:
    class Peeking(Script):
        def fill(self, room: memoryview) -> int:
            seen.append((writer.ring.header.writer_pid, other.objects.writer_turn.holder()))
            return super().fill(room)

    seen: list[tuple[int, int | None]] = []
    writer, other = local.writer(), local.writer()
    writer.send(Peeking(b"x"))
    assert seen == [(PID, PID)]
    assert (writer.ring.header.writer_pid, other.objects.writer_turn.holder()) == (0, None)


def test_two_writers_do_not_mix_inside_a_record(local: Local) -> None:
    class Interrupting(Script):
        def fill(self, room: memoryview) -> int:
            with pytest.raises(TimedOut, match=rf"^gave up after 0 s of waiting for our turn, which pid {PID} has$"):
                send(other, b"intruder")
            return super().fill(room)

    writer, other = local.writer(), local.writer(timeout=0)
    writer.send(Interrupting(b"whole"))
    assert [payload(writer, 0), writer.ring.header.head] == [b"whole", 1]


def test_the_turn_is_given_back_after_a_death_and_its_note_stays(local: Local) -> None:
    writer = local.writer()
    die_in_a_record(writer, bytes(PAGE))
    assert writer.ring.header.writer_pid == PID
    assert tokens(writer)["writer_turn"] == 1


@pytest.mark.parametrize("field", ["writer_pid", "reader_pid"])
def test_the_next_holder_pays_one_token_of_each_kind_for_a_dead_one(local: Local, field: str) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"1")
    before = tokens(writer)
    setattr(writer.ring.header, field, 4242)
    if field == "writer_pid":
        send(writer, b"2")
        cost = {"full_slots": 1, "empty_slots": -1}
    else:
        reader.receive(Collector())
        cost = {"full_slots": -1, "empty_slots": 1}
    after = tokens(writer)
    assert {name: after[name] - before[name] for name in cost} == {name: n + 1 for name, n in cost.items()}
    assert getattr(writer.ring.header, field) == 0


# Records of dead writers


def test_a_record_that_another_writer_finds_unfinished_is_aborted(local: Local) -> None:
    dead, writer = local.writer(), local.writer(timeout=0)
    die_in_a_record(dead, bytes(PAGE), total=9999)
    with pytest.raises(TimedOut):  # the ABORTED fragment took the second of two slots
        send(writer, b"next")
    assert slots(writer) == [
        SlotHeader(PAGE, FIRST, 0, 0, 9999, PID, 0, 0, 0, *Script.file),
        SlotHeader(0, ABORTED, 0, PAGE, 9999, PID, 0, 1),
    ]


def test_the_reader_of_an_aborted_record_hears_whose_it_was_and_goes_on(key_path: Path, family: Family) -> None:
    with Local(key_path, Geometry(3, PAGE), family=family) as local:
        dead, writer, reader = local.writer(), local.writer(), local.reader()
        die_in_a_record(dead, b"x" * PAGE, total=9999)
        rewrite(dead, 0, writer_pid=4242)
        send(writer, b"next")
        sink = Collector()
        torn, whole = reader.receive(sink), reader.receive(sink)
        assert torn is not None and whole is not None
        assert torn.records == 0
        assert torn.aborted == SlotHeader(0, ABORTED, 0, PAGE, 9999, 4242, 0, 1)
        assert (whole.records, whole.aborted) == (1, None)
        assert sink.data == b"x" * PAGE + b"next"
        assert (reader.records, reader.incomplete, reader.ring.header.records_torn) == (1, True, 1)


def test_resume_continues_at_the_first_byte_that_was_not_committed(key_path: Path, family: Family) -> None:
    data = os.urandom(2 * PAGE + 100)
    with Local(key_path, Geometry(4, PAGE), family=family) as local:
        dead, writer, reader = local.writer(), local.writer(), local.reader()
        with pytest.raises(Died):
            dead.send(Script(data, dies_at=PAGE))
        writer.send(Script(data), resume=True)
        assert [(slot.record, slot.offset, slot.length) for slot in slots(writer)] == [
            (0, 0, PAGE),
            (0, PAGE, PAGE),
            (0, 2 * PAGE, 100),
        ]
        sink = Collector()
        assert reader.receive(sink) == (1, None)
        assert sink.data == data


@pytest.mark.parametrize(
    ("began_with", "size", "text"),
    [
        (9999, 9998, "its size is 9998, and record 0 stopped after 4096 bytes of 9999"),
        (9999, 10000, "its size is 10000, and record 0 stopped after 4096 bytes of 9999"),
        (UNKNOWN, PAGE + 1, "its size is 4097, and record 0 stopped after 4096 bytes of unknown"),
        (9999, UNKNOWN, "its size is unknown, and record 0 stopped after 4096 bytes of 9999"),
        (UNKNOWN, UNKNOWN, "its size is unknown, and record 0 stopped after 4096 bytes of unknown"),
    ],
)
def test_resume_with_another_file_is_refused(local: Local, began_with: int, size: int, text: str) -> None:
    dead, writer = local.writer(), local.writer()
    die_in_a_record(dead, bytes(PAGE), total=began_with)
    with pytest.raises(TornRecord) as refusal:
        writer.send(Script(b"", total=size), resume=True)
    assert (
        str(refusal.value)
        == f"this is not the file to resume: {text}; `writer.py --remove` gives up what was begun, then send it anew"
    )
    assert writer.ring.header.head == 1


class Nothing(MessageSource):
    """A message whose writer dies before its first byte."""

    def __init__(self) -> None:
        super().__init__(b"message")

    def fill(self, room: memoryview) -> int:
        raise Died


def test_resume_of_a_record_that_was_given_up_is_refused(key_path: Path, family: Family) -> None:
    with Local(key_path, Geometry(4, PAGE), family=family) as local:
        writer = local.writer()
        die_in_a_record(writer, bytes(PAGE), total=9999)
        with pytest.raises(Died):  # marks the first one ABORTED, and publishes nothing of its own
            writer.send(Nothing())
        assert slots(writer)[-1].flags == ABORTED
        with pytest.raises(TornRecord, match=r"^record 0 was given up after 4096 bytes when another writer went on"):
            writer.send(Script(bytes(9999)), resume=True)


def test_resume_where_nothing_was_begun_sends_it_all(local: Local) -> None:
    writer = local.writer()
    writer.send(Script(b"all of it"), resume=True)
    assert payload(writer, 0) == b"all of it"


@pytest.mark.parametrize(("same_file", "fragments"), [(True, 1), (False, 2)])
def test_resume_of_a_file_that_was_sent_whole_sends_nothing_more(
    local: Local, tmp_path: Path, same_file: bool, fragments: int
) -> None:
    writer = local.writer()
    (tmp_path / "input").write_bytes(b"same size")
    (tmp_path / "another").write_bytes(b"same size")
    for name in ("input", "input" if same_file else "another"):
        path = tmp_path / name
        with path.open("rb") as file:
            writer.send(FileSource(file.fileno(), name), resume=True)
    assert writer.ring.header.head == fragments


def test_an_input_that_becomes_shorter_is_an_error(local: Local) -> None:
    writer = local.writer()
    with pytest.raises(TornRecord) as torn:
        writer.send(Script(b"short", total=10))
    assert str(torn.value) == "the input became shorter: it ended after 5 of 10 bytes"
    assert not slots(writer)[-1].ends_record


def test_an_input_that_grows_is_sent_as_it_was_found(local: Local) -> None:
    writer = local.writer()
    writer.send(Script(b"as it was, and more", total=9))
    assert payload(writer, 0) == b"as it was"


# Dead readers


def test_a_reader_that_dies_before_its_commit_loses_nothing(local: Local) -> None:
    writer, dead, reader = local.writer(), local.reader(), local.reader()
    send(writer, b"a" * PAGE + b"b")
    first, second = Collector(dies_at=1), Collector()
    with pytest.raises(Died):
        dead.receive(first)
    heard = news_of(reader)
    assert reader.receive(second) == (1, None)
    assert (first.data, second.data) == (b"a" * PAGE, b"b")
    assert (heard, reader.incomplete) == ([headless(0, PAGE)], True)


@pytest.mark.parametrize("stops", [True, False], ids=["in its turn", "properly"])
def test_of_a_reader_that_stopped_between_two_records_nothing_is_told(
    key_path: Path, family: Family, stops: bool
) -> None:
    with Local(key_path, Geometry(3, PAGE), family=family) as local:
        writer, other, reader = local.writer(), local.reader(), local.reader()
        send(writer, b"1", b"2", b"3")
        other.receive(Collector())
        if stops:
            with pytest.raises(Died):
                other.receive(Collector(dies_at=0))
        heard = news_of(reader)
        sink = Collector()
        reader.receive(sink)
        reader.receive(sink)
        assert (sink.data, heard, reader.incomplete) == (b"23", [], False)


# Readers that are stopped inside a slot


class Breaking(Collector):
    """A sink that takes `room` bytes and then raises `error`."""

    def __init__(self, room: int, error: type[BaseException]) -> None:
        super().__init__()
        self._room = room
        self._error = error

    def write(self, data: memoryview) -> None:
        super().write(data[: self._room - self.size])
        if self.size == self._room:
            raise self._error


def break_off(end: ReadEnd, room: int, error: type[BaseException] = Died, at_most: int | None = None) -> bytes:
    """Receive until the sink breaks after `room` bytes; those bytes."""
    sink = Breaking(room, error)
    with pytest.raises(error):
        while True:
            end.receive(sink, at_most)
    assert sink.size == room
    return sink.data


@pytest.mark.parametrize("room", [0, 1, PAGE - 1, PAGE, PAGE + 1, PAGE + 4, PAGE + 5])
@pytest.mark.parametrize("error", [Died, KeyboardInterrupt])
@pytest.mark.parametrize("verify", [False, True], ids=["plain", "verify"])
def test_what_is_out_of_a_record_is_committed_to_the_byte(
    local: Local, room: int, error: type[BaseException], verify: bool
) -> None:
    data = os.urandom(PAGE + 5)
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    writer.send(MessageSource(data), verify=verify)
    assert break_off(stopped, room, error) == data[:room]
    assert (stopped.records, stopped.bytes) == (0, room)
    sink = Collector()
    assert reader.receive(sink) == (1, None)
    assert sink.data == data[room:]
    assert (reader.records, reader.bytes, reader.unread()) == (1, len(data) - room, 0)


LINES_SENT = b"one\n\nthree\nfour\n"


@pytest.mark.parametrize("room", range(len(LINES_SENT) + 1))
@pytest.mark.parametrize("verify", [False, True], ids=["plain", "verify"])
def test_what_is_out_of_lines_is_committed_to_the_byte(local: Local, room: int, verify: bool) -> None:
    """The line that is cut in two counts for the reader that puts its end out."""
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    writer.send_lines(LINES_SENT, 4, verify=verify)
    out = break_off(stopped, room)
    assert (stopped.records, stopped.bytes) == (out.count(b"\n"), room)
    sink = Collector()
    assert reader.receive(sink) == (4 - stopped.records, None)
    assert out + sink.data == LINES_SENT
    assert (reader.records, reader.bytes, reader.unread()) == (4 - stopped.records, len(sink.data), 0)


@pytest.mark.parametrize("room", [0, 1, 4, 15, 16])
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "record"])
def test_a_slot_whose_consumer_left_comes_again_whole(local: Local, room: int, lines: bool) -> None:
    """What it took of it, or left in the pipe, nobody can tell."""
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    if lines:
        writer.send_lines(LINES_SENT, 4)
    else:
        send(writer, LINES_SENT)
    break_off(stopped, room, BrokenPipeError)
    assert (stopped.records, stopped.bytes, slots(reader)[0].taken) == (0, 0, 0)
    heard = news_of(reader)
    assert (take_slot(reader), heard) == (LINES_SENT, [])


def test_the_slots_before_the_one_whose_consumer_left_are_out(local: Local) -> None:
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    send(writer, bytes(PAGE) + b"the rest")
    break_off(stopped, PAGE + 3, BrokenPipeError)
    heard = news_of(reader)
    assert (take_slot(reader), heard) == (b"the rest", [headless(0, PAGE)])


@pytest.mark.parametrize("rooms", [(1, 1), (2, 4, 3), (4, 0, 1), (7, 9)], ids=str)
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "record"])
def test_one_slot_and_several_readers_that_are_stopped(local: Local, rooms: tuple[int, ...], lines: bool) -> None:
    """Each begins where the one before it stopped, which it is told when that is inside a record."""
    writer = local.writer()
    if lines:
        writer.send_lines(LINES_SENT, 4)
    else:
        send(writer, LINES_SENT)
    got, records = b"", 0
    for room in rooms:
        stopped = local.reader()
        heard, begun = news_of(stopped), len(got) - (got.rfind(b"\n") + 1 if lines else 0)
        record = got.count(b"\n") if lines else 0
        got += break_off(stopped, room)
        records += stopped.records
        assert heard == ([headless(record, begun)] if begun else [])
    reader, sink = local.reader(), Collector()
    assert reader.receive(sink) == ((4 if lines else 1) - records, None)
    assert got + sink.data == LINES_SENT


@pytest.mark.parametrize(
    ("room", "receipts"), [(1, [1, 1, 1, 1]), (4, [1, 1, 1]), (6, [1, 1]), (10, [1, 1]), (15, [1]), (16, [0])]
)
def test_taken_inside_a_line(local: Local, room: int, receipts: list[int]) -> None:
    """The rest of the line is a line of its own, also for a reader that takes one at a time."""
    writer, reader = local.writer(), local.reader()
    writer.send_lines(LINES_SENT, 4)
    break_off(local.reader(), room)
    sink = Collector()
    got = []
    while reader.unread():
        receipt = reader.receive(sink, 1)
        assert receipt is not None
        got.append(receipt.records)
    assert (got, sink.data) == (receipts, LINES_SENT[room:])


def test_at_most_and_a_sink_that_breaks(local: Local) -> None:
    """It takes a line, and half of the next one."""
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    writer.send_lines(LINES_SENT, 4)
    out = break_off(stopped, 7, at_most=1)
    assert (stopped.records, stopped.bytes) == (2, 7)
    assert out + take_slot(reader) == LINES_SENT


def news_of(reader: ReadEnd) -> list[News]:
    """What the reader tells from now on."""
    reader.listener = heard = Heard()
    return heard.told


def headless(record: int, begun: int) -> News:
    return News(f"record {record} comes without its first {begun} bytes: another reader took them", lost=True)


def empty(local: Local) -> None:
    """A channel that is over and that nobody has removed yet."""
    writer, reader = local.writer(), local.reader()
    send(writer, b"")
    reader.receive(Collector())
    local.leave(writer)
    local.detach(reader)


def test_a_torn_record_that_another_reader_met_is_told_beside_what_else_is_missing(
    key_path: Path, family: Family
) -> None:
    with Local(key_path, Geometry(4, PAGE), family=family) as local:
        dead, writer = local.writer(), local.writer()
        die_in_a_record(dead, b"x" * PAGE, total=9999)
        send(writer, bytes(PAGE) + b"the rest")
        local.leave(writer)
        first = local.reader()
        first.receive(Collector())
        break_off(first, PAGE + 1, BrokenPipeError)
        reader = local.reader()
        heard = news_of(reader)
        reader.receive(Collector())
        reader._see_end(Ending.OVER)
        assert heard == [
            headless(1, PAGE),
            News("another reader met 1 torn record in this channel", lost=True),
        ]


def an_output(end: ReadEnd) -> Output:
    return Output(Collector(), end.ring, resume=False)


def take_slot(end: ReadEnd) -> bytes:
    sink = Collector()
    end.receive(sink)
    return sink.data


class Unlucky:
    """A semaphore whose token is not put back, because a signal came; `lucky` ones before it are."""

    def __init__(self, counter: Any, lucky: int = 0) -> None:
        self.acquire = counter.acquire
        self._counter = counter
        self._lucky = lucky

    def release(self) -> None:
        if not self._lucky:
            raise Died
        self._lucky -= 1
        self._counter.release()


def test_a_slot_whose_tail_has_moved_is_not_committed_again(key_path: Path, family: Family) -> None:
    """The writer may have filled it anew: nothing of that is taken."""
    with Local(key_path, Geometry(1, PAGE), family=family) as local:
        writer, stopped, reader = local.writer(), local.reader(), local.reader()
        send(writer, b"one")
        objects: Any = stopped.objects
        objects.empty_slots = Unlucky(objects.empty_slots)
        with pytest.raises(Died):
            stopped.receive(Collector())
        assert (stopped.ring.header.tail, stopped.ring.read_slot(0).taken) == (1, 0)
        send(writer, b"two")
        assert take_slot(reader) == b"two"


def test_lines_that_are_noted_as_taken_are_not_taken_again(local: Local) -> None:
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    writer.send_lines(LINES_SENT, 4)
    objects: Any = stopped.objects
    objects.full_slots = Unlucky(objects.full_slots)
    with pytest.raises(Died):
        stopped.receive(Collector(), 2)
    assert (stopped.records, stopped.bytes) == (2, 5)
    assert take_slot(reader) == LINES_SENT[5:]


def test_lines_behind_those_that_were_taken_before_are_counted_once(local: Local) -> None:
    writer, stopped, reader = local.writer(), local.reader(), local.reader()
    writer.send_lines(LINES_SENT, 4)
    vars(stopped.objects)["full_slots"] = Unlucky(stopped.objects.full_slots, lucky=1)
    assert stopped.receive(Collector(), 1) == (1, None)
    with pytest.raises(Died):
        stopped.receive(Collector(), 2)
    assert (stopped.records, stopped.bytes) == (3, 11)
    assert take_slot(reader) == LINES_SENT[11:]


# What is counted when a signal is heard behind the commit

INTERRUPTED = [
    pytest.param(5, 0, (1, 5), id="a record"),
    pytest.param(PAGE + 5, 0, (0, PAGE), id="a record's first fragment"),
    pytest.param(PAGE + 5, 1, (1, PAGE + 5), id="a record's last fragment"),
]


@pytest.mark.parametrize(("size", "lucky", "counted"), INTERRUPTED)
def test_an_interrupted_writer_counts_what_is_published(
    local: Local, size: int, lucky: int, counted: tuple[int, int]
) -> None:
    writer = local.writer()
    vars(writer.objects)["full_slots"] = Unlucky(writer.objects.full_slots, lucky)
    with pytest.raises(Died):
        send(writer, bytes(size))
    assert sum(slot.length for slot in slots(writer)) == counted[1]
    assert (writer.records, writer.bytes, writer.unfinished) == (*counted, not counted[0])


@pytest.mark.parametrize(("size", "lucky", "counted"), INTERRUPTED)
def test_an_interrupted_reader_counts_what_is_committed(
    local: Local, size: int, lucky: int, counted: tuple[int, int]
) -> None:
    writer, stopped = local.writer(), local.reader()
    send(writer, bytes(size))
    vars(stopped.objects)["empty_slots"] = Unlucky(stopped.objects.empty_slots, lucky)
    with pytest.raises(Died):
        stopped.receive(Collector())
    assert size - sum(slot.length for slot in slots(stopped)) == counted[1]
    assert (stopped.records, stopped.bytes) == counted


def test_lines_are_counted_when_the_commit_of_their_slot_is_interrupted(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    vars(writer.objects)["full_slots"] = Unlucky(writer.objects.full_slots)
    vars(reader.objects)["empty_slots"] = Unlucky(reader.objects.empty_slots)
    with pytest.raises(Died):
        writer.send_lines(LINES_SENT, 4)
    with pytest.raises(Died):
        reader.receive(Collector())
    assert (writer.records, writer.bytes, writer.unfinished) == (4, 16, False)
    assert (reader.records, reader.bytes) == (4, 16)


@pytest.mark.parametrize(
    ("at_most", "receipts"),
    [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (6, [5]), (None, [5])],
)
def test_taken_inside_a_lines_slot(local: Local, at_most: int | None, receipts: list[int]) -> None:
    writer, reader = local.writer(), local.reader()
    writer.send_lines(b"a\n\nccc\ndd\ne\n", 5)
    sink = Collector()
    got = []
    while reader.unread():
        receipt = reader.receive(sink, at_most)
        assert receipt is not None
        got.append(receipt.records)
    assert (got, sink.data) == (receipts, b"a\n\nccc\ndd\ne\n")
    assert (reader.records, reader.bytes) == (5, 12)


def test_another_reader_continues_inside_a_lines_slot(local: Local) -> None:
    writer, reader, other = local.writer(), local.reader(), local.reader()
    writer.send_lines(b"one\ntwo\nthree\n", 3)
    first, second = Collector(), Collector()
    assert reader.receive(first, 1) == (1, None)
    assert (slots(reader)[0].taken, reader.ring.header.tail) == (4, 0)
    assert tokens(reader)["full_slots"] == 1, "the slot's token goes back with what is left in it"
    assert other.receive(second) == (2, None)
    assert (first.data, second.data) == (b"one\n", b"two\nthree\n")


def test_at_most_does_not_cut_a_record_that_is_no_line(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"one\ntwo\nthree\n")
    sink = Collector()
    assert reader.receive(sink, 1) == (1, None)
    assert sink.data == b"one\ntwo\nthree\n"


# What is not as it should be


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"record": 2}, "fragment 1 is byte 0 of record 2; byte 0 of record 1 must follow here"),  # a gap
        ({"record": 0}, "fragment 1 is byte 0 of record 0; byte 0 of record 1 must follow here"),  # a repeat
        ({"offset": 1}, "fragment 1 is byte 1 of record 1; byte 0 of record 1 must follow here"),
        ({"flags": LAST}, "fragment 1 contradicts itself: "),
        ({"flags": FIRST | LAST, "total": 4}, "fragment 1 contradicts itself: "),
    ],
    ids=str,
)
def test_a_fragment_that_does_not_follow_on_is_refused(local: Local, change: dict[str, int], text: str) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"one", b"two")
    rewrite(writer, 1, **change)
    reader.receive(Collector())
    sink = Collector()
    with pytest.raises(BadSegment) as refusal:
        reader.receive(sink)
    assert str(refusal.value).startswith(text)
    assert (sink.data, reader.ring.header.tail) == (b"", 1)


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (PAGE + 1, "fragment 1 is byte 4097 of record 0; byte 4096 of record 0 must follow here"),
        (0, "fragment 1 is byte 0 of record 0; byte 4096 of record 0 must follow here"),
    ],
)
def test_a_gap_or_a_repeat_inside_a_record_is_refused(local: Local, offset: int, text: str) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, bytes(PAGE + 10))
    rewrite(writer, 1, offset=offset)
    sink = Collector()
    with pytest.raises(BadSegment) as refusal:
        reader.receive(sink)
    assert (str(refusal.value), sink.size) == (text, PAGE)


@pytest.mark.parametrize("moved_to", [0, 2])
def test_a_tail_that_moves_under_its_reader_is_noticed(key_path: Path, family: Family, moved_to: int) -> None:
    class Scribbler(Collector):
        def write(self, data: memoryview) -> None:
            super().write(data)
            if len(self.pieces) == 1:
                reader.listener.progress = lambda *_: setattr(reader.ring.header, "tail", moved_to)

    with Local(key_path, Geometry(3, PAGE), family=family) as local:
        writer, reader = local.writer(), local.reader()
        send(writer, bytes(3 * PAGE))
        with pytest.raises(BadSegment, match=rf"^the tail moved from 1 to {moved_to} under its reader$"):
            reader.receive(Scribbler())


def test_a_tail_that_goes_back_between_records_is_noticed(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"one", b"two")
    reader.receive(Collector())
    reader.ring.header.tail = 0
    with pytest.raises(BadSegment, match=r"^the tail moved from 1 to 0 under its reader$"):
        reader.receive(Collector())


@pytest.mark.parametrize("lines", [True, False], ids=["lines", "message"])
def test_a_flipped_bit_is_found_by_its_checksum(local: Local, lines: bool) -> None:
    writer, reader = local.writer(), local.reader()
    if lines:
        writer.send_lines(b"hello\n", 1, verify=True)
    else:
        writer.send(MessageSource(b"hello\n"), verify=True)
    assert slots(writer)[0].flags & CHECKED
    with writer.ring.payload(0, 0, 1) as first:
        first[0] ^= 1
    sink = Collector()
    with pytest.raises(BadSegment) as refusal:
        reader.receive(sink)
    assert str(refusal.value) == (
        "record 0 is damaged: bytes 0 to 6 have CRC-32 fd66e385, their writer computed 363a3020"
    )
    assert (sink.data, reader.ring.header.tail) == (b"", 0)


def test_every_fragment_has_its_own_checksum(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    writer.send(MessageSource(b"a" * PAGE + b"b"), verify=True)
    with writer.ring.payload(1, 0, 1) as last:
        last[0] ^= 1
    with pytest.raises(BadSegment, match=r"^record 0 is damaged: bytes 4096 to 4097 have"):
        reader.receive(Collector())


def test_the_checksum_still_holds_for_a_slot_of_which_lines_are_taken(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    writer.send_lines(b"one\ntwo\n", 2, verify=True)
    sink = Collector()
    reader.receive(sink, 1)
    reader.receive(sink, 1)
    assert sink.data == b"one\ntwo\n"


def test_without_a_checksum_none_is_computed(local: Local) -> None:
    writer = local.writer()
    send(writer, b"hello\n")
    assert (slots(writer)[0].flags & CHECKED, slots(writer)[0].crc32) == (0, 0)


# The end of the channel


def test_the_reader_that_finds_nothing_left_removes_everything(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"data")
    assert not local.leave(writer)
    assert take_all(reader) == b"data"
    assert (reader.removed, reader.ring.header.state) == (True, FINISHED)
    assert reader.objects.removed()
    assert local.objects() == []


def test_with_a_live_writer_it_is_not_over(local: Local) -> None:
    reader = (local.writer(), local.reader())[1]
    assert not reader._finish_if_over(an_output(reader))


def test_with_data_left_it_is_not_over(local: Local) -> None:
    writer = local.writer()
    send(writer, b"data")
    local.leave(writer)
    reader = local.reader()
    assert not reader._finish_if_over(an_output(reader))
    assert take_all(reader) == b"data"


def test_the_end_is_decided_in_the_doorway(local: Local) -> None:
    """A writer that joins between the reader's two looks keeps the channel."""
    empty(local)
    reader = local.reader()

    class Latecomer:
        def __enter__(self) -> None:
            local.writer()

        def __exit__(self, *_: object) -> None:
            pass

    reader.doorway = Latecomer()
    assert not reader._finish_if_over(an_output(reader))
    assert local.objects() == ["segment", *SEMAPHORES]


def test_keep_removes_nothing(local: Local) -> None:
    writer = local.writer()
    send(writer, b"data")
    local.leave(writer)
    reader = local.reader(keep=True)
    assert take_all(reader) == b"data"
    assert (reader.removed, reader.ring.header.state) == (False, OPEN)
    assert local.objects() == ["segment", *SEMAPHORES]


def test_follow_waits_for_further_writers(local: Local) -> None:
    writer = local.writer()
    send(writer, b"one")
    local.leave(writer)
    reader = local.reader(timeout=0, follow=True)
    sink = Collector()
    reader.receive(sink)
    with pytest.raises(TimedOut, match=r"waiting for a writer; start `writer.py`$"):
        reader.receive(sink)
    send(local.writer(), b"two")
    reader.receive(sink)
    assert sink.data == b"onetwo"


def test_a_waiting_reader_leaves_quietly_when_another_one_ends_the_channel(local: Local) -> None:
    empty(local)
    waiting, finishing = local.reader(follow=True), local.reader()
    with in_thread(lambda: waiting.receive(Collector())) as received:
        wait_until(lambda: finishing.objects.reader_turn.holder(), "the waiting reader's turn")
        assert finishing._finish_if_over(an_output(finishing))
        assert received() is None
    assert not waiting.removed
    assert local.objects() == []


def test_a_reader_that_waits_for_the_turn_leaves_quietly_when_its_holder_ends_the_channel(local: Local) -> None:
    """Though the holder is still there, attached, and gives the turn back to nobody."""
    writer, readers = local.writer(), [local.reader(), local.reader()]
    with (
        in_thread(lambda: readers[0].receive(Collector())) as one,
        in_thread(lambda: readers[1].receive(Collector())) as other,
    ):
        wait_until(lambda: any("our turn" in reason.text for reason in local.heard.reasons), "one without the turn")
        local.leave(writer)
        assert (one(), other()) == (None, None)
    assert sorted(reader.removed for reader in readers) == [False, True]
    assert local.objects() == []


@pytest.mark.parametrize("resume", [False, True])
def test_an_unfinished_last_record_is_an_error_and_stays(local: Local, resume: bool) -> None:
    writer = local.writer()
    die_in_a_record(writer, b"x" * PAGE, total=9999)
    local.leave(writer)
    reader = local.reader(timeout=0, resume=resume)
    expected, text = (
        (TimedOut, "gave up after 0 s of waiting for `writer.py --file PATH --resume` to continue record 0")
        if resume
        else (
            TornRecord,
            f"record 0 is unfinished: its writer, pid {PID}, stopped after 4096 bytes; `writer.py --file PATH"
            " --resume` continues it, `writer.py --remove` gives it up",
        )
    )
    with pytest.raises(expected) as error:
        reader.receive(Collector())
    assert str(error.value) == text
    assert local.objects() == ["segment", *SEMAPHORES]


def test_a_finished_channel_with_unread_data_is_damaged(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"data")
    writer.ring.header.state = FINISHED
    with pytest.raises(BadSegment, match=r"^it is marked as finished, with 1 fragment unread$"):
        reader.drained()


# Leaving


def test_what_a_writer_leaves_waits_for_a_reader(local: Local) -> None:
    writer = local.writer()
    send(writer, b"data")
    assert not local.leave(writer)
    assert local.objects() == ["segment", *SEMAPHORES]
    assert take_all(local.reader()) == b"data"


def test_leaving_wakes_a_reader(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    before = tokens(reader)
    local.leave(writer)
    after = tokens(reader)
    assert after["full_slots"] == before["full_slots"] + 1
    assert (before["writers"], after["writers"]) == (1, 0)


def test_the_last_one_out_removes_a_channel_that_is_read_empty(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"data")
    reader.receive(Collector())
    local.detach(reader)
    assert local.leave(writer)
    assert local.objects() == []


def test_a_writer_does_not_remove_what_a_reader_still_has_attached(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"data")
    reader.receive(Collector())
    assert not local.leave(writer)
    assert reader._finish_if_over(an_output(reader))


@pytest.mark.parametrize("failed", [False, True])
def test_an_unused_channel_goes_with_the_writer_that_made_it(local: Local, failed: bool) -> None:
    assert local.leave(local.writer(), failed=failed)
    assert local.objects() == []


def test_a_writer_that_failed_leaves_its_broken_channel_to_a_reader(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"data")
    reader.receive(Collector())
    local.detach(reader)
    assert not local.leave(writer, failed=True)
    reader = local.reader()
    heard = news_of(reader)
    assert take_all(reader) == b""
    broken_off = News(
        "the channel is broken off: 1 writer stopped before the end; all that was sent has arrived, up to record 0",
        lost=True,
    )
    assert (heard, reader.incomplete, local.objects()) == ([broken_off], True, [])


def test_a_writer_that_failed_leaves_its_unfinished_record(local: Local) -> None:
    writer = local.writer()
    die_in_a_record(writer, bytes(PAGE))
    assert not local.leave(writer, failed=True)
    assert local.objects() == ["segment", *SEMAPHORES]


@pytest.mark.parametrize("leaver", ["writer", "reader"])
def test_whoever_leaves_a_removed_segment_says_what_is_lost(local: Local, leaver: str) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"1", b"2")
    take_segment_away(local.place, local.family)
    with pytest.raises(ChannelError, match=r"^EIDRM: the channel was removed, .* with 2 of its slots unread$"):
        local.leave(writer) if leaver == "writer" else reader.leave()
    assert local.objects() == []


@pytest.mark.parametrize("keep", [False, True])
def test_a_reader_that_stops_early_removes_what_is_over(local: Local, keep: bool) -> None:
    empty(local)
    reader = local.reader(keep=keep)
    with reader.doorway:
        assert reader.leave()
    assert reader.removed is not keep
    assert local.objects() == (["segment", *SEMAPHORES] if keep else [])


def test_a_reader_that_stops_early_leaves_what_is_not_over(local: Local) -> None:
    writer = local.writer()
    send(writer, b"unread")
    local.leave(writer)
    reader = local.reader()
    with reader.doorway:
        assert not reader.leave()
    assert local.objects() == ["segment", *SEMAPHORES]


@pytest.mark.parametrize("leaver", ["writer", "reader"])
def test_whoever_leaves_a_removed_segment_clears_its_semaphores(local: Local, leaver: str) -> None:
    writer, reader = local.writer(), local.reader()
    take_segment_away(local.place, local.family)
    assert local.objects() == list(SEMAPHORES)
    if leaver == "writer":
        assert not local.leave(writer)
    else:
        assert not reader.leave()
    assert local.objects() == []


# Waiting


def remove_segment(local: Local, end: End) -> None:
    take_segment_away(local.place, local.family)


def mark_removed(local: Local, end: End) -> None:
    end.ring.header.state = REMOVED


@pytest.mark.parametrize("remove", [remove_segment, mark_removed])
@pytest.mark.parametrize("wait", ["receive", "wait_until_consumed"])
def test_a_removed_channel_ends_every_wait(local: Local, remove: Callable[[Local, End], None], wait: str) -> None:
    writer, reader = local.writer(), local.reader()
    if wait == "receive":
        waiting: Callable[[], object] = lambda: reader.receive(Collector())  # noqa: E731
    else:
        send(writer, b"unread")
        waiting = writer.wait_until_consumed
    with in_thread(waiting) as ended:
        wait_until(lambda: local.heard.reasons, "a heartbeat of the waiting end")
        remove(local, writer)
        with pytest.raises(ChannelError, match=r"^EIDRM: the channel was removed while we waited"):
            ended()


def test_a_removed_semaphore_ends_the_wait_for_it(local: Local) -> None:
    """System V's wakes its waiter at once; of POSIX's only the name goes, which the next heartbeat sees."""
    local.writer()
    reader = local.reader()
    with in_thread(lambda: reader.receive(Collector())) as received:
        wait_until(lambda: local.heard.reasons, "a heartbeat of the waiting reader")
        take_semaphore_away(local.place, local.family, "full_slots")
        with pytest.raises(
            ChannelError, match=r"^EIDRM: semaphore full_slots was removed while we waited, by ipcrm or rm"
        ):
            received()


def test_wait_until_consumed_returns_when_all_is_read(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    send(writer, b"1", b"2")
    with in_thread(writer.wait_until_consumed) as consumed:
        wait_until(
            lambda: (
                Reason("waiting until all is read, and nobody is reading; start `reader.py`", True)
                in local.heard.reasons
            )
        )
        reader.receive(Collector())
        reader.receive(Collector())
        consumed()
    assert writer.unread() == 0


def test_wait_until_consumed_does_not_wait_for_what_others_send(local: Local) -> None:
    writer = local.writer(timeout=0)
    writer.wait_until_consumed()
    send(writer, b"unread")
    with pytest.raises(TimedOut):
        writer.wait_until_consumed()


class Others:
    """Time that passes while somebody waits, until `until` with others at work: they move `field` of the header."""

    def __init__(self, header: Header, field: str, until: float) -> None:
        self.now = 0.0
        self._header, self._field, self._until = header, field, until

    def work(self, seconds: float) -> None:
        self.now += seconds
        if self.now < self._until:
            setattr(self._header, self._field, getattr(self._header, self._field) + 1)

    # A turn that they never give us
    def acquire(self, timeout: float) -> bool:
        self.work(timeout)
        return False

    def holder(self) -> int:
        return 4242


@pytest.mark.parametrize("until", [0, 5], ids=["idle", "busy"])
@pytest.mark.parametrize("field", ["head", "tail"])
@pytest.mark.parametrize("wait", ["writer's turn", "reader's turn", "--wait"])
def test_no_timeout_while_others_make_progress(
    monkeypatch: pytest.MonkeyPatch, local: Local, wait: str, field: str, until: float
) -> None:
    writer, reader = local.writer(timeout=1), local.reader(timeout=1)
    others = Others(writer.ring.header, field, until)
    monkeypatch.setattr("common.channel.end.monotonic", lambda: others.now)
    monkeypatch.setattr("common.channel.patience.monotonic", lambda: others.now)
    monkeypatch.setattr("common.channel.patience.sleep", others.work)
    ends: tuple[Any, Any] = writer.objects, reader.objects
    if wait == "--wait":
        writer.ring.header.head = 10**6
        waiting: Callable[[], object] = writer.wait_until_consumed
    else:
        ends[0].writer_turn = ends[1].reader_turn = others
        waiting = (lambda: send(writer, b"x")) if wait == "writer's turn" else (lambda: reader.receive(Collector()))
    with pytest.raises(TimedOut, match=r"^gave up after 1 s of waiting"):
        waiting()
    assert others.now == pytest.approx(until + 1, abs=0.25)  # two heartbeats, and a bit


HOT_PATH: dict[str, list[tuple[str, int | None]]] = {
    "sysv": [
        ("semop", -1),  # the writer's turn
        ("semop", -1),  # an empty slot
        ("semop", +1),  # a full one
        ("semop", +1),  # the turn goes back
    ],
    "posix": [
        ("fcntl", fcntl.F_WRLCK),
        ("sem_trywait", None),
        ("sem_post", None),
        ("fcntl", fcntl.F_UNLCK),
        ("sem_getvalue", None),  # is there a token that will wake the next one?
        ("sem_post", None),
    ],
}


def change_asked_for(call: Call) -> int | None:
    """Of a semaphore, or which lock."""
    if call.name == "fcntl":
        return int(call.arguments[2].type)
    return int(call.arguments[1]) if call.name == "semop" else None


def test_the_hot_path_asks_the_kernel_for_nothing_but_semaphores(local: Local) -> None:
    writer, reader = local.writer(), local.reader()
    with observing() as calls:
        send(writer, b"hello")
        reader.receive(Collector())
    expected = HOT_PATH["posix" if local.family is POSIX else "sysv"]
    assert [(call.name, change_asked_for(call)) for call in calls] == expected * 2


# The output that a reader resumes


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


_opened: dict[Path, int] = {}


def reopened(path: Path) -> int:
    """A descriptor to write to; whoever had one before is dead, and the lock goes with it."""
    if path in _opened:
        os.close(_opened.pop(path))
    _opened[path] = os.open(path, os.O_WRONLY | os.O_CREAT)
    return _opened[path]


def file_sink(path: Path) -> FileSink:
    """The sink that --output makes."""
    return FileSink(reopened(path), str(path))


def half_received(local: Local, output: Path, data: bytes, commits: int) -> None:
    """Send `data`, and receive it into `output` until the death behind the `commits`-th commit.

    The dying reader has put one more fragment out: exactly what --resume has to cut off.
    """

    class Dying(FileSink):
        written = 0

        def write(self, data: memoryview) -> None:
            if self.written == commits:
                os.write(self._output.number, data)
                raise Died  # as by SIGKILL: nobody knows any more what is out
            super().write(data)
            self.written += 1

    sink = Dying(reopened(output), str(output))
    send(local.writer(), data)
    with pytest.raises(Died):
        local.reader().receive(sink)


def test_an_output_is_emptied_when_the_first_byte_comes(local: Local, output: Path) -> None:
    output.write_bytes(b"something old and long")
    writer, reader = local.writer(), local.reader(timeout=0)
    sink = file_sink(output)
    with pytest.raises(TimedOut):
        reader.receive(sink)
    assert output.read_bytes() == b"something old and long"
    send(writer, b"new")
    reader.receive(sink)
    assert output.read_bytes() == b"new"


def test_an_output_is_emptied_when_nothing_comes(local: Local, output: Path) -> None:
    output.write_bytes(b"old")
    empty(local)
    assert local.reader().receive(file_sink(output)) is None
    assert output.read_bytes() == b""


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_resume_cuts_the_output_to_its_last_committed_byte(
    key_path: Path, family: Family, output: Path, commits: int
) -> None:
    data = os.urandom(2 * PAGE + 5)
    output.write_bytes(b"old")
    with Local(key_path, Geometry(3, PAGE), family=family) as local:
        half_received(local, output, data, commits)
        assert local.reader(resume=True).receive(file_sink(output)) == (1, None)
    assert output.read_bytes() == data


def test_resume_keeps_the_records_before(key_path: Path, family: Family, output: Path) -> None:
    with Local(key_path, Geometry(4, PAGE), family=family) as local:
        sink = file_sink(output)
        writer, reader = local.writer(), local.reader()
        send(writer, b"first ", b"x" * PAGE + b"second")
        reader.receive(sink)
        os.write(os.open(output, os.O_WRONLY | os.O_APPEND), b"torn")
        local.detach(reader)
        local.reader(resume=True).receive(file_sink(output))
    assert output.read_bytes() == b"first " + b"x" * PAGE + b"second"


def test_resume_behind_a_fragment_that_was_put_out_in_part(local: Local, output: Path) -> None:
    """A full disk: what is in the file is committed, so nothing of it is cut off and nothing comes twice."""

    class Full(FileSink):
        def write(self, data: memoryview) -> None:
            super().write(data[: PAGE + 10 - self.size])
            if self.size == PAGE + 10:
                raise Died

    data = os.urandom(PAGE + 50)
    send(local.writer(), data)
    with pytest.raises(Died):
        local.reader().receive(Full(reopened(output), str(output)))
    reader = local.reader(resume=True)
    assert reader.receive(file_sink(output)) == (1, None)
    assert (output.read_bytes(), reader.bytes) == (data, 40)


def test_resume_inside_a_lines_slot(local: Local, output: Path) -> None:
    local.writer().send_lines(b"one\ntwo\nthree\n", 3)
    reader = local.reader()
    reader.receive(file_sink(output), 2)
    local.detach(reader)
    with output.open("ab") as file:
        file.write(b"torn")
    local.reader(resume=True).receive(file_sink(output))
    assert output.read_bytes() == b"one\ntwo\nthree\n"


def test_resume_of_an_output_that_began_inside_a_lines_slot(local: Local, output: Path) -> None:
    """The note's size is then "negative": what another reader took never was in this file."""
    local.writer().send_lines(b"one\ntwo\nthree\n", 3)
    local.reader().receive(Collector(), 1)
    local.reader().receive(file_sink(output), 1)
    assert output.read_bytes() == b"two\n"
    local.reader(resume=True).receive(file_sink(output))
    assert output.read_bytes() == b"two\nthree\n"


def test_without_resume_a_half_received_output_is_not_overwritten(local: Local, output: Path) -> None:
    half_received(local, output, b"x" * PAGE + b"y", commits=1)
    before = output.read_bytes()
    with pytest.raises(
        TornRecord, match=r"^the output already holds what was received from this channel .4096 bytes.: add --"
    ):
        local.reader().receive(file_sink(output))
    assert output.read_bytes() == before


def test_resume_of_another_output_is_refused(local: Local, output: Path, tmp_path: Path) -> None:
    half_received(local, output, b"x" * PAGE + b"y", commits=1)
    another = tmp_path / "another"
    another.write_bytes(b"precious")
    with pytest.raises(
        TornRecord, match=r"^cannot resume this output: .* \(record 0 goes on at byte 4096\); name another --output"
    ):
        local.reader(resume=True).receive(file_sink(another))
    assert another.read_bytes() == b"precious"


@pytest.mark.parametrize("size", [0, PAGE - 1, PAGE + 3])
def test_resume_of_an_output_of_another_size_is_refused(local: Local, output: Path, size: int) -> None:
    """It lost bytes, or has more than the reader can have put out: one page and a fragment of two bytes."""
    half_received(local, output, b"x" * PAGE + b"yz", commits=1)
    os.truncate(output, size)
    with pytest.raises(TornRecord, match=rf"^the output has {size} bytes, but 4096 were received into it$"):
        local.reader(resume=True).receive(file_sink(output))
    assert output.stat().st_size == size
