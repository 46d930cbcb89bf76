"""The lab's command line: `./run_demo.sh lab`, or `python -m common.lab`.

An experiment for each sentence of the lab sheet, and for what may go wrong: without a name the list of them.
"""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console

from common.cli.run import exit_on_signals
from common.lab.catalogue import EXERCISES, EXPERIMENTS
from common.lab.show import show, show_list
from common.lab.show_exercise import check_or_show
from common.lab.tables import other_tables, sheet_tables


class _Console(Console):
    """Says when nobody reads any more, where rich's own ends the program with 1."""

    def on_broken_pipe(self) -> None:
        """`lab | head`."""
        raise BrokenPipeError


def parse() -> argparse.Namespace:
    """The options; an unknown experiment or exercise is a usage error."""
    parser = argparse.ArgumentParser(
        "run_demo.sh lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment to run; or check: the exercises")
    parser.add_argument("number", nargs="?", type=int, metavar="N", help="after check: the exercise to show")
    parser.add_argument("answer", nargs="*", metavar="ANSWER", help="and a shell command that is to solve it")
    parser.add_argument("--all", action="store_true", help="run all of them, in the order of the list")
    parser.add_argument("--table", action="store_true", help="the tables of tests/lab/README.md")
    options = parser.parse_args()
    if options.name == "check":
        if options.number is not None and not 1 <= options.number <= len(EXERCISES):
            parser.error(f"there are exercises 1 to {len(EXERCISES)}")
    elif options.number is not None:
        parser.error("a number is for check only")
    elif options.name and options.name not in EXPERIMENTS:
        parser.error(f"there is no experiment {options.name!r}; without a name, all of them are listed")
    return options


def main() -> int:
    """Do what was asked for; 1 when it fails."""
    options = parse()
    exit_on_signals()  # what was made is removed on the way out
    try:
        return 0 if run(options, _Console(highlight=False)) else 1
    except BrokenPipeError:  # whoever was looking has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is not written yet would be a complaint of Python's
        return 0
    except OSError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace, console: Console) -> bool:
    """Show the list, the tables, or experiments; False when one does not do what it promises."""
    if options.table:
        console.out(f"{sheet_tables()}\n\n{other_tables()}", highlight=False)
        return True
    if options.name == "check":
        return check_or_show(console, options.number, " ".join(options.answer))
    chosen = list(EXPERIMENTS.values()) if options.all else [EXPERIMENTS[options.name]] if options.name else []
    if not chosen:
        show_list(console)
    kept = True
    for experiment in chosen:
        if experiment is not chosen[0]:
            console.rule(style="default")
        kept = show(experiment, console) and kept
    return kept


if __name__ == "__main__":
    sys.exit(main())
