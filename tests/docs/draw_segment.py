"""Draws segment.svg, the picture in README.md, from the real offsets of common/layout.py.

    python -m tests.docs.draw_segment       writes tests/docs/segment.svg

Every number in the picture is asked of layout.py, so the picture cannot differ from the code; test_readme.py checks
that the file in the repository is the one that this script draws.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

from common import layout
from common.ipc.lifecycle import DEFAULT_GEOMETRY
from common.layout import PAGE, SEMAPHORES, SLOT, Header, SlotHeader

PICTURE = Path(__file__).with_name("segment.svg")

ROW = 20  # height of a table row, pixels
INK, PALE, FULL, FREE, HEAD = "#1b2733", "#e9eef3", "#9fd3a8", "#ffffff", "#cfe0f5"

# An example of a ring in use: these fragments are published and not yet consumed.
TAIL, HEAD_AT = 2, 5


class Field(NamedTuple):
    """One field of a struct, as C would name it."""

    offset: int
    kind: str
    name: str


def header_fields() -> list[Field]:
    """The header's fields in the order of their offsets."""
    kinds = {layout._U32: "u32", layout._U64: "u64"}
    fields = [Field(d.offset, kinds[type(d)], name) for name, d in vars(Header).items() if type(d) in kinds]
    fields.append(Field(0, "char[8]", f'magic "{layout.MAGIC.decode()}"'))
    fields.append(Field(Header.SEMAPHORE_IDS, f"i32[{len(SEMAPHORES)}]", "semaphore_ids"))
    fields.append(Field(Header.OUTPUT_NOTES, "u64[2][4]", "output_notes"))
    return sorted(fields)


def slot_fields() -> list[Field]:
    """The slot header's fields: the offsets are those that struct.Struct computes for SLOT."""
    codes = re.sub(r"\d+x$", "", SLOT.format.lstrip("@"))
    kinds = {"I": "u32", "Q": "u64"}
    fields = []
    for index, (code, name) in enumerate(zip(codes, SlotHeader._fields, strict=True)):
        end = struct.calcsize("@" + codes[: index + 1])
        fields.append(Field(end - struct.calcsize(code), kinds[code], "count" if name == "records" else name))
    return fields


def _text(x: int, y: int, words: str, style: str = "") -> str:
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return f'<text x="{x}" y="{y}"{" " + style if style else ""}>{words}</text>'


def _box(x: int, y: int, width: int, height: int, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}" stroke="{INK}"/>'


def _wedge(left: tuple[int, int, int], right: tuple[int, int, int]) -> str:
    """The pale area that opens one block, (x, top, bottom) on the left, into its table on the right."""
    (x0, top0, bottom0), (x1, top1, bottom1) = left, right
    return f'<path d="M{x0} {top0}L{x1} {top1}L{x1} {bottom1}L{x0} {bottom0}Z" fill="{PALE}"/>'


BOLD, END, MIDDLE = 'font-weight="bold"', 'text-anchor="end"', 'text-anchor="middle"'


def _table(x: int, y: int, title: str, fields: list[Field]) -> list[str]:
    width, height = 300, ROW * (len(fields) + 1) + 10
    drawn = [_box(x, y, width, height, FREE), _text(x + 10, y + 18, title, BOLD)]
    for row, field in enumerate(fields, 2):
        base = y + row * ROW
        drawn += [_text(x + 45, base, str(field.offset), END), _text(x + 60, base, field.kind)]
        drawn.append(_text(x + 145, base, field.name))
    return drawn


def _payloads(x: int, y: int, width: int) -> list[str]:
    geometry = DEFAULT_GEOMETRY
    drawn = []
    for slot in range(geometry.slot_count):
        top = y + slot * 40
        drawn.append(_box(x, top, width, 40, FULL if TAIL <= slot < HEAD_AT else FREE))
        drawn.append(_text(x + width // 2, top + 25, f"slot {slot}: {geometry.slot_size} bytes", MIDDLE))
        drawn.append(_text(x - 8, top + 14, str(geometry.payloads_at + slot * geometry.slot_size), END))
    for label, slot in (("tail", TAIL), ("head", HEAD_AT)):
        drawn.append(_text(x + width + 8, y + slot * 40 + 14, f"\u25c0 {label} = {slot}", BOLD))
    bottom = y + geometry.slot_count * 40
    drawn.append(_text(x - 8, bottom + 14, str(geometry.segment_size), END))
    return drawn


def draw() -> str:
    """The picture, as SVG text."""
    geometry = DEFAULT_GEOMETRY
    left, width, top = 90, 220, 50
    slots_top, payloads_top = top + 60, top + 120
    header, slot = header_fields(), slot_fields()
    table_x, slot_y = 420, top + ROW * (len(header) + 1) + 40
    slots_title = f"SlotHeader[{geometry.slot_count}], {SLOT.size} bytes each"
    drawn = [
        _text(left, 26, f"The segment: {geometry.slot_count} slots, {geometry.segment_size} bytes", BOLD),
        _wedge((left + width, top, slots_top), (table_x, top, slot_y - 30)),
        _wedge((left + width, slots_top, payloads_top), (table_x, slot_y, slot_y + ROW * (len(slot) + 1) + 10)),
        _box(left, top, width, 60, HEAD),
        _text(left + width // 2, top + 35, f"Header: one page, {PAGE} bytes", MIDDLE),
        _box(left, slots_top, width, 60, HEAD),
        _text(left + width // 2, slots_top + 35, slots_title, MIDDLE),
        _text(left - 8, top + 14, "0", END),
        _text(left - 8, slots_top + 14, str(PAGE), END),
        *_payloads(left, payloads_top, width),
        *_table(table_x, top, "Header", header),
        *_table(table_x, slot_y, "SlotHeader", slot),
    ]
    bottom = payloads_top + geometry.slot_count * 40
    captions = (
        "Fragment n lives in slot n % slot_count.",
        "Green: published and not yet consumed.",
        "A writer fills slot head % slot_count,",
        "then adds 1 to head. A reader empties",
        "slot tail % slot_count, then adds 1 to tail.",
    )
    drawn += [_text(8, bottom + 44 + 18 * row, line) for row, line in enumerate(captions)]
    height = max(bottom + 44 + 18 * len(captions), slot_y + ROW * (len(slot) + 1) + 30)
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {height}" width="740" height="{height}"'
        f' font-family="monospace" font-size="12" fill="{INK}">'
    )
    return "\n".join([start, f'<rect width="740" height="{height}" fill="#ffffff"/>', *drawn, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw())
