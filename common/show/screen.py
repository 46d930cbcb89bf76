"""How a snapshot of a channel looks on one screen; the ring first.

This file draws what it is handed (status.look) and looks at nothing itself, neither at a channel nor at the clock: so
the same snapshot always makes the same picture. At 80 columns and 8 slots it takes at most 24 lines, as long as the
key path fits one of them; at 40 it is as complete.
"""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from common.channel.ending import Ending
from common.layout import HALF_MADE
from common.show.ring import ring_rows, slot_lines
from common.words import amount, plural

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

# Columns: from WIDE on, segment and semaphores stand side by side; more than WIDEST only pulls things apart, and with
# fewer than NARROWEST there would be no room for the longest id.
WIDE, WIDEST, NARROWEST = 76, 120, 40
LEFT = 36  # the segment's, at least: a picture that lives must not jump
BESIDE_RATE, SECONDS_NARROW = 56, 8  # columns beside the picture of the rate; how many it has at least
_HEIGHTS, _PLAIN_HEIGHTS = "▁▂▃▄▅▆▇█", "_.:-=+*#"

# Who sleeps on which semaphore; nobody ever does on `writers`.
_SLEEPERS = {
    "full_slots": ("reader", "for data"),
    "empty_slots": ("writer", "for room"),
    "writer_turn": ("writer", "for the turn"),
    "reader_turn": ("reader", "for the turn"),
}
_HEALTHY = ("not_begun", "going_on", "over")


class Moved(NamedTuple):
    """What went through while somebody watched: bytes in each of the last seconds, and in all."""

    seconds: tuple[int, ...]  # the newest last
    total: int


def draw(
    status: dict[str, Any],
    *,
    now: float,
    plain: bool,
    color: bool,
    width: int | None = None,
    height: int | None = None,
    moved: Moved | None = None,
) -> str:
    """The snapshot on one screen; `plain` is in ASCII, a `width` of None is the terminal's, COLUMNS, or 80.

    With a `height` as many slots are shown as it leaves room for. What `moved` makes it a frame of --watch.
    """
    console = _console(color, width)
    wide = console.width >= WIDE
    above = _lines(console, _title(status, plain, moved), _grid(ring_rows(status["header"], wide, plain)))
    rows = [*_people_rows(status), *_moved_rows(moved, console.width, plain)]
    below = _lines(console, _grid(rows, verdict="green" if status["ending"] in _HEALTHY else "red"))
    segment, semaphores = _grid(_segment_rows(status, now)), _semaphore_table(status["semaphores"])
    objects = _lines(console, *((_side_by_side(segment, semaphores),) if wide else (segment, semaphores)))
    room = None if height is None else height - len(above) - len(below) - len(objects)
    slots = _lines(console, *slot_lines(status, room, console.width, wide=wide, whole=console.width == WIDEST))
    gap = [""] if wide and (room is None or len(slots) < room) else []
    lines = [*above, *slots, *below, *gap, *objects]
    if moved and height is not None and len(lines) > height:
        lines[height - 1 :] = ["(a larger window shows more)"]
    return _text(lines)


def draw_message(
    status: dict[str, Any], text: str, *, plain: bool, color: bool, moved: Moved, width: int | None = None
) -> str:
    """A frame of --watch without a snapshot: `text` says why. Of `status` only key path and channel are needed."""
    console = _console(color, width)
    rows = [("state", printable(text, plain)), *_moved_rows(moved, console.width, plain)]
    return _text(_lines(console, _title(status, plain, moved), _grid(rows)))


def _console(color: bool, width: int | None) -> Console:
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=color, highlight=False, width=width)
    console.width = min(max(console.width, NARROWEST), WIDEST)
    return console


def _lines(console: Console, *drawn: RenderableType) -> list[str]:
    with console.capture() as captured:
        for one in drawn:
            console.print(one)
    return captured.get().splitlines()


def _text(lines: list[str]) -> str:
    return "".join(line.rstrip() + "\n" for line in lines)


