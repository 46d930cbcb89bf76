"""A 64 MiB file, and either side killed at random, 50 times in one transfer."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.crash.doomed import start_doomed
from tests.families import slow_over_posix
from tests.helpers import PATIENCE, Pair, finish, wait_until

SIZE = 64 * 1024 * 1024
KILLS = 50

# 1024 fragments. A life of so many steps is over in the start-up or within some 30 fragments, whichever machine it
# runs on, so 50 lives never reach the end of the file.
RING = ("--slots", 4, "--slot-size", "64K")
LONGEST_LIFE = 2800


class Mortal:
    """One side, which lives a random number of steps."""

    def __init__(self, pair: Pair, luck: random.Random, program: str, *arguments: object) -> None:
        self.pair, self.luck = pair, luck
        self.program, self.arguments = program, ("--quiet", "--resume", *arguments)
        self.said = pair.directory / f"said-{program}"
        self.process = self.live()

    def live(self) -> subprocess.Popen[bytes]:
        """Start it, for a while."""
        steps = str(self.luck.randint(1, LONGEST_LIFE))
        with self.said.open("wb") as stderr:
            return start_doomed(self.pair, steps, self.program, *self.arguments, stderr=stderr)

    def revive(self) -> bool:
        """Start it again if it is dead; whether it was. None may end: with --resume, each side waits for the other."""
        code = self.process.poll()
        if code is None:
            return False
        assert code == -signal.SIGKILL, f"{self.program} ended with {code}\n{self.said.read_text()}"
        self.process = self.live()
        return True

    def kill(self) -> None:
        """From outside, wherever it is, be it inside a system call."""
        self.process.kill()
        self.process.wait(PATIENCE)


@pytest.mark.parametrize("seed", [1])
@slow_over_posix
def test_fifty_random_kills_in_one_transfer(pair: Pair, tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    content, output = tmp_path / "content", tmp_path / "output"
    content.write_bytes(luck.randbytes(SIZE))
    writer = Mortal(pair, luck, "writer", "--file", content, *RING)
    reader = Mortal(pair, luck, "reader", "--output", output)
    kills = 0
    try:
        while kills < KILLS:
            wait_until(lambda: writer.process.poll() is not None or reader.process.poll() is not None, "a death")
            if luck.random() < 0.3:
                luck.choice((writer, reader)).kill()
            kills += writer.revive() + reader.revive()
    finally:
        writer.kill()
        reader.kill()
    assert output.stat().st_size < SIZE, "the transfer was over before the last kill"
    sending = pair.start("writer", "--file", content, "--resume")
    received = pair.read("--output", output, "--resume")
    assert (received.code, finish(sending).code) == (0, 0), received
    assert _checksum(output) == _checksum(content)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
