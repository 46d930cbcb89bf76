"""The bytes in the segment: where each field is, who writes it, and what makes it valid.

This file knows bytes and nothing else: no kernel, no semaphore, no waiting. A C program sees the same bytes
through the structs in tests/interop/shmpair.h; everything is in native byte order and naturally aligned.

    offset 0       Header, one page
    offset 4096    SlotHeader[slot_count], two at least, 64 bytes each, rounded up to a page
    then           slot_count payloads of slot_size bytes

A record (a line, a message, a file) is one or more fragments, one slot each; or many whole lines share a slot.
Fragments are numbered from 0, for ever: `head` counts the published ones, `tail` the consumed ones, and fragment
number n lives in slot n % slot_count. Storing head or tail is the commit: one aligned 8-byte store, which a
memoryview cast to "Q" does in one machine instruction and struct.pack_into does not.
"""

from __future__ import annotations

import struct
import sys

from common.notes import FileId, InputNote, OutputNote
from common.typed import NamedTuple

PAGE = 4096

MAGIC = b"SHMPAIR1"
HALF_MADE = b"SHMPAIR?"  # from the first store of a creation to its last
VERSION = 2

OPEN = 1
FINISHED = 2  # a reader has consumed everything and removes the channel
REMOVED = 3  # --remove takes the channel away, whatever is in it

FIRST = 1  # this fragment begins its record
LAST = 2  # this fragment ends its record
ABORTED = 4  # no data: the record's writer is gone and nobody resumed it
CHECKED = 8  # crc32 is valid
LINES = 16  # whole newline-terminated lines, back to back, each a record
FLAGS = FIRST | LAST | ABORTED | CHECKED | LINES
ENDS_RECORD = LAST | ABORTED | LINES

UNKNOWN = 2**64 - 1  # a record's total while its end is not known

SEMAPHORES = ("full_slots", "empty_slots", "writer_turn", "reader_turn", "writers")
NOT_CREATED = -1

MOST_SLOTS = 2**32 - 1  # slot_count is a u32

# One read or write moves 0x7ffff000 bytes at most (read(2), NOTES), so no fragment is longer, whatever its slot.
MAX_FRAGMENT = 0x7FFFF000


class _U32:
    """A 32-bit unsigned field of the header."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._index = offset // 4

    def __get__(self, header: Header, owner: object = None) -> int:
        return header._u32[self._index]

    def __set__(self, header: Header, value: int) -> None:
        header._u32[self._index] = value


class _U64:
    """A 64-bit unsigned field of the header; reading or storing it is one machine instruction."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._index = offset // 8

    def __get__(self, header: Header, owner: object = None) -> int:
        return header._u64[self._index]

    def __set__(self, header: Header, value: int) -> None:
        header._u64[self._index] = value


