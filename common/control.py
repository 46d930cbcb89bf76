"""IPC_SET and IPC_RMID on a whole channel: writer.py --chmod, --chown and --remove."""

from __future__ import annotations

import argparse
import errno

from common import cli
from common.ipc import CallFailed
from common.layout import REMOVED, Header
from common.sysv_family import Place, SysvFamily, find_channel, remove_orphans


def change(options: argparse.Namespace, talk: cli.Talk) -> int:
    """Do what the options ask, in the doorway. Raises CallFailed (ENOENT, EACCES, EPERM), NotOurs."""
    doorway = cli.find_doorway(options, talk)
    place = cli.find_place(options, doorway, talk)
    with doorway:
        code, said = _remove(place) if options.remove else (0, _set(place, options))
    (talk.error if code else talk.step)(said)
    return code


def _set(place: Place, options: argparse.Namespace) -> str:
    family = find_channel(place, observe=True)
    try:
        family.open_semaphores(permission=0)
        if options.chmod is not None:
            family.set_mode(options.chmod)
        if options.chown:
            family.set_owner(*options.chown)
        return _describe(family)
    finally:
        family.detach()


def _describe(family: SysvFamily) -> str:
    done = f"segment {family.shmid} and its semaphores"
    try:
        stat = family.stat()
    except CallFailed:  # given away: it is done, and no longer ours to look at
        return f"{done}: done"
    return f"{done}: mode {stat.mode & 0o777:04o}, uid {stat.uid}, gid {stat.gid}"


def _remove(place: Place) -> tuple[int, str]:
    """The exit code, 1 when something of ours stays, and what was removed and what was not."""
    try:
        family = find_channel(place, observe=False)
    except CallFailed as error:
        orphans = remove_orphans(place) if error.errno == errno.ENOENT else None
        if not orphans or not orphans.removed:
            raise
        return 0, f"{orphans}, whose segment was gone already"
    try:
        return _remove_channel(family)
    finally:
        family.detach()


def _remove_channel(family: SysvFamily) -> tuple[int, str]:
    family.check_removable()
    with Header(family.memory) as header:
        lost = max(header.head - header.tail, 0)
        header.state = REMOVED
    family.remove()
    others = family.stat().attached - 1
    when = f"it goes with the last detach, of {cli.plural(others, 'other')}" if others else "it is gone"
    said = f"{family.removal}, marked segment {family.shmid} for removal: {when}; {cli.plural(lost, 'slot')} unread"
    if family.removal.ours_left:
        return 1, f"{said}; if nobody needs what was left, `writer.py --remove` once more clears it"
    return 0, said
