"""What both programs share towards a person: options, messages, signals and exit codes.

Exit codes: 0 done, 1 failed, 2 usage, 124 timed out, 128+N ended by signal N. Standard output carries data only;
everything said to a person goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from common import sysv
from common.channel import End, Patience, Reason
from common.doorway import ENDING, FlockDoorway
from common.ipc import CallFailed, ChannelError, TimedOut
from common.layout import MOST_SLOTS, PAGE, BadSegment, Geometry
from common.sysv_family import CHANNELS, DEFAULT_GEOMETRY, Place, SysvFamily, Wanted

TIMED_OUT = 124
MOST_ID = 2**32 - 2  # of users and groups: the last number of uid_t means "none" (chown(2))
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# A wait shorter than this is nothing to talk about, in seconds.
WORTH_SAYING = 1.0
# Any wait as long as this is: somebody may be stopped.
LONG_WAIT = 3.0
# How long a program that a signal ends waits for a full pipe behind standard error.
LAST_WORDS = 1.0
REFRESH = 0.2  # of the progress bar, in seconds

_CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(32), 127)}


# The programs name it without importing argparse: until common/ is imported, Ctrl-C would be a traceback.
Options = argparse.Namespace


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. No `except Exception` may swallow it."""

    def __init__(self, number: int) -> None:
        self.number = number


class Talk:
    """Says on standard error what the program does; never fails, whatever became of that descriptor.

    The voice of the doorway: inside, what is said is noted, and written when it has opened.
    """

    def __init__(self, program: str, *, quiet: bool = False) -> None:
        self.program = program
        self.quiet = quiet
        self.where = ""  # the key and the path, once they are known
        self._told = ""  # of a missing side, in this wait
        self._said: set[str] = set()  # of long waits, ever
        self._notes: list[tuple[bytes, deque[int]]] = []  # not yet written
        self._inside = False
        self._last_words = LAST_WORDS

    def obey(self, options: argparse.Namespace) -> None:
        """--quiet and --trace."""
        self.quiet = options.quiet
        if options.trace:
            from common.trace import printer

            sysv.observer = printer(self.write_line)

    def attached(self, family: SysvFamily, geometry: Geometry) -> None:
        """How the segment came about and where it is now."""
        stat = family.stat()
        self.step(
            f"{'created' if family.created else 'opened'} segment {family.shmid}: {stat.size} bytes,"
            f" {geometry.slot_count} slots of {geometry.slot_size}, mode {stat.mode & 0o777:04o}, uid {stat.uid}"
        )
        self.step(f"attached it at {family.address:#x}")

    def step(self, text: str) -> None:
        """A step that a student can follow; --quiet leaves it out."""
        if not self.quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """One line that is always said."""
        self.write_line(f"{self.program}: {text}")

    def prompt(self, text: str = "> ") -> None:
        """Ask for the next line."""
        if not self.quiet:
            self.write(text)

    def nothing(self) -> None:
        """The prompt when nobody types."""

    def write_line(self, text: str) -> None:
        """One line, whatever is in the names that it mentions."""
        self.write(text.translate(_CONTROL) + "\n")

    def write(self, text: str) -> None:
        """Raw text to standard error, in one write so that lines of several processes do not mix."""
        self._notes.append((text.encode(errors="surrogateescape"), deque([0], maxlen=1)))
        if not self._inside:
            self._write_notes()

    def hold(self) -> None:
        """From now on only note what is said."""
        self._inside = True

    def release(self) -> None:
        """Write what was noted, in order."""
        self._inside = False
        self._write_notes()

    def _write_notes(self) -> None:
        # A note goes when it is out: a signal that ends the wait for a full pipe loses none. And how much of it is out
        # is known in the one call, all C, that writes it: a signal that comes right behind repeats none.
        while self._notes:
            text, out = self._notes[0]
            rest = text[out[0] :]
            if not rest:
                del self._notes[0]
                continue
            try:
                if _is_ending() and not select.select((), (2,), (), self._last_words)[1]:
                    self._last_words = 0
                    self._notes.clear()
                    return
                out.extend(map(out[0].__add__, map(os.write, (2,), (rest,))))
            except OSError:
                out.append(len(text))

    def wait(self, reason: Reason, waited: float) -> None:
        """Heard at each heartbeat of a wait: says once what it waits for, a missing side soon, anything else later."""
        if waited < WORTH_SAYING:
            self._told = ""
        elif reason.missing:
            if reason.text != self._told:
                self._told = reason.text
                self.step(reason.text)
        elif waited >= LONG_WAIT and not self.quiet:
            line = "; ".join(filter(None, (_with_state(reason), self.where)))
            if line not in self._said:
                self._said.add(line)
                self.step(line)


