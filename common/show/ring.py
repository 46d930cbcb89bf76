"""How the ring looks: a picture of all of it in one line, and a line for each slot that there is room for."""

from __future__ import annotations

from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from common.show.slots import FILLING, FREE, FULL, READING
from common.words import plural

if TYPE_CHECKING:
    from rich.text import Text

CELLS_WIDE, CELLS_NARROW = 32, 8  # of the picture of the slots, at most: 64-bit numbers fit beside it

_STATES = {FREE: "free", FILLING: "being filled", FULL: "full", READING: "being read"}
_STYLES = {FREE: "dim", FILLING: "yellow", FULL: "cyan", READING: "green"}


def ring_rows(header: dict[str, Any], wide: bool, plain: bool) -> list[tuple[str, ...]]:
    """The slots as they lie in the segment, several to a cell when they are more than the cells."""
    slots, tail, unread = (header[name] for name in ("slot_count", "tail", "unread"))
    if not 0 <= unread <= slots or not slots:
        return [("slots", f"unread {unread}, which cannot be drawn")]
    cells = min(slots, CELLS_WIDE if wide else CELLS_NARROW)
    full, partly, free = "#+." if plain else "█▒░"
    edges = [cell * slots // cells for cell in range(cells + 1)]
    first, behind = tail % slots, tail % slots + unread  # beyond the last slot it goes on at the first
    picture = ""
    for start, stop in pairwise(edges):
        there = sum(max(0, min(stop, end) - max(start, begin)) for begin, end in ((first, behind), (0, behind - slots)))
        picture += free if not there else full if there == stop - start else partly
    text = f"unread {unread}" + {0: ": empty", slots: ": full"}.get(unread, "")
    if cells < slots and wide:  # where it is narrow it would take lines that 24 do not have
        each = slots / cells
        text += f" ({f'{each:.3g}' if each < 100 else f'{each:.0f}'} a cell)"
    return [("slots", f"[{picture}]", text)]


def slot_lines(status: dict[str, Any], room: int | None, width: int, *, wide: bool, whole: bool) -> list[Text]:
    """A line a slot, more where it is narrow: its number, its state, and what is in it (the `whole` of it).

    Made here and by no table of rich's, which would take several times as long as all the rest of the picture.
    """
    from rich.text import Text

    header = status["header"]
    marks: dict[int, str] = {}
    for name in ("tail", "head"):
        at = header[name] % max(header["slot_count"], 1)
        marks[at] = "both" if at in marks else name
    digits, size = len(str(header["slot_count"] - 1)), len(f"{header['slot_size']} B")
    lines = []
    for slot in _which(status["slots"], header, room if wide or room is None else room // 2):
        begun, state = f"{marks.get(slot['slot'], ''):8} {slot['slot']:{digits}} ", _STATES[slot["state"]]
        pid = f"pid {slot['pid'] or '?'}" if slot["state"] != FREE else ""
        length = f"{slot['length']} B" if "length" in slot else ""
        content = _content(slot, header["slot_size"], whole) if slot["state"] in (FULL, READING) else ""
        if wide:
            begun += f"{state:12} {pid:11} {length:>{size}} "
            said = begun + content
        else:
            said = begun + ", ".join(filter(None, (state, pid, length, content)))
        for line in wrap(said, width, subsequent_indent=" " * len(begun)):
            lines.append(Text(line, style=_STYLES[slot["state"]]))
    return lines


def _which(slots: list[dict[str, Any]], header: dict[str, Any], most: int | None) -> list[dict[str, Any]]:
    """The slots to show: all as they lie, if there is room, else some from the tail on and the one at the head."""
    most = len(slots) if most is None else max(most, 2)
    if len(slots) == header["slot_count"] <= most:
        return sorted(slots, key=lambda slot: int(slot["slot"]))
    at_head = [slot for slot in slots[most:] if slot["fragment"] == header["head"]]
    return [*slots[: most - len(at_head)], *at_head]


def _content(fragment: dict[str, Any], slot_size: int, whole: bool) -> str:
    """What is in a slot, such as: record 3, fragment 2 of 40; the `whole` of it, with where that is in the record."""
    if "damage" in fragment:
        return str(fragment["damage"])
    record, offset, length, total = (fragment[name] for name in ("record", "offset", "length", "total"))
    flags, end = fragment["flags"], offset + length
    # What comes from a file fills its slots; what comes from a pipe is cut where its reads were.
    counted = total and not offset % slot_size and (length == slot_size or end == total)
    if "aborted" in flags:
        text = f"record {record}, given up"
    elif "lines" in flags:
        text = f"{plural(fragment['records'], 'line')} from record {record}"
    elif {"first", "last"} <= set(flags):
        text = f"record {record}, whole"
    elif counted:
        text = f"record {record}, fragment {offset // slot_size + 1} of {-(-total // slot_size)}"
    else:
        text = f"record {record} from byte {offset}{' to its end' if 'last' in flags else ''}"
    if whole and counted and total > length:
        text += f", from byte {offset} of {total}"
    if whole and "checked" in flags:
        text += ", with a CRC-32"
    return text + (f"; {fragment['taken']} B taken" if fragment["taken"] else "")
