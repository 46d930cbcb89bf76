"""README.md tells the truth: its picture, its C structs, its options, its commands and its sessions are checked."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sysv_ipc

from common import cli, sysv
from tests.docs.draw_segment import PICTURE, draw
from tests.docs.transcripts import README, Session, Stage, agree, normalise, read_blocks, read_sessions
from tests.helpers import ROOT, keys_of, left_behind

TEXT = README.read_text()
SESSIONS = read_sessions(TEXT)


def section(title: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def test_the_picture_is_drawn_from_the_layout() -> None:
    assert PICTURE.read_text() == draw(), "draw it anew: python -m tests.docs.draw_segment"
    assert f"]({PICTURE.relative_to(ROOT)})" in TEXT


def test_the_c_structs_are_those_of_the_header_file() -> None:
    header = (ROOT / "tests/interop/shmpair.h").read_text()
    blocks = ["\n".join(block.lines) for block in read_blocks(TEXT) if block.info == "c"]
    assert blocks
    for block in blocks:
        assert "struct shmpair_header {" in block
        assert block in header


def test_the_sections_stand_in_order() -> None:
    assert re.findall(r"^## (.*)", TEXT, re.MULTILINE) == [
        "Quick start",
        "Two terminals",
        "Every option",
        "The lab's calls",
        "The header as a C struct",
        "How it works",
        "Limits and portability",
        "Reliability",
        "Speed",
        "For the oral exam",
        "Tests",
    ]


def documented_options(*titles: str) -> set[str]:
    """The options in the tables under these headings, with their values: "--file PATH"."""
    rows = "".join(section(title) for title in titles)
    cells = re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE)
    return {option for cell in cells for option in re.findall(r"`(.*?)`", cell) if option[0] in "-M"}


def helped_options(program: str) -> set[str]:
    """The options that --help shows, with their values."""
    # Wide, so that an option and its help stand on one line.
    told = subprocess.run(
        [sys.executable, ROOT / f"{program}.py", "--help"],
        env={"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    shown = re.findall(r"^  (\S.*?)(?:  .*)?$", told[told.index("\noptions:") :], re.MULTILINE)
    return {option for line in shown for option in line.split(", ")}


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_every_option_is_documented_and_none_is_invented(program: str) -> None:
    documented = documented_options(f"{program}.py", "Both")
    assert {option.replace("MESSAGE ...", "MESSAGE") for option in documented} == helped_options(program)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every call of a program in the README: in tables, in sentences, in sessions; its name and its arguments."""
    text = TEXT.replace("\\|", "|").replace(" 2>&1", "")
    for program, rest in re.findall(r"python (writer|reader)\.py([^|&;<>`\n)]*)", text):
        yield program, shlex.split(rest.rstrip("'") if rest.count("'") % 2 else rest)


@pytest.mark.parametrize(("program", "arguments"), list(command_lines()), ids=str)
def test_every_command_line_is_one_that_we_accept(
    program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{program}.py", *arguments])
    getattr(cli, f"{program}_options")()


def test_every_call_of_ours_is_in_the_table() -> None:
    table = section("The lab's calls")
    named = set(re.findall(r"\| `(\w+)` \|", table))
    with_prototype = {
        name for name, value in vars(sysv).items() if callable(value) and re.search(r"\bC: ", value.__doc__ or "")
    }
    assert named == with_prototype


def test_every_file_that_is_named_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    names = re.findall(r"`((?:tests|common)/[\w/.]+)", TEXT)
    missing = [name for name in {*links, *names} if not (ROOT / name).exists()]
    assert not missing


def test_there_are_twenty_questions_each_with_its_proof() -> None:
    questions = re.findall(r"^\*\*(\d+)\. .*\?\*\*", section("For the oral exam"), re.MULTILINE)
    assert questions == [str(number) for number in range(1, 21)]
    assert len([session for session in SESSIONS if session.title[0].isdigit()]) == 20


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, key_path: Path) -> Iterator[Stage]:
    """A project directory of our own, with keys that no other worker has (see key_path); nothing may stay behind."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        directory = tmp_path_factory.mktemp("project")
        keys = keys_of(directory)
        if directory.stat().st_ino % workers == key_path.stat().st_ino % workers and not left_behind(keys):
            break
    yield Stage(directory)
    left = left_behind(keys)
    for kind, row in left:
        (sysv_ipc.remove_shared_memory if kind == "shm" else sysv_ipc.remove_semaphore)(int(row.split()[1]))
    assert not left, left


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: re.sub(r"\W+", "-", session.title))
def test_the_sessions_come_out_as_shown(session: Session, stage: Stage) -> None:
    for tool in ("strace", "ipcs", "ipcrm"):
        if any(tool in command for block in session.blocks for command in block.commands) and not shutil.which(tool):
            pytest.skip(f"needs {tool}: install the package {'strace' if tool == 'strace' else 'util-linux'}")
    for block, real in zip(session.blocks, stage.play(session), strict=True):
        if not agree(block, real):
            assert normalise(real) == normalise(block.lines), f"README.md, line {block.start + 1}"
