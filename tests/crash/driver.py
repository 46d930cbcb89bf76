"""The stage of the kill sweep: real programs as processes on one key path, one of which dies at a chosen line.

A process is forked from this one, which has all modules loaded already, and then runs writer.py or reader.py as
__main__ under the stepper: the same program, without the start-up of an interpreter a thousand times over. That is
why the sweep does not start them as every other test does (tests.helpers.Pair), and why this process must have one
thread only; the tests run it as `python -m tests.crash.sweep`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import common.cli.control
import common.cli.sinks
import common.cli.sources
import common.ipc.meanings  # noqa: F401  loaded here, once, for every program forked from here
from common.channel.listener import Listener
from common.channel.patience import Patience
from common.channel.ring import Ring
from common.errors import BadSegment, CallFailed
from common.ipc.doorway import FlockDoorway
from common.ipc.lifecycle import find_channel
from common.layout import MAGIC, OPEN, Header
from tests.crash import stepper
from tests.helpers import PATIENCE, ROOT, clear_away, left_behind, left_in_dev_shm, wait_until
from tests.in_process import FAMILIES, place_of

KILLED = -signal.SIGKILL
NOTHING = Path(os.devnull)
SLOT_SIZE = 4096

# Five fragments and a bit, so that a fragment is first, in the middle, and last and short.
CONTENT = bytes(range(251)) * 86


class Channel(NamedTuple):
    """A channel's header as it is now: what a reader that comes now must judge it by."""

    state: int
    head: int
    tail: int
    joined: int  # writers, those that died between noting their place and being counted with them
    left: int  # writers that said goodbye, those with them that died when they had noted it
    torn: int

    @property
    def owed(self) -> int:
        """Writers that stopped before their end: a reader that comes to the end of the channel ends with 1 for them."""
        return self.joined - self.left


