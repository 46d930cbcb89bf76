"""Hours of bad luck: `python -m tests.bench.soak --minutes 20`.

Transfers of random files through random geometries, one after the other. All the while either program is killed
(kill -9), stopped (SIGSTOP) and continued at random; the dead are started again with --resume. Between them,
several writers of lines and several readers share a channel and are stopped at random. Every byte that arrives is
compared with what was sent, and after each transfer no IPC object may be left. Ends with 1 at the first failure,
which `--seed` repeats as far as timing can be repeated.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash.driver import Stage
from tests.helpers import PATIENCE, Pair, wait_until

KILOBYTE = 1024

_running: list[subprocess.Popen[bytes]] = []


def spawn(command: list[str], **popen: Any) -> subprocess.Popen[bytes]:
    """Start a program, and remember it until it has ended."""
    _running[:] = [child for child in _running if child.poll() is None]
    _running.append(subprocess.Popen(command, **popen))
    return _running[-1]


def end_all() -> None:
    """After a failure: nothing of ours runs on."""
    for child in _running:
        child.kill()
        child.wait()


class Side:
    """One program of the pair with its arguments: started, killed, started again."""

    def __init__(self, pair: Pair, program: str, *arguments: object) -> None:
        self.command = pair.command(program, "--quiet", *arguments)
        self.said = pair.directory / f"said-{program}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """A new process, whose errors are kept in `said`."""
        with self.said.open("wb") as stderr:
            self.process = spawn(self.command, stdout=subprocess.DEVNULL, stderr=stderr)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def code(self) -> int | None:
        """How the last process ended, None before the first and while it runs."""
        return self.process.poll() if self.process else None

    def send(self, number: int) -> None:
        """A signal to the process, if there is one."""
        if self.process:
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9; returns when it is dead."""
        if self.process:
            self.process.kill()
            self.process.wait()


