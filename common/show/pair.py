"""Both programs run as processes on a key path of their own, and what they said is read; nothing of it stays."""

from __future__ import annotations

import argparse
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from common.cli.leaving import find_doorway, find_family
from common.cli.options import PROJECT
from common.cli.talk import Talk
from common.errors import CallFailed, ChannelError
from common.ipc.calls import key_text
from common.ipc.doorway import ENDING
from common.ipc.place import Place
from common.show.status import looking, read_status

PATIENCE = 60  # seconds that one program waits for the other


class Line(NamedTuple):
    """A line of what a program said: a call, a move (of data), said (to a person) or data; and what explains it."""

    kind: str
    text: str
    explained: list[tuple[str, str]]


class Ran(NamedTuple):
    """A program that ended with this exit code, and all its lines."""

    command: str
    code: int
    lines: list[Line]

    @property
    def last(self) -> str:
        """The last line: what failed, when it did."""
        return self.lines[-1].text if self.lines else f"{self.command}: exit code {self.code}"

    def find(self, pattern: str) -> str | None:
        """The first line with this regular expression, if there is one."""
        return next((line.text for line in self.lines if re.search(pattern, line.text)), None)


class Pair:
    """Both programs on one key path, over one family; none of them outlives its verb."""

    def __init__(self, key_path: str, ipc: str, talk: Talk) -> None:
        self.ipc = ipc
        self.options = argparse.Namespace(ipc=ipc, key_path=key_path, channel=0, timeout=PATIENCE)
        self._family = find_family(self.options, talk)
        self._doorway = find_doorway(self.options, talk)
        self._where = ["--key-path", key_path, "--ipc", ipc]

    @contextmanager
    def start(self, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A program in the background; what it says to anybody is its `stdout`."""
        with started([f"{program}.py", *self._where, *arguments]) as child:
            yield child

    def run(self, program: str, *arguments: str) -> Ran:
        """Run a program to its end."""
        with self.start(program, *arguments) as child:
            return ended(child)

    def clear(self) -> None:
        """Whatever is there is removed."""
        self.run("writer", "--quiet", "--remove")

    def close(self) -> None:
        """Nothing of it stays."""
        self.clear()
        self._doorway.close()

    def look(self, child: subprocess.Popen[str]) -> tuple[dict[str, Any], bytes]:
        """The status and all bytes, once the child has put something in. Raises ChannelError when it ended before."""
        while child.poll() is None:
            try:
                with looking(self._family, self.options, self._doorway) as objects:
                    status = read_status(objects)
                    if status["header"]["unread"]:
                        return status, bytes(objects.memory)
            except CallFailed as error:
                if error.errno != errno.ENOENT:
                    raise
            time.sleep(0.02)
        raise ChannelError(ended(child).last)

    def list_objects(self) -> str:
        """What the system shows: ipcs -m -s, of its rows those with our keys; or our names in /dev/shm."""
        place = Place.of(self._family.calls, self.options.key_path, 0, self._doorway.identity())
        keys = [key_text(key) for key in (place.segment_key, *place.semaphore_keys)]
        if self.ipc == "posix":
            ours, command = f"shmpair-{keys[0][2:]}", ["ls", "-l", "/dev/shm"]
        else:
            ours, command = "|".join(keys), ["ipcs", "-m", "-s"]
        # ls fails, too, when somebody else's file goes while it looks.
        shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        rows = [row for row in shown.stdout.splitlines() if re.search(ours, row) or row.startswith(("---", "key"))]
        return "\n".join([f"$ {' '.join(command)}", *(rows or ["(nothing that is named after our key)"])])


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A Python program of the project; in a session of its own, so that Ctrl-C reaches us alone and we end it."""
    child = None
    try:
        with signals_held_back():
            child = subprocess.Popen(
                [sys.executable, *words],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding=sys.getfilesystemencoding(),
                errors="backslashreplace",
                start_new_session=True,
                preexec_fn=_hear_signals,
            )
        yield child
    finally:
        if child:
            with child:
                child.terminate()  # nothing, to one that has ended


@contextmanager
def signals_held_back() -> Iterator[None]:
    """What is made in here is noted before a signal can end us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hear_signals() -> None:
    """In a child, which inherits what is held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextmanager
def own_directory(where: str | None = None) -> Iterator[str]:
    """A directory for a while, in `where` or for temporary files. Raises OSError."""
    with signals_held_back():
        made = tempfile.TemporaryDirectory(dir=where)  # from here on, who drops it removes it
    with made as path:
        yield path


def ended(child: subprocess.Popen[str]) -> Ran:
    """How it ended, and all that it said."""
    assert child.stdout and isinstance(child.args, list)
    said = child.stdout.read()
    return Ran(shlex.join(["python", *child.args[1:]]), child.wait(), read_lines(said))


def read_lines(said: str) -> list[Line]:
    """What a program said, line by line; the explanations below a line are part of it."""
    lines: list[Line] = []
    for text in said.splitlines():
        if text.startswith("#   "):
            label, _, meaning = text[4:].partition(" ")
            lines[-1].explained.append((label, meaning.strip()))
        elif text.startswith("# "):
            lines.append(Line("move", text[2:], []))
        elif re.match(r"(writer|reader): ", text):
            lines.append(Line("said", text, []))
        else:
            lines.append(Line("call" if re.match(r"\w+\(.*\) = ", text) else "data", text, []))
    return lines


@contextmanager
def own_pair(ipc: str, talk: Talk) -> Iterator[Pair]:
    """A pair on a key path that nobody else has; nothing of it stays."""
    with own_directory() as key_path:
        pair = Pair(key_path, ipc, talk)
        try:
            yield pair
        finally:
            pair.close()
