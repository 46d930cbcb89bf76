"""A run of the pair, made now: what both programs did, what the system showed meanwhile, every byte of the segment.

It is gathered here; how it looks is report.html's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from common.cli.tracer import quote
from common.errors import ChannelError
from common.geometry import read_geometry
from common.layout import PAGE, SLOT, Header
from common.show.pair import PATIENCE, Pair, Ran, ended

_SLOTS = ("--slots", "4", "--slot-size", "4K")  # so small that all of it fits a page
_ROW = 16  # bytes in a line of the dump


class Block(NamedTuple):
    """A part of the segment: its first byte and the one behind it, and what stands in it, line by line."""

    name: str
    start: int
    stop: int
    state: str
    holds: list[str]


class Run(NamedTuple):
    """The pair's run; `listed` is what the system shows before, during and after."""

    message: str
    writer: Ran
    reader: Ran
    listed: dict[str, str]
    blocks: list[Block]
    fields: list[tuple[int, str, str]]
    dump: list[tuple[str, str, str]]


def run_pair(pair: Pair, message: str) -> Run:
    """The writer puts the message in and waits; we look; the reader removes all. Raises ChannelError."""
    listed = {"before": pair.list_objects()}
    with pair.start("writer", *_SLOTS, "--wait", "--timeout", str(PATIENCE), "--explain", message) as child:
        status, memory = pair.look(child)
        listed["during"] = pair.list_objects()
        reader = pair.run("reader", "--timeout", str(PATIENCE), "--explain")
        writer = ended(child)
    listed["after"] = pair.list_objects()
    for ran in (writer, reader):
        if ran.code:
            raise ChannelError(ran.last)
    if message not in [line.text for line in reader.lines if line.kind == "data"]:
        raise ChannelError("what the reader received is not what the writer sent")
    blocks = _divide(status, memory)
    return Run(message, writer, reader, listed, blocks, _read_fields(memory), list(_dump(memory, blocks)))


def _divide(status: dict[str, Any], memory: bytes) -> list[Block]:
    """The segment's blocks in their order."""
    geometry, header = read_geometry(memoryview(memory)), status["header"]
    at = geometry.payloads_at
    head, tail = header["head"], header["tail"]
    blocks = [
        Block("Header", 0, PAGE, "header", [f"{header['magic']}, head {head}, tail {tail}"]),
        Block(
            f"SlotHeader[{geometry.slot_count}], {SLOT.size} bytes each", PAGE, at, "header", ["what is in which slot"]
        ),
    ]
    for slot in sorted(status["slots"], key=lambda slot: slot["slot"]):
        start = at + slot["slot"] * geometry.slot_size
        length = slot.get("length", 0)
        holds = [f"{length} bytes of pid {slot['pid']}", quote(memory[start : start + length])] if length else []
        if slot["fragment"] in (head, tail):
            here = "head: filled next" if slot["fragment"] == head else "tail: read next"
            holds[:1] = ["; ".join([here, *holds[:1]])]
        blocks.append(Block(f"slot {slot['slot']}", start, start + geometry.slot_size, slot["state"], holds))
    return blocks


def _read_fields(memory: bytes) -> list[tuple[int, str, str]]:
    """The header's numbers: offset, name, value."""
    with Header(memoryview(memory)) as header:
        named = [(field.offset, name) for name, field in vars(Header).items() if hasattr(field, "offset")]
        values = [(at, name, str(getattr(header, name))) for at, name in sorted(named)]
        return [(0, "magic", header.magic.decode()), *values]


def _dump(memory: bytes, blocks: list[Block]) -> Iterator[tuple[str, str, str]]:
    """Every byte, as hexdump -C shows it, but for rows of zeros: the row, and which block and state it is of."""
    zeros = False
    for at in range(0, len(memory), _ROW):
        row = memory[at : at + _ROW]
        if any(row):
            block = next(block for block in blocks if block.start <= at < block.stop)
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            shown = f"{at:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{text}|"
            yield shown, block.name.partition("[")[0], block.state
        elif not zeros:
            yield "*", "", ""
        zeros = not any(row)
    yield f"{len(memory):08x}", "", ""
