"""What a person sees of an experiment, and of all of them."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.lab.catalogue import EXPERIMENTS, PARTS, THE_SHEET
from common.lab.experiment import Experiment, Value
from common.lab.needs import missing
from common.lab.runner import Outcome, perform
from common.lab.sheet import Verdict, sentences_of

_COLOURS = {Verdict.HOLDS: "green", Verdict.NUANCE: "magenta", Verdict.FALSE: "red", Verdict.NO_CLAIM: ""}
_INDENT = "    "
_BELOW = """./run_demo.sh lab NAME runs one of them, ./run_demo.sh lab --all all of them;
./run_demo.sh lab check shows twelve exercises, and checks an answer.
The classic pair: common/lab/classic_writer.py, common/lab/classic_reader.py
They need: root, everybody's rights; namespace, an IPC namespace of one's own;
limits, one whose limits one may change; strace and cc, these programs;
overcommit, a kernel that counts memory (vm.overcommit_memory is not 1).
The sentences have the numbers of tests/lab/README.md; of the second, "by far
the fastest", ./run_demo.sh compare shows what is true."""
WIDEST = 100  # columns; longer lines of prose are hard to read


def show_list(console: Console) -> None:
    """Each experiment with its question, the sentences that it answers and what it needs, part by part."""
    width = max(map(len, EXPERIMENTS))
    for part, experiments in PARTS.items():
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", title_style="bold")
        table.add_column("experiment", no_wrap=True, min_width=width)
        for title in ("question", "sentences", "needs") if part == THE_SHEET else ("question", "needs"):
            table.add_column(title)
        for one in experiments:
            numbers = [number for number, _ in sentences_of(one.name)]
            cells = (as_ranges(numbers),) if part == THE_SHEET else ()
            table.add_row(one.name, Text(one.question), *cells, " ".join(one.needs))
        console.print(f"{part[0].upper()}{part[1:]}\n", style="bold", markup=False)
        console.print(table)
        console.print()
    console.print(_BELOW, markup=False, soft_wrap=True)


def as_ranges(numbers: list[int]) -> str:
    """Numbers that go up, such as "11 13 19-24"."""
    first = [number for number in numbers if number - 1 not in numbers]
    last = [number for number in numbers if number + 1 not in numbers]
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True))


class Page:
    """What is written about one experiment, from top to bottom."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str | Text, style: str = "") -> None:
        """One line, at once: more than one process writes. A terminal has it folded at blanks, a pipe as it is."""
        whole = Text(text, style) if isinstance(text, str) else text
        for one in whole.split("\n", allow_blank=True) if self._console.is_terminal else [whole]:
            self._console.print(self._folded(one), soft_wrap=True)
        self._console.file.flush()

    def _folded(self, line: Text) -> Text:
        """The line, whose second and further ones on a narrow terminal are indented below the first."""
        indent = len(line.plain) - len(line.plain.lstrip()) + len(_INDENT)
        if not self._console.is_terminal or line.cell_len <= self._console.width:
            return line
        parts = line.wrap(self._console, max(self._console.width - indent, 1))
        for part in parts:
            part.rstrip()
        return Text(f"\n{' ' * indent}").join(parts)

    def heading(self, text: str) -> None:
        """What comes now."""
        self.line(f"\n{text}", "bold")

    def prose(self, text: Text, indent: int = 4) -> None:
        """A paragraph; its first line begins at column 4, the others at `indent`."""
        start = 4
        for line in text.wrap(self._console, min(self._console.width, WIDEST) - indent):
            line.rstrip()
            self.line(Text.assemble(" " * start, line))
            start = indent


def show(experiment: Experiment, console: Console) -> bool:
    """Run one and show all of it; False when it does not do what it promises."""
    page = Page(console)
    page.line(f"{experiment.name}: {experiment.question}", "bold")
    page.heading(f"the experiment, in {experiment.observe.__module__.replace('.', '/')}.py")
    page.line(textwrap.indent(experiment.source, _INDENT))
    lacking = missing(experiment.needs)
    for line in lacking:
        page.line(f"\nIt cannot run here: it needs {line}", "magenta")
    outcome = Outcome(list(experiment.promised.values())) if lacking else perform(experiment, page)
    page.heading("one would observe" if lacking else "observed")
    kept = _show_outcome(experiment, outcome, page)
    page.heading("what one learns")
    lesson = Text(experiment.lesson)
    lesson.highlight_regex(r"(?m)^(Symptom|Cause|Cure):", "bold")
    page.prose(lesson)
    sentences = sentences_of(experiment.name)
    if sentences:
        page.heading(THE_SHEET)
    for number, sentence in sentences:
        why = f" ({sentence.why})" if sentence.why else ""
        page.prose(Text.assemble(f"{number:2}. {sentence.text}: ", _verdict(sentence.verdict), why), indent=8)
    return kept


def _verdict(verdict: Verdict) -> tuple[str, str]:
    return verdict.value, _COLOURS[verdict]


def _show_outcome(experiment: Experiment, outcome: Outcome, page: Page) -> bool:
    """What was observed, beside what is promised where the two differ; whether they do not."""
    if outcome.failed:
        page.line(f"{_INDENT}nothing: {outcome.failed}", "red")
        return False
    for (what, promised), found in zip(experiment.promised.items(), outcome.observed, strict=True):
        line = Text.assemble(f"{_INDENT}{what}: ", (as_word(found), "bold"))
        if found != promised:
            line.append(f"  NOT AS PROMISED, which is {as_word(promised)}", "red")
        page.line(line)
    return list(experiment.promised.values()) == outcome.observed


def as_word(value: Value) -> str:
    """A value as it is shown."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