def _with_state(reason: Reason) -> str:
    """Its text, with what has become of the process that it names."""
    named = f"pid {reason.pid}"
    return reason.text.replace(named, named + state_of(reason.pid)) if reason.pid else reason.text


def state_of(pid: int) -> str:
    """What a person should know of a process, as far as /proc tells."""
    try:
        os.kill(pid, 0)  # where /proc hides the processes of others, ENOENT would not say so much
    except (ProcessLookupError, OverflowError):
        return " (which is no more)"
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            letter = stat.read().rpartition(b")")[2].split()[0]
    except OSError:
        return ""
    return {b"T": " (stopped)", b"t": " (stopped)", b"Z": " (which is no more)"}.get(letter, "")


def size_option(text: str) -> int:
    """A size in bytes: 4096, 64K, 2M, 1G or 1T. Raises ArgumentTypeError."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    factors = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    if not digits.isascii() or not digits.isdigit() or unit not in factors:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4096, 64K or 2M")
    return int(digits) * factors[unit]


def slot_size_option(text: str) -> int:
    """A slot size in bytes, rounded up to whole pages."""
    return -(-size_option(text) // PAGE) * PAGE


def count_option(text: str, least: int = 1) -> int:
    """A whole number, `least` or more."""
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
    return int(text)


def slots_option(text: str) -> int:
    """A number of slots; 0 makes a segment of size 0, which the kernel refuses with EINVAL."""
    slots = count_option(text, 0)
    if slots > MOST_SLOTS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than the header can count to, {MOST_SLOTS}")
    return slots


def mode_option(text: str) -> int:
    """Permissions in octal, such as 0660; without 0600 its own owner could not even remove it."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
        raise argparse.ArgumentTypeError(f"{text!r} is not an octal mode such as 0660, 0600 at least")
    return mode


def address_option(text: str) -> int:
    """An address, decimal or 0x...; SHM_RND would round anything below a page down to NULL."""
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not PAGE <= address < 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 0x7e0000000000")
    return address


def seconds_option(text: str) -> float:
    """Seconds, 0 or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def owner_option(text: str) -> tuple[int | None, int | None]:
    """USER, USER:GROUP or :GROUP, by name or number, as (uid, gid); None stays as it is."""
    import grp
    import pwd

    user, _, group = text.partition(":")
    try:
        uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid if user else None
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid if group else None
    except KeyError as error:
        raise argparse.ArgumentTypeError(str(error.args[0])) from None
    if uid is None and gid is None:
        raise argparse.ArgumentTypeError(f"{text!r} names neither a user nor a group")
    if max(uid or 0, gid or 0) > MOST_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is beyond the largest user or group number, {MOST_ID}")
    return uid, gid


def channel_option(text: str) -> int:
    """A channel number, 0 to 31."""
    if not text.isascii() or not text.isdigit() or int(text) not in CHANNELS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a channel: 0 to {CHANNELS[-1]}")
    return int(text)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """The options that both programs have."""
    where = parser.add_argument_group("where the channel is")
    where.add_argument(
        "--key-path",
        metavar="PATH",
        default=PROJECT,
        help="file or directory that ftok makes the keys from (this project)",
    )
    where.add_argument("--channel", metavar="N", type=channel_option, default=0, help="which of its 32 channels (0)")
    where.add_argument(
        "--attach-at",
        metavar="ADDRESS",
        type=address_option,
        help="attach the segment there; SHM_RND rounds it down to a page",
    )
    said = parser.add_argument_group("what is said")
    said.add_argument("--timeout", metavar="SECONDS", type=seconds_option, help="give up (124) after waiting so long")
    said.add_argument("--quiet", action="store_true", help="say nothing but errors")
    said.add_argument("--trace", action="store_true", help="show every IPC call, in strace's form")
    said.add_argument("--no-progress", action="store_true", help="no progress bar on a terminal")


def run(program: str, main: Callable[[Talk], int]) -> int:
    """Run a program's main with its signals, its errors and its exit code."""
    _open_standard_descriptors()
    talk = Talk(program)
    try:
        return _run(talk, main)
    except Interrupted as interruption:
        talk.release()  # it may have come before the doorway gave us our voice back
        talk.error(f"ended by {signal.Signals(interruption.number).name}")
        return 128 + interruption.number


