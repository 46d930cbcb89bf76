"""The READMEs' pictures are what the programs show now, and a browser needs nothing else to show them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from rich.text import Text

from tests.docs.draw_segment import PICTURE
from tests.docs.pictures import COLUMNS, HERE, as_the_student, draw_all, draw_window
from tests.docs.transcripts import READMES
from tests.helpers import Pair

every_picture = pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.svg")))

SVG = "{http://www.w3.org/2000/svg}"


def test_they_are_drawn_from_what_the_programs_show(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the terminal is at which somebody draws them."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    drawn = draw_all(pair)
    assert {path.name for path in HERE.glob("*.svg")} == {*drawn, PICTURE.name}
    for name, picture in drawn.items():
        assert (HERE / name).read_text() == picture, "draw it anew, and look: python -m tests.docs.pictures"


@every_picture
def test_it_is_small_whole_and_fetches_nothing(name: str) -> None:
    text = (HERE / name).read_text()
    assert len(text.encode()) < 30_000
    assert ElementTree.fromstring(text).tag == f"{SVG}svg"
    assert re.findall(r"https?:|url\(|href|@import|@font-face", text.replace(SVG[1:-1], "")) == []


@every_picture
def test_a_text_shows_it_and_says_what_is_in_it(name: str) -> None:
    alts = re.findall(rf"!\[([^]]*)\]\([^)]*docs/{name}\)", "\n".join(path.read_text() for path in READMES))
    assert alts and all(len(alt) > 20 for alt in alts)


def test_each_character_is_in_its_cell() -> None:
    line = Text.assemble("  a <b", ("  c   e ", "bold"), ("dd", "dim cyan"))
    runs = ElementTree.fromstring(draw_window([Text(), line], 20)).findall(f"{SVG}text")
    assert [(run.text, run.get("x"), run.get("textLength"), run.get("y")) for run in runs] == [
        ("a <b", "30.8", "33.6", "45"),
        ("c", "81.2", "8.4", "45"),
        ("e", "114.8", "8.4", "45"),
        ("dd", "131.6", "16.8", "45"),
    ]
    assert [run.get("font-weight") for run in runs] == [None, "bold", "bold", None]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_line_that_its_terminal_would_break_is_an_error(name: str) -> None:
    with pytest.raises(AssertionError):
        draw_window([Text("x" * (COLUMNS[name] + 1))], COLUMNS[name])


@pytest.mark.parametrize("segment", [0, 2, 6, 8, 8192, 204734495])
def test_only_what_differs_from_run_to_run_is_the_students(segment: int) -> None:
    said = (
        f"shmget(0x01009999, 4202496, IPC_CREAT|IPC_EXCL|0660) = {segment}\n"
        f"shmat({segment}, NULL, 0) = 0x7f0000000000\n"
        "#   what  shmat(2): maps the segment into our address space\n"
        f"shmctl({segment}, IPC_STAT, {{uid=0, gid=5, mode=0660, segsz=4202496, nattch=1}}) = 0\n"
        f"writer: shmget: created segment {segment}: 4202496 bytes, 8 slots of 524288, mode 0660, uid 0\n"
        "# store 6 bytes at 0x7f0000002000, offset 8192: slot 0; head 0 -> 1\n"
    )
    assert as_the_student(said) == (
        "shmget(0x012816e5, 4202496, IPC_CREAT|IPC_EXCL|0660) = 0\n"
        "shmat(0, NULL, 0) = 0x7fe77a9fc000\n"
        "#   what  shmat(2): maps the segment into our address space\n"
        "shmctl(0, IPC_STAT, {uid=1001, gid=1001, mode=0660, segsz=4202496, nattch=1}) = 0\n"
        "writer: shmget: created segment 0: 4202496 bytes, 8 slots of 524288, mode 0660, uid 1001\n"
        "# store 6 bytes at 0x7fe77a9fe000, offset 8192: slot 0; head 0 -> 1\n"
    )
