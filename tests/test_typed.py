"""The stand-in for typing.NamedTuple is as good as the original, and nothing imports typing at the start."""

from __future__ import annotations

import sys
import typing

import pytest

from common import typed
from tests.helpers import ROOT, finish
from tests.helpers import Pair as Programs


class Ours(typed.NamedTuple):
    """What a class of ours may have."""

    number: int
    text: str = "default"

    @property
    def twice(self) -> int:
        return 2 * self.number

    def __str__(self) -> str:
        return f"{self.text} {self.number}"


class Theirs(typing.NamedTuple):
    """The same of the original."""

    number: int
    text: str = "default"

    @property
    def twice(self) -> int:
        return 2 * self.number

    def __str__(self) -> str:
        return f"{self.text} {self.number}"


def test_it_is_as_the_original() -> None:
    for made in (Ours(1), Ours(1, "other"), Ours(text="named", number=2), Ours._make((3, "made"))):
        same = Theirs(*made)
        assert (tuple(made), str(made), made.twice) == (tuple(same), str(same), same.twice)
        assert made._asdict() == same._asdict() and made._replace(number=9).number == 9
        assert made == Ours(*made) and hash(made) == hash(Ours(*made))
        assert repr(made) == repr(same).replace("Theirs", "Ours")
    assert (Ours._fields, Ours._field_defaults, Ours.__doc__) == (Theirs._fields, Theirs._field_defaults, Ours.__doc__)
    assert (Ours.__module__, Ours.__name__) == (__name__, "Ours")


def test_nothing_is_added_to_it() -> None:
    with pytest.raises(AttributeError):
        Ours(1).other = 2  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Ours()  # type: ignore[call-arg]


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_no_program_imports_typing(pair: Programs, program: str) -> None:
    """It would be a tenth of its start."""
    assert pair.write("--quiet", "hello").code == 0
    words = pair.command(program, "--quiet", *(["more"] if program == "writer" else []))
    run = [sys.executable, "-X", "importtime", *words[words.index(str(ROOT / f"{program}.py")) :]]
    done = finish(pair.spawn(run))
    assert done.code == 0 and "| argparse" in done.err.replace("|   ", "| ").replace("  ", " ")
    assert " typing\n" not in done.err
    assert pair.write("--remove").code == 0
