"""What a transfer has moved: the summary and the progress bar."""

from __future__ import annotations

import argparse
import os
import time

from common.channel.end import End
from common.cli.talk import WORTH_SAYING, Talk
from common.layout import UNKNOWN, SlotHeader
from common.typed import Any
from common.words import amount, plural

REFRESH = 0.2  # of the progress bar, in seconds
ERASE_LINE = "\r\x1b[2K"  # ECMA-48: CR, EL
WORTH_MEASURING = 0.1  # a rate of what took less says nothing


class Tally:
    """Bytes, records and seconds of a transfer: the summary, and with `bar`, on a terminal, a bar after a second."""

    def __init__(self, end: End, options: argparse.Namespace, talk: Talk, *, bar: bool) -> None:
        self._end = end
        self._talk = talk
        self._began = self._shown = time.monotonic()
        self._bar: Any = None
        self._file = -1  # the record that is a file, of many fragments
        lines = options.trace or options.slow is not None or options.pause_at  # are said as it goes on
        if bar and not (options.quiet or options.no_progress or lines) and os.isatty(2):
            talk.progress = self._progressed

    def _progressed(self, slot: SlotHeader, length: int) -> None:
        now = time.monotonic()
        if now - self._shown < (REFRESH if self._bar else WORTH_SAYING):
            return
        self._shown = now
        # Of a file both sides know where in it they are, however they came there; of anything else only what came.
        if slot.total != UNKNOWN and not slot.ends_record:
            self._file = slot.record
        done, total = (slot.end, slot.total) if slot.record == self._file else (self._end.bytes, None)
        try:
            if self._bar is None:
                self._bar = _progress_bar(done, total)
                self._talk.before_text = ERASE_LINE
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, refresh=True)
        except OSError:  # the terminal is gone; the transfer is not
            self._talk.progress = None

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._talk.progress, self._talk.before_text = None, ""
        if self._bar is not None:
            try:
                self._bar.stop()
            except OSError:
                pass

    def summary(self, verb: str) -> str:
        """Such as: sent 1 record, 6 bytes; what took a while, with its time and rate: in 1.234 s (2.35 GB/s)."""
        seconds = time.monotonic() - self._began
        records, size = plural(self._end.records, "record"), plural(self._end.bytes, "byte")
        rate = f" in {seconds:.3f} s ({amount(self._end.bytes / seconds)}/s)" if seconds >= WORTH_MEASURING else ""
        return f"{verb} {records}, {size}{rate}"


def _progress_bar(begun: int, total: int | None) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    class Terminal(Console):
        """Its cursor stays in sight: after SIGSTOP or SIGKILL nobody could show it again."""

        def show_cursor(self, show: bool = True) -> bool:
            return False

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    # No thread of its own: it would compete with the transfer for the interpreter.
    bar = Progress(*columns, console=Terminal(stderr=True), auto_refresh=False, transient=True)
    bar.add_task("", total=total, completed=begun)  # not in its speed
    bar.start()
    return bar
