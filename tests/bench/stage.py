"""Where it is measured: a directory, at best on tmpfs, with files in it, and both programs on a key path of our own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.helpers import Pair, clear_away, keys_of, kill_children, own_key_path

KIB, MIB, GIB = 2**10, 2**20, 2**30
BLOCKS = (64 * KIB, 256 * KIB, MIB, 4 * MIB)  # from which the best is chosen
RESERVE = GIB  # of memory, which no file of ours takes
_OWN_FILE = 128 * MIB  # up to here each size has a file; all larger sizes share one, or there would not be room

Child = subprocess.Popen[bytes]


class CannotRun(Exception):
    """This machine lacks something; the text says what."""


class Failed(Exception):
    """A program failed, or did not end in time."""


class Amounts(NamedTuple):
    """How much is moved, and how often."""

    rounds: int
    curve: Sequence[int]  # bytes in a file
    large: int
    largest: int
    lines: int  # out of seq
    shared_lines: int  # of all writers together
    typed: int  # lines, one at a time
    message: int  # bytes
    idle: float  # seconds
    limit: float  # seconds for one sample


FULL = Amounts(
    rounds=7,
    curve=[MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB],
    large=2 * GIB,
    largest=8 * GIB,
    lines=20_000_000,
    shared_lines=20_000_000,
    typed=400,
    message=GIB,
    idle=3.0,
    limit=30.0,
)
QUICK = FULL._replace(
    rounds=2,
    curve=[MIB, 16 * MIB, 128 * MIB],
    large=512 * MIB,
    largest=GIB,
    lines=5_000_000,
    shared_lines=5_000_000,
    typed=200,
    message=128 * MIB,
    idle=1.0,
    limit=10.0,
)


class Stage:
    """Files and programs. `blocks` is what was found to be the best block size, by what it is best for."""

    def __init__(self, directory: Path, key_path: Path, amounts: Amounts) -> None:
        self.directory = directory
        self.key_path = key_path
        self.amounts = amounts
        self.pairs = {
            "System V": Pair(key_path, directory),
            "POSIX": Pair(key_path, directory, ipc="posix"),
        }
        self.blocks: dict[str, int] = {}
        self._some = os.urandom(MIB)

    def spawn(
        self,
        *command: object,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int | None = None,
    ) -> Child:
        """Start a command; none outlives the stage."""
        words = [str(word) for word in command]
        # Ctrl-C is for us alone, who then kill them: a Python that is just starting answers it with a traceback.
        return self.pairs["System V"].spawn(words, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)

    def start(
        self,
        pair: Pair,
        program: str,
        *arguments: object,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> Child:
        """Start writer or reader."""
        return self.spawn(*pair.command(program, "--quiet", *arguments), stdin=stdin, stdout=stdout)

    def pipe(self, *commands: Sequence[object], stdout: int = subprocess.DEVNULL) -> list[Child]:
        """Commands with pipes between them, as a shell starts them."""
        children: list[Child] = []
        source = subprocess.DEVNULL
        for number, command in enumerate(commands, start=1):
            last = number == len(commands)
            children.append(self.spawn(*command, stdin=source, stdout=stdout if last else subprocess.PIPE))
            if source != subprocess.DEVNULL:
                os.close(source)  # ours: the next program has it, and must see its end
            if not last:
                source = take_stdout(children[-1])
        return children

    def file(self, size: int) -> Path:
        """A file of this size. Raises CannotRun when there is no room for it."""
        path = self.directory / (f"file-{size}" if size <= _OWN_FILE else "large-file")
        there = path.stat().st_size if path.exists() else 0
        self.need_room(size - there)
        with path.open("ab") as stream:
            stream.truncate(min(there, size))
            for at in range(min(there, size), size, MIB):
                stream.write(self._some[: size - at])
        return path

    def lines(self, count: int) -> Path:
        """A file of so many lines of ten bytes."""
        path = self.directory / f"lines-{count}"
        if not path.exists():
            self.need_room(10 * count)
            thousand = [b"line %04d\n" % number for number in range(1000)]
            with path.open("wb") as stream:
                stream.writelines(b"".join(thousand[: count - at]) for at in range(0, count, 1000))
        return path

    def output(self, size: int) -> Path:
        """A path where there is no file, and room for one of this size. Raises CannotRun."""
        path = self.directory / "output"
        path.unlink(missing_ok=True)
        self.need_room(size)
        return path

    def need_room(self, size: int) -> None:
        """Raise CannotRun unless a file may take so much."""
        room = room_in(self.directory)
        if size > max(room, 0):
            raise CannotRun(f"{self.directory.parent} has no room for {size // MIB} MiB more")

    def clear(self) -> None:
        """After a failure: the next sample begins with nothing."""
        kill_children()
        clear_away(keys_of(self.key_path))


@contextmanager
def a_stage(parent: Path, amounts: Amounts) -> Iterator[Stage]:
    """A stage in a directory of its own, of which nothing stays: no process, no IPC object, no file."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name,
        own_key_path(Path(name), "key") as key_path,
    ):
        stage = Stage(Path(name), key_path, amounts)
        try:
            yield stage
        finally:
            stage.clear()


def take_stdout(child: Child) -> int:
    """The descriptor of a child's output, which is the caller's to close."""
    assert child.stdout
    descriptor = os.dup(child.stdout.fileno())
    child.stdout.close()
    return descriptor


def seconds(start: Callable[[], Sequence[Child]]) -> list[float]:
    """How long it takes from before the start to the end of all that were started. Raises Failed."""
    began = time.perf_counter()
    wait_for(start())
    return [time.perf_counter() - began]


def wait_for(children: Sequence[Child]) -> None:
    """Wait for the end of all. Raises Failed if one ends with anything but 0."""
    for child in children:
        if child.wait():
            raise Failed(f"{child.args!r} ended with {child.returncode}")


def room_in(directory: Path) -> int:
    """Bytes that files may take in a directory which may be on tmpfs: memory, then, of which a reserve stays free."""
    on_disk = os.statvfs(directory)
    return min(on_disk.f_bavail * on_disk.f_frsize, _memory_available()) - RESERVE


def _memory_available() -> int:
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(rows["MemAvailable"].split()[0]) * KIB
    with_limit = Path("/sys/fs/cgroup/memory.max")  # a container's
    if with_limit.exists() and (limit := with_limit.read_text().strip()) != "max":
        available = min(available, int(limit) - int(with_limit.with_name("memory.current").read_text()))
    return available
