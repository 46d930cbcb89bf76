"""Whose a System V object is, and what the user's word removes where no segment proves anything."""

from __future__ import annotations

import errno
import os

from common.errors import CallFailed, Gone, NotOurs
from common.ipc.removal import Removal
from common.ipc.sysv_calls import SegmentStat, Semaphore, SemaphoreStat, SysvCalls
from common.layout import SEMAPHORES


def remove_orphans(calls: SysvCalls, keys: tuple[int, ...]) -> Removal:
    """The user's word on these keys: remove what has them where there is no segment. In the doorway.

    All of it or nothing: raises NotOurs when one of them is not of our uid, has company in its set or a sleeper.
    """
    found = with_keys(calls, keys)
    kept = {semaphore.id: why for _, semaphore in found if (why := why_not_removed(calls, semaphore))}
    if kept:
        said = ", ".join(f"semaphore {semid} ({why})" for semid, why in kept.items())
        raise NotOurs(
            f"no segment has our key, and nothing proves what has our semaphore keys to be ours: {said}. Nothing was"
            " touched; choose another --channel, or if nobody needs any of them:"
            f" ipcrm {' '.join(f'-s {semaphore.id}' for _, semaphore in found)}"
        )
    for _, semaphore in found:  # two users may read alike, see SysvObjects.check_removable
        calls.check_semaphore_removable(semaphore, calls.stat_semaphore(semaphore))
    removed: list[str] = []
    gone: list[str] = []
    for name, semaphore in found:
        (removed if remove_if_there(calls, semaphore) else gone).append(name)
    return Removal(tuple(removed), tuple(gone))


def remove_if_there(calls: SysvCalls, semaphore: Semaphore) -> bool:
    """Whether it was there to be removed. Raises CallFailed (EPERM)."""
    try:
        calls.remove_semaphore(semaphore)
    except Gone:
        return False
    return True


def with_keys(calls: SysvCalls, keys: tuple[int, ...]) -> list[tuple[str, Semaphore]]:
    """The semaphores that have these keys, the last ones of a channel's, with their names."""
    found = []
    for name, key in zip(SEMAPHORES[-len(keys) :], keys, strict=True):
        try:
            found.append((name, calls.open_semaphore(key)))
        except CallFailed as error:
            if error.errno != errno.ENOENT:
                raise
    return found


def stat_or_none(calls: SysvCalls, semaphore: Semaphore) -> SemaphoreStat | None:
    """IPC_STAT; None when its mode does not let us look. Raises Gone."""
    try:
        return calls.stat_semaphore(semaphore)
    except CallFailed as error:
        if error.errno != errno.EACCES:
            raise
    return None


def whose(stat: SegmentStat | SemaphoreStat) -> str:
    """Which other user owns or made it; "" when we did both."""
    me = os.geteuid()
    owner = f"it is uid {stat.uid}'s" if stat.uid != me else ""
    creator = f"uid {stat.cuid} made it" if stat.cuid != me else ""
    return " and ".join(filter(None, (owner, creator)))


def whose_or_hidden(stat: SemaphoreStat | None) -> str:
    return whose(stat) if stat else "it is another user's"


def why_not_removed(calls: SysvCalls, semaphore: Semaphore) -> str:
    """Why the user's --remove does not clear this semaphore, which no segment proves ours; "" when it does."""
    stat = stat_or_none(calls, semaphore)
    of_others = whose_or_hidden(stat)
    if of_others or not stat:
        return of_others
    if stat.members != 1:
        return f"its set has {stat.members} members"
    return "a process sleeps on it" if slept_on(calls, semaphore) else ""


def slept_on(calls: SysvCalls, semaphore: Semaphore) -> bool:
    return bool(calls.sleepers_for_tokens(semaphore) or calls.sleepers_for_zero(semaphore))
