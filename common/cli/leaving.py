"""Finding the channel, and leaving it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable

from common.channel.end import End
from common.channel.listener import Step
from common.channel.patience import Patience
from common.cli.options import DEFAULT_FAMILY, PROJECT
from common.cli.run import describe
from common.cli.talk import Talk
from common.errors import BadSegment, CallFailed, ChannelError
from common.ipc.calls import key_text
from common.ipc.doorway import FlockDoorway
from common.ipc.family import Family
from common.ipc.lifecycle import Wanted
from common.ipc.place import Place
from common.typed import NamedTuple
from common.words import plural


def find_family(options: argparse.Namespace, talk: Talk) -> Family:
    """Where the channel's objects come from; the other family is not even imported."""
    family: Family
    if options.ipc == "posix":
        from common.ipc.posix import PosixFamily

        family = PosixFamily(talk)
    else:
        from common.ipc.sysv import SysvFamily

        family = SysvFamily(talk)
    talk.names = family.names
    talk.channel_options = options_of_channel(options)
    return family


def find_doorway(options: argparse.Namespace, talk: Talk) -> FlockDoorway:
    """The doorway of the channel that the options name. Raises OSError."""
    return FlockDoorway(options.key_path, Patience(options.timeout, talk))


def find_place(options: argparse.Namespace, family: Family, doorway: FlockDoorway, talk: Talk) -> Place:
    """The keys of the channel that the options name. Raises CallFailed."""
    place = Place.of(family.calls, options.key_path, options.channel, doorway.identity(), family.keys)
    status = os.stat(options.key_path)
    if (status.st_dev, status.st_ino) != doorway.identity():
        raise ChannelError(f"{options.key_path} was replaced just now; start again")
    key = key_text(place.segment_key)
    talk.say(f'key {key} = ftok("{place.path}", {8 * place.channel + 1})')
    talk.where = f"key {key}, {os.path.abspath(place.path)}, channel {place.channel}"
    if options.ipc != DEFAULT_FAMILY:
        talk.where += f", --ipc {options.ipc}"
    return place


def options_of_channel(options: argparse.Namespace) -> str:
    """What leads a command to the channel that the options name; nothing to the default's."""
    defaults = {"ipc": DEFAULT_FAMILY, "key_path": PROJECT, "channel": 0}
    named = {name: str(getattr(options, name)) for name in defaults if getattr(options, name) != defaults[name]}
    return "".join(f" --{name.replace('_', '-')} {quoted(value)}" for name, value in named.items())


def quoted(value: str, *, plain: bool = False) -> str:
    """The value for a shell; what a terminal (a `plain` one: in ASCII) shows as an escape only is one for bash, too."""
    import shlex

    if value.isprintable() and (value.isascii() or not plain):
        return shlex.quote(value)
    shown = re.sub(rb"[^ -~]|['\\]", lambda octet: b"\\x%02x" % ord(octet[0]), os.fsencode(value))
    return f"$'{shown.decode()}'"


class Left(NamedTuple):
    """How a channel was left: what the goodbye returned, and how many slots are unread, or were and are lost."""

    answer: bool
    unread: int
    lost: int


def leave(end: End, say_goodbye: Callable[[], bool], talk: Talk, *, failed: bool) -> Left:
    """Leave the channel and detach, in the doorway.

    Raises ChannelError, BadSegment, CallFailed; when we have `failed` already only the loss of unread slots is said:
    the first error is the one to raise.
    """
    answer, unread, lost = False, 0, 0
    try:
        talk.tell(Step.LEAVE)
        end.tell_removal()
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
    return Left(answer, unread, lost)


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


def command(program: str, options: argparse.Namespace, *arguments: str) -> str:
    """What to type for `program` to go on as the options say, in backquotes."""
    import shlex

    kept = [f"--{name}" for name in ("keep", "follow", "verify") if getattr(options, name, False)]
    return f"`{shlex.join([f'{program}.py', *arguments, *kept])}`"


def as_argument(path: str) -> str:
    """The path as an option's argument, which must not begin like an option."""
    return os.path.join(".", path) if path.startswith("-") else path


def waiting(slots: int) -> str:
    """What a program that leaves says of the slots it leaves behind."""
    return f"{plural(slots, 'slot')} to be read" if slots else "all of it is read"


def wanted(options: argparse.Namespace) -> Wanted:
    """What the writer's options ask of the channel."""
    return Wanted(options.slots, options.slot_size, options.mode, options.exclusive)
