"""What the programs say word for word, where a test wants the whole line."""

from __future__ import annotations

from common.words import plural


def broken_off(after: int | None, writers: int = 1) -> str:
    """The reader's line at the end of a channel that `writers` left without a goodbye; its last record is `after`."""
    sent = "nothing was sent" if after is None else f"all that was sent has arrived, up to record {after}"
    return f"reader: the channel is broken off: {plural(writers, 'writer')} stopped before the end; {sent}\n"


def torn(record: int, pid: int, size: int) -> str:
    """The reader's line where a record ends because its writer, `pid`, stopped after `size` bytes of it."""
    return f"reader: record {record} is torn: its writer, pid {pid}, stopped after {size} bytes, and another went on\n"


def unfinished(record: int, pid: int, size: int, *, from_file: bool = True) -> str:
    """The reader's last line when nobody has gone on with such a record yet."""
    continues = "`writer.py --file PATH --resume` continues it"
    if not from_file:
        continues = "it came from no file, so nothing continues it: any other writer goes on behind it"
    return (
        f"reader: record {record} is unfinished: its writer, pid {pid}, stopped after {size} bytes; {continues},"
        " `writer.py --remove` gives it up\n"
    )


def headless(record: int, size: int) -> str:
    """The reader's line when it begins `size` bytes inside a record that another reader began."""
    return f"reader: record {record} comes without its first {size} bytes: another reader took them\n"


def semaphore_removed(program: str, name: str, *, all_sent: bool = False) -> str:
    """The line of a program that waited when ipcrm took a semaphore; of a writer that had sent all, with --wait."""
    again = "do not send it again: all of it is in the segment"
    return (
        f"{program}: EIDRM: semaphore {name} was removed while we waited, by ipcrm or rm;"
        f" {again if all_sent else 'start again, with --resume if it is a file: nothing is lost'},"
        " the first one that finds itself alone makes all five anew\n"
    )