def _run(talk: Talk, main: Callable[[Talk], int]) -> int:
    try:
        for number in ENDING:
            if number is signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, _interrupt)
        return main(talk)
    except TimedOut as error:
        talk.error(str(error))
        return TIMED_OUT
    except (ChannelError, BadSegment, OSError, MemoryError) as error:
        talk.error(describe(error))
        return 1
    finally:
        # All is done and said: a signal that comes now would be a traceback.
        for number in ENDING:
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: object) -> None:
    # A second signal ends us at once: whatever we hold, the kernel gives back. But a window that closes sends two
    # SIGHUPs, one from the kernel and one from the shell.
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN if ending == signal.SIGHUP else signal.SIG_DFL)
    raise Interrupted(number)


def _is_ending() -> bool:
    """Whether a signal has come, and with it the next one will end us at once."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def _open_standard_descriptors() -> None:
    """Stand in for closed ones, so that no file of ours becomes somebody's standard output; using them is EBADF."""
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)


def describe(error: BaseException) -> str:
    """One line: what failed, the errno by name, what it means and what to do."""
    if isinstance(error, CallFailed):
        from common.trace import format_failure

        return format_failure(error)
    if isinstance(error, BadSegment):
        return f"the segment is damaged: {error}; `writer.py --remove` removes it"
    if isinstance(error, OSError) and error.errno:
        from common.trace import format_file_error

        return format_file_error(error)
    if isinstance(error, MemoryError):
        return "there is no memory left; a smaller --slot-size needs less, see also `ulimit -v` and `ulimit -d`"
    return str(error)


def find_doorway(options: argparse.Namespace, talk: Talk) -> FlockDoorway:
    """The doorway of the channel that the options name. Raises OSError."""
    patience = Patience(options.timeout, talk.wait)
    reason = Reason(f"waiting for the lock on {options.key_path}, which another process holds", missing=True)
    return FlockDoorway(options.key_path, lambda waited: patience.beat(reason, waited), talk)


def find_place(options: argparse.Namespace, doorway: FlockDoorway, talk: Talk) -> Place:
    """The keys of the channel that the options name. Raises CallFailed."""
    place = Place.of(options.key_path, options.channel, doorway.identity())
    status = os.stat(options.key_path)
    if (status.st_dev, status.st_ino) != doorway.identity():
        raise ChannelError(f"{options.key_path} was replaced just now; start again")
    key = sysv.key_text(place.segment_key)
    talk.step(f'key {key} = ftok("{place.path}", {8 * place.channel + 1})')
    talk.where = f"key {key}, {os.path.abspath(place.path)}, channel {place.channel}"
    return place


def leave(end: End, say_goodbye: Callable[[], bool], talk: Talk, *, failed: bool) -> tuple[bool, int]:
    """Leave the channel and detach, in the doorway: what `say_goodbye` returned, and how many slots are unread.

    Raises ChannelError, BadSegment, CallFailed; when we have `failed` already only the loss of unread slots is said:
    the first error is the one to raise.
    """
    answer, unread, lost = False, 0, 0
    try:
        with end.doorway:
            try:
                answer = say_goodbye()
            finally:
                unread = end.unread()
                lost = unread if _clear_what_goes_with_us(end) else 0
                end.detach()
        if lost:
            raise ChannelError(
                f"kernel.shm_rmid_forced is 1: {plural(lost, 'unread slot')} went with the last detach, which was ours"
            )
    except (ChannelError, BadSegment, CallFailed) as error:
        if not failed:
            raise
        if lost:
            talk.error(describe(error))
    return answer, unread


def _clear_what_goes_with_us(end: End) -> bool:
    """Where the kernel destroys the segment at our detach, the semaphores go with it; whether that is so."""
    try:
        if end.removed or not end.family.goes_with_us():
            return False
        end.family.remove()
    except CallFailed:  # not ours to remove, or gone already
        return False
    end.removed = True
    return True


def plural(count: int, noun: str) -> str:
    """Such as: 1 record, 2 records."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def waiting(slots: int) -> str:
    """What a program that leaves says of the slots it leaves behind."""
    return f"{plural(slots, 'slot')} to be read" if slots else "all of it is read"


def wanted(options: argparse.Namespace) -> Wanted:
    """What the writer's options ask of the channel."""
    return Wanted(options.slots, options.slot_size, options.mode, options.exclusive)


