#!/usr/bin/env python3
"""The consumer: takes records out of the shared memory segment that writer.py fills.

    python reader.py                    records to standard output, until the last writer is gone
    python reader.py --output PATH      into a file
    python reader.py --status           what there is, without consuming it; --watch: as it moves
    python reader.py --doctor           what would go wrong here

The flow is the lab's: open, attach, read, detach, remove. Either side may start first.
"""

from __future__ import annotations

import os
import sys

from common.channel.listener import Reason, Step
from common.channel.patience import Patience
from common.channel.read import ReadEnd
from common.cli.leaving import as_argument, command, find_doorway, find_family, find_place, leave, waiting
from common.cli.options import Options, reader_options
from common.cli.run import Interrupted, run
from common.cli.sinks import StreamSink, open_output
from common.cli.talk import Talk
from common.cli.tally import Tally
from common.errors import ChannelError, NotPermitted
from common.ipc.doorway import FlockDoorway
from common.ipc.family import ChannelObjects, Family
from common.ipc.lifecycle import open_channel
from common.ipc.place import Place


def main(talk: Talk) -> int:
    """Open the segment, attach it, read it empty, remove it when no writer is left, detach it."""
    options = reader_options()
    talk.obey(options)
    if options.status:
        from common.show.status import show_status

        return show_status(options, talk)
    if options.doctor:
        from common.show.doctor import show_doctor

        return show_doctor(options, talk)
    if options.watch:
        from common.show.watch import watch

        return watch(options, talk)
    sink = StreamSink(1) if options.output is None else open_output(options.output, Patience(options.timeout, talk))
    family, doorway = find_family(options, talk), find_doorway(options, talk)
    place = find_place(options, family, doorway, talk)
    if sink.inode == doorway.identity():
        raise ChannelError(f"{options.key_path} is the key path: name another output")
    wanted, incomplete = options.count, False
    while True:
        end = attach(family, place, doorway, options, talk)
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


def attach(family: Family, place: Place, doorway: FlockDoorway, options: Options, talk: Talk) -> ReadEnd:
    """Join the channel as a reader, shmget and shmat; while there is none, look again."""
    patience = Patience(options.timeout, talk)
    none_yet = Reason("waiting for a channel; start `writer.py`", missing=True)

    def look() -> ChannelObjects | None:
        with doorway:
            return open_channel(family, place, options.attach_at)

    talk.tell(Step.JOIN)
    objects = patience.look_until(look, lambda: none_yet)
    end = ReadEnd(objects, doorway, patience, keep=options.keep, follow=options.follow, resume=options.resume)
    try:
        talk.attached(objects, end.ring.geometry)
    except BaseException as error:
        detach(end, talk, error)
        raise
    return end


def read_and_detach(end: ReadEnd, sink: StreamSink, wanted: int | None, options: Options, talk: Talk) -> bool:
    """What read() returns; whatever it raises, the channel is left. Raises NotPermitted when all is read."""
    try:
        over = read(end, sink, wanted, options, talk)
    except BaseException as error:
        detach(end, talk, error, go_on=how_to_go_on(end, sink, wanted, options))
        raise
    detach(end, talk)
    return over


def read(end: ReadEnd, sink: StreamSink, wanted: int | None, options: Options, talk: Talk) -> bool:
    """Take records out of the segment; True when the channel is over, False when there were as many as `wanted`."""
    over = False
    with Tally(end, options, talk, bar=bool(options.output) or not os.isatty(1)) as tally:
        try:
            while not over and (wanted is None or end.records < wanted):
                over = end.receive(sink, None if wanted is None else wanted - end.records) is None
        except BrokenPipeError:
            talk.say(
                "the consumer closed its end: the slot that it was reading comes again, whole;"
                " --count N takes exactly N records"
            )
        except Interrupted:
            talk.say(tally.summary("received"))
            raise
    talk.say(tally.summary("received"))
    return over


def detach(end: ReadEnd, talk: Talk, error: BaseException | None = None, *, go_on: str = "") -> None:
    """Leave the channel, shmdt; when nothing is left in it and nobody writes, shmctl(IPC_RMID) it before.

    After an `error` only an interruption is told what stays, and how to `go_on`.
    """
    gone, names = leave(end, end.leave, talk, failed=error is not None), talk.names
    if gone.lost or (error is not None and not isinstance(error, Interrupted)):
        return
    if end.removed:
        left = end.objects.removal.left
        talk.say(
            f"{names.remove}: {end.objects.removal}, {names.removed.format(end.objects)};"
            f" {names.detach}: detached{'' if left else ': nothing is left'}"
        )
    elif gone.answer:
        talk.say(f"{names.detach}: detached; the channel stays (--keep)")
    else:
        talk.say("; ".join(filter(None, (f"{names.detach}: detached", waiting(gone.unread), go_on))))


def how_to_go_on(end: ReadEnd, sink: StreamSink, wanted: int | None, options: Options) -> str:
    """What someone who is interrupted may do next."""
    words: list[str] = []
    if options.output is not None:
        words += ["--output", as_argument(options.output)]
        words += ["--resume"] if sink.settled or options.resume else []
    if wanted is not None:
        words += ["--count", str(max(wanted - end.records, 1))]
    return f"{command('reader', options, *words)} goes on"


if __name__ == "__main__":
    sys.exit(run("reader", main))