class Soak:
    """Runs transfers and counts what happened in them."""

    def __init__(self, directory: Path, seed: int) -> None:
        key_path = directory / "key"
        key_path.touch()
        self.random = random.Random(seed)
        self.pair = Pair(key_path, directory)
        self.stage = Stage(key_path, directory)
        self.count: Counter[str] = Counter()

    def run(self, seconds: float, pause: float) -> None:
        """Transfers until the time is over, `pause` seconds between two. Raises AssertionError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.random.random() < 0.8:
                self.transfer_file()
            else:
                self.share_lines()
            self.count["transfers"] += 1
            self.count["leaks"] += len(self.stage.left_behind())
            assert not self.count["leaks"], self.stage.left_behind()
            time.sleep(pause)

    def transfer_file(self) -> None:
        """One file, whoever dies meanwhile; both programs are always started with --resume."""
        source, output = self.pair.directory / "source", self.pair.directory / "output"
        content = self.random.randbytes(self.random.choice((64, 8192, 32768, 65536)) * KILOBYTE + 1)
        source.write_bytes(content)
        output.unlink(missing_ok=True)
        verify = self.random.choice(((), ("--verify",)))
        writer = Side(self.pair, "writer", "--file", source, "--resume", *self._geometry(), *verify)
        reader = Side(self.pair, "reader", "--output", output, "--resume")
        deadline = time.monotonic() + 10 * PATIENCE
        while not self._has_arrived(writer, reader, output, content):
            assert time.monotonic() < deadline, f"no end: {writer.said.read_bytes()!r} {reader.said.read_bytes()!r}"
            self._strike(writer, reader)
        self._wind_up(writer, reader)
        assert output.read_bytes() == content, "the bytes differ"
        self.count["bytes"] += len(content)

    def _geometry(self) -> tuple[object, ...]:
        slots, pages = self.random.randint(1, 8), self.random.choice((1, 1, 1, 4, 16))
        return "--slots", slots, "--slot-size", 4 * pages * KILOBYTE

    def _has_arrived(self, writer: Side, reader: Side, output: Path, content: bytes) -> bool:
        """Whether the transfer is over; else every dead program has been started again."""
        # One look at the reader for all that follows: one that ends behind our back may have received everything.
        reader_alive = reader.alive
        size = output.stat().st_size if output.exists() else 0
        if not reader_alive and size == len(content):
            self._accept(reader, 0)
            return True
        self._accept(writer, 0)
        if not writer.alive and writer.code != 0:
            self._start_again(writer)
        if not reader_alive:
            self._accept(reader)  # with --resume it waits for its writer's end, so it has no reason to end before
            self._start_again(reader)
        return False

    def _start_again(self, side: Side) -> None:
        self.count["resumed"] += side.code is not None
        side.start()

    def _accept(self, side: Side, *codes: int) -> None:
        assert side.code in (None, -signal.SIGKILL, *codes), (side.command, side.code, side.said.read_bytes())

    def _strike(self, *sides: Side) -> None:
        """Let them work for a moment, then kill one of them, or stop it for another moment."""
        side = self.random.choice(sides)
        self._moment(0.35)
        if not side.alive:
            return
        if self.random.random() < 0.6:
            side.kill()
            self.count["kills"] += 1
        else:
            self._stop(side)

    def _moment(self, longest: float) -> None:
        time.sleep(self.random.uniform(0, longest))  # the bad luck itself, not a wait for something

    def _stop(self, side: Side) -> None:
        side.send(signal.SIGSTOP)
        self._moment(0.3)
        side.send(signal.SIGCONT)
        self.count["stops"] += 1

    def _wind_up(self, writer: Side, reader: Side) -> None:
        """End what still runs: a writer that was started again when all had arrived has begun to send it anew."""
        for side in (writer, reader):
            side.kill()
        if self.stage.header():
            subprocess.run(self.pair.command("writer", "--quiet", "--remove"), check=True)
        assert self.pair.write("fresh start").code == 0
        fresh = self.pair.read()
        assert (fresh.code, fresh.out) == (0, b"fresh start\n"), fresh

    def share_lines(self) -> None:
        """Three writers of lines and two readers, stopped at random: each line arrives once, whole and in order."""
        sent = [self._lines(name) for name in "abc"]
        outputs = [self.pair.directory / f"shared-{number}" for number in range(2)]
        geometry = self._geometry()
        writers = [self._start_lines(text, geometry) for text in sent]
        wait_until(self.stage.header, "a channel")
        readers = [self._start_reader(output) for output in outputs]
        while any(child.poll() is None for child in writers):
            self._stop_any([*writers, *readers])
            readers += [self._start_reader(self._another(outputs)) for child in readers[-1:] if child.poll() == 0]
        assert all(child.wait() == 0 for child in writers)
        while self.stage.header():
            if all(child.poll() is not None for child in readers):
                readers.append(self._start_reader(self._another(outputs)))
            self._moment(0.05)
        for child in readers:
            child.terminate()  # one that came too late for this channel waits for the next
        codes = {child.wait(PATIENCE) for child in readers}
        assert codes <= {0, 128 + signal.SIGTERM, -signal.SIGTERM}, codes
        self._check_lines(sent, [output.read_bytes() for output in outputs])

    def _lines(self, name: str) -> bytes:
        lengths = [self.random.randint(0, 200) for _ in range(self.random.randint(1, 4000))]
        return b"".join(b"%c %d %s\n" % (ord(name), at, b"." * length) for at, length in enumerate(lengths))

    def _start_lines(self, text: bytes, geometry: tuple[object, ...]) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as source:
            source.write(text)
            source.seek(0)
            command = self.pair.command("writer", "--quiet", "--lines", *geometry)
            return spawn(command, stdin=source)

    def _start_reader(self, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as stream:
            return spawn(self.pair.command("reader", "--quiet"), stdout=stream, stderr=subprocess.DEVNULL)

    def _another(self, outputs: list[Path]) -> Path:
        outputs.append(self.pair.directory / f"shared-{len(outputs)}")
        return outputs[-1]

    def _stop_any(self, children: list[subprocess.Popen[bytes]]) -> None:
        child = self.random.choice(children)
        child.send_signal(signal.SIGSTOP)
        self._moment(0.1)
        child.send_signal(signal.SIGCONT)
        self.count["stops"] += 1
        self._moment(0.1)

    def _check_lines(self, sent: list[bytes], received: list[bytes]) -> None:
        lines = [text.splitlines(keepends=True) for text in received]
        arrived = sorted(itertools.chain.from_iterable(lines))
        assert arrived == sorted(b"".join(sent).splitlines(keepends=True)), "lines lost or repeated"
        for text in lines:
            for name in b"abc":
                numbers = [int(line.split()[1]) for line in text if line[0] == name]
                assert numbers == sorted(numbers), "lines out of order"
        self.count["bytes"] += sum(map(len, received))


def main() -> int:
    """Print the figures; 1 after a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--pause", type=float, default=0, help="seconds between two transfers (0)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), options.seed)
        try:
            soak.run(60 * options.minutes, options.pause)
            failed = False
        finally:
            end_all()
            soak.stage.clear()  # after a failure: the inode of our key path will be somebody else's
            count = soak.count
            print(
                f"seed {options.seed}: {(time.monotonic() - began) / 60:.1f} minutes, {count['transfers']} transfers,"
                f" {count['bytes']} bytes verified, {count['kills']} kills and {count['stops']} stops survived,"
                f" {count['resumed']} times started again, {count['leaks']} leaks"
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