class Header:
    """The first page of the segment, one attribute a field; the comment says who writes it.

    `page` is a memoryview of at least one page, or of its first PROOF bytes. release(), which `with` does, must come
    before the segment is detached.
    """

    version = _U32(8)  # the creator
    slot_count = _U32(12)  # the creator
    slot_size = _U64(16)  # the creator
    segment_size = _U64(24)  # the creator
    key_dev = _U64(32)  # the creator: st_dev of the key path
    key_ino = _U64(40)  # the creator: st_ino of the key path
    created_ns = _U64(48)  # the creator: nanoseconds since the epoch
    creator_pid = _U32(56)  # the creator
    state = _U32(60)  # the creator: OPEN; then whoever removes the channel, in the doorway
    writers_joined = _U64(64)  # a joining writer, in the doorway
    writer_pid = _U32(72)  # the holder of writer_turn; 0: nobody holds it
    reader_pid = _U32(76)  # the holder of reader_turn; 0: nobody holds it
    writers_left = _U64(104)  # a writer that leaves having said all it had to, in the doorway
    records_torn = _U64(112)  # the holder of reader_turn, before the tail moves past a fragment that is ABORTED
    nonce = _U64(120)  # the creator: in the names of POSIX semaphores; 0 in a System V segment
    head = _U64(128)  # the holder of writer_turn: fragments published, ever
    tail = _U64(192)  # the holder of reader_turn: fragments consumed, ever

    SEMAPHORE_IDS = 80  # the creator: i32[5] in the order of SEMAPHORES
    OUTPUT_NOTES = 256  # the holder of reader_turn: OutputNote[2], see note_output
    input_record = _U64(320)  # InputNote: a writer of a file, in the doorway
    input_dev = _U64(328)
    input_ino = _U64(336)
    input_mtime_ns = _U64(344)
    input_place = _U64(352)
    input_goodbye = _U64(360)

    PROOF = 48  # bytes, up to key_ino: what tells whose it is, if the rest was cut off

    def __init__(self, page: memoryview) -> None:
        with page[:PAGE] as first:
            self._u64 = first.cast("Q")
            self._u32 = first.cast("I")
            self._i32 = first.cast("i")

    def __enter__(self) -> Header:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def release(self) -> None:
        """Give up every view of the segment's memory; the header must not be used afterwards."""
        for view in (self._u64, self._u32, self._i32):
            view.release()

    @property
    def magic(self) -> bytes:
        """The first eight bytes: MAGIC, HALF_MADE, eight zeros in a new segment, or somebody else's."""
        return self._u64[0].to_bytes(8, sys.byteorder)

    @magic.setter
    def magic(self, value: bytes) -> None:
        self._u64[0] = int.from_bytes(value, sys.byteorder)

    def semaphore_id(self, index: int) -> int:
        """The id of semaphore SEMAPHORES[index], or NOT_CREATED."""
        return self._i32[self.SEMAPHORE_IDS // 4 + index]

    def set_semaphore_id(self, index: int, semid: int) -> None:
        self._i32[self.SEMAPHORE_IDS // 4 + index] = semid

    def count_joined(self) -> int:
        """How many writers have joined; one that died while it did had noted its place before it was counted."""
        joined = self.writers_joined
        return max(joined, self.input_place)

    def count_left(self) -> int:
        """How many writers have said goodbye; one that died while it said so had noted what this was to become."""
        left = self.writers_left
        return max(left, self.input_goodbye)

    def input_note(self) -> InputNote:
        """The note of the file that was last begun, or is to be begun. In the doorway."""
        record = self.input_record
        dev = self.input_dev
        ino = self.input_ino
        mtime = self.input_mtime_ns
        place = self.input_place
        return InputNote(record, FileId(dev, ino, mtime), place, self.input_goodbye)

    def note_input(self, note: InputNote) -> None:
        """In the doorway: replace the note; whoever dies in here leaves none."""
        self.input_place = 0
        self.input_record = note.record
        self.input_dev, self.input_ino, self.input_mtime_ns = note.file
        self.input_goodbye = note.goodbye
        self.input_place = note.place

    def note_output(self, note: OutputNote) -> None:
        """Note an output file's size at fragment `note.tail`, before the tail itself moves there.

        Two notes take turns, so the one that belongs to the current tail stands until the tail has moved: that is
        what makes the new note count.
        """
        if self.output_note(note.tail) == note:
            return
        at = self._output_note_at(note.tail)
        self._u64[at + 3] = UNKNOWN  # nobody's tail: whoever dies in here leaves no note, not one of two halves
        for index, value in enumerate((note.dev, note.ino, note.size, note.tail)):
            self._u64[at + index] = value

    def forget_output(self, tail: int) -> None:
        """No file has all that was received before fragment `tail` and in it."""
        if self.output_note(tail):
            self._u64[self._output_note_at(tail) + 3] = UNKNOWN

    def output_note(self, tail: int) -> OutputNote | None:
        """The note that belongs to `tail`, if there is one."""
        at = self._output_note_at(tail)
        if self._u64[at + 3] != tail or not self._u64[at + 1]:
            return None
        return OutputNote(tail, self._u64[at], self._u64[at + 1], self._u64[at + 2])

    def _output_note_at(self, tail: int) -> int:
        return self.OUTPUT_NOTES // 8 + 4 * (tail % 2)


class SlotHeader(NamedTuple):
    """What a slot says of its fragment. Everything in it is the writer's, except `taken`."""

    length: int  # payload bytes
    flags: int
    record: int  # number of the (first) record in this slot, from 0
    offset: int  # of this fragment in its record, bytes
    total: int  # record size in bytes, UNKNOWN until it is known
    writer_pid: int  # for messages only
    crc32: int  # zlib.crc32 of the payload, when CHECKED
    records: int  # that end in this slot (`count` in C)
    taken: int = 0  # the reader's: payload bytes consumed by one that stopped inside
    source_dev: int = 0  # st_dev and st_ino of the regular file that the bytes come from, else 0
    source_ino: int = 0

    @property
    def ends_record(self) -> bool:
        """False while the record goes on in the next fragment."""
        return bool(self.flags & ENDS_RECORD)

    @property
    def source(self) -> tuple[int, int]:
        """st_dev and st_ino of the file that the bytes come from; (0, 0) for none."""
        return self.source_dev, self.source_ino

    @property
    def end(self) -> int:
        """Offset in the record just behind this fragment, bytes."""
        return self.offset + self.length


SLOT = struct.Struct("@IIQQQIIIIQQ")
TAKEN_OFFSET = 44
