"""The lab's experiments (common/lab/): each does what it promises, as root and as another user, and leaves nothing."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import sysv_ipc
from rich.console import Console

from common.ipc.machine import read_table
from common.lab.catalogue import EXPERIMENTS, PARTS, THE_SHEET
from common.lab.needs import NEEDS, missing
from common.lab.own import as_ipcs
from common.lab.sheet import SHEET, Verdict, sentences_of
from common.lab.show import Page, as_ranges, show
from common.lab.tables import other_tables, sheet_tables
from tests.helpers import ROOT, Finished, finish, wait_until
from tests.helpers import Pair as Programs
from tests.lab.cases import LAB_README, rows_under
from tests.lab.shell import second_user

NOT_FOR_OTHERS = {"root", "namespace", "limits"}  # needs that only root meets

every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


def run_lab(pair: Programs, *arguments: str, prefix: list[str] | None = None) -> Finished:
    """Run the lab with its files in a directory of its own, in which nothing may stay."""
    scratch = pair.directory / "scratch"
    scratch.mkdir(mode=0o777, exist_ok=True)
    scratch.chmod(0o777)
    command = [*(prefix or []), sys.executable, "-m", "common.lab", *arguments]
    done = finish(pair.spawn(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)}))
    assert not list(scratch.iterdir())
    assert "Traceback" not in done.err
    return done


@every_experiment
def test_it_observes_what_it_promises(pair: Programs, name: str) -> None:
    done = run_lab(pair, name)
    lacking = missing(EXPERIMENTS[name].needs)
    if lacking:
        pytest.skip(f"needs {'; '.join(lacking)}")
    assert done.code == 0 and not done.err, done.out.decode()
    assert "\nobserved\n" in done.out.decode()


@every_experiment
def test_it_does_so_for_a_user_who_is_not_root(pair: Programs, name: str) -> None:
    """Or it says what it needs, and what one would see."""
    done = run_lab(pair, name, prefix=second_user())
    assert done.code == 0 and not done.err, done.out.decode()
    told = "\nIt cannot run here: it needs" in done.out.decode()
    assert told or not NOT_FOR_OTHERS & set(EXPERIMENTS[name].needs)
    assert EXPERIMENTS[name].needs or not told
    assert ("\none would observe\n" if told else "\nobserved\n") in done.out.decode()


@every_experiment
def test_it_is_short_enough_to_be_read(name: str) -> None:
    lines = EXPERIMENTS[name].source.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 76, "with its indentation it must fit 80 columns"
    assert re.fullmatch(r"[^\n]+\?", EXPERIMENTS[name].question)
    assert EXPERIMENTS[name].lesson


def test_a_broken_promise_is_shown_and_is_a_failure() -> None:
    one = EXPERIMENTS["opening"]
    promised = {**one.promised, "nobody has the key: no flag": "EACCES"}
    page = io.StringIO()
    assert not show(one._replace(promised=promised), Console(file=page, width=100))
    assert "no flag: ENOENT  NOT AS PROMISED, which is EACCES" in page.getvalue()
    assert show(one, Console(file=io.StringIO()))


@pytest.mark.parametrize("namespace", ["alone", "shared"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("whom", ["lab", "experiment"])
def test_whatever_happens_to_it_nothing_is_left(
    pair: Programs, tmp_path: Path, whom: str, number: signal.Signals, namespace: str
) -> None:
    """In a namespace of its own or not; `whom` the signal ends. What others make meanwhile is not touched."""
    command = [sys.executable, "-m", "tests.lab.hanging", namespace]
    lab = pair.spawn(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert lab.stdout
    said, found = "", None
    while not found:
        said += lab.stdout.readline().decode()
        found = re.search(r"hanging: pid (\d+)\n", said)
    others = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=1)
    others.detach()
    (scratch,) = (path for path in tmp_path.iterdir() if path.name.startswith("lab-"))
    made = {(kind, int(number)) for kind, number in re.findall(r"(shm|sem)get\(.*\) = (\d+)", said)}
    assert len(made) == 5 and (namespace == "alone" or made <= objects())
    os.kill(lab.pid if whom == "lab" else int(found[1]), number)
    code = finish(lab).code
    assert code == (1 if whom == "experiment" else -9 if number is signal.SIGKILL else 128 + number)
    wait_until(lambda: not scratch.exists(), "the end of the experiment's process")
    assert namespace == "alone" or not made & objects()
    others.remove()
    assert not list(Path("/dev/shm").glob(f"*{scratch.name}*"))


def objects() -> set[tuple[str, int]]:
    """Every object of System V's that there is, by its kind and id."""
    return {(kind, row[name]) for kind, name in (("shm", "shmid"), ("sem", "semid")) for row in read_table(kind)}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_line_is_folded_at_a_blank_on_a_terminal_only(terminal: bool) -> None:
    call = f"    shmctl(7, IPC_STAT, {'{'}uid=0, gid=0, mode=0600, {'x' * 30}, nattch=1{'}'}) = 0"
    written = io.StringIO()
    Page(Console(file=written, width=60, force_terminal=terminal, color_system=None)).line(call)
    lines = written.getvalue().splitlines()
    assert " ".join(line.strip() for line in lines) == call.strip()
    assert [len(line) - len(line.lstrip()) for line in lines] == ([4, 8] if terminal else [4])
    assert not terminal or max(map(len, lines)) <= 60


