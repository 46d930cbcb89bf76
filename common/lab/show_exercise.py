"""What a person sees of the exercises: all of them, one of them, and whether an answer is right."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from common.lab.catalogue import EXERCISES
from common.lab.exercise import check
from common.lab.show import Page, as_word

_BELOW = """
./run_demo.sh lab check N 'COMMAND' tries a shell command as the answer to N. It
runs in the project's directory, in a scene made for it, and finds in its
environment what the task names, such as $KEY. Solutions: tests/lab/README.md"""


def check_or_show(console: Console, number: int | None, answer: str) -> bool:
    """Try an answer, or show one task or all of them; False when the answer is wrong."""
    page = Page(console)
    if number is not None and answer:
        return _check(page, number, answer)
    for one in range(1, len(EXERCISES) + 1) if number is None else [number]:
        page.prose(Text.assemble(f"{one:2}. ", " ".join(EXERCISES[one - 1].task.split())), indent=8)
    page.line(_BELOW)
    return True


def _check(page: Page, number: int, answer: str) -> bool:
    """What was observed; and, where the answer is wrong, before it all that happened."""
    outcome, log = check(number, answer)
    right = not outcome.failed and all(outcome.observed)
    if not right:
        page.line(f"{log}\n")
    for what, found in zip(EXERCISES[number - 1].promised, outcome.observed, strict=not outcome.failed):
        page.line(f"{what}: {as_word(found)}", "" if found else "red")
    if outcome.failed:
        page.line(f"nothing was observed: {outcome.failed}", "red")
    for command in outcome.unproved:
        page.line(f"new meanwhile, and perhaps your command's; nothing else clears it: {command}", "magenta")
    page.line(f"{number} is {'right' if right else 'not right yet'}", "green" if right else "red")
    return right
