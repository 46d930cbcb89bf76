"""What the fault tests share: programs under a patch, a transfer that can be stopped in its middle.

A function that finds a tool or a right missing skips the test and says what to install or to allow.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from random import Random

import pytest

from common.layout import SEMAPHORES
from tests.e2e.watch import segment_file, semaphore_file
from tests.helpers import PATIENCE, Finished, Pair, finish, is_root, wait_until
from tests.in_process import place_of, sysv

SLOTS, SLOT_SIZE = 4, 16 * 1024
RING = ("--slots", SLOTS, "--slot-size", SLOT_SIZE)
SIZE = 2**20


def patched(pair: Pair, code: str) -> Pair:
    """The programs with `code` run in them first, as their sitecustomize module."""
    folder = pair.directory / "patch"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return pair.under(PYTHONPATH=str(folder))


@functools.cache
def _works(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def private_mounts() -> list[str]:
    """The command that runs another one in a mount namespace of its own."""
    command = ["unshare", "--mount"]
    if not is_root() or not shutil.which("unshare"):
        pytest.skip("a private mount namespace needs root and unshare: run as root, install util-linux")
    if not _works(*command, "mount", "-t", "tmpfs", "none", "/mnt"):
        pytest.skip("a private mount namespace needs CAP_SYS_ADMIN: allow the container `--cap-add SYS_ADMIN`")
    return command


def private_ipc() -> list[str]:
    """The command that runs another one in an IPC namespace of its own, whose limits it may set."""
    if not is_root() or not shutil.which("unshare"):
        pytest.skip("a private IPC namespace needs root and unshare: run as root, install util-linux")
    command = ["unshare", "--ipc"]
    if not _works(*command, "sh", "-c", "echo 4096 > /proc/sys/kernel/shmmni"):
        pytest.skip("limits of IPC need a writable /proc/sys: run the container with `--privileged`")
    return command


def powerless(pair: Pair) -> Pair:
    """The programs without root's right to open any file, whoever runs the tests."""
    if not is_root():
        return pair
    if not shutil.which("setpriv"):
        pytest.skip("taking rights from root needs setpriv: install util-linux")
    return pair.under("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


def remove(pair: Pair, name: str) -> None:
    """What `ipcrm -s`, or for "segment" `ipcrm -m`, does; over POSIX, `rm`."""
    if pair.ipc == "posix":
        (segment_file(pair) if name == "segment" else semaphore_file(pair, name)).unlink()
        return
    place = place_of(pair.key_path)
    if name == "segment":
        sysv.remove_segment(sysv.open_segment(place.segment_key))
    else:
        sysv.remove_semaphore(sysv.open_semaphore(place.semaphore_keys[SEMAPHORES.index(name)]))


class Transfer:
    """A file that is to go through a ring far smaller than it: a writer alone fills the ring and waits."""

    def __init__(self, pair: Pair, size: int = SIZE) -> None:
        self.pair = pair
        self.source, self.output = pair.directory / "source", pair.directory / "output"
        self.data = Random(size).randbytes(size)
        self.source.write_bytes(self.data)

    def start_writer(self, *arguments: object, by: Pair | None = None) -> subprocess.Popen[bytes]:
        """A writer that has filled the ring and waits for room."""
        child = (by or self.pair).start("writer", "--quiet", "--file", self.source, *RING, *arguments)
        wait_until(lambda: self.unread() == SLOTS, "a full ring")
        return child

    def position(self) -> tuple[int, int] | None:
        """Fragments published and consumed; None while there is no channel."""
        status = self.pair.status()
        return (status["header"]["head"], status["header"]["tail"]) if status else None

    def unread(self) -> int | None:
        position = self.position()
        return position[0] - position[1] if position else None

    def start_reader(self, *arguments: object, by: Pair | None = None) -> subprocess.Popen[bytes]:
        return (by or self.pair).start("reader", "--quiet", "--output", self.output, *arguments)

    def read(self, *arguments: object, by: Pair | None = None) -> Finished:
        return finish(self.start_reader(*arguments, by=by))

    def assert_completed_by_resume(self) -> None:
        """Both start again with --resume, and the file arrives exactly once."""
        writer = self.pair.start("writer", "--quiet", "--file", self.source, "--resume", "--timeout", PATIENCE)
        reader = self.read("--resume", "--timeout", PATIENCE)
        done = finish(writer)
        assert (done.code, done.err) == (0, "")
        assert (reader.code, reader.err) == (0, "")
        assert self.output.read_bytes() == self.data