def test_the_rows_name_the_owner_as_ipcs_does() -> None:
    row = {"key": 7, "shmid": 1, "perms": 0o600, "size": 1, "nattch": 0}
    named, unknown = as_ipcs([{**row, "uid": 0}, {**row, "uid": 4_000_000_000}])[1:]
    assert named.split()[2] == "root" and unknown.split()[2] == "4000000000"


def test_the_list_explains_each_need(pair: Programs) -> None:
    below = run_lab(pair).out.decode().partition("They need: ")[2].partition("The sentences")[0]
    assert all(re.search(rf"\b{need}\b", below) for need in NEEDS)


def test_a_full_disk_is_one_line(pair: Programs) -> None:
    with open("/dev/full", "w") as full:
        done = finish(pair.spawn([sys.executable, "-m", "common.lab", "race"], cwd=ROOT, stdout=full))
    assert (done.code, done.err) == (1, "lab: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("arguments", [(), ("race",), ("--all",), ("--table",), ("check",)], ids=str)
def test_whoever_reads_may_leave(pair: Programs, arguments: tuple[str, ...]) -> None:
    """`lab | head -1` is done when head is."""
    read, write = os.pipe()
    lab = pair.spawn([sys.executable, "-m", "common.lab", *arguments], cwd=ROOT, stdout=write)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    done = finish(lab)
    assert (done.code, done.err) == (0, "")


def test_numbers_that_follow_each_other_are_a_range() -> None:
    assert as_ranges([11, 13, 19, 20, 21, 24, 25]) == "11 13 19-21 24-25"


def test_an_unknown_experiment_is_a_usage_error(pair: Programs) -> None:
    done = run_lab(pair, "nonsense")
    assert done.code == 2 and "there is no experiment 'nonsense'" in done.err


def test_the_list_has_each_of_them_with_its_question(pair: Programs) -> None:
    listed = run_lab(pair).out.decode()
    names = [name for part in PARTS.values() for name in ("experiment", *(one.name for one in part))]
    assert re.findall(r"^([a-z-]+)  ", listed, re.MULTILINE) == names
    assert {*names} - {*EXPERIMENTS} == {"experiment"}
    assert all(f"{part[0].upper()}{part[1:]}\n" in listed for part in PARTS)


def test_each_sentence_of_the_sheet_has_its_verdict_and_what_shows_it() -> None:
    assert len(SHEET) == 65
    for number, sentence in enumerate(SHEET, 1):
        assert set(sentence.experiments) <= set(EXPERIMENTS), number
        assert sentence.shown or sentence.verdict is Verdict.NO_CLAIM, number
        assert sentence.why or sentence.verdict not in (Verdict.NUANCE, Verdict.FALSE), number


def test_each_experiment_answers_a_sentence_and_they_stand_in_the_order_of_the_sheet() -> None:
    assert [name for name in EXPERIMENTS if sentences_of(name)] == [one.name for one in PARTS[THE_SHEET]]
    first_named = dict.fromkeys(sentence.experiments[0] for sentence in SHEET if sentence.experiments)
    assert list(first_named) == [name for name in EXPERIMENTS if name in first_named]


def test_there_are_ten_mistakes_each_with_symptom_cause_and_cure() -> None:
    mistakes = PARTS["ten mistakes, on the classic pair"]
    assert len(mistakes) == 10
    for one in mistakes:
        assert [line.partition(":")[0] for line in one.lesson.splitlines()] == ["Symptom", "Cause", "Cure"]
        assert "classic" in f"{one.promised} {one.lesson}" or one.name == "stored-pointer"


def test_what_the_oral_exam_points_to_is_there() -> None:
    rows = rows_under(LAB_README, "For the oral exam")
    named = [name for _, names in rows for name in re.findall(r"`([a-z-]+)`", names)]
    assert set(named) <= set(EXPERIMENTS)
    assert {one.name for one in PARTS["for the oral exam"]} <= set(named)


def test_the_tables_in_the_readme_are_made_from_them() -> None:
    for tables in (sheet_tables(), other_tables()):
        assert f"\n\n{tables}\n\n## " in LAB_README.read_text(), "put in what `python -m common.lab --table` shows"
    assert [sentence.text for sentence in SHEET if sentence.shown == "./run_demo.sh compare"] == [SHEET[1].text]
