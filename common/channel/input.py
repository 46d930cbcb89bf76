"""Which writer sends which file: what --resume goes by, and whose goodbye is owed.

The header notes the file that was last begun, or is to be begun, and the place of its writer among those that joined.
A writer that resumes takes the place of the one that died, and says goodbye for it.
"""

from __future__ import annotations

from common.channel.objects import Doorway
from common.channel.ring import Ring
from common.errors import TornRecord
from common.layout import ABORTED, LINES, UNKNOWN, SlotHeader
from common.notes import FileId, InputNote
from common.typed import Protocol


class Source(Protocol):
    """Where a record comes from.

    `total` is its size in bytes, or UNKNOWN; `identity` is the regular file that the record is, and which can be read
    again from the middle; `file` is (st_dev, st_ino) of the regular file that its bytes come from. None: there is none.
    """

    @property
    def total(self) -> int: ...
    @property
    def identity(self) -> FileId | None: ...
    @property
    def file(self) -> tuple[int, int] | None: ...

    def fill(self, room: memoryview) -> int:
        """Put the record's next bytes into `room` and return how many; 0 at its end."""

    def skip_to(self, offset: int) -> None:
        """Go on from byte `offset` of the record (--resume)."""


class Input:
    """A writer's place among those that joined, and the note of its file."""

    def __init__(self, ring: Ring, doorway: Doorway) -> None:
        self._ring = ring
        self._doorway = doorway
        self._place = 0  # its number among the writers that joined
        self._successor = False  # it has the place of a writer that died
        self._resumed: FileId | None = None  # the file of a record that another writer began and we completed

    def join(self, source: Source | None, *, succeeds: bool, resume: bool) -> None:
        """In the doorway: count this writer in; `source` when it is one record of a file.

        With `resume`, the writer of the same file may go on with it, and if it `succeeds` whoever began, in its place:
        while other writers live, the one that owes its goodbye may be one of them, and needs its place.
        """
        header = self._ring.header
        note = header.input_note()
        again = resume and source is not None and note.file == source.identity
        if again and note.owed and succeeds:
            self._place, self._successor = note.place, True
        else:
            self._count_in()
            if source and source.identity and not note.owed:
                # What was sent before, and is perhaps the last record, stays noted for whoever resumes after us.
                self._note(note.record if again else UNKNOWN, source.identity)
        header.writers_joined = self._ring.header.count_joined() if self._successor else self._place

    def _count_in(self) -> None:
        self._place, self._successor = min(self._ring.header.count_joined() + 1, UNKNOWN), False

    def _note(self, record: int, file: FileId) -> None:
        """In the doorway: our note replaces one whose goodbye may not have been counted yet."""
        self._ring.header.writers_left = self._ring.header.count_left()
        self._ring.header.note_input(InputNote(record, file, self._place, 0))

    def begin(self, record: int, file: FileId) -> None:
        """Note that `record` is this file, before anything of it is published."""
        header = self._ring.header
        with self._doorway:
            note = header.input_note()
            if note.owed and note.place == self._place and note.record == UNKNOWN:
                header.input_record = record
                self._successor = False  # the place is its own: nothing had begun
                return
            if self._successor:  # its predecessor is through: it goes on as a writer of its own
                self._count_in()
            self._note(record, file)
            header.writers_joined = max(header.writers_joined, self._place)

    def take_number(self, record: int) -> None:
        """This number is for a new record: a dead writer that had noted it had published nothing of it."""
        if self._ring.header.input_record == record:
            with self._doorway:
                self._ring.header.input_record = UNKNOWN

    def continues(self, last: SlotHeader, source: Source) -> bool | None:
        """Whether `source` goes on where the last record stops; None when that is all of it, and nothing is left.

        Raises TornRecord when neither can be, and the record cannot be a new one.
        """
        with self._doorway:  # or a writer that joins might replace it half-way
            note = self._ring.header.input_note()
        if not last.ends_record:
            _check_begun_from(last, source, note)
        elif not _is_complete(last, source, note):
            return False
        self._resumed = source.identity
        return None if last.ends_record else True

    def say_goodbye(self) -> None:
        """In the doorway: count us among those that said all, and with us a dead one whose record we completed."""
        header = self._ring.header
        note = header.input_note()
        own = not self._successor
        noted = own and note.owed and note.place == self._place
        for_the_dead = note.owed and note.file == self._resumed and not noted
        left = min(self._ring.header.count_left() + own + for_the_dead, UNKNOWN)
        if noted or for_the_dead:
            header.input_goodbye = left  # whoever dies in here has said it, see Header.count_left
        header.writers_left = left


def _check_begun_from(last: SlotHeader, source: Source, note: InputNote) -> None:
    """Raise TornRecord when the unfinished last record cannot be the beginning of `source`."""
    if not last.source_ino or note.record != last.record:
        difference = f"record {last.record} is a message, a line or from a pipe, which cannot be read again"
    elif last.source != source.file:
        difference = f"record {last.record} was begun from another one"
    elif source.total == UNKNOWN or last.total != source.total:
        difference = (
            f"its size is {_size(source.total)}, and record {last.record} stopped after {last.end} bytes of"
            f" {_size(last.total)}"
        )
    elif note.file != source.identity:
        difference = f"it was changed after record {last.record} was begun from it"
    else:
        return
    raise TornRecord(
        f"this is not the file to resume: {difference}; `writer.py --remove` gives up what was begun, then send it anew"
    )


def _is_complete(last: SlotHeader, source: Source, note: InputNote) -> bool:
    """Whether the last record is all of `source`: its writer died with nothing left to send."""
    if note.record != last.record or note.file != source.identity:
        return False
    if last.flags & ABORTED:
        raise TornRecord(
            f"record {last.record} was given up after {last.offset} bytes when another writer went on;"
            " send it again without --resume"
        )
    # Lines and messages leave no note: it can be of a writer that died before it sent anything. An empty file does
    # not tell its size, see FileSource.
    return last.source == source.file and not last.flags & LINES and source.total in (last.total, UNKNOWN)


def _size(total: int) -> str:
    return "unknown" if total == UNKNOWN else str(total)
