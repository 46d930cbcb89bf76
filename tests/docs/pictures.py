"""Draws watch.svg, killed.svg and explain.svg, the READMEs' pictures of what the programs show.

    python -m tests.docs.pictures       runs the programs, and writes them

What is drawn is a real channel, held still by --pause-at, as `reader.py --status --json` tells of it and the code of
--status and --watch puts it on a screen; and what `writer.py --explain` says on a terminal. Only what differs from run
to run is the READMEs' student's: key and path, ids, pids, owners, addresses, times. test_pictures.py checks that the
files in the repository are what this script draws.

A picture is a terminal's window, dark on a light page as on a dark one. Every run of characters is as long as its
cells, so any monospaced font will do, and nothing is fetched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch
from xml.sax.saxutils import escape

import pexpect
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.style import Style
from rich.text import Text

from common.show.screen import draw
from common.show.watch import History
from tests.docs.draw_segment import INK, PALE
from tests.e2e.test_pace import pause
from tests.helpers import PATIENCE, Pair, keys_of, kill_children, left_behind, own_key_path, wait_until

HERE = Path(__file__).parent
COLUMNS = {"watch.svg": 80, "killed.svg": 80, "explain.svg": 90}

# The student of the READMEs.
HOME, KEY, UID = "/home/student/shmpair", "0x012816e5", 1001
WRITER_PID, READER_PID = 4711, 4712
ATTACHED_AT = 0x7FE77A9FC000
NOW = 1_700_000_000  # any time will do: what is shown is how long ago

CELL_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 14  # pixels, for characters of 14 pixels
DIM, EDGE = "#93a3b1", "#5b6b7a"
COLORS = {1: "#ff9d94", 2: "#9fd3a8", 3: "#f2d68b", 6: "#8fd0ee"}  # by ANSI's number: red, green, yellow, cyan


def draw_all(pair: Pair) -> dict[str, str]:
    """Every picture, as SVG text, by the name of its file."""
    watched, killed = look_at_a_crash(pair)
    screens = {"watch.svg": watched, "killed.svg": killed, "explain.svg": explained(pair)}
    return {name: draw_window(lines, COLUMNS[name]) for name, lines in screens.items()}


def look_at_a_crash(pair: Pair) -> tuple[list[Text], list[Text]]:
    """A file on its way, as --watch shows it, and what --status says once its writer was killed."""
    sent = pair.directory / "sent"
    sent.write_bytes(bytes(1 << 20))
    try:
        # One after the other, so that nobody ever waits and each semaphore's value is always the same.
        writer = pause(pair, "writer", "publish:7", "--slot-size", "64K", "--file", sent)
        reader = pause(pair, "reader", "commit:3", "--output", pair.directory / "received")
        pids = {writer.pid: WRITER_PID, reader.pid: READER_PID}
        going_on = look(pair, pids)
        writer.kill()
        writer.wait()
        # Whoever reads its /proc/PID/maps at that moment delays the detach.
        wait_until(lambda: left_behind(keys_of(pair.key_path))[0]["nattch"] == 1, "the detach of the killed writer")
        killed = look(pair, pids)
    finally:
        kill_children()
        pair.write("--remove")
    history = History()
    for second, seen in enumerate((None, going_on, going_on)):
        history.add(seen, second)
    watched = screen(going_on, moved=history.moved(), height=24)
    commands = f"kill -9 {WRITER_PID}", "python reader.py --status"
    return [typed("python reader.py --watch"), *watched], [*map(typed, commands), *screen(killed)]


def look(pair: Pair, pids: dict[int, int]) -> dict[str, Any]:
    """What `reader.py --status --json` says, with the student's key, ids and pids, a second after it came about."""
    said = pair.read("--status", "--json").out.decode()
    said = re.sub(r'(pid(?:": | ))(\d+)', lambda pid: pid[1] + str(pids.get(int(pid[2]), pid[2])), said)
    status: dict[str, Any] = {**json.loads(said), "key": KEY, "key_path": HOME}
    segment = status["segment"]
    segment |= {"id": 0, **dict.fromkeys(("uid", "gid", "creator_uid", "creator_gid"), UID)}
    segment |= {name: NOW - 1 for name in ("attach_time", "detach_time", "change_time") if segment[name]}
    for number, semaphore in enumerate(status["semaphores"].values()):
        semaphore["id"] = number
    return status


