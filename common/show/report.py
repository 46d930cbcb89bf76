"""The lab report to hand in: ./run_demo.sh report. One HTML file, which asks for nothing from anywhere.

What it says of this machine was measured and tried for it, just now. How it looks is report.html's.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import json
import os
import platform
import sys
from typing import Any, NamedTuple

from common.cli.options import DEFAULT_FAMILY, FAMILIES
from common.cli.run import run
from common.cli.talk import Talk
from common.errors import ChannelError
from common.show.doctor import examine
from common.show.evidence import run_pair
from common.show.pair import ended, own_directory, own_pair, started
from common.show.trials import try_all

SECONDS = 3.0  # of the comparison's rounds; with the count of the calls it takes twice as long
_MARK = b'<meta name="generator" content="shmpair report">'  # of our reports, near their beginning
_MIB = 2**20


class Cell(NamedTuple):
    """A figure, and how much of its column's best one it is, in percent; "" where there is none."""

    text: str
    percent: float


def main(talk: Talk) -> int:
    """Gather, draw, write."""
    options = _parse()
    _check_output(options.output)
    with own_pair(options.ipc, talk) as pair:
        talk.say("1 of 3: the pair runs")
        person = {name: _printable(getattr(options, name)) for name in ("name", "roll", "date")}
        ran = run_pair(pair, f"Hello, this is {person['name']} ({person['roll']})")
        talk.say("2 of 3: what the lab sheet says is tried")
        tried = list(try_all(pair))
        found, _ = examine(pair.options, talk)
        findings = [finding.data() for finding in found if finding.ipc in ("", pair.ipc)]
    talk.say("3 of 3: other mechanisms are measured (some ten seconds)")
    told = _compare()
    made = {"at": f"{datetime.datetime.now().astimezone():%F %T %z}", "system": platform.platform()}
    page = _render(
        **person, made=made, ipc=options.ipc, ran=ran, tried=tried, findings=findings, **_tabulate(told), told=told
    )
    _put(options.output, page)
    talk.say(f"{os.path.abspath(options.output)}: open it in a browser, and print it from there")
    return 0


def _parse() -> argparse.Namespace:
    """The command line. Exits with 2 when it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="./run_demo.sh report",
        description="The lab report to hand in, made of a run on this machine: one HTML file.",
        allow_abbrev=False,
    )
    parser.add_argument("--name", required=True, help="whose it is")
    parser.add_argument("--roll", required=True, help="the roll number")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="as it is to be shown (today)")
    parser.add_argument("--ipc", choices=FAMILIES, default=DEFAULT_FAMILY, help="which generation of IPC runs (sysv)")
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="report.html",
        help="as seen from the project's directory (report.html); an older report is replaced",
    )
    return parser.parse_args()


def _check_output(path: str) -> None:
    """Before anything takes its time: may we write there, and is nothing lost? Raises OSError, ChannelError."""
    directory = os.path.dirname(path) or "."
    os.stat(directory)
    if not os.access(directory, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
    try:
        with open(path, "rb") as there:
            begin = there.read(1024)
    except FileNotFoundError:
        return
    if begin and _MARK not in begin:
        raise ChannelError(f"{path} is no report of ours, and is left as it is; --output takes another name")


def _put(path: str, page: str) -> None:
    """The whole file or none. Raises OSError."""
    with own_directory(os.path.dirname(path) or ".") as directory:
        whole = os.path.join(directory, "report")
        with open(whole, "w", encoding="utf-8") as file:
            file.write(page)
        os.replace(whole, path)


def _printable(text: str) -> str:
    """With an escape for what no page can show: control characters, bytes that are no text."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _compare() -> dict[str, Any]:
    """The figures of ./run_demo.sh compare, see there. Raises ChannelError."""
    with own_directory() as directory:
        path = os.path.join(directory, "figures")
        with started(["-m", "tests.bench.compare", "--seconds", str(SECONDS), "--json", path]) as child:
            ran = ended(child)
        if ran.code:
            raise ChannelError(ran.last)
        with open(path, encoding="utf-8") as file:
            told: dict[str, Any] = json.load(file)
            return told


def _tabulate(told: dict[str, Any]) -> dict[str, Any]:
    """The comparison's rows and headings: MiB a second by size of a block, and round trips a second."""
    figures = told["mechanisms"]
    sizes = sorted({size for of_one in figures.values() for size in of_one}, key=lambda size: (size == "0", int(size)))
    speeds = {
        name: {size: (int(size) / _MIB or 1) / figure["seconds"] for size, figure in of_one.items()}
        for name, of_one in figures.items()
    }
    best = {size: max(of_one.get(size, 0) for of_one in speeds.values()) for size in sizes}
    rows = [
        (name, [_cell(of_one[size], best[size]) if size in of_one else Cell("-", 0) for size in sizes])
        for name, of_one in speeds.items()
    ]
    return {"headings": [_heading(int(size)) for size in sizes], "rows": rows}


def _cell(value: float, best: float) -> Cell:
    return Cell(f"{value:,.0f}" if value >= 10 else f"{value:.1f}", round(100 * value / best, 1))


def _heading(size: int) -> str:
    """Of a column, with its unit."""
    if not size:
        return "1 byte to and fro, a second"
    return f"{size} B, MiB/s" if size < 1024 else f"{size // 1024} KiB, MiB/s"


def _render(**facts: object) -> str:
    """The page: what is a text in the facts stays a text in it, whatever characters it has."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(os.path.dirname(__file__)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(**facts)


if __name__ == "__main__":
    sys.exit(run("report", main))