class Child:
    """A program that runs, and what it said."""

    def __init__(self, pid: int, words: Sequence[str], said: Path) -> None:
        self.pid = pid
        self.words = words
        self._said = said
        self._code: int | None = None

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it. A program that does not end is a failure."""
        if self._code is None:
            descriptor = os.pidfd_open(self.pid)
            ended, _, _ = select.select([descriptor], [], [], PATIENCE)
            os.close(descriptor)
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            assert ended, f"{' '.join(self.words)} hangs\n{self.said}"
            assert "Traceback" not in self.said, self.said
        return self._code

    @property
    def ended(self) -> bool:
        """Whether it has ended; it is not waited for."""
        if self._code is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.wait()
        return self._code is not None

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")


class Stage:
    """One key path and a directory for what goes in and comes out; the programs run here, none survives it."""

    def __init__(self, key_path: Path, directory: Path, ipc: str = "sysv") -> None:
        self.key_path = key_path
        self.ipc = ipc
        self.directory = directory
        self.input = directory / "input"
        self.input.write_bytes(CONTENT)
        self.output = directory / "output"
        self._doorway = FlockDoorway(str(key_path), Patience(None, Listener()))
        self.family = FAMILIES[ipc]
        self.place = place_of(key_path)
        self.children: list[Child] = []

    def begin(self) -> None:
        """Forget the last performance."""
        self.children.clear()
        self.output.unlink(missing_ok=True)

    def start(
        self,
        *words: object,
        strike: stepper.Strike | None = None,
        by: int = signal.SIGKILL,
        stdin: Path = NOTHING,
        stdout: Path = NOTHING,
    ) -> Child:
        """Start "writer" or "reader" with arguments; it appends its data to `stdout`; `by` comes when `strike` says."""
        program, *arguments = (str(word) for word in words)
        said = self.directory / f"said-{len(self.children)}"
        said.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            _redirect(stdin, stdout, said)
            _become(
                f"{ROOT / program}.py", ["--key-path", str(self.key_path), "--ipc", self.ipc, *arguments], strike, by
            )
        self.children.append(Child(pid, [program, *arguments], said))
        return self.children[-1]

    def run(self, *words: object, code: int = 0, stdin: Path = NOTHING, stdout: Path = NOTHING) -> str:
        """Run a program to its end, which must be with `code`; what it said."""
        child = self.start(*words, stdin=stdin, stdout=stdout)
        assert child.wait() == code, f"{' '.join(child.words)} ended with {child.wait()}, not {code}\n{child.said}"
        return child.said

    def kill(
        self, strike: stepper.Strike, *words: object, code: int = 0, stdin: Path = NOTHING, stdout: Path = NOTHING
    ) -> bool:
        """Run the victim; whether it was killed. One that was not must end with `code`."""
        victim = self.start(*words, strike=strike, stdin=stdin, stdout=stdout)
        killed = victim.wait() == KILLED and "killed at step" in victim.said
        assert killed or victim.wait() == code, f"the victim ended with {victim.wait()}\n{victim.said}"
        return killed

    def interrupt(self, strike: stepper.Strike, *words: object, stdout: Path) -> bool:
        """Run the victim under SIGINT; whether it was struck. One that was not must end with 0.

        Until the program hears the signal itself, it dies of it like any other; behind its last word it is deaf.
        """
        victim = self.start(*words, strike=strike, by=signal.SIGINT, stdout=stdout)
        code, struck = victim.wait(), "killed at step" in victim.said
        legal = {-signal.SIGINT, 128 + signal.SIGINT} if struck else {0}
        if "detached" in victim.said:
            legal.add(0)
        assert code in legal, f"the victim ended with {code}\n{victim.said}"
        assert ("ended by SIGINT" in victim.said) == (code == 128 + signal.SIGINT), victim.said
        return struck

    def read(self, code: int = 0) -> bytes:
        """What a reader, which must end with `code`, finds in the channel."""
        output = self.directory / "read"
        output.unlink(missing_ok=True)
        self.run("reader", code=code, stdout=output)
        return output.read_bytes()

    def header(self) -> Channel | None:
        """The channel as it is now, None while there is none."""
        with self._open() as ring:
            if not ring:
                return None
            header, note = ring.header, ring.header.input_note()
            joined, left = max(header.writers_joined, note.place), max(header.writers_left, note.goodbye)
            return Channel(header.state, header.head, header.tail, joined, left, header.records_torn)

    def unfinished(self) -> bool:
        """Whether the last record in the channel has no end. No writer may be running."""
        with self._open() as ring:
            return bool(ring and ring.header.head and not ring.read_slot(ring.header.head - 1).ends_record)

    @contextmanager
    def _open(self) -> Iterator[Ring | None]:
        with self._doorway:  # outside of it there are half-made ones, too
            try:
                family = find_channel(self.family, self.place, observe=True)
            except (CallFailed, BadSegment):  # BadSegment: a POSIX object that has no size yet
                yield None
                return
            try:
                with Header(family.memory) as header:
                    whole = header.magic == MAGIC
                ring = Ring(family.memory) if whole else None
                try:
                    yield ring
                finally:
                    if ring:
                        ring.release()
            finally:
                family.detach()

    def check_goodbye(self, victim: Child) -> int:
        """How many writers are missing now that this one is dead; its own words show that it is counted rightly."""
        said, channel = victim.said, self.header()
        owed = channel.owed if channel and channel.state == OPEN else 0
        if "detached; " in said:
            assert not owed, f"it has left, and is missing\n{said}"
        elif "attached it at" in said and "sent " not in said:
            assert owed == 1, f"it joined, did not leave, and {owed} are missing\n{said}"
        elif "killed at step" in said:
            assert owed in (0, 1), f"{owed} are missing\n{said}"
        return owed

    @property
    def _keys(self) -> set[int]:
        return {self.place.segment_key, *self.place.semaphore_keys}

    def left_behind(self) -> list[object]:
        """All IPC objects of either family with a key of ours."""
        return [*left_behind(self._keys), *left_in_dev_shm(self._keys)]

    def finish(self) -> None:
        """What must hold after every performance: a fresh start works, nobody runs, nothing is left."""
        self.run("writer", "fresh start")
        assert self.read() == b"fresh start\n"
        running = [child.words for child in self.children if not child.ended]
        assert not running, f"still running: {running}"
        assert not self.left_behind(), f"left behind: {self.left_behind()}"

    def clear(self) -> None:
        """After a failure: end every program, remove every object."""
        for child in self.children:
            if not child.ended:
                os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: all(child.ended for child in self.children))
        clear_away(self._keys)


def _redirect(stdin: Path, stdout: Path, stderr: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, path, how in ((0, stdin, os.O_RDONLY), (1, stdout, flags), (2, stderr, flags)):
        opened = os.open(path, how, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)


def _become(program: str, arguments: list[str], strike: stepper.Strike | None, by: int) -> None:
    """Be that program until the end of this process."""
    code = 1
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs us in the background is deaf to it
    try:
        if strike:
            stepper.install(strike, said=2, by=by)
        stepper.run(program, arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.settrace(None)
        sys.stderr.flush()
        os._exit(code)
