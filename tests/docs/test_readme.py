"""The READMEs tell the truth: pictures, C structs, options, links and tables are checked, every block is run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.cli import options as command_line
from common.ipc.call_meanings import CALLS as SYSV_MEANINGS
from common.ipc.calls import Calls
from common.ipc.doorway import FlockDoorway
from common.ipc.meanings import meaning_of_call
from common.ipc.posix_call_meanings import POSIX_CALLS as POSIX_MEANINGS
from common.ipc.posix_calls import PosixCalls
from common.ipc.sysv_calls import SysvCalls
from tests.docs.draw_segment import PICTURE, draw
from tests.docs.transcripts import READMES, Stage, agree, normalise, read_blocks, read_steps
from tests.helpers import ROOT, clear_away, is_mine, keys_of, left_behind
from tests.lab.cases import LAB_README, rows_under

README, COMMON = READMES[:2]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in READMES}
TEXT = TEXTS["README.md"]

CALLS: dict[str, type[Calls]] = {"The calls": SysvCalls, "The calls of POSIX": PosixCalls}  # by heading, in the lab

every_readme = pytest.mark.parametrize("name", TEXTS)


def section(title: str) -> str:
    """What stands under a heading of the README, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def test_there_is_no_other_readme() -> None:
    found = {path for path in ROOT.rglob("*.md") if not re.search(r"/\.\w", str(path.relative_to(ROOT.parent)))}
    assert found == set(READMES)


def test_the_picture_is_drawn_from_the_layout() -> None:
    assert PICTURE.read_text() == draw(), "draw it anew: python -m tests.docs.draw_segment"
    assert f"]({PICTURE.relative_to(ROOT)})" in TEXT


def test_the_c_structs_are_those_of_the_header_file() -> None:
    header = (ROOT / "tests/interop/shmpair.h").read_text()
    blocks = ["\n".join(block.lines) for text in TEXTS.values() for block in read_blocks(text) if block.info == "c"]
    assert blocks
    for block in blocks:
        assert "struct shmpair_header {" in block
        assert block in header


def test_the_readme_fits_its_three_hundred_lines() -> None:
    assert TEXT.count("\n") <= 300


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@every_readme
def test_the_table_of_contents_is_complete_and_in_order(name: str) -> None:
    headings = re.findall(r"^## (.*)", TEXTS[name], re.MULTILINE)
    contents = re.findall(r"\[([^]]*)\]\(#([^)]*)\)", TEXTS[name].partition("\n## ")[0])
    assert contents == [(heading, anchor(heading)) for heading in headings]


@every_readme
def test_every_link_leads_somewhere(name: str) -> None:
    here = (ROOT / name).parent
    for path, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^):]+)\)", TEXTS[name])):
        target = here / path if path else ROOT / name
        assert target.exists(), path
        if heading:
            assert heading in [anchor(found) for found in re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)]


@every_readme
def test_every_file_that_is_named_exists(name: str) -> None:
    """As `tests/lab/cases.py` or `common/`, or as a file beside the README."""
    named = re.findall(r"`((?:tests|common)/[\w/.]*|\w[\w/]*\.(?:py|h|c|sh))`", TEXTS[name])
    missing = [path for path in named if not (ROOT / path).exists() and not (ROOT / name).with_name(path).exists()]
    assert not missing


@every_readme
def test_every_module_that_is_to_be_run_exists_and_has_the_options(name: str) -> None:
    """What takes too long for the tests, such as `python -m tests.bench.soak --minutes 20`, is at least accepted."""
    for module, rest in re.findall(r"python -m (tests[\w.]*)([^`\n]*)", TEXTS[name]):
        path = ROOT / module.replace(".", "/")
        source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert [option for option in re.findall(r"--[\w-]+", rest) if f'"{option}"' not in source] == []


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


def command_lines() -> set[tuple[str, tuple[str, ...]]]:
    """Every call of a program in the READMEs: in tables, in sentences, in sessions; its name and its arguments."""
    text = "\n".join(TEXTS.values()).replace("\\|", "|").replace(" 2>&1", "").replace(" 2> /dev/null", "")
    return {
        (program, tuple(shlex.split(rest.rstrip("'") if rest.count("'") % 2 else rest)))
        for program, rest in re.findall(r"python (writer|reader)\.py([^|&;<>`\n)]*)", text)
    }


