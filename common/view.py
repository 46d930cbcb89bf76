"""What there is, for a person or a program: reader.py --status.

A view renders one snapshot and never touches the ring. It takes no turn, so the snapshot is not atomic: head, tail
and the semaphores may have moved between one look and the next. An onlooker does not see itself: what IPC_STAT says is
from before it attached.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from typing import Any

from common import cli, sysv
from common.layout import FINISHED, OPEN, REMOVED, SEMAPHORES, BadSegment, Header, read_geometry
from common.streams import StreamSink
from common.sysv_family import Place, SysvFamily, find_channel

_STATES = {OPEN: "open", FINISHED: "finished", REMOVED: "removed"}


def show_status(options: argparse.Namespace, talk: cli.Talk) -> int:
    """Print IPC_STAT, the semaphores and the header. Raises CallFailed (ENOENT, EACCES), NotOurs."""
    doorway = cli.find_doorway(options, talk)
    place = Place.of(options.key_path, options.channel, doorway.identity())
    with doorway:
        family = find_channel(place, observe=True)
        try:
            status = read_status(family)
        finally:
            family.detach()  # in the doorway: an onlooker must not pass for somebody who stays
    text = json.dumps(status, indent=2) + "\n" if options.json else _draw_tables(status)
    try:
        StreamSink(1).write(memoryview(text.encode(errors="surrogateescape")))
    except BrokenPipeError:
        pass  # whoever was looking has seen enough
    return 0


def read_status(family: SysvFamily) -> dict[str, Any]:
    """The snapshot, of what find_channel found: plain values only.

    `damage` is what is wrong with the header, None if nothing is.
    """
    place, stat = family.place, family.before
    assert stat, "find_channel sets it"
    damage = None
    try:
        read_geometry(family.memory)
    except BadSegment as error:
        damage = str(error)
    return {
        "key": sysv.key_text(place.segment_key),
        "key_path": os.path.abspath(place.path),
        "channel": place.channel,
        "segment": {
            "id": family.shmid,
            "size": stat.size,
            "mode": f"{stat.mode & 0o777:04o}",
            "uid": stat.uid,
            "gid": stat.gid,
            "creator_uid": stat.cuid,
            "creator_gid": stat.cgid,
            "creator_pid": stat.creator_pid,
            "last_pid": stat.last_pid,
            "attached": stat.attached,
            "attach_time": stat.attach_time,
            "detach_time": stat.detach_time,
            "change_time": stat.change_time,
            "marked_for_removal": stat.marked,
        },
        "semaphores": {name: _read_semaphore(family, index) for index, name in enumerate(SEMAPHORES)},
        "header": _read_header(family),
        "damage": damage,
    }


def _read_header(family: SysvFamily) -> dict[str, Any]:
    with Header(family.memory) as header:
        tail, head = header.tail, header.head
        return {
            "magic": ascii(header.magic)[2:-1],
            "version": header.version,
            "state": _STATES.get(header.state, str(header.state)),
            "slot_count": header.slot_count,
            "slot_size": header.slot_size,
            "created_ns": header.created_ns,
            "creator_pid": header.creator_pid,
            "writers_joined": header.writers_joined,
            "writers_left": header.writers_left,
            "records_torn": header.records_torn,
            "writer_pid": header.writer_pid,
            "reader_pid": header.reader_pid,
            "head": head,
            "tail": tail,
            "unread": head - tail,
        }


def _read_semaphore(family: SysvFamily, index: int) -> dict[str, Any]:
    with Header(family.memory) as header:
        noted = header.semaphore_id(index)
    try:
        semaphore = family.open_semaphore(index)
        value = sysv.semaphore_value(semaphore)
        last_pid = sysv.semaphore_last_pid(semaphore)
    except OSError as error:
        return {"id": noted, "value": None, "error": cli.describe(error)}
    return {"id": noted, "value": value, "last_pid": last_pid}


def _draw_tables(status: dict[str, Any]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = io.StringIO()
    console = Console(file=drawn, highlight=False, width=100)
    segment, header = status["segment"], status["header"]

    def table(title: str, rows: dict[str, Any]) -> None:
        shown = Table(title=Text(title), title_justify="left", show_header=False, min_width=min(len(title), 98))
        for name, value in rows.items():
            shown.add_row(name.replace("_", " "), str(value))
        console.print(shown)

    for name in ("attach_time", "detach_time", "change_time"):
        segment[name] = time.strftime("%F %T", time.localtime(segment[name])) if segment[name] else "never"
    header["created"] = time.strftime("%F %T", time.localtime(header.pop("created_ns") // 10**9))
    table(
        f"segment, by shmctl(IPC_STAT): key {status['key']}, {status['key_path']}, channel {status['channel']}", segment
    )
    semaphores = status["semaphores"].items()
    table("semaphores, by semctl(GETVAL)", {name: f"{s['value']}  (id {s['id']})" for name, s in semaphores})
    table("header, by a look at the segment (not atomic)", header)
    if status["damage"]:
        console.print(f"damaged: {status['damage']}", markup=False)
    return drawn.getvalue()
