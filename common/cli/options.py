"""The command lines of both programs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from common.cli.values import (
    address_option,
    channel_option,
    count_option,
    mode_option,
    owner_option,
    pause_option,
    seconds_option,
    slot_size_option,
    slots_option,
)
from common.ipc.lifecycle import DEFAULT_GEOMETRY

DEFAULT_FAMILY, FAMILIES = "sysv", ("sysv", "posix")
PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The programs name it without importing argparse: until common/ is imported, Ctrl-C would be a traceback.
Options = argparse.Namespace


def add_common_options(parser: argparse.ArgumentParser, step: str) -> None:
    """The options that both programs have; `step` is an example of the program's own."""
    where = parser.add_argument_group("where the channel is")
    where.add_argument(
        "--key-path",
        metavar="PATH",
        default=PROJECT,
        help="file or directory that ftok makes the keys from (this project)",
    )
    where.add_argument("--channel", metavar="N", type=channel_option, default=0, help="which of its 32 channels (0)")
    where.add_argument(
        "--ipc",
        choices=FAMILIES,
        default=DEFAULT_FAMILY,
        help="which generation of IPC: System V's, or POSIX's shm_open and sem_open (sysv)",
    )
    where.add_argument(
        "--attach-at",
        metavar="ADDRESS",
        type=address_option,
        help="attach the segment there; SHM_RND rounds it down to a page",
    )
    said = parser.add_argument_group("what is said")
    said.add_argument("--timeout", metavar="SECONDS", type=seconds_option, help="give up (124) after waiting so long")
    said.add_argument("--quiet", action="store_true", help="say nothing but errors")
    said.add_argument(
        "--slow", metavar="SECONDS", type=seconds_option, help="say each step, and wait so long before it"
    )
    said.add_argument(
        "--pause-at",
        metavar="STEP",
        action="append",
        type=lambda text: pause_option(parser.prog, text),
        help=f"pause before each step of this name, or the third: {step}:3; may be given again; help lists them",
    )
    # The value only behind "=": a MESSAGE may follow.
    said.add_argument(
        *("--trace", "--trace=lab"),
        action="store_const",
        const="lab",
        help="show the calls on the shared memory, in strace's form, and each store and load",
    )
    said.add_argument(
        "--trace=all",
        dest="trace",
        action="store_const",
        const="all",
        help="the semaphores, the doorway and the looks while waiting, too",
    )
    said.add_argument("--explain", action="store_true", help="--trace, and below each line what it means")
    said.add_argument("--no-progress", action="store_true", help="no progress bar on a terminal")


def _parser(program: str, does: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"{program}.py", description=does, allow_abbrev=False, formatter_class=_help_formatter
    )


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """argparse asks for one per option; left to find the width itself, it would import shutil and its archivers."""
    try:
        width = os.get_terminal_size(2).columns
    except OSError:
        width = 100
    return argparse.HelpFormatter(prog, width=width - 2)


def _writer_parser() -> argparse.ArgumentParser:
    parser = _parser("writer", "Put records into a shared memory segment, where reader.py finds them.")
    what = parser.add_argument_group("what to send")
    what.add_argument("message", metavar="MESSAGE", nargs="*", help="one record; without it, standard input")
    what.add_argument("-n", dest="newline", action="store_false", help="no newline behind MESSAGE")
    what.add_argument("--file", metavar="PATH", help="a file, as one record; - is standard input")
    what.add_argument("--lines", action="store_true", help="a record a line (standard input from a terminal: always)")
    what.add_argument("--resume", action="store_true", help="go on where a dead writer stopped (with --file)")
    what.add_argument("--verify", action="store_true", help="put a checksum on every fragment; the reader checks it")
    what.add_argument("--wait", action="store_true", help="return only when readers have consumed it all")
    made = parser.add_argument_group("how the channel is made")
    made.add_argument("--exclusive", action="store_true", help="IPC_EXCL: fail if it exists")
    made.add_argument("--mode", type=mode_option, help="its permissions (0660)")
    made.add_argument("--slots", metavar="N", type=slots_option, help=f"how many slots ({DEFAULT_GEOMETRY.slot_count})")
    made.add_argument(
        "--slot-size",
        metavar="SIZE",
        type=slot_size_option,
        help=f"bytes in a slot, in pages; K, M, G ({DEFAULT_GEOMETRY.slot_size})",
    )
    instead = parser.add_argument_group("instead of sending")
    instead.add_argument("--chmod", metavar="MODE", type=mode_option, help="IPC_SET its permissions")
    instead.add_argument("--chown", metavar="USER[:GROUP]", type=owner_option, help="IPC_SET its owner")
    instead.add_argument("--remove", action="store_true", help="IPC_RMID everything, whatever is in it")
    add_common_options(parser, "publish")
    return parser


