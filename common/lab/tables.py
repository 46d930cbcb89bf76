"""The sentences and the experiments as tables in Markdown, for tests/lab/README.md."""

from __future__ import annotations

from common.lab.catalogue import EXPERIMENTS
from common.lab.experiment import Experiment
from common.lab.sheet import SHEET, Sentence
from common.lab.show import as_word


def tables() -> str:
    """One row for each sentence, and one for each experiment."""
    return "\n".join(
        (
            "| | the sheet, in short | verdict | shown by |",
            "| --- | --- | --- | --- |",
            *(_sentence(number, sentence) for number, sentence in enumerate(SHEET, 1)),
            "",
            "| experiment | question | observed | needs |",
            "| --- | --- | --- | --- |",
            *map(_experiment, EXPERIMENTS.values()),
        )
    )


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
