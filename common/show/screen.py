"""How a snapshot of a channel looks on one screen; the ring first.

This file draws what it is handed (view.read_status) and looks at nothing itself, neither at a channel nor at the
clock: so the same snapshot always makes the same picture. At 80 columns it takes at most 24 lines, as long as the
key path fits one of them; at 40 it is as complete.
"""

from __future__ import annotations

import io
import os
import time
from bisect import bisect
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from common.channel.ending import Ending
from common.layout import HALF_MADE
from common.words import plural

if TYPE_CHECKING:
    from rich.table import Table

# Columns: from WIDE on, segment and semaphores stand side by side; more than WIDEST only pulls things apart, and with
# fewer than NARROWEST there would be no room for the longest id.
WIDE, WIDEST, NARROWEST = 76, 100, 40
CELLS_WIDE, CELLS_NARROW = 32, 8  # of the picture of the slots, at most: 64-bit numbers fit beside it

# Who sleeps on which semaphore; nobody ever does on `writers`.
_SLEEPERS = {
    "full_slots": ("reader", "for data"),
    "empty_slots": ("writer", "for room"),
    "writer_turn": ("writer", "for the turn"),
    "reader_turn": ("reader", "for the turn"),
}
_HEALTHY = ("not_begun", "going_on", "over")


def draw(status: dict[str, Any], *, now: float, plain: bool, color: bool, width: int | None = None) -> str:
    """The snapshot on one screen; `plain` is in ASCII, a `width` of None is the terminal's, COLUMNS, or 80."""
    from rich.console import Console
    from rich.table import Table

    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=color, highlight=False, width=width)
    console.width = min(max(console.width, NARROWEST), WIDEST)
    wide = console.width >= WIDE
    title = f"channel {status['channel']} of {printable(status['key_path'], plain)} (not atomic)"
    console.print(title, style="bold", markup=False, emoji=False)
    console.print(_grid(_slot_rows(status["header"], CELLS_WIDE if wide else CELLS_NARROW, plain)))
    console.print(_grid(_people_rows(status), verdict="green" if status["ending"] in _HEALTHY else "red"))
    segment, semaphores = _grid(_segment_rows(status, now)), _semaphore_table(status["semaphores"])
    if wide:
        both = Table.grid(padding=(0, 2, 0, 0))
        both.add_column()
        both.add_column(no_wrap=True)
        both.add_row(segment, semaphores)
        console.print("", both, sep="\n")
    else:
        console.print(segment, semaphores, sep="")
    return "".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines())


