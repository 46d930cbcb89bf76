"""README.md's terminal sessions: found, run again, and compared or written anew.

    python -m tests.docs.transcripts DIRECTORY     runs them in DIRECTORY and puts the new output into README.md

A ```console block is a session in bash: its commands are the lines behind "$ ", continued behind "> "; what follows
each is its output.
Two neighbouring blocks ```console terminal 1 and ```console terminal 2 (in either order) run at the same time, each
on a terminal of its own; there "> " is the writer's prompt, and what stands behind it is typed.

The programs run with a key path of their own, the stage directory, so that no session meets somebody else's.
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

from tests.helpers import PATIENCE, ROOT

README = ROOT / "README.md"

_COMMAND = "$ "
_MORE = "> "
_MARK = "--- next command ---"
_PARTS = ("README.md", "common", "pyproject.toml", "reader.py", "run_demo.sh", "tests", "writer.py")

# What differs from run to run: keys and addresses, ids, pids, owners, times; and how wide a column is.
_VARYING = (
    (r"0x[0-9a-f]+", "0xN"),
    (r'ftok\("[^"]*"', 'ftok("PATH"'),
    (r"(segment, by shmctl\(IPC_STAT\))[^┌]*", r"\1\n"),  # its path may need another line
    (r"^0xN +\d+ +\S+ ", "0xN ID OWNER "),
    (r"\b(segment|semaphore|[pugs]?id|ipcrm -[ms])(\W+)\d+", r"\1\2N"),
    (r"\(\d+, ", "(N, "),
    (r"= \d\d+$", "= N"),
    (r"[\d.]+ s \([\d.]+ \w?B/s\)", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
    (r" +", " "),
    (r"─+", "─"),
)


class Block(NamedTuple):
    """One fenced block: where its text begins (line index), what follows the three backquotes, the text in it."""

    start: int
    info: str
    lines: list[str]

    @property
    def commands(self) -> list[str]:
        """Its commands; one that goes on behind "> " is one with newlines in it."""
        found: list[str] = []
        for line in self.lines:
            if line.startswith(_COMMAND):
                found.append(line.removeprefix(_COMMAND))
            elif line.startswith(_MORE) and self.info == "console":
                found[-1] += "\n" + line.removeprefix(_MORE)
        return found


def read_blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text."""
    found = []
    for fence in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        found.append(Block(text.count("\n", 0, fence.start(2)), fence[1].strip(), fence[2].splitlines()))
    return found


class Session(NamedTuple):
    """The ```console blocks under one heading: they run in order, on one stage."""

    title: str
    blocks: list[Block]


def read_sessions(text: str) -> list[Session]:
    """Every session of a Markdown text; a heading is a line that begins with # or with bold words."""
    lines = text.splitlines()
    found: list[Session] = []
    for block in read_blocks(text):
        if block.info.startswith("console"):
            above = next(line for line in reversed(lines[: block.start]) if line.startswith(("# ", "## ", "**")))
            title = re.sub(r"\*\*(.*?)\*\*.*|#+ (.*)", r"\1\2", above)
            if not found or found[-1].title != title:
                found.append(Session(title, []))
            found[-1].blocks.append(block)
    return found


def normalise(lines: list[str]) -> list[str]:
    """The lines without what differs from run to run."""
    text = "\n".join(lines)
    for pattern, stand_in in _VARYING:
        text = re.sub(pattern, stand_in, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.split("\n")]


def agree(block: Block, actual: list[str]) -> bool:
    """Whether a block shows what really comes out.

    Programs that run at the same time may speak in any order; ipcs also shows what belongs to others.
    """
    shown, real = normalise(block.lines), normalise(actual)
    if any("ipcs" in command for command in block.commands):
        rest = iter(real)
        return all(line in rest for line in shown)
    if any(" & " in command for command in block.commands):
        shown, real = sorted(shown), sorted(real)
    return shown == real


class Stage:
    """A directory that looks like the project, in which `python writer.py` has a key path of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for part in _PARTS:
            (directory / part).symlink_to(ROOT / part)
        tools = directory / ".tools"
        tools.mkdir()
        wrapper = tools / "python"
        wrapper.write_text(
            "#!/bin/bash\n"
            f'case $1 in writer.py | reader.py) set -- "$1" --key-path "{directory}" "${{@:2}}" ;; esac\n'
            f'exec "{sys.executable}" "$@"\n'
        )
        wrapper.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}

    def play(self, session: Session) -> list[list[str]]:
        """Run a session; each block's lines as they really are."""
        played: list[list[str]] = []
        blocks = iter(session.blocks)
        for block in blocks:
            played += [self._run(block)] if block.info == "console" else self._run_together(block, next(blocks))
        return played

    def _run(self, block: Block) -> list[str]:
        """Run a block's commands one after the other; the block's lines as they really are."""
        script = "\n".join(f"echo '{_MARK}'\n{command}" for command in block.commands)
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
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        lines = []
        for command, said in zip(block.commands, output.split(_MARK + "\n")[1:], strict=True):
            lines += [*(_COMMAND + command).replace("\n", "\n" + _MORE).splitlines(), *said.splitlines()]
        return lines

    def _run_together(self, first: Block, second: Block) -> list[list[str]]:
        """Run two terminals' blocks at once: the first until it has something to wait for, then the second."""
        with _Terminal(self, first) as one:
            one.expect("waiting for a channel")
            with _Terminal(self, second) as two:
                two.expect("type: one record a line")
                for line in second.lines:
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
        (self._command,) = block.commands
        self._child = pexpect.spawn(
            "bash",
            ["-c", f"exec {self._command}"],
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
        lines = (self._seen + self._child.before).replace("\r", "").split("\n")
        return [_COMMAND + self._command, *(line.rstrip() for line in lines[:-1])]


def _write_anew(directory: Path) -> None:
    text = README.read_text()
    lines = text.splitlines()
    directory.mkdir()
    stage = Stage(directory)
    played = [(session.blocks, stage.play(session)) for session in read_sessions(text)]
    shutil.rmtree(directory)
    for blocks, real in reversed(played):
        for block, new in reversed(list(zip(blocks, real, strict=True))):
            lines[block.start : block.start + len(block.lines)] = new
    README.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    _write_anew(Path(sys.argv[1]))
