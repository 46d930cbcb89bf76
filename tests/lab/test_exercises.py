"""The twelve exercises (`./run_demo.sh lab check`): what is right is found right, and what is wrong is not.

That the solutions in tests/lab/README.md are right is seen where its blocks are run (tests/docs/).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from common.ipc.machine import read_table
from common.lab import exercise
from common.lab.catalogue import EXERCISES
from tests.docs.transcripts import read_blocks
from tests.helpers import ROOT, Finished, Pair, finish
from tests.lab.cases import LAB_README
from tests.lab.shell import second_user

SECTION = LAB_README.read_text().partition("## Twelve exercises\n")[2].partition("\n## ")[0]
SOLUTIONS = [shlex.split(block.commands[0])[5] for block in read_blocks(SECTION)]

# What one might try, and is wrong; of the tenth, eleventh and eighth the solution with one word changed.
WRONG = [
    'printf "0x01%06x" $(stat -c %i "$FILE")',
    SOLUTIONS[1].replace("0o640", "0o660"),
    'printf %s "$MESSAGE" > "/dev/shm$NAME"',
    "ls /proc | grep '^[0-9]'",
    "ipcs -mp | awk '{ print $4, $3 }'",
    "true",
    SOLUTIONS[6].replace("0o644", "0o666"),
    SOLUTIONS[7].replace("time.process_time()", "60"),
    SOLUTIONS[8].replace("sysv_ipc.Semaphore(key).acquire()", "pass"),
    SOLUTIONS[9].replace("with mutex", "if True"),
    SOLUTIONS[10].replace("undo = True", "undo = False"),
    "for id in $SHMIDS; do ipcrm -m $id; done",
]


def check(pair: Pair, *arguments: object, prefix: list[str] | None = None) -> Finished:
    """Run `lab check` with its files in the test's directory, in which nothing may stay."""
    scratch = pair.directory / "scratch"
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o777)
    command = [*(prefix or []), sys.executable, "-m", "common.lab", "check", *map(str, arguments)]
    done = finish(pair.spawn(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)}))
    assert not list(scratch.iterdir())
    assert "Traceback" not in done.err
    return done


def test_there_are_twelve_each_with_its_task_and_a_solution_folded_away() -> None:
    told = re.findall(r"^\*\*(\d+)\.\*\* ((?:.+\n)+)\n<details>", SECTION, re.MULTILINE)
    tasks = [(str(number), " ".join(one.task.split())) for number, one in enumerate(EXERCISES, 1)]
    assert [(number, " ".join(task.split())) for number, task in told] == tasks
    assert len(EXERCISES) == len(SOLUTIONS) == len(WRONG) == 12


def test_the_list_has_each_task(pair: Pair) -> None:
    done = check(pair)
    assert done.code == 0
    told = " ".join(done.out.decode().split())
    assert all(f"{number}. {' '.join(one.task.split())}" in told for number, one in enumerate(EXERCISES, 1))
    (one,) = (check(pair, 4).out.decode(),)
    assert "nattch of the segment $SHMID" in one and "$FILE" not in one


@pytest.mark.parametrize("number", range(1, 13))
def test_a_wrong_answer_is_not_right_and_shows_what_happened(pair: Pair, number: int) -> None:
    done = check(pair, number, WRONG[number - 1])
    assert done.code == 1
    said = done.out.decode()
    assert said.endswith(f"\n{number} is not right yet\n")
    assert "the calls as they happen" in said
    assert re.search(r"^(.*: no|nothing was observed: .*)$", said, re.MULTILINE)


@pytest.mark.parametrize("number", [1, 3, 4, 5, 6, 12])
def test_a_user_who_is_not_root_can_solve_it(pair: Pair, number: int) -> None:
    """Those that need no Python, which that user may not be able to run."""
    done = check(pair, number, SOLUTIONS[number - 1], prefix=second_user())
    assert (done.code, done.err) == (0, ""), done.out.decode()
    assert done.out.decode().endswith(f"{number} is right\n")


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        (2, "true", "looked for a segment with the key $KEY; shmget finds none: ENOENT"),
        (3, "true", "No such file or directory"),
        (8, "exit 1", "looked for the seconds in the last line, and saw ''"),
        (11, "echo taken", "looked for 'holding' in what your command says; it has ended, and said 'taken' at last"),
    ],
)
def test_a_wrong_answer_hears_what_was_looked_for_and_seen(pair: Pair, number: int, answer: str, said: str) -> None:
    done = check(pair, number, answer)
    assert (done.code, done.err) == (1, "")
    assert said in done.out.decode()


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        (5, "sleep 100", "1 s are over, and your command has not ended"),
        (9, "sleep 100", "looked for a process that sleeps in semop"),
        (11, "echo taken; sleep 100", "looked for the line `holding`"),
    ],
)
def test_an_answer_that_does_not_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, number: int, answer: str, said: str
) -> None:
    monkeypatch.setattr(exercise, "_PATIENCE", 1)
    assert said in exercise.check(number, answer)[0].failed


def test_a_wrong_size_does_not_deny_the_message_and_what_was_made_is_shown(pair: Pair) -> None:
    said = check(pair, 3, 'umask 077; printf %s "$MESSAGE" > "/dev/shm$NAME"').out.decode()
    assert "4096 bytes: no\nmode 0600: yes\nit begins with the message: yes\n" in said
    assert re.search(r"^after, in /dev/shm\n    -rw------- +16 lab-", said, re.MULTILINE)


def test_the_scene_can_be_pasted(pair: Pair) -> None:
    """With the values quoted where a shell would part them."""
    said = check(pair, 2, "true").out.decode()
    assert "    $ export KEY=0x" in said
    assert " MESSAGE='shared, not sent'\n    $ true\n" in said


def test_what_the_command_made_as_another_user_is_cleared(pair: Pair) -> None:
    """There it has no IPC namespace of its own: the pid of its maker proves it. What that does not prove is told."""
    mine = "ipcmk -M 5000 -p 0640"
    cleared = check(pair, 2, f"exec {mine}", prefix=second_user()).out.decode()
    made = re.search(r"Shared memory id: (\d+)", cleared)
    assert made and int(made[1]) not in {row["shmid"] for row in read_table("shm")}
    told = check(pair, 2, f"{mine}; true", prefix=second_user()).out.decode()
    made = re.search(r"Shared memory id: (\d+)", told)
    assert made
    command = f"ipcrm -m {made[1]}"
    assert f"nothing else clears it: {command}\n" in told
    subprocess.run(command.split(), check=True)


@pytest.mark.parametrize("arguments", [["0"], ["13"], ["one"]])
def test_an_exercise_that_there_is_not_is_a_usage_error(pair: Pair, arguments: list[str]) -> None:
    assert check(pair, *arguments).code == 2