def writer_options() -> argparse.Namespace:
    """The writer's command line. Exits with 2 when it makes no sense."""
    parser = _writer_parser()
    options = _parse(parser, _reader_parser)
    _refuse_together(parser, options, "message", "file", "lines")
    sending = ("message", "file", "lines", "resume", "verify", "wait", "exclusive", "mode", "slots", "slot_size")
    for instead_of in ("remove", "chmod", "chown"):
        _refuse_together(parser, options, instead_of, *sending, "attach_at", "slow", "pause_at")
    _refuse_together(parser, options, "remove", "chmod", "chown")
    if not options.newline and not options.message:
        parser.error("-n needs a MESSAGE")
    options.file = _path_or_none(options.file)
    if options.resume and options.file is None:
        parser.error("--resume needs --file: only a file can be read again from the middle")
    if options.resume and options.lines:
        parser.error("--resume and --lines do not go together: a file of lines is many records")
    return options


def _reader_parser() -> argparse.ArgumentParser:
    parser = _parser("reader", "Take records out of the shared memory segment that writer.py fills.")
    what = parser.add_argument_group("what to receive")
    what.add_argument("--output", metavar="PATH", help="write the records to a file; - is standard output")
    what.add_argument("--resume", action="store_true", help="continue --output where a dead reader stopped")
    what.add_argument("--count", metavar="N", type=count_option, help="stop after N records")
    what.add_argument("--follow", action="store_true", help="do not end with the last writer: wait for more")
    what.add_argument("--keep", action="store_true", help="remove nothing at the end")
    instead = parser.add_argument_group("instead of receiving")
    instead.add_argument("--status", action="store_true", help="show segment, semaphores and header; consume nothing")
    instead.add_argument("--watch", action="store_true", help="--status ten times a second on a terminal; q leaves")
    instead.add_argument("--doctor", action="store_true", help="show what would go wrong here, and what was left")
    instead.add_argument("--json", action="store_true", help="--status or --doctor for a program")
    add_common_options(parser, "commit")
    return parser


def reader_options() -> argparse.Namespace:
    """The reader's command line. Exits with 2 when it makes no sense."""
    parser = _reader_parser()
    options = _parse(parser, _writer_parser)
    receiving = ("output", "resume", "count", "follow", "keep", "attach_at", "slow", "pause_at")
    _refuse_together(parser, options, "status", *receiving)
    _refuse_together(parser, options, "doctor", "status", *receiving)
    _refuse_together(parser, options, "watch", "status", "doctor", "json", *receiving, "timeout", "trace")
    options.output = _path_or_none(options.output)
    if options.resume and options.output is None:
        parser.error("--resume needs --output: only a file can be cut back to what was received")
    if options.json and not (options.status or options.doctor):
        parser.error("--json needs --status or --doctor")
    return options


def _parse(parser: argparse.ArgumentParser, other: Callable[[], argparse.ArgumentParser]) -> argparse.Namespace:
    """The command line; of an option that only the other program has, that is said."""
    options, unknown = parser.parse_known_args()
    if unknown:
        theirs = other()
        has = theirs.format_usage().replace("[", " ").replace("]", " ").split()
        for option in (word.partition("=")[0] for word in unknown):
            if option.startswith("-") and option in has:
                parser.error(f"{parser.prog} has no {option}; {theirs.prog} has it")
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.explain and options.trace is None:
        options.trace = "lab"
    if options.ipc == "posix" and options.attach_at is not None:
        parser.error("--attach-at is shmat's: with --ipc posix the kernel chooses where mmap puts the object")
    return options


def _path_or_none(path: str | None) -> str | None:
    """None, the standard stream, for "-" as well; a file of that name is ./-."""
    return None if path == "-" else path


def _refuse_together(parser: argparse.ArgumentParser, options: argparse.Namespace, one: str, *others: str) -> None:
    values = ((name, getattr(options, name)) for name in (one, *others))
    given = [name for name, value in values if value is not None and value is not False and value != []]
    if one in given and len(given) > 1:
        words = ["MESSAGE" if name == "message" else f"--{name.replace('_', '-')}" for name in given]
        parser.error(f"{' and '.join(words)} do not go together")
