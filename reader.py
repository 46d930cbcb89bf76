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

from common.channel.end import Patience, Reason
from common.channel.read import News, ReadEnd
from common.cli import streams
from common.cli.leaving import find_doorway, find_place, leave, waiting
from common.cli.options import Options, reader_options
from common.cli.run import run
from common.cli.talk import Talk
from common.cli.tally import Tally
from common.cli.words import plural
from common.errors import ChannelError, NotPermitted
from common.ipc.doorway import FIRST_PAUSE, LONGEST_PAUSE, FlockDoorway
from common.ipc.lifecycle import open_channel
from common.ipc.place import Place
from common.layout import SlotHeader


def main(talk: Talk) -> int:
    """Open the segment, attach it, read it empty, remove it when no writer is left, detach it."""
    options = reader_options()
    talk.obey(options)
    if options.status:
        from common.show.status import show_status

        return show_status(options, talk)
    sink = streams.open_output(options.output) if options.output is not None else streams.StreamSink(1)
    doorway = find_doorway(options, talk)
    place = find_place(options, doorway, talk)
    if sink.inode == doorway.identity():
        raise ChannelError(f"{options.key_path} is the key path: name another output")
    wanted, incomplete = options.count, False
    while True:
        end = attach(place, doorway, options, talk)
        try:
            over = read_and_detach(end, sink, wanted, options, talk)
        except NotPermitted as error:
            sink.close()
            raise ChannelError(
                "EPERM: all that was in the channel has arrived, and removing it is not for us: its owner,"
                f" uid {error.owner}, has to, with `writer.py --remove`; with --keep we would not try"
            ) from None
        incomplete = incomplete or end.incomplete
        if not (over and options.follow):
            sink.close()
            return 1 if incomplete else 0
        # Another reader was at the end first and removed the channel: --follow waits for the next one.
        wanted = None if wanted is None else wanted - end.records


def attach(place: Place, doorway: FlockDoorway, options: Options, talk: Talk) -> ReadEnd:
    """Join the channel as a reader, shmget and shmat; while there is none, look again."""
    patience = Patience(options.timeout, talk.wait)
    began, pause = time.monotonic(), FIRST_PAUSE
    while True:
        with doorway:
            objects = open_channel(place, talk.step, options.attach_at)
        if objects:
            break
        patience.beat(Reason("waiting for a channel; start writer.py", missing=True), time.monotonic() - began)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    end = ReadEnd(objects, doorway, patience, keep=options.keep, follow=options.follow, resume=options.resume)
    try:
        talk.attached(objects, end.ring.geometry)
    except BaseException:
        detach(end, talk, failed=True)
        raise
    return end


def read_and_detach(end: ReadEnd, sink: streams.StreamSink, wanted: int | None, options: Options, talk: Talk) -> bool:
    """What read() returns; whatever it raises, the channel is left. Raises NotPermitted when all is read."""
    try:
        over = read(end, sink, wanted, options, talk)
    except BaseException:
        detach(end, talk, failed=True)
        raise
    detach(end, talk)
    return over


def read(end: ReadEnd, sink: streams.StreamSink, wanted: int | None, options: Options, talk: Talk) -> bool:
    """Take records out of the segment; True when the channel is over, False when there were as many as `wanted`."""
    over = False
    end.hear = lambda news, number, slot: tell(talk, news, number, slot)
    with Tally(end, options, bar=bool(options.output) or not os.isatty(1)) as tally:
        try:
            while not over and (wanted is None or end.records < wanted):
                over = end.receive(sink, None if wanted is None else wanted - end.records) is None
        except BrokenPipeError:
            talk.step(
                "the consumer closed its end: the slot that it was reading comes again, whole;"
                " --count N takes exactly N records"
            )
    talk.step(tally.summary("received"))
    return over


def tell(talk: Talk, news: News, number: int, slot: SlotHeader | None) -> None:
    """Say what came of other readers and writers; what is missing is said with --quiet, too."""
    if news is News.TORN and slot:
        talk.error(
            f"record {slot.record} is torn: its writer, pid {slot.writer_pid}, stopped after {slot.offset} bytes,"
            " and another went on"
        )
    elif news is News.CONTINUED and slot:
        talk.step(f"going on at byte {number} of record {slot.record}, where another reader stopped")
    elif news is News.HEADLESS and slot:
        talk.error(f"record {slot.record} comes without its first {number} bytes: another reader took them")
    elif news is News.BROKEN_OFF:
        last = f"after record {slot.record + slot.records - 1}" if slot else "before the first record"
        talk.error(
            f"the channel is broken off: {plural(number, 'writer')} stopped before the end, {last}; all that was"
            " sent until then has arrived"
        )
    elif news is News.TORN_BEFORE:
        talk.error(f"another reader met {plural(number, 'torn record')} in this channel")


def detach(end: ReadEnd, talk: Talk, *, failed: bool = False) -> None:
    """Leave the channel, shmdt; when nothing is left in it and nobody writes, shmctl(IPC_RMID) it before."""
    over, unread = leave(end, end.leave, talk, failed=failed)
    if failed:
        return
    if end.removed:
        left = end.objects.removal.left
        talk.step(
            f"{end.objects.removal}, marked {end.objects} for removal, detached{'' if left else ': nothing is left'}"
        )
    else:
        talk.step(f"detached; {'the channel stays (--keep)' if over else waiting(unread)}")


if __name__ == "__main__":
    sys.exit(run("reader", main))
