"""What proves that a segment is ours: facts in, a verdict out. No call is made here, and no family of objects is known.

ours       a segment with our magic and our key path
leftover   one of ours that is half-made, half-removed or cut off; one of our uid with its creator dead and nobody else
           attached that is half-made, or zero in every byte and of a size that a channel of ours can have, or of no
           size yet
foreign    everything else: refused, named, and left untouched
"""

from __future__ import annotations

from enum import Enum

from common.geometry import Geometry
from common.layout import FINISHED, HALF_MADE, MAGIC, PAGE, REMOVED
from common.typed import NamedTuple


class Kind(Enum):
    """Whose a segment with our key is."""

    OURS = "a channel in use"
    LEFTOVER = "what a process of ours left when it died"
    OF_ANOTHER_PATH = "ftok gives another path the same key"
    FOREIGN = "nothing proves it ours"


class Facts(NamedTuple):
    """What the verdict rests on; what there are too few bytes for is zero."""

    size: int  # bytes
    magic: bytes
    path: tuple[int, int]  # st_dev and st_ino that the header notes
    our_path: tuple[int, int]
    state: int
    abandoned: bool  # made by our uid, its creator is dead, and nobody but us has it attached
    empty: bool  # zero in every byte


class Verdict(NamedTuple):
    """`why`: what a leftover is, or what a foreign one lacks."""

    kind: Kind
    why: str = ""


def judge(facts: Facts) -> Verdict:
    """The verdict on a segment that has our key."""
    begun = facts.magic in (MAGIC, HALF_MADE)
    ours = facts.path == facts.our_path
    if not facts.size and facts.abandoned:
        return Verdict(Kind.LEFTOVER, "which its creator left without a size")
    # The inode is stored last and is never 0, so it tells whether the path is there at all.
    if begun and facts.path[1] and not ours:
        return Verdict(Kind.OF_ANOTHER_PATH)
    if facts.size < PAGE and begun and ours:
        return Verdict(Kind.LEFTOVER, f"which was cut off at {facts.size} bytes")
    if facts.size < PAGE:
        return Verdict(Kind.FOREIGN, f"its {facts.size} bytes are fewer than a header")
    if facts.magic == HALF_MADE and (ours or facts.abandoned):
        return Verdict(Kind.LEFTOVER, "which its creator left half-made")
    if facts.magic == MAGIC and ours:
        left = {FINISHED: "which its last reader left half-removed", REMOVED: "left half-removed"}.get(facts.state)
        return Verdict(Kind.LEFTOVER, left) if left else Verdict(Kind.OURS)
    # One slot of any size makes every number of pages from the smallest channel's on.
    possible = facts.size % PAGE == 0 and facts.size >= Geometry(1, PAGE).segment_size
    if facts.abandoned and facts.empty and possible:
        return Verdict(Kind.LEFTOVER, "which its creator left empty")
    if begun:
        return Verdict(Kind.FOREIGN, "its header notes no key path")
    return Verdict(Kind.FOREIGN, f"its first bytes are {facts.magic!r}, not {MAGIC!r}")
