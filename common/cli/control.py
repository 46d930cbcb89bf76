"""IPC_SET and IPC_RMID on a whole channel: writer.py --chmod, --chown and --remove."""

from __future__ import annotations

import argparse
import errno

from common.cli.leaving import find_doorway, find_place
from common.cli.talk import Talk
from common.cli.words import plural
from common.errors import CallFailed
from common.ipc import sysv_calls as sysv
from common.ipc.lifecycle import find_channel, remove_orphans
from common.ipc.place import Place
from common.ipc.sysv import SysvObjects
from common.layout import REMOVED, Header


def change(options: argparse.Namespace, talk: Talk) -> int:
    """Do what the options ask, in the doorway. Raises CallFailed (ENOENT, EACCES, EPERM), NotOurs."""
    doorway = find_doorway(options, talk)
    place = find_place(options, doorway, talk)
    with doorway:
        code, said = _remove(place) if options.remove else (0, _set(place, options))
    (talk.error if code else talk.step)(said)
    return code


def _set(place: Place, options: argparse.Namespace) -> str:
    objects = find_channel(place, observe=True)
    try:
        objects.open_semaphores(permission=0)
        if options.chmod is not None:
            objects.set_mode(options.chmod)
        if options.chown:
            objects.set_owner(*options.chown)
        return _describe(objects)
    finally:
        objects.detach()


def _describe(objects: SysvObjects) -> str:
    done = f"segment {objects.shmid} and its semaphores"
    try:
        stat = objects.stat()
    except CallFailed:  # given away: it is done, and no longer ours to look at
        return f"{done}: done"
    return f"{done}: mode {stat.mode & 0o777:04o}, uid {stat.uid}, gid {stat.gid}"


def _remove(place: Place) -> tuple[int, str]:
    """The exit code, 1 when something of ours stays, and what was removed and what was not."""
    try:
        objects = find_channel(place, observe=False)
    except CallFailed as error:
        if error.errno != errno.ENOENT:
            raise
        orphans = remove_orphans(place)
        if orphans.removed:
            return 0, f"{orphans}, whose segment was gone already"
        key = sysv.key_text(place.segment_key)
        return 0, f"nothing to remove: no channel has key {key} ({place.path}, channel {place.channel})"
    try:
        return _remove_channel(objects)
    finally:
        objects.detach()


def _remove_channel(objects: SysvObjects) -> tuple[int, str]:
    objects.check_removable()
    with Header(objects.memory) as header:
        lost = max(header.head - header.tail, 0)
        header.state = REMOVED
    objects.remove()
    others = objects.stat().attached - 1
    when = f"it goes with the last detach, of {plural(others, 'other')}" if others else "it is gone"
    said = f"{objects.removal}, marked segment {objects.shmid} for removal: {when}; {plural(lost, 'slot')} unread"
    if objects.removal.ours_left:
        return 1, f"{said}; if nobody needs what was left, `writer.py --remove` once more clears it"
    return 0, said
