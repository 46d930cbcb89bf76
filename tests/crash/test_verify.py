"""What a third process can do to the fragments between writer and reader, and what each option notices.

Record numbers and offsets are always checked; the bytes themselves only with --verify.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.channel.ring import Ring
from common.ipc.lifecycle import find_channel
from common.layout import FIRST, LAST, SlotHeader
from tests.crash.doomed import RING, tear_writer
from tests.crash.driver import CONTENT, SLOT_SIZE
from tests.helpers import Finished, Pair
from tests.in_process import FAMILIES, place_of

VERIFY = pytest.mark.parametrize("verify", [(), ("--verify",)], ids=["plain", "verify"])


@contextmanager
def attached(pair: Pair) -> Iterator[Ring]:
    """The ring, for somebody who takes no turn."""
    family = find_channel(FAMILIES[pair.ipc], place_of(pair.key_path), observe=False)
    ring = Ring(family.memory)
    try:
        yield ring
    finally:
        ring.release()
        family.detach()


def flip_bit(pair: Pair, fragment: int, offset: int) -> None:
    with attached(pair) as ring, ring.payload(fragment, 0, SLOT_SIZE) as payload:
        payload[offset] ^= 1


def flipped(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def overwrite(pair: Pair, fragment: int, other: int) -> None:
    """Put what is in fragment `other` in the place of `fragment`, header and payload."""
    with attached(pair) as ring:
        slot = ring.read_slot(other)
        ring.write_slot(fragment, slot)
        with ring.payload(fragment, 0, SLOT_SIZE) as payload, ring.payload(other, 0, SLOT_SIZE) as source:
            payload[:] = source


def assert_damaged(pair: Pair, before: bytes, complaint: str) -> None:
    """The first reader gets what is whole; each ends with 1 and the same clear line; the channel can be removed."""
    headless = f"reader: record 0 comes without its first {len(before)} bytes: another reader took them\n"
    for whole, taken in ((before, ""), (b"", headless if before else "")):
        received = pair.read("--quiet")
        assert received.code == 1, received
        damaged = f"reader: the segment is damaged: {complaint}; `writer.py --remove` removes it\n"
        assert (received.out, received.err) == (whole, taken + damaged)
    assert pair.write("--remove").code == 0


def send(pair: Pair, *arguments: object, stdin: bytes = b"") -> Finished:
    done = pair.write(*RING, *arguments, stdin=stdin)
    assert done.code == 0, done
    return done


@pytest.mark.parametrize(("fragment", "offset"), [(0, 0), (2, 1234), (2, SLOT_SIZE - 1), (5, 0)])
def test_verify_finds_a_flipped_bit(pair: Pair, content: Path, fragment: int, offset: int) -> None:
    send(pair, "--verify", "--file", content)
    flip_bit(pair, fragment, offset)
    start, end = fragment * SLOT_SIZE, min((fragment + 1) * SLOT_SIZE, len(CONTENT))
    sent = CONTENT[start:end]
    found = flipped(sent, offset)
    assert_damaged(
        pair,
        CONTENT[:start],
        f"record 0 is damaged: bytes {start} to {end} have CRC-32 {zlib.crc32(found):08x},"
        f" their writer computed {zlib.crc32(sent):08x}",
    )


def test_verify_finds_a_flipped_bit_among_lines(pair: Pair) -> None:
    lines = b"one\ntwo\nthree\n"
    send(pair, "--verify", "--lines", stdin=lines)
    flip_bit(pair, 0, 5)
    found = zlib.crc32(flipped(lines, 5))
    assert_damaged(
        pair,
        b"",
        f"record 0 is damaged: bytes 0 to {len(lines)} have CRC-32 {found:08x},"
        f" their writer computed {zlib.crc32(lines):08x}",
    )


def test_without_verify_a_flipped_bit_arrives(pair: Pair, content: Path) -> None:
    """This is what --verify is for: nothing else knows what the bytes should be."""
    send(pair, "--file", content)
    flip_bit(pair, 2, 1234)
    received = pair.read("--quiet")
    assert received.code == 0
    differing = [at for at, (a, b) in enumerate(zip(received.out, CONTENT, strict=True)) if a != b]
    assert differing == [2 * SLOT_SIZE + 1234]


def test_verified_and_whole_is_success(pair: Pair, content: Path) -> None:
    send(pair, "--verify", "--file", content)
    received = pair.read("--quiet")
    assert (received.code, received.out, received.err) == (0, CONTENT, ""), received


@VERIFY
@pytest.mark.parametrize(("other", "offset"), [(3, 3 * SLOT_SIZE), (1, SLOT_SIZE)], ids=["gap", "repeat"])
def test_fragments_that_do_not_follow_on(
    pair: Pair, content: Path, verify: tuple[str, ...], other: int, offset: int
) -> None:
    """Fragment 2 is replaced by the one behind it, or by the one before it."""
    send(pair, *verify, "--file", content)
    overwrite(pair, 2, other)
    half = 2 * SLOT_SIZE
    received = pair.read("--quiet")
    assert (received.code, received.out) == (1, CONTENT[:half]), received
    assert received.err == (
        f"reader: the segment is damaged: fragment 2 is byte {offset} of record 0; byte {half} of record 0 must"
        " follow here; `writer.py --remove` removes it\n"
    )
    assert pair.write("--remove").code == 0


@VERIFY
@pytest.mark.parametrize("other", [2, 0], ids=["gap", "repeat"])
def test_records_that_do_not_follow_on(pair: Pair, verify: tuple[str, ...], other: int) -> None:
    for word in ("zero", "one", "two"):
        send(pair, *verify, word)
    overwrite(pair, 1, other)
    received = pair.read("--quiet")
    assert (received.code, received.out) == (1, b"zero\n"), received
    assert f"fragment 1 is byte 0 of record {other}; byte 0 of record 1 must follow here" in received.err
    assert pair.write("--remove").code == 0


@VERIFY
@pytest.mark.parametrize("record", [0, 1])
def test_second_writer_that_knows_no_turn(pair: Pair, content: Path, verify: tuple[str, ...], record: int) -> None:
    """It publishes a record of its own in the middle of ours, as two writers of the simple C example do."""
    tear_writer(pair, content, 2, *verify)
    with attached(pair) as ring:
        with ring.payload(2, 0, 7) as payload:
            payload[:] = b"foreign"
        ring.write_slot(2, SlotHeader(7, FIRST | LAST, record, 0, 7, 1, 0, 1))
        ring.header.head = 3
    received = pair.read("--quiet")
    assert (received.code, received.out) == (1, CONTENT[: 2 * SLOT_SIZE]), received
    assert f"fragment 2 is byte 0 of record {record}; byte {2 * SLOT_SIZE} of record 0 must follow" in received.err
    assert pair.write("--remove").code == 0


@VERIFY
def test_second_writer_that_overwrites_what_waits(pair: Pair, content: Path, verify: tuple[str, ...]) -> None:
    """It begins at slot 0, as if the segment were its own: its record number and offset are right, its end is not."""
    send(pair, *verify, "--file", content)
    with attached(pair) as ring:
        with ring.payload(0, 0, SLOT_SIZE) as payload:
            payload[:] = b"\xff" * SLOT_SIZE
        ring.write_slot(0, SlotHeader(SLOT_SIZE, FIRST | LAST, 0, 0, SLOT_SIZE, 1, 0, 1))
    received = pair.read("--quiet")
    assert (received.code, received.out) == (1, b"\xff" * SLOT_SIZE), received
    assert f"fragment 1 is byte {SLOT_SIZE} of record 0; byte 0 of record 1 must follow here" in received.err
    assert pair.write("--remove").code == 0


@VERIFY
@pytest.mark.parametrize("field", SlotHeader._fields)
def test_flipped_bit_in_a_slot_header_loses_no_byte_unnoticed(
    pair: Pair, content: Path, verify: tuple[str, ...], field: str
) -> None:
    """Exit code 0 means that every byte is there. All the bits are tried on the protocol alone, in tests/fuzz."""
    send(pair, *verify, "--file", content)
    with attached(pair) as ring:
        slot = ring.read_slot(2)
        ring.write_slot(2, slot._replace(**{field: getattr(slot, field) ^ 1}))
    received = pair.read("--quiet")
    if received.code == 0:
        assert received.out == CONTENT
    else:
        assert received.code == 1 and len(received.err.splitlines()) == 1, received
        assert pair.write("--remove").code == 0
