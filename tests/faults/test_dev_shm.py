"""What others make of the files in /dev/shm: other sizes, other kinds of file, and no /dev/shm at all."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.layout import PAGE
from tests.faults.tools import private_mounts
from tests.helpers import Pair, finish, wait_until
from tests.in_process import POSIX, file_of, objects, place_of


@pytest.fixture
def posix_pair(key_path: Path, tmp_path: Path) -> Pair:
    return Pair(key_path, tmp_path, ipc="posix")


@pytest.mark.parametrize("size", [0, 16, 100, PAGE, 2 * PAGE, 2**24])
def test_one_whose_size_is_changed_under_a_waiting_program(posix_pair: Pair, key_path: Path, size: int) -> None:
    """The heartbeat sees it, and no touch is a SIGBUS; a program that is just writing there is ended by one.

    What the line says to type leaves nothing, at once: where the bytes that prove it ours are gone, it says the rest.
    """
    writer = posix_pair.start("writer", "--lines")
    wait_until(posix_pair.status, "the channel")
    reader = posix_pair.start("reader")
    wait_until(lambda: (posix_pair.status() or {}).get("header", {}).get("reader_pid"), "the reader's turn")
    os.truncate(file_of(key_path), size)
    done = finish(reader)
    assert done.code == 1, done
    assert f"the segment is damaged: its size was changed to {size} bytes while it was in use" in done.err
    writer.kill()
    finish(writer)
    advice = "says how to remove it" if size == 16 else "removes it"
    assert done.err.endswith(f"; `writer.py --remove` {advice}\n")
    removed = posix_pair.write("--remove")
    assert removed.code == (1 if size == 16 else 0), removed
    if removed.code:
        subprocess.run(["sh", "-c", removed.err[removed.err.index("rm /dev") :]], check=True)
    assert objects(place_of(key_path), POSIX) == []


COMMANDS = [
    ("writer", "--quiet", "hello"),
    ("writer", "--quiet", "--remove"),
    ("writer", "--quiet", "--chmod", "0600"),
    ("writer", "--quiet", "--chown", "0"),
    ("reader", "--quiet"),
    ("reader", "--status"),
    ("reader", "--status", "--json"),
]


@pytest.mark.parametrize("size", [0, 100])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_has_no_header_is_one_line(posix_pair: Pair, key_path: Path, command: tuple[str, ...], size: int) -> None:
    """Its creator was killed between shm_open and ftruncate, or somebody cut it off."""
    assert posix_pair.write("--quiet", "lost").code == 0
    os.truncate(file_of(key_path), size)
    done = posix_pair.run(*command, "--timeout", 0)
    if command[-1] == "--remove" or (size == 0 and command[-1] in ("hello", "--quiet")):
        assert done.code == (124 if command[-1] == "--quiet" else 0), done
        assert not file_of(key_path).exists() or command[-1] == "hello"
    else:
        assert (done.code, done.err.count("\n"), done.out) == (1, 1, b""), done
        assert f"the segment is damaged: it was cut off at {size} bytes" in done.err
    posix_pair.write("--remove")
    posix_pair.write("--remove")  # what the new one did not note


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": lambda path: os.mkfifo(path),
    "directory": lambda path: os.mkdir(path),
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "link": lambda path: os.symlink(os.devnull, path),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_has_our_name_and_is_no_file_is_left_alone(
    posix_pair: Pair, key_path: Path, command: tuple[str, ...], kind: str
) -> None:
    path = file_of(key_path)
    KINDS[kind](path)
    try:
        done = posix_pair.run(*command, "--timeout", 0)
        assert (done.code, done.err.count("\n")) == (1, 1), done
        assert "choose another --channel" in done.err or "is not followed" in done.err
        assert ("rmdir" in done.err) == (kind == "directory")
        assert os.path.lexists(path)
    finally:
        path.rmdir() if kind == "directory" else path.unlink()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_dev_shm_nobody_waits_for_ever(posix_pair: Pair, tmp_path: Path, command: tuple[str, ...]) -> None:
    """It would be said to be the other side that is missing."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").touch()
    empty = "mount --bind /dev/null dev/null; mount --rbind dev /dev"
    words = [*private_mounts(), "sh", "-c", f"{empty}; exec {shlex.join(posix_pair.command(*command))}"]
    done = finish(posix_pair.spawn(words))
    assert (done.code, done.err.count("\n")) == (1, 1), done
    assert "shm_open: ENOENT: there is no /dev/shm" in done.err
