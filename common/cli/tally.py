"""What a transfer has moved: the summary and the progress bar."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from common.channel.end import End
from common.cli.talk import WORTH_SAYING
from common.cli.words import plural

REFRESH = 0.2  # of the progress bar, in seconds


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

    class Terminal(Console):
        """Its cursor stays in sight: after SIGSTOP or SIGKILL nobody could show it again."""

        def show_cursor(self, show: bool = True) -> bool:
            return False

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    # No thread of its own: it would compete with the transfer for the interpreter.
    bar = Progress(*columns, console=Terminal(stderr=True), auto_refresh=False, transient=True)
    bar.add_task("", total=total)
    bar.start()
    return bar


def _rate(bytes_per_second: float) -> str:
    for unit in ("B/s", "kB/s", "MB/s"):
        if bytes_per_second < 1000:
            return f"{bytes_per_second:.1f} {unit}"
        bytes_per_second /= 1000
    return f"{bytes_per_second:.2f} GB/s"
