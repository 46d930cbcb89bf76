"""Planted bugs: each is a small wrong change of channel.py, and the model must find what it breaks.

A mutation replaces a passage of the source by another. When the passage is not there any more, `mutated` fails:
then the mutation has to follow the code.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from tests.model.explorer import NEVER, Setting
from tests.model.processes import SOURCE, load_channel


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
WRITER_DIES = Setting(((2,),), 1, crashes=1)

MUTATIONS = (
    Mutation(
        "commit before the fill",
        """\
                number = self._free_slot()
                with self.ring.payload(""",
        """\
                number = self._free_slot()
                self.ring.header.head = number + 1
                with self.ring.payload(""",
        "no failure",
        ONE,
    ),
    Mutation(
        "commit before the slot's header",
        """\
        self.ring.write_slot(number, slot)
        self.ring.header.head = number + 1  # the commit
""",
        """\
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
        self.family.full_slots.release()
""",
        """\
        self.family.full_slots.release()
        self.ring.header.head = number + 1
""",
        "no one sleeps for ever",
        Setting(((1, 1),), 1, slots=1),
    ),
    Mutation(
        "release before the tail moves",
        """\
        self.ring.header.tail = number + 1  # the commit
        self.family.empty_slots.release()
""",
        """\
        self.family.empty_slots.release()
        self.ring.header.tail = number + 1
""",
        "no one sleeps for ever",
        Setting(((1, 1),), 1, slots=1),
    ),
    Mutation(
        "the tail moves before the bytes are out",
        """\
                with source[slot.taken : end] as data:
                    sink.write(data)
""",
        """\
                self.ring.header.tail = number + 1
                with source[slot.taken : end] as data:
                    sink.write(data)
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
            if not self.over():
                return False
            last""",
        """\
        with self.doorway:
            last""",
        "no failure",
        TWO_WRITERS,
    ),
    Mutation(
        "the end is decided by head and tail first, by presence second",
        """\
        if not finished and (not header.writers_joined or self.family.writers.present()):
            return False
        # Only now: with no writer alive and the doorway shut, head stands still.
        lag = self.ring.lag()
""",
        """\
        lag = self.ring.lag()
        if not finished and (not header.writers_joined or self.family.writers.present()):
            return False
""",
        "no loss",
        Setting(((1,),), 1, crashes=2, heartbeats=NEVER),
    ),
    Mutation(
        "a writer leaves without waking the reader",
        """\
            return True
        self.family.full_slots.release()
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
        """\
        if last.ends_record:
            return (-1, 0) if""",
        """\
        if True:
            return (-1, 0) if""",
        "no failure",
        WRITER_DIES,
    ),
    Mutation(
        "--resume begins at the dead writer's last fragment, not behind it",
        "return last.record, last.end\n",
        "return last.record, last.offset\n",
        "no failure",
        WRITER_DIES._replace(resume=True),
    ),
    Mutation(
        "an unfinished record is taken for the end",
        """\
            last = self.last_slot()
            if last and not last.ends_record:
                if self.resume:""",
        """\
            last = self.last_slot()
            if False:
                if self.resume:""",
        "torn is no success",
        WRITER_DIES,
    ),
    Mutation(
        "the channel is removed before it is finished",
        """\
        self.ring.header.state = state
        self.removed = True
        self.family.remove()
""",
        """\
        self.removed = True
        self.family.remove()
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
        "no failure",
        Setting(((2, 1),), 1),
    ),
    Mutation(
        "a record's end does not end the reader's turn",
        "if not slot.ends_record:\n            return None\n        if slot.flags & ABORTED:",
        "if slot.flags & ABORTED:",
        "no tear",
        Setting(((2,),), 2),
    ),
    Mutation(
        "a writer does not count itself in",
        "        self.family.writers.enter()\n",
        "",
        "no failure",
        ONE,
    ),
)


def mutated(mutation: Mutation) -> ModuleType:
    """channel.py with the mutation. Fails when the passage that it changes is not there."""
    source = SOURCE.read_text()
    assert mutation.old in source, f"channel.py has changed: {mutation.name!r} finds nothing to change"
    return load_channel(source.replace(mutation.old, mutation.new))
