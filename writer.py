#!/usr/bin/env python3
"""The producer: puts records into a shared memory segment, where reader.py finds them.

    python writer.py "hello"            one record, which waits in the segment for a reader
    python writer.py                    type: one record a line, Ctrl-D ends
    python writer.py --file PATH        a whole file as one record (or < PATH, or `producer |`)

The flow is the lab's: create (or open), attach, write, detach. The reader that finds nothing left removes.
"""

from __future__ import annotations

import errno
import os
import sys

from common.channel.end import Patience
from common.channel.write import WriteEnd
from common.cli import streams
from common.cli.leaving import find_doorway, find_place, leave, waiting, wanted
from common.cli.options import Options, writer_options
from common.cli.run import run
from common.cli.talk import Talk
from common.cli.tally import Tally
from common.ipc.lifecycle import join_channel
from common.layout import UNKNOWN


def main(talk: Talk) -> int:
    """Create or open the segment, attach it, write into it, detach it."""
    options = writer_options()
    talk.obey(options)
    if options.remove or options.chmod is not None or options.chown:
        from common.cli.control import change

        return change(options, talk)
    source = open_input(options)
    record = make_record(source, options)
    end = attach(record, options, talk)
    try:
        write(end, source, record, options, talk)
        wait(end, options, talk)
    except BaseException:
        detach(end, talk, failed=True)
        raise
    detach(end, talk)
    return 0


def open_input(options: Options) -> int:
    """The descriptor to read; opened before there is a segment, so that a bad path leaves nothing behind."""
    if options.file is None:
        return 0
    if os.path.isdir(options.file):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), options.file)
    return os.open(options.file, os.O_RDONLY)


def make_record(source: int, options: Options) -> streams.MessageSource | streams.FileSource | None:
    """The one record to send; None when each line is one."""
    if options.message:
        return streams.MessageSource(os.fsencode(" ".join(options.message)) + (b"\n" if options.newline else b""))
    if options.lines or (options.file is None and os.isatty(source)):
        return None
    return streams.FileSource(source, name_of_input(options))


def name_of_input(options: Options) -> str:
    """The input as errors name it."""
    return "standard input" if options.file is None else str(options.file)


def attach(record: streams.MessageSource | streams.FileSource | None, options: Options, talk: Talk) -> WriteEnd:
    """Join the channel as a writer: shmget and shmat, and create it where there is none."""
    doorway = find_doorway(options, talk)
    place = find_place(options, doorway, talk)
    end = None
    try:
        with doorway:
            objects = join_channel(place, wanted(options), talk.step, options.attach_at)
            end = WriteEnd(objects, doorway, Patience(options.timeout, talk.wait))
            end.join(record, resume=options.resume)
        talk.attached(objects, end.ring.geometry)
        return end
    except BaseException:  # a signal that waited outside the doorway
        if end:
            detach(end, talk, failed=True)
        raise


def write(
    end: WriteEnd,
    source: int,
    record: streams.MessageSource | streams.FileSource | None,
    options: Options,
    talk: Talk,
) -> None:
    """Put the message, the lines or the file into the segment."""
    typed = record is None and os.isatty(source)
    total = None if record is None or record.total == UNKNOWN or options.resume else record.total
    with Tally(end, options, bar=not typed, total=total) as tally:
        if typed:
            talk.step("type: one record a line, Ctrl-D ends")
        if record is None:
            prompt = talk.prompt if typed else talk.nothing
            streams.send_lines(end, source, name_of_input(options), verify=options.verify, prompt=prompt)
            if typed:
                talk.prompt("\n")
        else:
            end.send(record, resume=options.resume, verify=options.verify)
    end.all_said = True
    talk.step(tally.summary("sent"))


def wait(end: WriteEnd, options: Options, talk: Talk) -> None:
    """Stay until all is read: with --wait, and where what nobody has attached is destroyed."""
    if not options.wait:
        if not (end.unread() and end.objects.goes_with_us()):
            return
        talk.error(
            "kernel.shm_rmid_forced is 1: the kernel destroys a segment with its last detach, and what is in it;"
            " waiting until all is read"
        )
    end.wait_until_consumed()
    talk.step("all of it is consumed")


def detach(end: WriteEnd, talk: Talk, *, failed: bool = False) -> None:
    """Leave the channel: shmdt. What was sent waits in the segment for a reader."""
    removed, unread = leave(end, end.leave, talk, failed=failed)
    if not failed:
        talk.step("removed the channel: nothing is left" if removed else f"detached; {waiting(unread)}")


if __name__ == "__main__":
    sys.exit(run("writer", main))
