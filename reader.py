#!/usr/bin/env python3
"""The consumer: takes records out of the shared memory segment that writer.py fills.

    python reader.py                    records to standard output, until the last writer is gone
    python reader.py --output PATH      into a file
    python reader.py --status           what there is, without consuming it

The flow is the lab's: open, attach, read, detach, remove. Either side may start first.
"""

from __future__ import annotations

import argparse
import sys
import time

from common import cli, streams
from common.channel import Patience, ReadEnd, Reason
from common.doorway import FIRST_PAUSE, LONGEST_PAUSE
from common.ipc import CallFailed, ChannelError, TornRecord
from common.sysv_family import open_channel


def main(talk: cli.Talk) -> int:
    """Open the segment, attach it, read it empty, remove it when no writer is left, detach it."""
    options = cli.reader_options()
    talk.obey(options)
    if options.status:
        from common.view import show_status

        return show_status(options, talk)
    sink = streams.open_output(options.output, resume=options.resume) if options.output else streams.StreamSink(1)
    end = attach(options, talk)
    try:
        whole = read(end, sink, options, talk)
    except BaseException:
        detach(end, talk, failed=True)
        raise
    detach(end, talk)
    return 0 if whole else 1


def attach(options: argparse.Namespace, talk: cli.Talk) -> ReadEnd:
    """Join the channel as a reader, shmget and shmat; while there is none, look again."""
    doorway = cli.find_doorway(options, talk)
    place = cli.find_place(options, doorway, talk)
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
    end = ReadEnd(family, doorway, patience, keep=options.keep, follow=options.follow)
    talk.attached(family, end.ring.geometry)
    return end


def read(end: ReadEnd, sink: streams.StreamSink, options: argparse.Namespace, talk: cli.Talk) -> bool:
    """Take records out until the channel is over or there were enough; False when one was torn."""
    whole = True
    with cli.Tally(end, options) as tally:
        try:
            while options.count is None or end.records < options.count:
                receipt = end.receive(sink, options.count and options.count - end.records)
                if receipt is None:
                    break
                if receipt.aborted:
                    whole = False
                    lost = receipt.aborted
                    talk.error(
                        f"record {lost.record} is torn: its writer, pid {lost.writer_pid}, stopped after"
                        f" {lost.offset} bytes, and another went on"
                    )
        except BrokenPipeError:
            talk.step("the consumer closed its end; what it did not take stays in the segment")
    if end.continued:
        slot = end.continued
        talk.step(f"went on at byte {slot.offset + slot.taken} of record {slot.record}, where another reader stopped")
    talk.step(tally.summary("received"))
    return whole


def detach(end: ReadEnd, talk: cli.Talk, *, failed: bool = False) -> None:
    """Leave the channel, shmdt; when nothing is left in it and nobody writes, shmctl(IPC_RMID) it before."""
    over = end.removed
    try:
        if failed:
            with end.doorway:
                end.clear_if_removed()
        else:
            over = over or end.finish_if_over()
    except TornRecord:
        pass  # --count records were whole; the next reader will hear of the torn one
    except (ChannelError, CallFailed):
        if not failed:
            raise
    waiting = end.unread()
    end.detach()
    if end.removed:
        talk.step(f"removed 5 semaphores, marked {end.family} for removal, detached: nothing is left")
    elif not failed:
        talk.step(f"detached; {'the channel stays (--keep)' if over else f'{waiting} slots wait for a reader'}")


if __name__ == "__main__":
    sys.exit(cli.run("reader", main))
