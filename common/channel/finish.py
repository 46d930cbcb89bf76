"""How a reader ends: when the channel is over for it, what it tells then, and when it removes it."""

from __future__ import annotations

from common.channel.end import End
from common.channel.ending import Ending
from common.channel.fragments import Expected
from common.channel.listener import News
from common.channel.objects import Doorway, Objects
from common.channel.output import Output
from common.channel.patience import Patience
from common.errors import TornRecord
from common.layout import ABORTED, FINISHED, OPEN, UNKNOWN
from common.words import plural


class FinishingEnd(End):
    """An end that finishes the channel when nothing is left in it.

    `keep` removes nothing, `follow` never ends, `resume` waits for a writer that continues what was broken off.
    """

    def __init__(
        self,
        objects: Objects,
        doorway: Doorway,
        patience: Patience,
        *,
        keep: bool = False,
        follow: bool = False,
        resume: bool = False,
    ) -> None:
        super().__init__(objects, doorway, patience)
        self.keep = keep
        self.follow = follow
        self.resume = resume
        self.incomplete = False  # whether something is missing in what came out, or in the channel that ended
        self._expected = Expected()
        self._began_at = self.ring.header.tail
        self._missed = 0  # writers that stopped before their end, as far as that was told
        self._told_torn = False  # whether a torn record was told
        self._refused = False  # the output is not the one that the channel notes

    def leave(self) -> bool:
        """In the doorway: True when the channel is over; we have then removed it, unless `keep`.

        To be followed by detach() before the doorway opens: two that leave at once would each take the other for
        somebody who stays.
        """
        if self.removed or self.clear_if_removed():
            return self.removed
        ending = self.ending(marked=False)
        if self._refused or not self._ends_with(ending) or self.ring.header.state != OPEN:
            return False
        self._see_end(ending)
        if not self.keep:
            self.remove(FINISHED)
        return True

    def _is_to_go(self) -> bool:
        if self.keep or self._refused:
            return False
        return self._ends_with(self.ending()) and not self.objects.removed()

    def _ends_with(self, ending: Ending) -> bool:
        """Whether this is the end: with `resume`, a writer may still continue what was broken off."""
        if ending is not Ending.BROKEN_OFF or not self.resume:
            return ending in (Ending.OVER, Ending.BROKEN_OFF)
        state = self.ring.header.state  # FINISHED: another reader has decided
        return state != OPEN or not self._can_be_settled()

    def _can_be_settled(self) -> bool:
        """Whether a writer that resumes can make up for a missing goodbye: its file is noted, and nobody went on."""
        note = self.ring.header.input_note()
        last = self.last_slot()
        if not note.owed or note.record == UNKNOWN or last is None:
            return note.owed
        return last.record < note.record or (last.record == note.record and not last.flags & ABORTED)

    def _finish_if_over(self, output: Output) -> bool:
        """True when the channel is over; we have then removed it, unless `keep`. Raises TornRecord."""
        if not self.drained():
            return False
        if self.follow and self.ring.header.state == OPEN:
            self._notice_broken_off()
            return False
        if self._expected.offset:
            self._expected.check_tail(self.ring.header.tail)
        self.tell_removal()
        with self.doorway:
            ending = self.ending()
            if ending is Ending.TORN and not self.resume:
                raise self._torn()
            if not self._ends_with(ending):
                return False
            self._settle_at_end(output)
            self._see_end(ending)
            # The mark on the segment is the last of a removal: without it, whoever was removing has died.
            if not self.keep and not (self.ring.header.state == FINISHED and self.objects.removed()):
                self.remove(FINISHED)
        return True

    def _settle_at_end(self, output: Output) -> None:
        self._refused = True
        output.settle_at_end(self._began_at)
        self._refused = False

    def _torn(self) -> TornRecord:
        last = self.last_slot()
        assert last
        continues = "`writer.py --file PATH --resume` continues it"
        if not last.source_ino:
            continues = "it came from no file, so nothing continues it: any other writer goes on behind it"
        return TornRecord(
            f"record {last.record} is unfinished: its writer, pid {last.writer_pid}, stopped after {last.end}"
            f" bytes; {continues}, `writer.py --remove` gives it up"
        )

    def _notice_broken_off(self) -> None:
        """With `follow`: tell that a writer stopped before its end, and go on."""
        missing = self._missing()
        if missing > self._missed:
            with self.doorway:
                ending = self.ending()
                if ending is Ending.BROKEN_OFF and self._ends_with(ending):
                    self._tell_broken_off()

    def _missing(self) -> int:
        """Writers that stopped before their end, but for those of torn records, which tell of it themselves."""
        joined = self.ring.header.count_joined()
        return joined - self._settled()

    def _see_end(self, ending: Ending) -> None:
        """Tell what is missing in a channel that ended, whoever met it before."""
        torn = self.ring.header.records_torn
        if torn and not self._told_torn:
            self._tell_torn(f"another reader met {plural(torn, 'torn record')} in this channel")
        if ending is Ending.BROKEN_OFF:
            self._tell_broken_off()

    def _tell_broken_off(self) -> None:
        """Once for each writer that is missing: at the end, and with `keep` or `follow` again when we leave."""
        missing = self._missing()
        if missing > self._missed:
            self._missed = missing
            last = self.last_slot()
            sent = "nothing was sent"
            if last:
                sent = f"all that was sent has arrived, up to record {last.record + last.records - 1}"
            self._tell_lost(f"the channel is broken off: {plural(missing, 'writer')} stopped before the end; {sent}")

    def _tell_torn(self, text: str) -> None:
        self._told_torn = True
        self._tell_lost(text)

    def _tell_lost(self, text: str) -> None:
        self.incomplete = True
        self.listener.news(News(text, lost=True))
