"""Planted bugs: each is a small wrong change of channel.py, and the model must find what it breaks.

A mutation replaces a passage of the source by another. When the passage is not there any more, `mutated` fails:
then the mutation has to follow the code.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from tests.model.explorer import NEVER, Setting
from tests.model.processes import channel_source, load_channel


class Mutation(NamedTuple):
    """`old` becomes `new`; exploring `setting` must show that `promise` is broken."""

    name: str
    old: str
    new: str
    promise: str
    setting: Setting

    def __str__(self) -> str:
        return self.name


ONE = Setting(((1,),), 1)
TWO_READERS = Setting(((1,),), 2)
TWO_WRITERS = Setting(((1,), (1,)), 1)
DIES = Setting(((1,),), 1, crashes=1)
RESUMED = DIES._replace(resume=True)
WRITER_DIES = Setting(((2,),), 1, crashes=1)

MUTATIONS = (
    Mutation(
        "commit before the fill",
        """\
                self.listener.tell(Step.FILL, number)
                with self.ring.payload(""",
        """\
                self.ring.header.head = number + 1
                with self.ring.payload(""",
        "no failure",
        ONE,
    ),
    Mutation(
        "no fence between the slot and head",
        "        fence()  # whoever sees",
        "        # whoever sees",
        "no failure",
        ONE,
    ),
    Mutation(
        "commit before the slot's header",
        """\
        self.ring.write_slot(number, slot)
        self.listener.tell(Step.PUBLISH, number, slot)
        length, records, ended = slot.length, 0 if slot.flags & ABORTED else slot.records, slot.ends_record
        fence()  # whoever sees the new head sees the slot filled
        self.ring.header.head = number + 1  # the commit
""",
        """\
        length, records, ended = slot.length, 0 if slot.flags & ABORTED else slot.records, slot.ends_record
        self.ring.header.head = number + 1
        self.ring.write_slot(number, slot)
""",
        "no failure",
        ONE,
    ),
    Mutation(
        "release before the commit",
        """\
        self.ring.header.head = number + 1  # the commit
        # No call stands here, in which a signal would be heard that makes its account of what is sent.
        self.bytes += length
        self.records += records
        self.unfinished = not ended
        self.objects.full_slots.release()
""",
        """\
        self.objects.full_slots.release()
        self.ring.header.head = number + 1
""",
        "no one sleeps for ever",
        Setting(((1, 1),), 1, slots=1),
    ),
    Mutation(
        "release before the tail moves",
        """\
        self.ring.header.tail = number + 1  # the commit
        # No call stands here, in which a signal would be heard that makes its account of what is received.
        self.bytes += length
        self.records += records
        self.listener.tell(Step.FREE, number)
        self.objects.empty_slots.release()
""",
        """\
        self.objects.empty_slots.release()
        self.ring.header.tail = number + 1
""",
        "no one sleeps for ever",
        Setting(((1, 1),), 1, slots=1),
    ),
    Mutation(
        "the tail moves before the bytes are out",
        """\
                with source[slot.taken : end] as data:
                    output.sink.write(data)
""",
        """\
                self.ring.header.tail = number + 1
                with source[slot.taken : end] as data:
                    output.sink.write(data)
""",
        "no loss",
        Setting(((1,),), 1, crashes=1),
    ),
    Mutation(
        "the token decides, not head and tail",
        "if ready() if ready else token:",
        "if token:",
        "no failure",
        ONE,
    ),
    Mutation(
        "no repair after a death",
        "if getattr(header, self._field):",
        "if False:",
        "no one sleeps for ever",
        Setting(((1, 1),), 1, crashes=1, heartbeats=NEVER, slots=1),
    ),
    Mutation(
        "the pid is reset before the last release",
        """\
        self.ring.header.head = number + 1  # the commit
""",
        """\
        self.ring.header.head = number + 1
        self.ring.header.writer_pid = 0
""",
        "no one sleeps for ever",
        Setting(((1, 1),), 1, crashes=1, heartbeats=NEVER, slots=1),
    ),
    Mutation(
        "the end is decided outside the doorway",
        """\
        with self.doorway:
            ending = self.ending()
            if ending is Ending.TORN""",
        """\
        ending = self.ending()
        with self.doorway:
            if ending is Ending.TORN""",
        "no failure",
        TWO_WRITERS,
    ),
    Mutation(
        "the end is decided by head and tail first, by presence second",
        """\
        live = state == OPEN and not marked and self.objects.writers.present()
        # Only now, see drained(); and where a writer may still move head, lag() would take us for a holder of its turn.
        still = state == FINISHED or (state == OPEN and not marked and not live)
        unread = self.ring.lag() if still else 0
""",
        """\
        unread = self.ring.lag()
        live = state == OPEN and not marked and self.objects.writers.present()
        still = state == FINISHED or (state == OPEN and not marked and not live)
""",
        "no loss",
        Setting(((1, 1),), 1, crashes=1, heartbeats=NEVER, loads=False, at_most=1),
    ),
    Mutation(
        "a writer that leaves compares head and tail while others move them",
        "unread = self.ring.lag() if still else 0",
        "unread = self.ring.lag()",
        "no failure",
        TWO_WRITERS._replace(slots=1),
    ),
    Mutation(
        "a writer leaves without waking the reader",
        """\
            return True
        self.objects.full_slots.release()
        return False
""",
        """\
            return True
        return False
""",
        "no one sleeps for ever",
        ONE,
    ),
    Mutation(
        "a writer ignores the unfinished record of a dead one",
        "if last and not last.ends_record:",
        "if False:",
        "no failure",
        WRITER_DIES,
    ),
    Mutation(
        "--resume begins at the dead writer's last fragment, not behind it",
        "return (last.record, last.end) if continues",
        "return (last.record, last.offset) if continues",
        "no failure",
        WRITER_DIES._replace(resume=True),
    ),
    Mutation(
        "an unfinished record is taken for the end",
        "unfinished = last is not None and not last.ends_record",
        "unfinished = False",
        "torn is no success",
        WRITER_DIES,
    ),
    Mutation(
        "the channel is removed before it is finished",
        """\
        self.ring.header.state = state
        self.removed = True
        self.objects.remove()
""",
        """\
        self.removed = True
        self.objects.remove()
        self.ring.header.state = state
""",
        "no failure",
        TWO_READERS,
    ),
    Mutation(
        "writers take no turns",
        "        end.wait_for(self._lock, None, self._why_not_ours)\n",
        '        if self._field == "reader_pid":\n            end.wait_for(self._lock, None, self._why_not_ours)\n',
        "one at a time",
        TWO_WRITERS,
    ),
    Mutation(
        "a writer that finds the ring full by one overwrites",
        "return self.ring.lag() < self.ring.slot_count",
        "return self.ring.lag() <= self.ring.slot_count",
        "no tear",
        Setting(((2, 1),), 1),
    ),
    Mutation(
        "a record's end does not end the reader's turn",
        "return Receipt(records) if slot.ends_record or end < slot.length else None",
        "return Receipt(records)",
        "no tear",
        Setting(((2,),), 2),
    ),
    Mutation(
        "a writer does not count itself in",
        "        self.objects.writers.enter()\n",
        "",
        "no failure",
        ONE,
    ),
    Mutation(
        "a killed writer counts as one that left",
        """\
        joined = self.ring.header.count_joined()
        left = self._settled()
        live =""",
        """\
        joined = self.ring.header.count_joined()
        left = joined
        live =""",
        "no false success",
        DIES,
    ),
    Mutation(
        "a writer that is interrupted says goodbye",
        "        if self.all_said:\n            self._input.say_goodbye()",
        "        if True:\n            self._input.say_goodbye()",
        "no false success",
        ONE._replace(quitters=1),
    ),
    Mutation(
        "broken off is taken for the end",
        "if ending is Ending.BROKEN_OFF:\n            self._tell_broken_off()",
        "if False:\n            self._tell_broken_off()",
        "no false success",
        DIES,
    ),
    Mutation(
        "a reader that finds the channel finished takes it for the end",
        "            self._settle_at_end(output)\n            self._see_end(self.ending())\n        return None",
        "            self._settle_at_end(output)\n        return None",
        "no false success",
        Setting(((1,),), 2, crashes=1, heartbeats=NEVER, loads=False),
    ),
    Mutation(
        "a reader with --resume waits for nobody",
        "if ending is not Ending.BROKEN_OFF or not self.resume:",
        "if True:",
        "who resumes waits",
        RESUMED._replace(patient=True),
    ),
    Mutation(
        "writers_left is not stored",
        "        header.writers_left = left\n",
        "",
        "no false alarm",
        Setting((("lines",),), 1),
    ),
    Mutation(
        "a writer says goodbye when it joins",
        "        header.writers_joined = self._ring.header.count_joined() if self._successor else self._place\n",
        "        header.writers_joined = header.writers_left = self._place\n",
        "no false success",
        DIES,
    ),
    Mutation(
        "a writer joins before its place is noted",
        "            self._count_in()\n            if source",
        "            self._count_in()\n            header.writers_joined = self._place\n            if source",
        "no false alarm",
        RESUMED,
    ),
    Mutation(
        "the successor of a dead writer counts itself again",
        "self._ring.header.count_joined() if self._successor else self._place\n",
        "self._ring.header.count_joined() + 1 if self._successor else self._place\n",
        "no false alarm",
        RESUMED,
    ),
    Mutation(
        "the successor of a dead writer does not say goodbye for it",
        "left = min(self._ring.header.count_left() + own + for_the_dead, UNKNOWN)",
        "left = min(self._ring.header.count_left() + own, UNKNOWN)",
        "no false alarm",
        RESUMED,
    ),
    Mutation(
        "the goodbye is not noted before it is counted",
        """\
        if noted or for_the_dead:
            header.input_goodbye = left  # whoever dies in here has said it, see Header.count_left
        header.writers_left = left
""",
        """\
        header.writers_left = left
        if noted or for_the_dead:
            header.input_goodbye = left
""",
        "no false success",
        Setting(((1, 1),), 1, crashes=2, victims=(0, 0), heartbeats=NEVER, resume=True, loads=False),
    ),
    Mutation(
        "a goodbye that stands in the note goes with it",
        "        self._ring.header.writers_left = self._ring.header.count_left()\n        self._ring.header.note_input",
        "        self._ring.header.note_input",
        "no false alarm",
        RESUMED,
    ),
    Mutation(
        "a record that was noted and not begun is not its successor's",
        "        if self._ring.header.input_record == record:",
        "        if False:",
        "no false alarm",
        RESUMED,
    ),
    Mutation(
        "whoever resumes forgets which record was its file's",
        "note.record if again else UNKNOWN",
        "UNKNOWN",
        "no repeat",
        RESUMED,
    ),
    Mutation(
        "a file is noted outside the doorway",
        "        with self._doorway:\n            note = header.input_note()\n            if note.owed",
        "        if True:\n            note = header.input_note()\n            if note.owed",
        "one at a time",
        ONE,
    ),
    Mutation(
        "a reader that begins inside a record says nothing",
        "if slot.flags & ABORTED or kept >= begun:",
        "if True:",
        "no false success",
        WRITER_DIES,
    ),
    Mutation(
        "torn records are not counted",
        "            self.ring.header.records_torn = min(torn + 1, UNKNOWN)\n",
        "",
        "torn is told",
        WRITER_DIES._replace(at_most=1, loads=False),
    ),
    Mutation(
        "a torn record is counted after the tail moves",
        """\
            self.ring.header.records_torn = min(torn + 1, UNKNOWN)
        self._expected = self._expected.behind(number, slot)
        self.listener.tell(Step.COMMIT, number, slot)
        fence()  # the bytes are out before anybody may fill their slot anew
        self.ring.header.tail = number + 1  # the commit
""",
        """\
        self._expected = self._expected.behind(number, slot)
        self.ring.header.tail = number + 1  # the commit
        if slot.flags & ABORTED:
            self.ring.header.records_torn = min(torn + 1, UNKNOWN)
""",
        "torn is told",
        WRITER_DIES._replace(crashes=2, victims=(0, 1), heartbeats=NEVER, loads=False, slots=1),
    ),
    Mutation(
        "the last writer out removes a channel that is broken off",
        "        if ending is Ending.OVER:\n            return not header.records_torn\n",
        "        if ending in (Ending.OVER, Ending.BROKEN_OFF):\n            return True\n",
        "no false success",
        DIES._replace(at_most=1),
    ),
)


def mutated(mutation: Mutation) -> ModuleType:
    """channel.py with the mutation. Fails when the passage that it changes is not there."""
    source = channel_source()
    assert mutation.old in source, f"channel.py has changed: {mutation.name!r} finds nothing to change"
    return load_channel(source.replace(mutation.old, mutation.new))
