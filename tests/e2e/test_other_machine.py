"""The lab README's table "To another machine", typed as it stands: two key paths are its two machines.

The commands run under bash over the loopback. Where socat is not installed, a stand-in with its name and its part runs.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, Finished, Pair, finish, own_key_path, wait_until
from tests.lab.cases import LAB_README, rows_under

DATA = random.Random(1).randbytes(5_000_000)  # more than the segments, the pipes and the socket hold together

# What the README types of socat: -u, and one of both directions of TCP.
SOCAT = """\
import os, socket, sys
assert sys.argv[1] == "-u" and len(sys.argv) == 4
if sys.argv[3] == "-":
    port = int(sys.argv[2].removeprefix("TCP-LISTEN:").removesuffix(",reuseaddr"))
    with socket.create_server(("", port)) as listener:
        connection, _ = listener.accept()
    source, target = connection.fileno(), 1
else:
    assert sys.argv[2] == "-"
    _, host, port = sys.argv[3].split(":")
    connection = socket.create_connection((host, int(port)))
    source, target = 0, connection.fileno()
while data := os.read(source, 65536):
    while data:
        data = data[os.write(target, data):]
"""


@pytest.fixture
def far_key_path(key_path: Path, tmp_path: Path) -> Iterator[Path]:
    """The other machine's, beside the one of `key_path` and just as strict."""
    with own_key_path(tmp_path, "far", beside=key_path) as path:
        yield path


class Machine:
    """A directory in which `python writer.py` runs on this key path and over this family, and the tools beside it."""

    def __init__(self, pair: Pair, home: Path) -> None:
        self.pair, self.home, self.directory = pair, home, home / "shmpair"
        self._shells: list[subprocess.Popen[bytes]] = []
        self.tools = self.directory / ".venv/bin"
        self.tools.mkdir(parents=True)
        words = f'--key-path "{pair.key_path}" --ipc {pair.ipc} "${{@:2}}"'
        self.tool("python", f'exec "{sys.executable}" "{ROOT}/$1" {words}')
        if not shutil.which("socat"):
            (self.tools / "socat.py").write_text(SOCAT)
            self.tool("socat", f'exec "{sys.executable}" "{self.tools}/socat.py" "$@"')

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.tools / name).chmod(0o755)

    def types(self, command: str) -> subprocess.Popen[bytes]:
        """A terminal with this command in it."""
        programs = self.pair.under(PATH=f"{self.tools}:{os.environ['PATH']}")
        # A session of its own, so that what is left of it after a failure can be killed with its shell.
        shell = programs.spawn(["bash", "-c", command], cwd=self.directory, start_new_session=True)
        self._shells.append(shell)
        return shell

    def turn_off(self) -> None:
        """Kill what a failed test has left running."""
        for shell in self._shells:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)


@pytest.fixture(params=["sysv", "posix"])
def machines(
    request: pytest.FixtureRequest, pair: Pair, far_key_path: Path, tmp_path: Path
) -> Iterator[tuple[Machine, Machine]]:
    """Near, over the family of the fixture `ipc`, and far, over either."""
    near = Machine(pair, tmp_path / "near")
    far = Machine(Pair(far_key_path, tmp_path, ipc=request.param), tmp_path / "far")
    near.tool("ssh", f'[ "$1 $#" = "far 2" ] && cd "{far.home}" && exec bash -c "$2"')
    (near.directory / "FILE").write_bytes(DATA)
    yield near, far
    near.turn_off()
    far.turn_off()


def typed(column: int) -> list[str]:
    """What the README has one type, in its order: on far, far, near and near; a machine with ssh has one fewer."""
    rows = rows_under(LAB_README, "To another machine")
    assert [row[0] for row in rows] == ["far", "far", "near", "near"]
    return [row[column].strip("`") for row in rows]


