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

from common.channel.listener import Step
from common.channel.patience import Patience
from common.channel.write import WriteEnd
from common.cli.descriptors import Descriptor
from common.cli.leaving import as_argument, command, find_doorway, find_family, find_place, leave, waiting, wanted
from common.cli.options import Options, writer_options
from common.cli.run import Interrupted, run
from common.cli.sources import FileSource, MessageSource, send_lines
from common.cli.talk import Talk
from common.cli.tally import Tally
from common.errors import CallFailed
from common.ipc.lifecycle import join_channel


def main(talk: Talk) -> int:
    """Create or open the segment, attach it, write into it, detach it."""
    options = writer_options()
    talk.obey(options)
    if options.remove or options.chmod is not None or options.chown:
        from common.cli.control import change

        return change(options, talk)
    source = open_input(options, talk)
    record = make_record(source, options)
    end = attach(record, options, talk)
    try:
        write(end, source, record, options, talk)
        wait(end, options, talk)
    except BaseException as error:
        detach(end, talk, error, go_on=how_to_go_on(end, record, options))
        raise
    detach(end, talk)
    return 0


def open_input(options: Options, talk: Talk) -> int:
    """The descriptor to read; opened before there is a segment, so that a bad path leaves nothing behind."""
    if options.file is None:
        return 0
    if os.path.isdir(options.file):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), options.file)
    source = os.open(options.file, os.O_RDONLY | os.O_NONBLOCK)  # to sleep in open(2) would be to say nothing
    os.set_blocking(source, True)
    if not Descriptor(source, options.file).is_ready():
        talk.say(f"waiting for somebody to write into {options.file}")
    return source


def make_record(source: int, options: Options) -> MessageSource | FileSource | None:
    """The one record to send; None when each line is one."""
    if options.message:
        return MessageSource(os.fsencode(" ".join(options.message)) + (b"\n" if options.newline else b""))
    if options.lines or (options.file is None and os.isatty(source)):
        return None
    return FileSource(source, name_of_input(options))


def name_of_input(options: Options) -> str:
    """The input as errors name it."""
    return "standard input" if options.file is None else str(options.file)


def attach(record: MessageSource | FileSource | None, options: Options, talk: Talk) -> WriteEnd:
    """Join the channel as a writer: shmget and shmat, and create it where there is none."""
    family, doorway = find_family(options, talk), find_doorway(options, talk)
    place = find_place(options, family, doorway, talk)
    end = None
    try:
        talk.tell(Step.JOIN)
        with doorway:
            objects = join_channel(family, place, wanted(options), options.attach_at)
            try:
                end = WriteEnd(objects, doorway, Patience(options.timeout, talk))
                end.join(record, resume=options.resume)
            except CallFailed:  # SEMOPM may be 0: nobody could take part
                end = None
                if objects.created:
                    objects.remove()
                raise
        talk.attached(objects, end.ring.geometry)
        return end
    except BaseException as error:  # a signal that waited outside the doorway
        if end:
            detach(end, talk, error)
        raise


def write(
    end: WriteEnd,
    source: int,
    record: MessageSource | FileSource | None,
    options: Options,
    talk: Talk,
) -> None:
    """Put the message, the lines or the file into the segment."""
    typed = record is None and os.isatty(source)
    with Tally(end, options, talk, bar=not typed) as tally:
        if typed:
            talk.say("type: one record a line, Ctrl-D ends")
        try:
            if record is None:
                prompt = talk.prompt if typed else talk.nothing
                send_lines(end, source, name_of_input(options), verify=options.verify, prompt=prompt)
                if typed:
                    talk.prompt("\n")
            else:
                end.send(record, resume=options.resume, verify=options.verify)
        except Interrupted:
            # One whole record was all that there was to say.
            end.all_said = record is not None and end.records > 0 and not end.unfinished
            talk.say(tally.summary("sent"))
            raise
    end.all_said = True
    talk.say(tally.summary("sent"))


def wait(end: WriteEnd, options: Options, talk: Talk) -> None:
    """Stay until all is read: with --wait, and where what nobody has attached is destroyed."""
    if not options.wait:
        if not end.unread():
            return
        with end.doorway:  # outside of it an onlooker might pass for somebody who stays
            if not end.objects.goes_with_us():
                return
        talk.error(
            "kernel.shm_rmid_forced is 1: the kernel destroys a segment with its last detach, and what is in it;"
            " waiting until all is read"
        )
    end.wait_until_consumed()
    talk.say("all of it is consumed")


def detach(end: WriteEnd, talk: Talk, error: BaseException | None = None, *, go_on: str = "") -> None:
    """Leave the channel: shmdt. What was sent waits in the segment for a reader.

    After an `error` only an interruption is told what stays, and how to `go_on`.
    """
    left, names = leave(end, end.leave, talk, failed=error is not None), talk.names
    if left.lost or (error is not None and not isinstance(error, Interrupted)):
        return
    if left.answer:
        talk.say(f"{names.remove}, {names.detach}: removed the channel: nothing is left")
    else:
        talk.say("; ".join(filter(None, (f"{names.detach}: detached", waiting(left.unread), go_on))))


def how_to_go_on(end: WriteEnd, record: MessageSource | FileSource | None, options: Options) -> str:
    """What someone who is interrupted may do next."""
    if end.all_said:
        return ""
    gives_up = "`writer.py --remove` gives up"
    if not end.unfinished and record is not None:
        return "the record was not sent: start `writer.py` again"
    if not end.unfinished:
        return "the rest was not sent: start `writer.py` again with it"
    if record is not None and record.identity and options.file is not None:
        return f"{command('writer', options, '--file', as_argument(options.file), '--resume')} goes on, {gives_up}"
    return f"its last record is unfinished, and the next writer goes on behind it; {gives_up}"


if __name__ == "__main__":
    sys.exit(run("writer", main))
