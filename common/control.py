"""IPC_SET and IPC_RMID on a whole channel: writer.py --chmod, --chown and --remove."""

from __future__ import annotations

import argparse

from common import cli
from common.ipc import CallFailed
from common.layout import REMOVED, Header
from common.sysv_family import SysvFamily, find_channel


def change(options: argparse.Namespace, talk: cli.Talk) -> int:
    """Do what the options ask, in the doorway. Raises CallFailed (ENOENT, EACCES, EPERM), NotOurs."""
    doorway = cli.find_doorway(options, talk)
    place = cli.find_place(options, doorway, talk)
    with doorway:
        family = find_channel(place, observe=not options.remove)
        try:
            talk.step(_remove(family) if options.remove else _set(family, options))
        finally:
            family.detach()
    return 0


def _set(family: SysvFamily, options: argparse.Namespace) -> str:
    family.open_semaphores(permission=0)
    if options.chmod is not None:
        family.set_mode(options.chmod)
    if options.chown:
        family.set_owner(*options.chown)
    done = f"segment {family.shmid} and its semaphores"
    try:
        stat = family.stat()
    except CallFailed:  # given away: it is done, and no longer ours to look at
        return f"{done}: done"
    return f"{done}: mode {stat.mode & 0o777:04o}, uid {stat.uid}, gid {stat.gid}"


def _remove(family: SysvFamily) -> str:
    family.check_removable()
    with Header(family.memory) as header:
        lost = max(header.head - header.tail, 0)
        header.state = REMOVED
    family.remove()
    others = family.stat().attached - 1
    when = f"it goes with the last detach, of {cli.plural(others, 'other')}" if others else "it is gone"
    return (
        f"removed its semaphores, marked segment {family.shmid} for removal: {when}; {cli.plural(lost, 'slot')} unread"
    )