def _title(status: dict[str, Any], plain: bool, moved: Moved | None) -> Text:
    from rich.text import Text

    how = "not atomic" if moved is None else "live; q leaves"
    return Text(f"channel {status['channel']} of {printable(status['key_path'], plain)} ({how})", style="bold")


def _grid(rows: list[tuple[str, ...]], **styles: str) -> Table:
    """Rows of a label and one or two cells, some in a style of their own; every grid's labels are equally wide."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=8, no_wrap=True, style="bold")
    for _ in rows[0][2:]:
        grid.add_column(no_wrap=True, style="cyan")  # the picture
    grid.add_column(overflow="fold")  # a path may be one long word
    for row in rows:
        grid.add_row(*map(Text, row), style=styles.get(row[0]))
    return grid


def _side_by_side(*tables: Table) -> Table:
    from rich.table import Table

    both = Table.grid(padding=(0, 2, 0, 0))
    both.add_column(min_width=LEFT)
    both.add_column(no_wrap=True)
    both.add_row(*tables)
    return both


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
        ("so far", f"{header['head']} published (head), {header['tail']} consumed (tail){_records(status)}"),
        ("writing", status["turns"]["writer_turn"]),
        ("reading", status["turns"]["reader_turn"]),
        ("writers", writers),
        ("asleep", ", ".join(asleep) or ("not known" if hidden else "nobody")),
        ("verdict", _verdict(status)),
    ]


def _records(status: dict[str, Any]) -> str:
    """How many records ended in what was published, by the fragment that was published last."""
    newest = status["newest"]
    if not newest or "damage" in newest:
        return ""
    return f"; {plural(newest['record'] + newest['records'], 'record')}"


def _moved_rows(moved: Moved | None, width: int, plain: bool) -> list[tuple[str, ...]]:
    """The last whole second, those before it as a picture, the busiest of them, and all that went by."""
    if moved is None:
        return []
    heights = _PLAIN_HEIGHTS if plain else _HEIGHTS
    seconds = moved.seconds[-max(width - BESIDE_RATE, SECONDS_NARROW) :]
    most = max(moved.seconds)
    picture = "".join(heights[-(-second * (len(heights) - 1) // max(most, 1))] for second in seconds)
    return [("rate", f"{amount(seconds[-1])}/s [{picture}] at most {amount(most)}/s; {amount(moved.total)} seen")]


def _verdict(status: dict[str, Any]) -> str:
    if status["header"]["magic"].encode() == HALF_MADE:
        return "half-made: its creator died; the next start of its owner clears it"
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
    return f"{verdict}: no writer is left{before_its_end}; a reader takes the rest"


def _segment_rows(status: dict[str, Any], now: float) -> list[tuple[str, ...]]:
    segment, header = status["segment"], status["header"]
    slots = "" if status["damage"] else f", {plural(header['slot_count'], 'slot')} of {header['slot_size']}"
    dest = " (dest: it goes with the last detach)" if segment["marked_for_removal"] else ""
    return [
        ("segment", f"{'' if isinstance(segment['id'], str) else 'id '}{segment['id']}, key {status['key']}"),
        ("size", f"{segment['size']} B{slots}"),
        ("owner", f"uid {segment['uid']}, gid {segment['gid']}, mode {segment['mode']}"),
        *_who_rows(segment, dest, now),
        ("changed", _as_people_say(segment["change_time"], now)),
    ]


def _who_rows(segment: dict[str, Any], dest: str, now: float) -> list[tuple[str, ...]]:
    """Who made it, how many have it, who came and went; of a family that counts nobody, whether anybody has."""
    if isinstance(segment["attached"], bool):
        return [("attached", f"{'in use' if segment['attached'] else 'nobody'}{dest}")]
    creator = f"uid {segment['creator_uid']}, gid {segment['creator_gid']}, pid {segment['creator_pid']}"
    came, went = (_as_people_say(segment[name], now) for name in ("attach_time", "detach_time"))
    return [
        ("creator", creator),
        ("nattch", f"{segment['attached']}{dest}, last pid {segment['last_pid']}"),
        ("attached", f"{came}, detached {went}"),
    ]


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