@pytest.mark.parametrize(("program", "arguments"), sorted(command_lines()), ids=str)
def test_every_command_line_is_one_that_we_accept(
    program: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{program}.py", *arguments])
    getattr(command_line, f"{program}_options")()


@pytest.mark.parametrize("heading", CALLS)
def test_every_call_of_ours_is_in_the_table(heading: str) -> None:
    named = [function.strip("`") for _, _, function, _ in rows_under(LAB_README, heading)]
    methods = [*{**vars(Calls), **vars(CALLS[heading])}.items(), ("FlockDoorway", FlockDoorway)]
    if heading == "The calls of POSIX":
        methods.pop()  # it is in the other table
    with_prototype = {name for name, value in methods if callable(value) and re.search(r"\bC: ", value.__doc__ or "")}
    assert len(named) == len(set(named))
    assert set(named) == with_prototype


def test_an_address_is_that_of_the_segment_and_the_offset() -> None:
    base, checked = {}, 0
    for program, attached, at, offset in re.findall(
        r"^(writer|reader): .*(?:attached it at (0x\w+)|bytes? at (0x\w+), offset (\d+):)", TEXT, re.MULTILINE
    ):
        if attached:
            base[program] = int(attached, 16)
        else:
            assert int(at, 16) == base[program] + int(offset), (at, offset)
            checked += 1
    assert checked > 5


def test_the_tables_say_what_explain_says() -> None:
    rows = [row for heading in CALLS for row in rows_under(LAB_README, heading)]
    assert [row[:2] for row in rows] == [[row[0], meaning_of_call(row[0]).what] for row in rows]
    of_no_row = {"flock LOCK_UN", "fcntl F_RDLCK", "sem_timedwait"}  # the same function's, or of an old C library
    of_no_row |= {f"{call} IPC_SET, to ask with uid -1" for call in ("shmctl", "semctl")}  # the same function's
    assert {row[0] for row in rows} == (SYSV_MEANINGS | POSIX_MEANINGS).keys() - of_no_row


def test_there_are_twenty_questions_each_with_its_proof() -> None:
    exam = LAB_README.read_text().partition("## For the oral exam\n")[2].partition("\n## ")[0]
    questions = re.split(r"^(?=\*\*\d)", exam, flags=re.MULTILINE)[1:]
    assert [re.findall(r"^\*\*(\d+)\. .*\?\*\*", question) for question in questions] == [
        [str(number)] for number in range(1, 21)
    ]
    assert all(question.count("```console\n") == 1 for question in questions)


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, key_path: Path) -> Iterator[Stage]:
    """A project directory of our own, with keys that no other worker has (see key_path); nothing may stay behind."""
    while True:
        directory = tmp_path_factory.mktemp("project")
        keys = keys_of(directory)
        if is_mine(directory) and not left_behind(keys):
            break
    yield Stage(directory)
    left = clear_away(keys)
    assert not left, left


def require_tools(commands: str) -> None:
    for tool, package in {"strace": "strace", **dict.fromkeys(("ipcs", "ipcrm", "ipcmk"), "util-linux")}.items():
        if re.search(rf"\b{tool}\b", commands) and not shutil.which(tool):
            pytest.skip(f"needs {tool}: install the package {package}")


@pytest.mark.timeout(600)
@every_readme
def test_from_top_to_bottom_everything_comes_out_as_shown(name: str, stage: Stage) -> None:
    """In one directory, in the order in which it stands: what one block leaves is there for the next one."""
    steps = read_steps(TEXTS[name])
    require_tools("\n".join(command for step in steps for block in step.typed for command in block.commands))
    wrong: list[tuple[str, list[str], list[str]]] = []
    for step in steps:
        commands = [command for block in step.typed for command in block.commands]
        where = f"{name}, line {step.typed[0].start + 1}"
        try:
            played = stage.play(step)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}\nbefore that: {wrong}") from error
        for shown, real in zip(step.shown, played, strict=True):
            if shown and not agree(commands, shown.lines, real):
                wrong.append((where, normalise(real), normalise(shown.lines)))
    for where, real_lines, shown_lines in wrong:
        assert real_lines == shown_lines, f"{where}; these as well: {[place for place, *_ in wrong]}"
    assert stage.litter() == []


@pytest.mark.parametrize(
    ("what", "command"),
    [(row[0], row[3].strip("`")) for heading in CALLS for row in rows_under(LAB_README, heading)],
)
def test_a_call_is_shown_by_its_command(what: str, command: str, stage: Stage) -> None:
    require_tools(command)
    family = " --ipc posix" if "--ipc posix" in command else ""
    if not command.endswith(" hello"):
        stage.run([f"python writer.py{family} --quiet hello"])
    call, _, argument = what.partition(",")[0].partition(" ")
    _, (said,) = stage.run([command])
    assert re.search(rf"^{call}\(.*{argument}.* = ", said, re.MULTILINE), said
    stage.run([f"python writer.py{family} --quiet --remove"])


@pytest.mark.parametrize(
    "text",
    [
        "```text\nnobody shows this\n```\n",
        "```sh\ntrue\n```\n```c\n```\n```text\nnor this\n```\n",
        "```python\nprint()\n```\n",
        "```\nwhat is it?\n```\n",
        "```sh terminal 1\ntrue\n```\n```text\nalone\n```\n",
        "```sh terminal 1\ntrue\n```\n```sh terminal 2\ntrue\n```\n",
    ],
)
def test_a_block_that_nothing_would_run_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        read_steps(text)


def test_a_block_that_fails_or_says_something_else_is_found(stage: Stage) -> None:
    (fails,) = read_steps("```sh\nfalse\n```\n")
    with pytest.raises(AssertionError, match="exit code 1"):
        stage.play(fails)
    (lies,) = read_steps("```sh\necho yes\n```\n\n```text\nno\n```\n")
    assert lies.shown[0] and not agree(lies.typed[0].commands, lies.shown[0].lines, stage.play(lies)[0])


def test_what_a_block_leaves_is_there_for_the_next_one(stage: Stage) -> None:
    for step in read_steps("```sh\necho left > file\n```\n\n```console\n$ cat file\nleft\n```\n"):
        assert step.shown[0] is None or stage.play(step) == [step.shown[0].lines]
        stage.play(step)
    assert stage.litter() == ["file"]
