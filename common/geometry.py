"""How a segment is divided into slots, and whether the header of one that is there says so.

As layout.py, this file knows bytes and nothing else.
"""

from __future__ import annotations

from common.errors import BadSegment
from common.layout import FINISHED, MAGIC, OPEN, PAGE, REMOVED, SLOT, VERSION, Header
from common.typed import NamedTuple


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


class Geometry(NamedTuple):
    """How a segment is divided: `slot_count` slots of `slot_size` bytes, a multiple of the page size."""

    slot_count: int
    slot_size: int

    @property
    def payloads_at(self) -> int:
        """Offset of slot 0's payload in the segment, bytes."""
        return PAGE + _round_up(self.slot_count * SLOT.size, PAGE)

    @property
    def segment_size(self) -> int:
        """Size of the whole segment, bytes; 0 for a geometry that holds nothing."""
        payloads = self.slot_count * self.slot_size
        return self.payloads_at + payloads if payloads else 0


def read_geometry(memory: memoryview) -> Geometry:
    """The geometry that a complete header declares.

    Raises BadSegment when magic, version, counts or sizes are not those of this file or do not fit `memory`.
    """
    if len(memory) < PAGE:
        raise BadSegment(f"it has {len(memory)} bytes, fewer than a header")
    with Header(memory) as header:
        magic, version, state = header.magic, header.version, header.state
        geometry = Geometry(header.slot_count, header.slot_size)
        declared = header.segment_size
    if magic != MAGIC:
        raise BadSegment(f"its magic is {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise BadSegment(f"its header has version {version}; this program knows version {VERSION}")
    if state not in (OPEN, FINISHED, REMOVED):
        raise BadSegment(f"its state is {state}, which means nothing")
    if not geometry.segment_size or geometry.slot_size % PAGE:
        raise BadSegment(f"its geometry is absurd: {geometry.slot_count} slots of {geometry.slot_size} bytes")
    # The kernel rounds a segment up to whole pages, but IPC_STAT reports the size that was asked for.
    if not declared == geometry.segment_size == len(memory):
        raise BadSegment(
            f"its sizes disagree: {geometry.segment_size} bytes by its slots, {declared} by its header,"
            f" {len(memory)} by the kernel"
        )
    return geometry
