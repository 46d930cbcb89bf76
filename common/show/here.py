"""Whether the channel that the options name can be made or used: its key path, and what has its key."""

from __future__ import annotations

import argparse
import errno
import os
import stat

from common.channel.patience import Patience
from common.cli.leaving import options_of_channel
from common.cli.run import describe
from common.errors import BadSegment, CallFailed, ChannelError, Gone, TimedOut
from common.ipc.calls import key_text
from common.ipc.doorway import FlockDoorway
from common.ipc.family import ChannelObjects
from common.ipc.lifecycle import facts_of, find_channel
from common.ipc.machine import lock_holder
from common.ipc.place import Place
from common.ipc.proof import Kind, judge
from common.ipc.survey import Survey
from common.ipc.sysv_calls import forced_removal
from common.show.findings import NOTE, OK, STOP, Finding
from common.show.status import read_status


def check_here(survey: Survey | None, options: argparse.Namespace, patience: Patience) -> tuple[list[Finding], bool]:
    """The key path and, of a family that can be surveyed, the key; and whether there is a segment with it already."""
    try:
        doorway = FlockDoorway(options.key_path, patience)
    except OSError as error:
        return [Finding(STOP, "key path", describe(error))], False
    try:
        with doorway:
            path = _check_path(options.key_path)
            finding, exists = _check_key(survey, options, doorway.identity()) if survey else (None, False)
            return [path, *([finding] if finding else [])], exists
    except TimedOut:
        pid = lock_holder(doorway.identity())
        who = f"pid {pid}" if pid else "another process"
        return [Finding(STOP, "key path", f"{who} holds the lock on it, so nobody can join")], False
    except OSError as error:  # of flock or ftok
        return [Finding(STOP, "key path", describe(error))], False
    finally:
        doorway.close()


def _check_path(path: str) -> Finding:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return Finding(OK, "key path", f"a directory, inode {status.st_ino}, which can be locked")
    return Finding(OK, "key path", f"a file, inode {status.st_ino}: an editor may replace it, and the key")


def _check_key(survey: Survey, options: argparse.Namespace, identity: tuple[int, int]) -> tuple[Finding, bool]:
    """In the doorway: nothing has our key, or a channel that we may use, or what keeps us out."""
    place = Place.of(survey.family.calls, options.key_path, options.channel, identity, survey.family.keys)
    key = key_text(place.segment_key)
    if forced_removal() and (place.segment_key, 0) in ((found.key, found.attached) for found in survey.candidates()):
        return Finding(NOTE, "key", f"{key}: not looked at, our detach would destroy its segment"), True
    try:
        objects = find_channel(survey.family, place, observe=True)
    except CallFailed as error:
        if error.errno == errno.ENOENT or isinstance(error, Gone):
            return _check_free(survey, place, options), False
        return Finding(STOP, "key", describe(error)), True
    except (ChannelError, BadSegment) as error:
        said, needed, command = describe(error).partition(" if nobody needs it: ")
        return Finding(STOP, "key", said + needed.rstrip(), command), True
    try:
        return _check_found(survey, objects, key), True
    finally:
        objects.detach()


def _check_free(survey: Survey, place: Place, options: argparse.Namespace) -> Finding:
    said = f"{key_text(place.segment_key)}: nothing has it yet"
    there = survey.left_behind(place)
    if there is None:
        return Finding(OK, "key", said)
    what, clear = there
    mark = STOP if survey.semaphores_block else NOTE
    do = f"python writer.py --remove{options_of_channel(options)}" if clear == "" else clear
    return Finding(mark, "key", what, do or "")


def _check_found(survey: Survey, objects: ChannelObjects, key: str) -> Finding:
    status = read_status(objects)
    if judge(facts_of(objects)).kind is Kind.LEFTOVER and status["ending"] != "damaged":
        return Finding(NOTE, "key", f"{key}: {objects} is left of a dead process; a start clears it")
    if status["damage"] or status["ending"] == "damaged":
        damage = status["damage"] or "marked as finished, with fragments unread"
        return Finding(STOP, "key", describe(BadSegment(damage)))
    try:
        survey.check_rights(objects.place)
        return _check_semaphores(survey, objects, key)
    except CallFailed as error:
        return Finding(STOP, "key", describe(error))


def _check_semaphores(survey: Survey, objects: ChannelObjects, key: str) -> Finding:
    """Whether all five can be opened, or made anew by the next start. Raises CallFailed."""
    try:
        objects.open_semaphores()
        return Finding(OK, "key", f"{key}: {objects}, a channel of ours that we may use")
    except CallFailed as error:
        if error.errno != errno.ENOENT:
            raise
        strange, remove = survey.strangers(objects)
        if strange:
            names, theirs = ", ".join(left.name for left in strange), [left for left in strange if not left.ours]
            said = f"{key}: {objects} is ours, its {names} not provably"
            if theirs and os.geteuid():
                return Finding(STOP, "key", f"{said}: {theirs[0].why}")
            return Finding(STOP, "key", said, remove)
        if not objects.alone() or not objects.made_by_us():
            raise
    return Finding(NOTE, "key", f"{key}: {objects} lacks a semaphore; the next start makes all five anew")
