"""What both ends of a channel share: waiting, the turn, and the end of it all."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

from common.channel.ending import Ending, Facts, judge
from common.channel.listener import Reason, Step
from common.channel.objects import Counter, Doorway, Objects
from common.channel.patience import HEARTBEAT, Patience
from common.channel.ring import Ring
from common.errors import BadSegment, ChannelError, Gone
from common.layout import (
    FINISHED,
    OPEN,
    REMOVED,
    SlotHeader,
)
from common.words import plural

_START_AGAIN = "start again, with --resume if it is a file: nothing is lost"


class Turn:
    """`with`: hold a turn. An exception leaves our pid behind, so that the next holder repairs as after a death."""

    def __init__(self, end: End, field: str) -> None:
        self._end = end
        self._field = field  # writer_pid or reader_pid
        self._lock = end.objects.writer_turn if field == "writer_pid" else end.objects.reader_turn
        self.repaired = False  # whether the last holder stopped in its turn

    def __enter__(self) -> Turn:
        end, header = self._end, self._end.ring.header
        end.listener.tell(Step.TAKE_TURN)
        end.wait_for(self._lock, None, self._why_not_ours)
        if getattr(header, self._field):
            end.objects.empty_slots.release()
            end.objects.full_slots.release()
            self.repaired = True
        setattr(header, self._field, os.getpid())
        return self

    def _why_not_ours(self) -> Reason:
        pid = self._lock.holder()
        if pid is None:  # given back just now
            return Reason("waiting for our turn")
        return Reason(f"waiting for our turn, which {process(pid)} has", pid=pid)

    def __exit__(self, kind: object, *_: object) -> None:
        header = self._end.ring.header
        if kind is None and not self._end.removed:
            self._end.listener.tell(Step.GIVE_TURN)
        if kind is None:
            setattr(header, self._field, 0)
        if self._end.removed:
            return
        try:
            self._lock.release()
        except Gone:
            # The channel is over: nobody needs the turn.
            if kind is None and header.state != FINISHED:
                raise


class End:
    """What both ends of a channel share: waiting, the end of the channel, leaving."""

    def __init__(self, objects: Objects, doorway: Doorway, patience: Patience) -> None:
        self.objects = objects
        self.ring = Ring(objects.memory)
        self.doorway = doorway
        self.patience = patience
        self.listener = patience.listener
        self.removed = False
        self.records = 0
        self.bytes = 0
        self._position = (0, 0)

    def wait_for(
        self,
        counter: Counter,
        ready: Callable[[], bool] | None,
        reason: Callable[[], Reason],
        over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Take a token of `counter`; True once `ready()`, False once `over()`. Without `ready`, the token decides.

        Raises TimedOut, Gone.
        """
        try:
            token = counter.acquire(0)
            if ready() if ready else token:
                return True
            began = beaten = monotonic()
            while not over():
                token = counter.acquire(HEARTBEAT)
                if ready() if ready else token:
                    return True
                now = monotonic()
                if not token or now - beaten > HEARTBEAT:
                    beaten = now
                    self._check_all_there()
                    if self.patience.timeout is not None and self._moved():
                        began = now
                    self.patience.beat(reason(), now - began)
        except Gone:
            self._check_all_there()
            raise
        return False

    def _moved(self) -> bool:
        """Whether head or tail moved since this was asked last: somebody makes progress, if not we."""
        before = self._position
        tail = self.ring.header.tail
        self._position = (self.ring.header.head, tail)
        return self._position != before

    def _check_all_there(self, advice: str = _START_AGAIN) -> None:
        """Raise ChannelError when the channel, or one of its semaphores, was removed under us."""
        removed = self.objects.removed()  # before the state, which a reader that finishes stores first
        state = self.ring.header.state
        if state == REMOVED or (removed and state != FINISHED):
            raise ChannelError("EIDRM: the channel was removed while we waited, by `--remove`, ipcrm or rm")
        missing = None if removed else self.objects.missing()
        if missing and self.ring.header.state == OPEN:  # whoever removes a channel stores so first
            raise ChannelError(
                f"EIDRM: semaphore {missing} was removed while we waited, by ipcrm or rm; {advice}, the first one that"
                " finds itself alone makes all five anew"
            )

    def unread(self) -> int:
        """Slots that wait for a reader: a hint while anybody reads or writes."""
        tail = self.ring.header.tail
        return max(self.ring.header.head - tail, 0)

    def last_slot(self) -> SlotHeader | None:
        """The slot published last, None before the first. Only for whoever keeps the writers out."""
        head = self.ring.header.head
        return self.ring.read_slot(head - 1) if head else None

    def drained(self) -> bool:
        """Nothing left to read and nobody left to write; final only in the doorway, and ending() says what it means.

        For the holder of reader_turn or whoever is in the doorway: for others the tail moves under it.
        """
        header = self.ring.header
        finished = header.state == FINISHED
        if not finished and (not self.ring.header.count_joined() or self.objects.writers.present()):
            return False
        # Only now: with no writer alive and the doorway shut, head stands still.
        lag = self.ring.lag()
        if lag and finished:
            raise BadSegment(f"it is marked as finished, with {plural(lag, 'fragment')} unread")
        return not lag

    def ending(self, marked: bool | None = None) -> Ending:
        """How the channel stands; `marked` when that was just asked. In the doorway, or FINISHED. Raises BadSegment."""
        header = self.ring.header
        state = header.state
        if marked is None:
            marked = state == OPEN and self.objects.removed()
        joined = self.ring.header.count_joined()
        left = self._settled()
        live = state == OPEN and not marked and self.objects.writers.present()
        # Only now, see drained(); and where a writer may still move head, lag() would take us for a holder of its turn.
        still = state == FINISHED or (state == OPEN and not marked and not live)
        unread = self.ring.lag() if still else 0
        last = self.last_slot() if still and state == OPEN and not unread else None
        unfinished = last is not None and not last.ends_record
        return judge(Facts(state, marked, joined, left, live, unread, unfinished))

    def _settled(self) -> int:
        """How many writers nobody waits for: they said goodbye, or their record was given up as torn."""
        left = self.ring.header.count_left()
        return left + self.ring.header.records_torn

    def tell_removal(self) -> None:
        """Before the doorway in which we may remove the channel: tell that we do, if it looks so. Raises BadSegment."""
        if not self.listener.pauses or self.removed:
            return
        with self.doorway:  # or whoever only looks would be somebody who stays
            goes = self._is_to_go()
        if goes:
            self.listener.tell(Step.REMOVE)

    def _is_to_go(self) -> bool:
        """In the doorway: whether we would remove the channel now."""
        return False

    def remove(self, state: int) -> None:
        """In the doorway: take the channel away, FINISHED or REMOVED; whoever waits wakes with Gone."""
        self.objects.check_removable()
        self._take_away(state)

    def _take_away(self, state: int) -> None:
        self.ring.header.state = state
        self.removed = True
        self.objects.remove()

    def clear_if_removed(self) -> bool:
        """In the doorway: when ipcrm took the segment, our header still proves which semaphores go with it.

        Raises ChannelError when unread slots went with it.
        """
        if not self.objects.removed():
            return False
        self.objects.remove_semaphores()
        unread = self.unread()
        if unread:
            raise ChannelError(
                f"EIDRM: the channel was removed, by `--remove`, ipcrm or rm, with {unread} of its slots unread"
            )
        return True

    def detach(self) -> None:
        """Give the memory back."""
        self.ring.release()
        self.objects.detach()


def process(pid: int) -> str:
    """Whose turn it is; the kernel says 0 of a process outside our pid namespace."""
    return f"pid {pid}" if pid else "a process that we cannot see"
