"""What the options of the command lines take: text in, a value out, and ArgumentTypeError for what makes no sense."""

from __future__ import annotations

import argparse

from common.ipc.place import CHANNELS
from common.layout import MOST_SLOTS, PAGE
from common.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from common.cli.pace import PauseAt

MOST_SECONDS = 2**31  # what the kernel's timespec may have to hold
MOST_ID = 2**32 - 2  # of users and groups: the last number of uid_t means "none" (chown(2))


def size_option(text: str) -> int:
    """A size in bytes: 4096, 64K, 2M, 1G or 1T. Raises ArgumentTypeError."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    factors = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    if not digits.isascii() or not digits.isdigit() or unit not in factors:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4096, 64K or 2M")
    return int(digits) * factors[unit]


def slot_size_option(text: str) -> int:
    """A slot size in bytes, rounded up to whole pages."""
    return -(-size_option(text) // PAGE) * PAGE


def count_option(text: str, least: int = 1) -> int:
    """A whole number, `least` or more."""
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
    return int(text)


def slots_option(text: str) -> int:
    """A number of slots; 0 makes a segment of size 0, which the kernel refuses with EINVAL."""
    slots = count_option(text, 0)
    if slots > MOST_SLOTS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than the header can count to, {MOST_SLOTS}")
    return slots


def mode_option(text: str) -> int:
    """Permissions in octal, such as 0660; without 0600 its own owner could not even remove it."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
        raise argparse.ArgumentTypeError(f"{text!r} is not an octal mode such as 0660, 0600 at least")
    return mode


def address_option(text: str) -> int:
    """An address, decimal or 0x...; SHM_RND would round anything below a page down to NULL."""
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not PAGE <= address < 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 0x7e0000000000")
    return address


def seconds_option(text: str) -> float:
    """Seconds, 0 or more."""
    try:
        seconds = float(text.replace("_", "?"))  # Python reads 1_0 as 10
    except ValueError:
        seconds = -1
    if not 0 <= seconds < MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more and below {MOST_SECONDS}")
    return seconds


def pause_option(program: str, text: str) -> PauseAt:
    """A step of the program, such as publish, or one time that it comes, publish:3; help lists the steps and exits."""
    from common.cli.pace import parse_pause

    return parse_pause(program, text)


def owner_option(text: str) -> tuple[int | None, int | None]:
    """USER, USER:GROUP or :GROUP, by name or number, as (uid, gid); None stays as it is."""
    import grp
    import pwd

    user, _, group = text.partition(":")
    try:
        uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid if user else None
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid if group else None
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} names a user or a group that this system does not know") from None
    if uid is None and gid is None:
        raise argparse.ArgumentTypeError(f"{text!r} names neither a user nor a group")
    if max(uid or 0, gid or 0) > MOST_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is beyond the largest user or group number, {MOST_ID}")
    return uid, gid


def channel_option(text: str) -> int:
    """A channel number, 0 to 31."""
    if not text.isascii() or not text.isdigit() or int(text) not in CHANNELS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a channel: 0 to {CHANNELS[-1]}")
    return int(text)
