"""Every channel of ours on this machine, of either family: whose, whether anybody has it, and what clears just that.

Ours is what ipc/proof.py proves. Each is looked at read-only and, where a process or the options show us its key path,
in its doorway: attached there, an onlooker cannot pass for somebody who stays.
"""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from common.channel.patience import Patience
from common.cli.leaving import options_of_channel
from common.cli.run import describe
from common.errors import BadSegment, Gone, NotOurs, TimedOut
from common.ipc.calls import key_text
from common.ipc.doorway import FlockDoorway
from common.ipc.family import ChannelObjects
from common.ipc.lifecycle import facts_of
from common.ipc.proof import Kind, judge
from common.ipc.survey import Candidate, Survey, key_path_of
from common.ipc.sysv_calls import forced_removal
from common.show.findings import NOTE, OK, Finding
from common.show.status import read_status
from common.words import plural

_FEW = 2  # pids that fit a line


class Channel(NamedTuple):
    """What there is of one channel, or of a segment that may be one; None for what is not known."""

    ipc: str
    name: str
    key: str
    channel: int
    uid: int
    # alive: somebody has it attached; waiting: nobody has, and a reader finds something; orphaned: neither.
    # Not readable, not looked at: nothing proves it ours.
    state: str
    said: str = ""  # to a person, behind the state
    attached: int | bool | None = None
    pids: tuple[int, ...] = ()
    key_path: str | None = None
    ending: str | None = None
    unread: int | None = None
    clear: str = ""

    def finding(self) -> Finding:
        """A line for a person; one that is in use is not to be cleared."""
        text = f"{self.state}: {self.name} of uid {self.uid}" + (f", {self.said}" if self.said else "")
        alive, about = self.state == "alive", "segment" if self.state.startswith("not") else "channel"
        return Finding(OK if alive else NOTE, about, text, "" if alive else self.clear, self.ipc)


class _KeyPath(NamedTuple):
    """A way to a key path: what can be opened, its st_dev and st_ino, and its name if that still leads there."""

    opens: str
    identity: tuple[int, int]
    name: str | None


def find_way(path: str) -> _KeyPath | None:
    """The key path with this name, which may be a link in /proc/PID/fd; None when there is nothing."""
    try:
        status = os.stat(path)
        identity, name = (status.st_dev, status.st_ino), os.path.realpath(path)
    except OSError:
        return None
    try:
        there = os.stat(name)
    except OSError:  # deleted
        return _KeyPath(path, identity, None)
    return _KeyPath(path, identity, name if (there.st_dev, there.st_ino) == identity else None)


def look_at(
    survey: Survey, found: Candidate, paths: Iterable[str], pids: list[int], patience: Patience
) -> Channel | None:
    """What there is of this one; None when nothing proves it ours, or it is gone by now."""
    unknown = Channel(survey.ipc, found.name, key_text(found.key), found.channel, found.uid, "not looked at")
    unknown = unknown._replace(attached=found.attached, pids=tuple(pids))
    if found.attached == 0 and forced_removal():
        return unknown._replace(said="our detach would destroy it")
    ways = [way for way in map(find_way, paths) if way and found.may_be_of(way.identity)]
    link = None if ways else key_path_of(found, pids)
    way = ways[0] if ways else find_way(link) if link else None
    try:
        with _doorway(way, patience):
            return _look(survey, found, way, unknown)
    except TimedOut:
        return unknown._replace(said="its key path is locked")
    except (NotOurs, Gone):
        return None
    except BadSegment as error:  # cut off while we looked
        return unknown._replace(said=describe(error))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        if error.errno == errno.EACCES:
            return unknown._replace(state="not readable")
        return unknown._replace(said=describe(error))


@contextmanager
def _doorway(way: _KeyPath | None, patience: Patience) -> Iterator[None]:
    """The doorway of what is looked at; without a way to it, as it is."""
    try:
        doorway = FlockDoorway(way.opens, patience) if way else None
    except OSError:  # another user's key path
        doorway = None
    if not doorway:
        yield
        return
    try:
        with doorway:
            yield
    finally:
        doorway.close()


def _look(survey: Survey, found: Candidate, way: _KeyPath | None, unknown: Channel) -> Channel | None:
    place = found.place(way.opens, way.identity) if way else found.place()
    objects = survey.family.find(place, observe=True)
    try:
        facts = facts_of(objects)
        if found.may_be_of(facts.path):  # the path that it notes makes its key: that is the path to prove
            facts = facts._replace(our_path=facts.path)
        verdict = judge(facts)
        if verdict.kind not in (Kind.OURS, Kind.LEFTOVER):
            return None
        name = way.name if way and facts.our_path == way.identity else None
        told = objects.describe()
        seen = unknown._replace(attached=told["attached"], key_path=name)
        if verdict.kind is Kind.LEFTOVER:
            seen = seen._replace(state="alive" if seen.attached else "orphaned", said=verdict.why)
        else:
            seen = _with_state(seen, objects)
        if os.geteuid() in (0, told["uid"], told["creator_uid"]):
            return seen._replace(clear=_how_to_clear(survey, objects, found, name))
        return seen if seen.state == "alive" else seen._replace(said=f"{seen.said}; uid {seen.uid}'s to remove")
    finally:
        objects.detach()


def _with_state(seen: Channel, objects: ChannelObjects) -> Channel:
    """Whether anybody has it, and how it stands."""
    status = read_status(objects)
    unread, ending = status["header"]["unread"], status["ending"]
    if seen.attached:
        state, who = "alive", f"{_users(seen)}, "
    else:
        state, who = "waiting" if ending == "going_on" else "orphaned", ""
        seen = seen._replace(pids=())  # onlookers
    if status["damage"]:
        how = "damaged"
    else:
        how = (ending or "not known").replace("_", " ") if ending != "going_on" else f"{plural(unread, 'slot')} unread"
    return seen._replace(state=state, said=f"{who}{how}", ending=ending, unread=unread)


def _users(seen: Channel) -> str:
    """Who has it attached, if few do and all of them can be seen."""
    counted = not isinstance(seen.attached, bool)
    if 0 < len(seen.pids) <= _FEW and (not counted or seen.attached == len(seen.pids)):
        return f"pid {' '.join(map(str, seen.pids))}"
    return f"{seen.attached} attached" if counted else "in use"


def _how_to_clear(survey: Survey, objects: ChannelObjects, found: Candidate, key_path: str | None) -> str:
    """Ours, if it can be told where the channel is; else the system's."""
    if key_path is None:
        return survey.how_to_clear(objects)
    options = argparse.Namespace(ipc=survey.ipc, key_path=key_path, channel=found.channel)
    return f"python writer.py --remove{options_of_channel(options)}"
