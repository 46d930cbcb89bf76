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

from common import cli, streams
from common.channel import Patience, WriteEnd
from common.layout import UNKNOWN
from common.sysv_family import join_channel


def main(talk: cli.Talk) -> int:
    """Create or open the segment, attach it, write into it, detach it."""
    options = cli.writer_options()
    talk.obey(options)
    if options.remove or options.chmod is not None or options.chown:
        from common.control import change

        return change(options, talk)
    source = open_input(options)
    end = attach(options, talk)
    try:
        write(end, source, options, talk)
    except BaseException:
        detach(end, talk, failed=True)
        raise
    detach(end, talk)
    return 0


def open_input(options: cli.Options) -> int:
    """The descriptor to read; opened before there is a segment, so that a bad path leaves nothing behind."""
    if options.file is None:
        return 0
    if os.path.isdir(options.file):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), options.file)
    return os.open(options.file, os.O_RDONLY)


def attach(options: cli.Options, talk: cli.Talk) -> WriteEnd:
    """Join the channel as a writer: shmget and shmat, and create it where there is none."""
    doorway = cli.find_doorway(options, talk)
    place = cli.find_place(options, doorway, talk)
    end = None
    try:
        with doorway:
            family = join_channel(place, cli.wanted(options), talk.step, options.attach_at)
            end = WriteEnd(family, doorway, Patience(options.timeout, talk.wait))
            end.join()
        talk.attached(family, end.ring.geometry)
        return end
    except BaseException:  # a signal that waited outside the doorway
        if end:
            detach(end, talk, failed=True)
        raise


def write(end: WriteEnd, source: int, options: cli.Options, talk: cli.Talk) -> None:
    """Put the message, the lines or the file into the segment."""
    name = "standard input" if options.file is None else options.file
    typed = not options.message and options.file is None and os.isatty(source)
    if options.message:
        text = os.fsencode(" ".join(options.message)) + (b"\n" if options.newline else b"")
        record: streams.MessageSource | streams.FileSource = streams.MessageSource(text)
    else:
        record = streams.FileSource(source, name)
    total = None if record.total == UNKNOWN or options.resume else record.total
    with cli.Tally(end, options, bar=not typed, total=total) as tally:
        if typed:
            talk.step("type: one record a line, Ctrl-D ends")
        if typed or options.lines:
            streams.send_lines(end, source, name, verify=options.verify, prompt=talk.prompt if typed else talk.nothing)
            if typed:
                talk.prompt("\n")
        else:
            end.send(record, resume=options.resume, verify=options.verify)
    talk.step(tally.summary("sent"))
    if options.wait:
        end.wait_until_consumed()
        talk.step("all of it is consumed")


def detach(end: WriteEnd, talk: cli.Talk, *, failed: bool = False) -> None:
    """Leave the channel: shmdt. What was sent waits in the segment for a reader."""
    removed, unread = cli.leave(end, lambda: end.leave(unused=failed), failed=failed)
    if not failed:
        talk.step("removed the channel: nothing is left" if removed else f"detached; {cli.waiting(unread)}")


if __name__ == "__main__":
    sys.exit(cli.run("writer", main))
