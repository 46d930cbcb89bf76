"""Finding the channel, and leaving it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from common.channel.end import End, Patience, Reason
from common.cli.run import describe
from common.cli.talk import Talk
from common.cli.words import plural
from common.errors import BadSegment, CallFailed, ChannelError
from common.ipc import sysv_calls as sysv
from common.ipc.doorway import FlockDoorway
from common.ipc.lifecycle import Wanted
from common.ipc.place import Place


def find_doorway(options: argparse.Namespace, talk: Talk) -> FlockDoorway:
    """The doorway of the channel that the options name. Raises OSError."""
    patience = Patience(options.timeout, talk.wait)
    reason = Reason(f"waiting for the lock on {options.key_path}, which another process holds", missing=True)
    return FlockDoorway(options.key_path, lambda waited: patience.beat(reason, waited), talk)


def find_place(options: argparse.Namespace, doorway: FlockDoorway, talk: Talk) -> Place:
    """The keys of the channel that the options name. Raises CallFailed."""
    place = Place.of(options.key_path, options.channel, doorway.identity())
    status = os.stat(options.key_path)
    if (status.st_dev, status.st_ino) != doorway.identity():
        raise ChannelError(f"{options.key_path} was replaced just now; start again")
    key = sysv.key_text(place.segment_key)
    talk.step(f'key {key} = ftok("{place.path}", {8 * place.channel + 1})')
    talk.where = f"key {key}, {os.path.abspath(place.path)}, channel {place.channel}"
    return place


def leave(end: End, say_goodbye: Callable[[], bool], talk: Talk, *, failed: bool) -> tuple[bool, int]:
    """Leave the channel and detach, in the doorway: what `say_goodbye` returned, and how many slots are unread.

    Raises ChannelError, BadSegment, CallFailed; when we have `failed` already only the loss of unread slots is said:
    the first error is the one to raise.
    """
    answer, unread, lost = False, 0, 0
    try:
        with end.doorway:
            try:
                answer = say_goodbye()
            finally:
                unread = end.unread()
                lost = unread if _clear_what_goes_with_us(end) else 0
                end.detach()
        if lost:
            raise ChannelError(
                f"kernel.shm_rmid_forced is 1: {plural(lost, 'unread slot')} went with the last detach, which was ours"
            )
    except (ChannelError, BadSegment, CallFailed) as error:
        if not failed:
            raise
        if lost:
            talk.error(describe(error))
    return answer, unread


def _clear_what_goes_with_us(end: End) -> bool:
    """Where the kernel destroys the segment at our detach, the semaphores go with it; whether that is so."""
    try:
        if end.removed or not end.objects.goes_with_us():
            return False
        end.objects.remove()
    except CallFailed:  # not ours to remove, or gone already
        return False
    end.removed = True
    return True


def waiting(slots: int) -> str:
    """What a program that leaves says of the slots it leaves behind."""
    return f"{plural(slots, 'slot')} to be read" if slots else "all of it is read"


def wanted(options: argparse.Namespace) -> Wanted:
    """What the writer's options ask of the channel."""
    return Wanted(options.slots, options.slot_size, options.mode, options.exclusive)