def over_port(port: int, command: str) -> str:
    return command.replace("TCP:far:4000", f"TCP:127.0.0.1:{port}").replace("LISTEN:4000", f"LISTEN:{port}")


def free_port() -> int:
    with socket.create_server(("", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody does, told without connecting: the first who connects is the one who is served."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def begin(machines: tuple[Machine, Machine]) -> list[subprocess.Popen[bytes]]:
    """The table's first three lines, with socat: the far reader, the far pipeline, the near one."""
    near, far = machines
    port = free_port()
    take, arrive, leave, _ = (over_port(port, command) for command in typed(1))
    running = [far.types(take), far.types(arrive)]
    wait_until(lambda: listens(port), "a listening socat")
    return [*running, near.types(leave)]


def assert_same(sent: Finished, received: Finished) -> None:
    """Both say exit code 0 and the checksum of the data."""
    expected = f"0\n{hashlib.sha256(DATA).hexdigest()}  FILE\n".encode()
    assert (sent.out, received.out) == (expected, expected), (sent, received)


def test_socat_carries_it_and_all_end_by_themselves(machines: tuple[Machine, Machine]) -> None:
    running = begin(machines)
    running.append(machines[0].types(typed(1)[3]))
    received, arrived, left, sent = map(finish, running)
    assert (arrived.out, left.out) == (b"0 0\n", b"0 0\n"), (arrived, left)
    assert_same(sent, received)


def test_ssh_in_the_place_of_socat(machines: tuple[Machine, Machine]) -> None:
    """A shell stands in for ssh, which would run the command likewise; there need be no server here."""
    near, far = machines
    take, arrive, leave, give = typed(2)
    assert not arrive
    received, left, sent = map(finish, [far.types(take), near.types(leave), near.types(give)])
    assert left.out == b"0 0\n", left
    assert_same(sent, received)


def child_of(parent: int, program: str) -> int | None:
    """The pid of the `program` that a shell has started."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"/{program}.py".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    return None


def test_a_near_reader_that_is_killed_looks_like_an_end_from_far(machines: tuple[Machine, Machine]) -> None:
    near, far = machines
    taking, arriving, leaving = begin(machines)
    giving = near.pair.start("writer", "--lines")
    assert giving.stdin
    giving.stdin.write(DATA[:1000] + b"\n")
    giving.stdin.flush()
    taken = far.directory / "FILE"
    wait_until(lambda: taken.exists() and taken.stat().st_size == 1001, "the beginning, far")
    os.kill(wait_until(lambda: child_of(leaving.pid, "reader")), signal.SIGKILL)
    left, arrived, received = map(finish, (leaving, arriving, taking))
    assert (left.out, arrived.out, received.out[:2]) == (b"137 0\n", b"0 0\n", b"0\n"), (left, arrived, received)
    assert taken.read_bytes() == DATA[:1000] + b"\n"
    finish(giving, b"")
    assert near.pair.write("--remove").code == 0


def test_a_far_writer_that_is_killed_shows_in_the_exit_code_of_socat(machines: tuple[Machine, Machine]) -> None:
    near, far = machines
    taking, arriving, leaving = begin(machines)
    # One that is killed before it has joined leaves no channel, and the far reader would wait for the next one.
    wait_until(lambda: (status := far.pair.status()) and status["header"]["writers_joined"], "the far writer")
    os.kill(wait_until(lambda: child_of(arriving.pid, "writer")), signal.SIGKILL)
    giving = near.types("yes | python writer.py --lines")
    left, received = map(finish, (leaving, taking))
    assert re.fullmatch(rb"0 [1-9]\d*\n", left.out), left
    assert received.out.startswith(b"1\n"), received
    assert finish(arriving).out.endswith(b" 137\n")
    # Ends the shell's pipeline: `yes` has nobody left to write for.
    os.kill(wait_until(lambda: child_of(giving.pid, "writer")), signal.SIGTERM)
    finish(giving)
    assert near.pair.write("--remove").code == 0
