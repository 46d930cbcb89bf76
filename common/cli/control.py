"""IPC_SET and IPC_RMID on a whole channel: writer.py --chmod, --chown and --remove."""

from __future__ import annotations

import argparse
import errno

from common.cli.leaving import find_doorway, find_family, find_place
from common.cli.talk import Talk
from common.errors import CallFailed, ChannelError
from common.ipc.calls import key_text
from common.ipc.family import ChannelObjects, Family, Names
from common.ipc.lifecycle import find_channel, prove_ours
from common.ipc.place import Place
from common.layout import PAGE, REMOVED, Header
from common.words import plural


def change(options: argparse.Namespace, talk: Talk) -> int:
    """Do what the options ask, in the doorway. Raises CallFailed (ENOENT, EACCES, EPERM), NotOurs."""
    family, doorway = find_family(options, talk), find_doorway(options, talk)
    place = find_place(options, family, doorway, talk)
    with doorway:
        code, said = _remove(family, place) if options.remove else (0, _set(family, place, options))
    (talk.error if code else talk.say)(said)
    return code


def _set(family: Family, place: Place, options: argparse.Namespace) -> str:
    objects = find_channel(family, place, observe=True)
    try:
        leftover = prove_ours(objects)
        if leftover:
            raise ChannelError(f"{objects}, {leftover}, is no channel any more: its owner's next start clears it")
        if options.chmod is not None:
            objects.set_mode(options.chmod)
        if options.chown:
            objects.set_owner(*options.chown)
        return _describe(objects)
    finally:
        objects.detach()


def _describe(objects: ChannelObjects) -> str:
    done = f"{objects} and its semaphores"
    try:
        stat = objects.stat()
    except CallFailed:  # given away: it is done, and no longer ours to look at
        return f"{done}: done"
    return f"{done}: mode {stat.mode & 0o777:04o}, uid {stat.uid}, gid {stat.gid}"


def _remove(family: Family, place: Place) -> tuple[int, str]:
    """The exit code, 1 when something of ours stays, and what was removed and what was not."""
    try:
        objects = find_channel(family, place, observe=False)
    except CallFailed as error:
        if error.errno != errno.ENOENT:
            raise
        orphans = family.remove_orphans(place)
        if orphans.removed:
            return 0, f"{orphans}, whose segment was gone already"
        key = key_text(place.segment_key)
        return 0, f"nothing to remove: no channel has key {key} ({place.path}, channel {place.channel})"
    try:
        if len(objects.memory) < PAGE:
            return 0, _remove_without_header(family, objects)
        return _remove_channel(family.names, objects)
    finally:
        objects.detach()


def _remove_without_header(family: Family, objects: ChannelObjects) -> str:
    """It was cut off, or its creator died: nothing notes its semaphores, and the user's word is on them as well."""
    objects.check_removable()
    objects.unlink()
    orphans = family.remove_orphans(objects.place)
    return f"{family.names.remove}: {orphans}, {family.names.removed.format(objects)}: it had no header"


def _remove_channel(names: Names, objects: ChannelObjects) -> tuple[int, str]:
    objects.check_removable()
    with Header(objects.memory) as header:
        lost = max(header.head - header.tail, 0)
        header.state = REMOVED
    objects.remove()
    others = objects.others()
    whose = "" if others is None else f", of {plural(others, 'other')}"
    when = "it is gone" if others == 0 else f"it goes with the last detach{whose}"
    done = names.removed.format(objects)
    said = f"{names.remove}: {objects.removal}, {done}: {when}; {plural(lost, 'slot')} unread"
    if objects.removal.ours_left:
        return 1, f"{said}; if nobody needs what was left, `writer.py --remove` once more clears it"
    return 0, said
