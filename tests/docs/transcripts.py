"""The READMEs' commands: found, run as a reader would type them, and compared or written anew.

    python -m tests.docs.transcripts DIRECTORY [README ...]    runs them in DIRECTORY; the READMEs show what comes out

What comes out is the student's, whoever writes it anew: see _as_the_student. Under `unshare --ipc`, where one may, the
ids are small and ipcs shows nobody else's.

A fenced block of a README is one of these, and every one of the first three is run:

    ```sh               commands to copy; the ```text block behind it is what they show, and without one they need only
                        end with 0
    ```sh terminal 1    one command, on a terminal of its own, at the same time as its neighbour, ```sh terminal 2 (in
                        either order); each has its ```text block, in which what stands behind the prompt "> " is typed
    ```console          a session: its commands stand behind "$ ", continued behind "> ", and each one's output below it
    ```c                a part of tests/interop/shmpair.h

The blocks of one README run in one directory, the stage, in the order in which they stand. The programs run with a key
path of their own, the stage, so that no session meets somebody else's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pexpect
import sysv_ipc

from tests.helpers import PATIENCE, ROOT, plain

READMES = [
    ROOT / name / "README.md" for name in ("", "common", "tests", "tests/lab", "tests/bench")
]  # in the order in which one reads them

_COMMAND = "$ "
_MORE = "> "
_MARK = "--- next command ---"
_PARTS = ("README.md", "common", "pyproject.toml", "reader.py", "tests", "writer.py")

# What differs from run to run: keys and addresses, ids, pids, owners, times; and how wide a column is.
_VARYING = (
    (r"0x[0-9a-f]+", "0xN"),
    (r'ftok\("[^"]*"', 'ftok("PATH"'),
    (r"^(channel \d+ of )[^[]*\[", r"\1PATH ["),  # down to the picture: the path may need another line
    (r"\b(full_slots|empty_slots|writer_turn|reader_turn|writers) +\d+( +\d+ +\d+)$", r"\1 N\2"),
    (r"\b\d+ (s|min|h) ago", "AGO"),
    (r"^0xN +\d+ +\S+ ", "0xN ID OWNER "),
    (r"\b(segment|semaphore|[pugs]?id|ipcrm -[ms])(\W+)\d+", r"\1\2N"),
    (r"\(\d+, ", "(N, "),
    (r"^(\w+get\(.*\)) = \d+$", r"\1 = N"),
    (r" in [\d.]+ s \([\d.]+ \w?B/s\)", ""),  # what took no time has none
    (r"^\w+: waiting .*; key 0xN.*\n", ""),  # on a slow machine
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
    (r" +", " "),
)
_REST = re.compile(r"detached; (\d+ slots? to be read|all of it is read)$")


class Block(NamedTuple):
    """One fenced block: where its text begins (line index), what follows the three backquotes, the text in it."""

    start: int
    info: str
    lines: list[str]

    @property
    def commands(self) -> list[str]:
        """What is typed at a shell; in a session, what goes on behind "> " is one command with newlines in it."""
        if self.info != "console":
            return ["\n".join(self.lines)]
        found: list[str] = []
        for line in self.lines:
            if line.startswith(_COMMAND):
                found.append(line.removeprefix(_COMMAND))
            elif line.startswith(_MORE):
                found[-1] += "\n" + line.removeprefix(_MORE)
        return found


def read_blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text."""
    found = []
    for fence in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        found.append(Block(text.count("\n", 0, fence.start(2)), fence[1].strip(), fence[2].splitlines()))
    return found


class Step(NamedTuple):
    """What is typed at one time, `typed`: one block, or one for each of two terminals; and what each one shows.

    `shown` is the block to compare, a session itself; None where nothing is shown.
    """

    typed: list[Block]
    shown: list[Block | None]


def read_steps(text: str) -> list[Step]:
    """Every step of a Markdown text, in order. Raises ValueError for a block that nothing would run or compare."""
    steps: list[Step] = []
    blocks = read_blocks(text)
    for block, before in zip(blocks, [None, *blocks], strict=False):
        if block.info == "console":
            steps.append(Step([block], [block]))
        elif block.info == "sh":
            steps.append(Step([block], [None]))
        elif block.info in ("sh terminal 1", "sh terminal 2"):
            if steps and _waits_for_its_neighbour(steps[-1], block):
                steps[-1].typed.append(block)
                steps[-1].shown.append(None)
            else:
                steps.append(Step([block], [None]))
        elif block.info == "text" and before and before.info.startswith("sh"):
            steps[-1].shown[-1] = block
        elif block.info != "c":
            raise ValueError(f"line {block.start}: nothing runs a block ```{block.info} that stands here")
    for step in steps:
        alone = len(step.typed) == 1 and "terminal" in step.typed[0].info
        if alone or (len(step.typed) == 2 and None in step.shown):
            raise ValueError(f"line {step.typed[0].start}: two terminals need each other, and what each shows")
    return steps


def _waits_for_its_neighbour(step: Step, block: Block) -> bool:
    return len(step.typed) == 1 and {step.typed[0].info, block.info} == {"sh terminal 1", "sh terminal 2"}


def normalise(lines: list[str]) -> list[str]:
    """The lines without what differs from run to run."""
    text = "\n".join(lines)
    for pattern, stand_in in _VARYING:
        text = re.sub(pattern, stand_in, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.split("\n")]


