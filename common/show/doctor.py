"""What would go wrong here before anything is made, and what is left of what was: reader.py --doctor.

It only reads. Exit code 1 when something stands in the way of the channel that the options name; what concerns the
other family, or other channels, is noted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress

from common.channel.listener import Listener
from common.channel.patience import Patience
from common.cli.leaving import options_of_channel, quoted
from common.cli.options import PROJECT
from common.cli.run import describe
from common.cli.talk import Talk
from common.ipc import machine
from common.ipc.survey import Survey, users
from common.ipc.sysv_calls import forced_removal
from common.ipc.sysv_survey import SysvSurvey
from common.show import findings
from common.show.channels import Channel, look_at
from common.show.findings import NOTE, OK, STOP, Finding
from common.show.here import check_here
from common.show.screen import NARROWEST, printable
from common.show.status import put_out, wants_ascii, wants_color
from common.words import plural

# How long a lock on a key path may be held, in seconds, before it is in the way; ours mostly take a thousandth of that.
LOCKED = 1.0
RIGHTS = ("CAP_IPC_OWNER", "CAP_SYS_ADMIN")  # over the objects of others
_STYLES = {OK: "green", NOTE: "yellow", STOP: "bold red"}


def show_doctor(options: argparse.Namespace, talk: Talk) -> int:
    """Look at everything, say it, and whether anything stands in the way."""
    found, surveys = examine(options, talk)
    channels = _look_around(surveys, options, _patience(options, talk))
    stops = sum(finding.mark == STOP for finding in found)
    if options.json:
        told = {"in_the_way": stops, "findings": [finding.data() for finding in found]}
        put_out(json.dumps({**told, "channels": [channel._asdict() for channel in channels]}, indent=2) + "\n")
    else:
        verdict = f"{plural(stops, 'thing')} in the way" if stops else "nothing stands in the way"
        lines = [*found, *(channel.finding() for channel in channels)]
        where = f"channel {options.channel} of {os.path.abspath(options.key_path)}, --ipc {options.ipc}"
        put_out(draw(lines, where, verdict, plain=wants_ascii(), color=wants_color()))
    return 1 if stops else 0


def examine(options: argparse.Namespace, talk: Talk) -> tuple[list[Finding], dict[str, Survey]]:
    """All that may stand in the way of the channel that the options name; no other channel is touched.

    And what can look around for the others, by --ipc's names.
    """
    talk.channel_options = options_of_channel(options)
    surveys, libraries = _load_surveys(talk)
    here, exists = check_here(surveys.get(options.ipc), options, _patience(options, talk))
    here = [finding._replace(text=talk.to_be_typed(finding.text)) for finding in here]
    found = [finding.weigh(options.ipc, exists=exists) for finding in (*_check_machine(), *libraries, *here)]
    return found, surveys


def _patience(options: argparse.Namespace, talk: Talk) -> Patience:
    return Patience(LOCKED if options.timeout is None else options.timeout, talk)


def draw(
    found: Iterable[Finding], title: str, verdict: str, *, plain: bool, color: bool, width: int | None = None
) -> str:
    """A line a finding, as long as it fits; a command stands on its own line, whole, however long it is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=color, highlight=False, width=width)
    console.width = max(console.width, NARROWEST)
    console.print(printable(title, plain), style="bold", markup=False, emoji=False, soft_wrap=True)
    for finding in found:
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(width=4)
        row.add_column(width=11)
        row.add_column(overflow="fold")
        row.add_row(Text(finding.mark, _STYLES[finding.mark]), finding.about, Text(printable(finding.text, plain)))
        console.print(row)
        if finding.do:
            console.print(Text(f"       {_typed(finding.do, plain)}"), soft_wrap=True)
    console.print(verdict, style="bold", soft_wrap=True)
    return "".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines())


def _typed(command: str, plain: bool) -> str:
    """The command as a terminal shows it, and as it can be typed."""
    if plain and not command.isascii():  # a key path: all else is ASCII
        return " ".join(quoted(word, plain=True) for word in shlex.split(command))
    return printable(command, plain)


def _posix_survey(listener: Listener) -> Survey:
    from common.ipc.posix_survey import PosixSurvey

    return PosixSurvey(listener)


def _load_surveys(talk: Talk) -> tuple[dict[str, Survey], list[Finding]]:
    """What can look around, by --ipc's names, and what is to be said of the libraries."""
    surveys: dict[str, Survey] = {}
    found = []
    for ipc, load in (("sysv", SysvSurvey), ("posix", _posix_survey)):
        try:
            surveys[ipc] = load(talk)
            found.append(Finding(OK, "library", surveys[ipc].library(), ipc=ipc))
        except SystemExit as error:  # the package is not installed
            found.append(Finding(STOP, "library", str(error), ipc=ipc))
    return surveys, found


def _check_machine() -> list[Finding]:
    """What is true of every channel."""
    uid = os.geteuid()
    return [
        findings.check_platform(),
        *_reading("user", lambda: [findings.check_user(uid, os.getegid(), machine.missing_capabilities(*RIGHTS))]),
        *_reading("namespace", lambda: [findings.check_namespace(machine.ipc_namespace())]),
        *_reading("limits", lambda: findings.check_limits(machine.read_limits(), machine.read_used())),
        findings.check_forced_removal(forced_removal()),
        *_reading(machine.DEV_SHM, lambda: [findings.check_dev_shm(machine.read_dev_shm(), uid)]),
        findings.check_file_size(*machine.file_size_limits(), uid),
        *_reading("sem files", lambda: [findings.check_temporary(machine.temporary_semaphores(uid))]),
        findings.check_logout(uid, machine.removes_at_logout(), lingers=machine.lingers(uid)),
    ]


def _reading(about: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """What the check finds; what cannot be read is no reason to say nothing of the rest."""
    try:
        return check()
    except OSError as error:
        return [Finding(NOTE, about, f"cannot be read: {describe(error)}")]


def _look_around(surveys: dict[str, Survey], options: argparse.Namespace, patience: Patience) -> list[Channel]:
    """Every channel of either family."""
    attached, channels = users(), []
    for survey in surveys.values():
        with suppress(OSError):  # what cannot be gone through is said by the findings on limits and files
            for found in survey.candidates():
                pids = attached.get(found.mapped, [])
                channels.append(look_at(survey, found, (options.key_path, PROJECT), pids, patience))
    return [channel for channel in channels if channel]
