#!/usr/bin/env python3
"""The consumer: takes records out of the shared memory segment that writer.py fills.

    python reader.py                    records to standard output, until the last writer is gone
    python reader.py --output PATH      into a file
    python reader.py --status           what there is, without consuming it

The flow is the lab's: open, attach, read, detach, remove. Either side may start first.
"""

from __future__ import annotations

import os
import sys
import time

from common import cli, streams
from common.channel import Patience, ReadEnd, Reason
from common.doorway import FIRST_PAUSE, LONGEST_PAUSE, FlockDoorway
from common.sysv_family import Place, open_channel


def main(talk: cli.Talk) -> int:
    """Open the segment, attach it, read it empty, remove it when no writer is left, detach it."""
    options = cli.reader_options()
    talk.obey(options)
    if options.status:
        from common.view import show_status

        return show_status(options, talk)
    sink = streams.open_output(options.output) if options.output is not None else streams.StreamSink(1)
    doorway = cli.find_doorway(options, talk)
    place = cli.find_place(options, doorway, talk)
    wanted, torn = options.count, 0
    while True:
        end = attach(place, doorway, options, talk)
        try:
            over = read(end, sink, wanted, options, talk)
        except BaseException:
            detach(end, talk, failed=True)
            raise
        detach(end, talk)
        torn += end.torn
        if not (over and options.follow):
            return 1 if torn else 0
        # Another reader was at the end first and removed the channel: --follow waits for the next one.
        wanted = None if wanted is None else wanted - end.records


def attach(place: Place, doorway: FlockDoorway, options: cli.Options, talk: cli.Talk) -> ReadEnd:
    """Join the channel as a reader, shmget and shmat; while there is none, look again."""
    patience = Patience(options.timeout, talk.wait)
    began, pause = time.monotonic(), FIRST_PAUSE
    while True:
        with doorway:
            family = open_channel(place, talk.step, options.attach_at)
        if family:
            break
        patience.beat(Reason("waiting for a channel; start writer.py", missing=True), time.monotonic() - began)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    end = ReadEnd(family, doorway, patience, keep=options.keep, follow=options.follow, resume=options.resume)
    try:
        talk.attached(family, end.ring.geometry)
    except BaseException:
        detach(end, talk, failed=True)
        raise
    return end


def read(end: ReadEnd, sink: streams.StreamSink, wanted: int | None, options: cli.Options, talk: cli.Talk) -> bool:
    """Take records out of the segment; True when the channel is over, False when there were as many as `wanted`."""
    over = False
    end.on_continued = lambda slot: talk.step(
        f"going on at byte {slot.offset + slot.taken} of record {slot.record}, where another reader stopped"
    )
    with cli.Tally(end, options, bar=bool(options.output) or not os.isatty(1)) as tally:
        try:
            while not over and (wanted is None or end.records < wanted):
                receipt = end.receive(sink, None if wanted is None else wanted - end.records)
                over = receipt is None
                if receipt and receipt.aborted:
                    talk.error(
                        f"record {receipt.aborted.record} is torn: its writer, pid {receipt.aborted.writer_pid},"
                        f" stopped after {receipt.aborted.offset} bytes, and another went on"
                    )
        except BrokenPipeError:
            talk.step("the consumer closed its end; what it did not take stays in the segment")
    talk.step(tally.summary("received"))
    return over


def detach(end: ReadEnd, talk: cli.Talk, *, failed: bool = False) -> None:
    """Leave the channel, shmdt; when nothing is left in it and nobody writes, shmctl(IPC_RMID) it before."""
    over, unread = cli.leave(end, end.leave, failed=failed)
    if failed:
        return
    if end.removed:
        talk.step(f"removed 5 semaphores, marked {end.family} for removal, detached: nothing is left")
    else:
        talk.step(f"detached; {'the channel stays (--keep)' if over else cli.waiting(unread)}")


if __name__ == "__main__":
    sys.exit(cli.run("reader", main))
