"""The key path is deleted, replaced or read-only: the keys follow from its inode, the doorway needs it open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.tools import powerless, private_mounts
from tests.helpers import PATIENCE, Pair, finish, keys_of, left_behind


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_deleted_before_the_start(pair: Pair, program: str) -> None:
    pair.key_path.unlink()
    done = pair.run(program, "--quiet")
    assert (done.code, done.err) == (
        1,
        f"{program}: {pair.key_path}: ENOENT (No such file or directory): there is no such file; check the path\n",
    )


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    """As an editor does it: a new inode under the old name."""
    (path.parent / "new").touch()
    os.replace(path.parent / "new", path)


@pytest.mark.parametrize("change", [_delete, _replace])
def test_changed_under_a_running_pair(pair: Pair, change: Callable[[Path], None]) -> None:
    """Both opened it when they joined: they still find the doorway, and remove their channel at the end."""
    lines = pair.start("writer", "--quiet", "--lines")
    assert lines.stdin
    lines.stdin.write(b"before\n")
    lines.stdin.flush()
    reader = pair.start("reader", "--quiet", "--timeout", PATIENCE)
    assert reader.stdout
    assert reader.stdout.readline() == b"before\n"
    change(pair.key_path)
    ended = finish(lines, b"after\n")
    done = finish(reader)
    assert (ended.code, ended.err) == (0, "")
    assert (done.code, done.out, done.err) == (0, b"after\n", "")


def test_replaced_between_writer_and_reader(pair: Pair) -> None:
    """Another inode is another channel; the data is where it was, and comes out under the old inode's name."""
    before = pair.directory / "before"
    os.link(pair.key_path, before)
    assert pair.write("--quiet", "kept").code == 0
    _replace(pair.key_path)
    done = pair.read("--quiet", "--timeout", 0.3)
    assert (done.code, done.err) == (124, "reader: gave up after 0.3 s of waiting for a channel; start `writer.py`\n")
    assert Pair(before, pair.directory, ipc=pair.ipc).read("--quiet").out == b"kept\n"


def test_a_file_that_may_only_be_read(pair: Pair) -> None:
    """flock(2) asks for no right to write, and the default key path, the project, may well be read-only."""
    pair.key_path.chmod(0o444)
    only_reading = powerless(pair)
    assert only_reading.write("--quiet", "kept").code == 0
    assert only_reading.read("--quiet").out == b"kept\n"


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_a_file_that_may_not_be_read(pair: Pair, program: str) -> None:
    pair.key_path.chmod(0o222)
    done = powerless(pair).run(program, "--quiet")
    assert (done.code, done.err) == (
        1,
        f"{program}: {pair.key_path}: EACCES (Permission denied): its permissions keep us out; check them, or name"
        " another file\n",
    )


READ_ONLY_MOUNT = """
mount --bind "$DISK" "$DISK" && mount -o remount,bind,ro "$DISK" || exit 99
touch "$DISK/probe" 2>/dev/null && exit 98
exec "$@"
"""


@pytest.mark.parametrize("name", [".", "key"])
def test_a_read_only_mount(pair: Pair, name: str) -> None:
    """A file, or the directory itself, on a mount that takes no writes."""
    disk = pair.directory / "disk"
    disk.mkdir()
    key_path = disk / name
    key_path.touch()
    mounting = [*private_mounts(), "sh", "-c", READ_ONLY_MOUNT, "sh"]
    on_it = Pair(key_path, pair.directory, mounting, {"DISK": str(disk)}, ipc=pair.ipc)
    written = on_it.write("--quiet", "kept")
    assert (written.code, written.err) == (0, "")
    assert on_it.read("--quiet").out == b"kept\n"
    assert not left_behind(keys_of(key_path))
