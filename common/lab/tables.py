"""The sentences and the experiments as tables in Markdown, for tests/lab/README.md."""

from __future__ import annotations

from collections.abc import Iterator

from common.lab.catalogue import PARTS, THE_SHEET
from common.lab.experiment import Experiment
from common.lab.sheet import SHEET, Sentence
from common.lab.show import as_word


def sheet_tables() -> str:
    """One row for each sentence, and one for each experiment about them."""
    return "\n".join(
        (
            "| | the sheet, in short | verdict | shown by |",
            "| --- | --- | --- | --- |",
            *(_sentence(number, sentence) for number, sentence in enumerate(SHEET, 1)),
            "",
            *_experiments(THE_SHEET),
        )
    )


def other_tables() -> str:
    """The experiments about something else, part by part."""
    parts = (
        f"**{part[0].upper()}{part[1:]}**\n\n" + "\n".join(_experiments(part)) for part in PARTS if part != THE_SHEET
    )
    return "\n\n".join(parts)


def _experiments(part: str) -> Iterator[str]:
    yield from ("| experiment | question | observed | needs |", "| --- | --- | --- | --- |")
    yield from map(_experiment, PARTS[part])


def _sentence(number: int, sentence: Sentence) -> str:
    verdict = f"{sentence.verdict.value}: {sentence.why}" if sentence.why else sentence.verdict.value
    shown = ", ".join(f"`{name}`" for name in sentence.experiments or filter(None, (sentence.shown,)))
    return _row(str(number), _cell(sentence.text), _cell(verdict), shown)


def _experiment(one: Experiment) -> str:
    observed = "; ".join(f"{what}: {as_word(value)}" for what, value in one.promised.items())
    return _row(f"`{one.name}`", _cell(one.question), _cell(observed), ", ".join(one.needs))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