def agree(commands: list[str], shown: list[str], actual: list[str]) -> bool:
    """Whether what is shown is what really comes out.

    Programs that run at the same time may speak in any order; ipcs also shows what belongs to others.
    """
    shown, real = normalise(shown), normalise(actual)
    if any("ipcs" in command for command in commands):
        rest = iter(real)
        return all(line in rest for line in shown)
    if any(re.search(r" &(\s|$)", command) for command in commands):
        # On a slow machine one may have to wait long enough to say so; the other has read more or less by then.
        real = [line for line in real if line in shown or not re.match(r"(writer|reader): waiting", line)]
        shown, real = (sorted(_REST.sub("detached; REST", line) for line in lines) for lines in (shown, real))
    return shown == real


class Stage:
    """A directory that looks like the project; `python writer.py` has a key path of its own in it, which nothing shows.

    It is set up already, so its run_demo.sh and its .venv are stand-ins: test_demo.py runs the real run_demo.sh.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for part in _PARTS:
            (directory / part).symlink_to(ROOT / part)
        tools = directory / ".venv/bin"
        tools.mkdir(parents=True)
        self._script(
            tools / "python",
            f'case $1 in writer.py | reader.py) set -- "$1" --key-path "{directory}" "${{@:2}}" ;; esac\n'
            f'exec "{sys.executable}" "$@"\n',
        )
        self._script(tools / "activate", "")
        self._script(directory / "run_demo.sh", "")
        self._at_first = set(directory.iterdir())
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}

    def _script(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)

    def litter(self) -> list[str]:
        """The files that what was played here has left."""
        return sorted(path.name for path in set(self.directory.iterdir()) - self._at_first)

    def play(self, step: Step) -> list[list[str]]:
        """Run a step; for each block that is typed, the lines that really come out (a session's commands among them).

        Raises AssertionError when commands fail that show nothing.
        """
        if len(step.typed) == 2:
            return self._run_together(step)
        (block,) = step.typed
        code, said = self.run(block.commands)
        if block.info == "console":
            lines = []
            for command, output in zip(block.commands, said, strict=True):
                lines += [*(_COMMAND + command).replace("\n", "\n" + _MORE).splitlines(), *output.splitlines()]
            return [lines]
        assert step.shown[0] or code == 0, f"exit code {code}: {''.join(said)}"
        return ["".join(said).splitlines()]

    def run(self, commands: list[str]) -> tuple[int, list[str]]:
        """Run commands one after the other: the last one's exit code, and what each one says."""
        script = "\n".join(f"echo '{_MARK}'\n{command}" for command in commands)
        child = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            os.killpg(child.pid, signal.SIGKILL)
            output, _ = child.communicate()
            raise AssertionError(f"these commands hang:\n{script}\nand have said:\n{output}") from error
        return child.returncode, plain(output).split(_MARK + "\n")[1:]

    def _run_together(self, step: Step) -> list[list[str]]:
        """Run two terminals' commands at once: the first until it has something to wait for, then the second."""
        shown = step.shown[1]
        assert shown
        with _Terminal(self, step.typed[0]) as one:
            one.expect("waiting for a channel")
            with _Terminal(self, step.typed[1]) as two:
                two.expect("type: one record a line")
                for line in shown.lines:
                    if line.startswith(_MORE):
                        two.expect(_MORE)
                        two.type(line.removeprefix(_MORE))
                        one.expect(line.removeprefix(_MORE))
                two.expect(_MORE)
                two.end_input()
                return [one.read_to_the_end(), two.read_to_the_end()]


class _Terminal:
    """One command on a terminal of its own, and everything that stands on it so far."""

    def __init__(self, stage: Stage, block: Block) -> None:
        (command,) = block.commands
        self._child = pexpect.spawn(
            "bash",
            ["-c", f"exec {command}"],
            cwd=str(stage.directory),
            env=stage.environment,
            dimensions=(50, 200),
            encoding="utf-8",
            timeout=PATIENCE,
        )
        self._seen = ""

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.close(force=True)

    def expect(self, words: str) -> None:
        self._child.expect_exact(words)
        self._seen += self._child.before + self._child.after

    def type(self, line: str) -> None:
        self._child.sendline(line)

    def end_input(self) -> None:
        self._child.sendeof()

    def read_to_the_end(self) -> list[str]:
        """Wait for the command's end; all its lines."""
        self._child.expect(pexpect.EOF)
        lines = plain(self._seen + self._child.before).replace("\r", "").split("\n")
        return [line.rstrip() for line in lines[:-1]]


def _as_the_student(line: str, directory: Path) -> str:
    """The line as the READMEs' student sees it: the project at home, uid 1001, and always the same key."""
    key = f"{sysv_ipc.ftok(str(directory), 1, silence_warning=True) & 0xFFFFFF:06x}"
    line = line.replace(str(directory), "/home/student/shmpair")
    line = re.sub(rf"\b0x(..){key}\b", r"0x\g<1>2816e5", line)
    line = re.sub(rf"\b([ug]id[ =]){os.getuid()}\b", r"\g<1>1001", line)
    return re.sub(r"^(0x\w{8} \d+ +)\S+( +)", lambda row: row[1] + "student".ljust(len(row[0]) - len(row[1])), line)


def _write_anew(readme: Path, directory: Path) -> None:
    text = readme.read_text()
    lines = text.splitlines()
    directory.mkdir()
    stage = Stage(directory)
    played = []
    for step in read_steps(text):
        print(f"{readme.relative_to(ROOT)}, line {step.typed[0].start}", file=sys.stderr)
        played += list(zip(step.shown, stage.play(step), strict=True))
    student = [(shown, [_as_the_student(line, directory) for line in real]) for shown, real in played if shown]
    shutil.rmtree(directory)
    for shown, real in sorted(student, reverse=True):
        lines[shown.start : shown.start + len(shown.lines)] = real
    readme.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for chosen in [Path(name).resolve() for name in sys.argv[2:]] or READMES:
        _write_anew(chosen, Path(sys.argv[1]))