def screen(status: dict[str, Any], **frame: Any) -> list[Text]:
    """The lines that --status, or with `moved` --watch, makes of it on a terminal with colours."""
    with patch.dict(os.environ, {"TERM": "xterm", "NO_COLOR": ""}):
        drawn = draw(status, now=NOW, plain=False, color=True, width=COLUMNS["watch.svg"], **frame)
    return list(AnsiDecoder().decode(drawn.rstrip("\n")))


def explained(pair: Pair) -> list[Text]:
    """From the segment's creation to the message's store; that calls are bright and explanations are not is ours."""
    columns = COLUMNS["explain.svg"]
    command = pair.command("writer", "--explain", "hello")
    child = pexpect.spawn(command[0], command[1:], dimensions=(24, columns), encoding="utf-8", timeout=PATIENCE)
    try:
        said = as_the_student(child.read().replace("\r", ""))
    finally:
        child.close(force=True)
        pair.write("--remove")
    part = re.search(r"^shmget\([^\n]*IPC_CREAT.*?(?=^writer: sent)", said, re.MULTILINE | re.DOTALL)
    assert part, said
    dimmed, bright = ("#   ",), ("shm", "# ")
    lines = [
        Text.styled(line, "dim" if line.startswith(dimmed) else "cyan" if line.startswith(bright) else "")
        for line in part[0].splitlines()
    ]
    cut = Text.styled("...", "dim")
    return [typed("python writer.py --explain hello"), cut, *lines, cut]


def as_the_student(said: str) -> str:
    """What a writer said, with the student's key, ids, owner and addresses."""
    attached = re.search(r"^shmat\(.* = (0x\w+)", said, re.MULTILINE)
    assert attached, said
    moved = ATTACHED_AT - int(attached[1], 16)
    said = re.sub(r"0x\w{9,}", lambda address: f"{int(address[0], 16) + moved:#x}", said)
    said = re.sub(r"(shmget\()0x\w{8}", rf"\g<1>{KEY}", said)
    said = re.sub(r"(segment |shm(?:at|ctl)\((?=\d+, )|shmget\(.*\) = )\d+", r"\g<1>0", said)
    return re.sub(r"\b([ug]id[ =])\d+", rf"\g<1>{UID}", said)


def typed(command: str) -> Text:
    return Text.styled(f"$ {command}", "bold")


def draw_window(lines: list[Text], columns: int) -> str:
    """A terminal of so many columns with these lines on it, as SVG. Raises AssertionError where one is longer."""
    assert max(map(len, lines)) <= columns, max(lines, key=len)
    width, height = columns * CELL_WIDTH + 2 * MARGIN, len(lines) * LINE_HEIGHT + 2 * MARGIN
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}"'
        f' font-family="monospace" font-size="14" fill="{PALE}">'
    )
    window = f'<rect x=".5" y=".5" width="{width - 1:g}" height="{height - 1}" rx="8" fill="{INK}" stroke="{EDGE}"/>'
    drawn = [run for row, line in enumerate(lines) for run in _runs(line, MARGIN + row * LINE_HEIGHT + 13)]
    return "\n".join([start, window, *drawn, "</svg>", ""])


def _runs(line: Text, y: int) -> Iterable[str]:
    """What stands in one line: words of one style with one blank between them, each run of them at its column."""
    column = 0
    for words, style, _ in line.render(Console()):
        for run in re.finditer(r"\S+( \S+)*", words):
            x = MARGIN + (column + run.start()) * CELL_WIDTH
            length = f'textLength="{len(run[0]) * CELL_WIDTH:g}" lengthAdjust="spacingAndGlyphs"'
            yield f'<text x="{x:g}" y="{y}" {length}{_looks(style)}>{escape(run[0])}</text>'
        column += len(words)


def _looks(style: Style | None) -> str:
    """The attributes of a style, of the few that the programs use."""
    if style is None:
        return ""
    color = DIM if style.dim else COLORS[style.color.number or 0] if style.color else ""
    return (f' fill="{color}"' if color else "") + (' font-weight="bold"' if style.bold else "")


if __name__ == "__main__":
    with TemporaryDirectory() as scratch, own_key_path(Path(scratch), "key") as key_path:
        for name, picture in draw_all(Pair(key_path, Path(scratch))).items():
            (HERE / name).write_text(picture)