class Tally:
    """Bytes, records and seconds of a transfer: the summary, and with `bar`, on a terminal, a bar after a second.

    `total` is the size of what is to come in bytes, None when that is not known.
    """

    def __init__(self, end: End, options: argparse.Namespace, *, bar: bool, total: int | None = None) -> None:
        self._end = end
        self._began = self._shown = time.monotonic()
        self._total = total
        self._bar: Any = None
        if bar and not (options.quiet or options.no_progress or options.trace) and os.isatty(2):
            end.on_progress = self._progressed

    def _progressed(self) -> None:
        now = time.monotonic()
        if now - self._shown < (REFRESH if self._bar else WORTH_SAYING):
            return
        self._shown = now
        try:
            if self._bar is None:
                self._bar = _progress_bar(self._total)
            self._bar.update(self._bar.task_ids[0], completed=self._end.bytes, refresh=True)
        except OSError:  # the terminal is gone; the transfer is not
            self._end.on_progress = None

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            try:
                self._bar.stop()
            except OSError:
                pass

    def summary(self, verb: str) -> str:
        """Such as: sent 1 record, 6 bytes in 0.001 s (6.0 kB/s)."""
        seconds = time.monotonic() - self._began
        records, size = plural(self._end.records, "record"), plural(self._end.bytes, "byte")
        return f"{verb} {records}, {size} in {seconds:.3f} s ({_rate(self._end.bytes / max(seconds, 1e-9))})"


def _progress_bar(total: int | None) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    # No thread of its own: it would compete with the transfer for the interpreter.
    bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
    bar.add_task("", total=total)
    bar.start()
    return bar


def _rate(bytes_per_second: float) -> str:
    for unit in ("B/s", "kB/s", "MB/s"):
        if bytes_per_second < 1000:
            return f"{bytes_per_second:.1f} {unit}"
        bytes_per_second /= 1000
    return f"{bytes_per_second:.2f} GB/s"


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


def writer_options() -> argparse.Namespace:
    """The writer's command line. Exits with 2 when it makes no sense."""
    parser = _parser("writer", "Put records into a shared memory segment, where reader.py finds them.")
    what = parser.add_argument_group("what to send")
    what.add_argument("message", metavar="MESSAGE", nargs="*", help="one record; without it, standard input")
    what.add_argument("-n", dest="newline", action="store_false", help="no newline behind MESSAGE")
    what.add_argument("--file", metavar="PATH", help="a file, as one record")
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
    add_common_options(parser)
    options = parser.parse_args()
    _refuse_together(parser, options, "message", "file", "lines")
    for instead_of in ("remove", "chmod", "chown"):
        _refuse_together(parser, options, instead_of, "message", "file", "lines")
    _refuse_together(parser, options, "remove", "chmod", "chown")
    if options.resume and options.file is None:
        parser.error("--resume needs --file: only a file can be read again from the middle")
    if options.resume and options.lines:
        parser.error("--resume and --lines do not go together: a file of lines is many records")
    return options


def reader_options() -> argparse.Namespace:
    """The reader's command line. Exits with 2 when it makes no sense."""
    parser = _parser("reader", "Take records out of the shared memory segment that writer.py fills.")
    what = parser.add_argument_group("what to receive")
    what.add_argument("--output", metavar="PATH", help="write the records to a file instead of standard output")
    what.add_argument("--resume", action="store_true", help="continue --output where a dead reader stopped")
    what.add_argument("--count", metavar="N", type=count_option, help="stop after N records")
    what.add_argument("--follow", action="store_true", help="do not end with the last writer: wait for more")
    what.add_argument("--keep", action="store_true", help="remove nothing at the end")
    instead = parser.add_argument_group("instead of receiving")
    instead.add_argument("--status", action="store_true", help="show segment, semaphores and header; consume nothing")
    instead.add_argument("--json", action="store_true", help="--status for a program")
    add_common_options(parser)
    options = parser.parse_args()
    if options.resume and options.output is None:
        parser.error("--resume needs --output: only a file can be cut back to what was received")
    _refuse_together(parser, options, "status", "output", "count", "follow", "keep")
    if options.json and not options.status:
        parser.error("--json needs --status")
    return options


def _refuse_together(parser: argparse.ArgumentParser, options: argparse.Namespace, one: str, *others: str) -> None:
    given = [name for name in (one, *others) if getattr(options, name) not in (None, False, [])]
    if one in given and len(given) > 1:
        parser.error(
            " and ".join("MESSAGE" if name == "message" else f"--{name}" for name in given) + " do not go together"
        )