def _grid(rows: list[tuple[str, ...]], **styles: str) -> Table:
    """Rows of a label and one or two cells, some in a style of their own; every grid's labels are equally wide."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=8, no_wrap=True, style="bold")
    for _ in rows[0][2:]:
        grid.add_column(no_wrap=True, style="cyan")  # the picture
    for row in rows:
        grid.add_row(*map(Text, row), style=styles.get(row[0]))
    return grid


def _semaphore_table(semaphores: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, title in enumerate(("semaphores", "id", "value", "asleep")):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for name, found in semaphores.items():
        lost = "gone" if found.get("errno") == "ENOENT" else found.get("errno")
        asleep = "-" if lost or found["asleep"] is None else str(found["asleep"])
        table.add_row(name, str(found["id"]), lost or str(found["value"]), asleep)
    return table


def _slot_rows(header: dict[str, Any], most: int, plain: bool) -> list[tuple[str, ...]]:
    """The slots as they lie in the segment, several to a cell when they are more than `most`; and what fills them."""
    slots, head, tail, unread = (header[name] for name in ("slot_count", "head", "tail", "unread"))
    published, consumed = f"{head} published", f"{tail} consumed"
    if not 0 <= unread <= slots or not slots:
        return [("slots", f"unread {unread}, which cannot be drawn"), ("tail", consumed), ("head", published)]
    cells = min(slots, most)
    full, partly, free = "#+." if plain else "█▒░"
    edges = [cell * slots // cells for cell in range(cells + 1)]
    first, behind = tail % slots, tail % slots + unread  # beyond the last slot it goes on at the first
    picture = ""
    for start, stop in pairwise(edges):
        there = sum(max(0, min(stop, end) - max(start, begin)) for begin, end in ((first, behind), (0, behind - slots)))
        picture += free if not there else full if there == stop - start else partly
    text = f"unread {unread}" + {0: ": empty", slots: ": full"}.get(unread, "")
    if cells < slots and most == CELLS_WIDE:  # where it is narrow it would take lines that 24 do not have
        text += f" ({slots / cells:.3g} a cell)"
    pointers = (" " * bisect(edges, number % slots) + "^" for number in (tail, head))
    return [("slots", f"[{picture}]", text), ("tail", next(pointers), consumed), ("head", next(pointers), published)]


def _people_rows(status: dict[str, Any]) -> list[tuple[str, ...]]:
    header, semaphores = status["header"], status["semaphores"]
    alive = semaphores["writers"]["value"]
    writers = (
        f"{'?' if alive is None else alive} alive; {header['writers_joined']} joined, {header['writers_left']} left"
    )
    if header["records_torn"]:
        writers += f"; {plural(header['records_torn'], 'record')} torn"
    asleep = [
        f"{plural(semaphores[name]['asleep'], who)} {why}"
        for name, (who, why) in _SLEEPERS.items()
        if semaphores[name]["asleep"]
    ]
    # On what is gone nobody is.
    hidden = any(found["asleep"] is None and found.get("errno") != "ENOENT" for found in semaphores.values())
    return [
        ("writing", status["turns"]["writer_turn"]),
        ("reading", status["turns"]["reader_turn"]),
        ("writers", writers),
        ("asleep", ", ".join(asleep) or ("not known" if hidden else "nobody")),
        ("verdict", _verdict(status)),
    ]


def _verdict(status: dict[str, Any]) -> str:
    if status["header"]["magic"].encode() == HALF_MADE:
        return "half-made: its creator died; the next start clears it"
    if status["damage"]:
        return f"damaged: {status['damage']}"
    if status["ending"] is None:
        return "not known: the semaphore writers cannot be read"
    verdict = Ending[status["ending"].upper()].value
    if status["ending"] != "going_on" or status["semaphores"]["writers"]["value"]:
        return verdict
    header = status["header"]
    stopped = header["writers_joined"] - header["writers_left"] - header["records_torn"]
    before_its_end = f", {plural(stopped, 'writer')} stopped before the end" if stopped > 0 else ""
    return f"{verdict}: no writer is left{before_its_end}; read it empty"


def _segment_rows(status: dict[str, Any], now: float) -> list[tuple[str, ...]]:
    segment, header = status["segment"], status["header"]
    slots = "" if status["damage"] else f", {plural(header['slot_count'], 'slot')} of {header['slot_size']}"
    dest = " (dest: it goes with the last detach)" if segment["marked_for_removal"] else ""
    times = (("attached", "attach_time"), ("detached", "detach_time"), ("changed", "change_time"))
    return [
        ("segment", f"{'' if isinstance(segment['id'], str) else 'id '}{segment['id']}, key {status['key']}"),
        ("size", f"{segment['size']} B{slots}"),
        ("owner", f"uid {segment['uid']}, gid {segment['gid']}, mode {segment['mode']}"),
        *_who_rows(segment, dest),
        *((label, _as_people_say(segment[name], now)) for label, name in times if segment[name] is not None),
    ]


def _who_rows(segment: dict[str, Any], dest: str) -> list[tuple[str, ...]]:
    """Who made it and how many have it; of a family that counts nobody, whether anybody has."""
    if isinstance(segment["attached"], bool):
        return [("attached", f"{'in use' if segment['attached'] else 'nobody'}{dest}")]
    creator = f"uid {segment['creator_uid']}, gid {segment['creator_gid']}, pid {segment['creator_pid']}"
    return [("creator", creator), ("nattch", f"{segment['attached']}{dest}, last pid {segment['last_pid']}")]


def _as_people_say(then: float, now: float) -> str:
    """A time, such as: 2 min ago; a date when it is a day old, or not yet come by this clock."""
    if not then:
        return "never"
    age = int(now) - then
    for unit, seconds, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86400)):
        if 0 <= age < limit:
            return f"{age // seconds} {unit} ago"
    return time.strftime("%F %T", time.localtime(then))


def printable(path: str, plain: bool) -> str:
    """The path with an escape for each byte and character that a terminal cannot show, or would obey."""
    text = os.fsencode(path).decode("ascii" if plain else "utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
