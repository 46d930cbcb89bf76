"""What the tests share: running both programs on one key path, and waiting for conditions instead of time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sysv_ipc

ROOT = Path(__file__).resolve().parent.parent

# No test waits so long unless something hangs; generous, because the machines are shared.
PATIENCE = 60.0

_children: list[subprocess.Popen[bytes]] = []


def kill_children() -> None:
    """Kill whatever a failed test left running, so that its objects can be checked; with it the group that it leads."""
    while _children:
        child = _children.pop()
        if child.poll() is None:
            if os.getpgid(child.pid) == child.pid:
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
            child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream:
                stream.close()


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Return the condition's first true value; fail after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come about in {PATIENCE} s")


class Pair:
    """Runs writer.py and reader.py on one key path. `start` returns a Popen, the plain verbs wait for the end.

    The programs run through another command if there is a `prefix`, with `environment` added to ours, and with --ipc if
    `ipc` is not System V's family.
    """

    def __init__(
        self,
        key_path: Path,
        directory: Path,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        ipc: str = "sysv",
    ) -> None:
        self.key_path = key_path
        self.directory = directory
        self.ipc = ipc
        self._prefix = prefix
        self._environment = environment or {}

    def under(self, *prefix: str, **environment: str) -> Pair:
        """The same programs, started through one command more (strace, sh -c, nohup), or in another environment."""
        prefix, environment = (*prefix, *self._prefix), {**self._environment, **environment}
        return Pair(self.key_path, self.directory, prefix, environment, ipc=self.ipc)

    def command(self, program: str, *arguments: object) -> list[str]:
        """The command line of `program` ("writer" or "reader") on this key path."""
        family = [] if self.ipc == "sysv" else ["--ipc", self.ipc]
        key_path = ["--key-path", self.key_path]
        words = [*self._prefix, sys.executable, ROOT / f"{program}.py", *key_path, *family, *arguments]
        return [str(word) for word in words]

    def start(self, program: str, *arguments: object, **popen: Any) -> subprocess.Popen[bytes]:
        """Start a program; its standard streams are pipes unless `popen` says otherwise."""
        return self.spawn(self.command(program, *arguments), **popen)

    def spawn(self, command: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
        """Start any command as a program is started. None outlives the test (kill_children)."""
        usual: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        usual |= {"cwd": self.directory, "env": {**os.environ, **self._environment}}
        child = subprocess.Popen(command, **{**usual, **popen})
        _children.append(child)
        return child

    def run(self, program: str, *arguments: object, stdin: bytes = b"", **popen: Any) -> Finished:
        """Run a program to its end."""
        return finish(self.start(program, *arguments, **popen), stdin)

    def write(self, *arguments: object, stdin: bytes = b"", **popen: Any) -> Finished:
        return self.run("writer", *arguments, stdin=stdin, **popen)

    def read(self, *arguments: object, **popen: Any) -> Finished:
        return self.run("reader", *arguments, **popen)

    def status(self) -> dict[str, Any] | None:
        """`reader.py --status --json`, None while there is no channel."""
        done = self.read("--status", "--json")
        return json.loads(done.out) if done.code == 0 else None


def plain(said: str) -> str:
    """What a program said, each command in it without the options that lead it to the test's own channel."""
    return re.sub(r"(`(?:reader|writer)\.py[^`]*?)(?: --ipc posix)? --key-path [^ `]+`", r"\1`", said)


class Finished:
    """How a program ended: exit code, standard output (bytes), standard error (text; `err` is what is plain of it)."""

    def __init__(self, code: int, out: bytes, said: str) -> None:
        self.code, self.out, self.err, self.said = code, out, plain(said), said

    def __repr__(self) -> str:
        return f"exit code {self.code}, {len(self.out)} bytes of output, standard error:\n{self.err}"


def finish(child: subprocess.Popen[bytes], stdin: bytes | None = None) -> Finished:
    """Wait for a program's end and collect what it said."""
    out, err = child.communicate(stdin if child.stdin else None, timeout=PATIENCE)
    return Finished(child.returncode, out or b"", (err or b"").decode(errors="replace"))


def is_root() -> bool:
    return os.geteuid() == 0


def keys_of(path: Path) -> set[int]:
    """Every key that ftok can make from `path`."""
    return {sysv_ipc.ftok(str(path), project_id, silence_warning=True) for project_id in range(1, 256)}


def is_mine(path: Path) -> bool:
    """Whether this worker of pytest-xdist may use this path for keys: no other one may use any path with the same keys.

    ftok(3) keeps 16 bits of the inode, so two files in two workers can have the same keys: each worker takes only keys
    of its own residue. (Of the inode's residue it would be too little: 3 workers do not divide 65536.)
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return (path.stat().st_ino & 0xFFFF) % workers == int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def ipc_table(kind: str) -> list[dict[str, int]]:
    """The rows of /proc/sysvipc/shm or /proc/sysvipc/sem by the names of their columns, which sysvipc(5) explains."""
    names, *rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
    return [
        {name: int(value, 8 if name == "perms" else 10) for name, value in zip(names.split(), row.split(), strict=True)}
        for row in rows
    ]


def left_behind(keys: set[int]) -> list[dict[str, int]]:
    """The rows of all IPC objects with one of these keys, segments first; they have a "shmid" or a "semid"."""
    return [row for kind in ("shm", "sem") for row in ipc_table(kind) if row["key"] in keys]


def left_in_dev_shm(keys: set[int]) -> list[Path]:
    """The POSIX objects that are named after one of these keys."""
    names = {f"shmpair-{key & 0xFFFFFFFF:08x}" for key in keys}
    return [
        path for path in Path("/dev/shm").iterdir() if path.name.removeprefix("sem.")[: len("shmpair-") + 8] in names
    ]


def clear_away(keys: set[int]) -> list[dict[str, int] | Path]:
    """Remove all IPC objects with one of these keys, whosever they are, of either family; what there was."""
    found, files = left_behind(keys), left_in_dev_shm(keys)
    for row in found:
        if "shmid" in row:
            sysv_ipc.remove_shared_memory(row["shmid"])
        else:
            sysv_ipc.remove_semaphore(row["semid"])
    for file in files:
        file.unlink()
    return [*found, *files]


@contextmanager
def own_key_path(directory: Path, name: str, beside: Path | None = None) -> Iterator[Path]:
    """A new key path that shares no key with another worker's, nor with `beside`.

    Raises AssertionError if an object with one of its keys is left.
    """
    taken = keys_of(beside) if beside else set()
    for attempt in range(1000):
        path = directory / f"{name}{attempt}"
        path.touch()
        keys = keys_of(path)
        # What a run that was killed has left is not this test's.
        if is_mine(path) and not (keys & taken or left_behind(keys) or left_in_dev_shm(keys)):
            break
    yield path
    kill_children()
    left = clear_away(keys)
    assert not left, f"IPC objects left behind: {left}"


def locks_on(path: Path, byte: int) -> int:
    """How many hold a lock on this byte of a file: on byte 0 of a POSIX object, that is what nattch is of a segment."""
    status = path.stat()
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    return sum(row[1] == "OFDLCK" and row[5:7] == [where, str(byte)] for row in rows)
