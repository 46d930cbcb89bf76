"""Every option, by what it changes for a user; and the command lines that make no sense."""

from __future__ import annotations

import json
import os
import pwd
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

from common.ipc.lifecycle import DEFAULT_GEOMETRY
from common.layout import SEMAPHORES
from tests.e2e.watch import (
    attached,
    is_taken,
    key_of,
    left_of,
    names_of,
    segment,
    segments,
    semaphore,
    shut_doorway,
    sleeps_on,
    value_of,
)
from tests.families import families, only, slow_over_posix
from tests.helpers import Pair, finish, is_root, plain, wait_until

PAGE = 4096


def status_of(pair: Pair) -> dict[str, Any]:
    """The status of a channel that must be there."""
    status = pair.status()
    assert status
    return status


def clear(pair: Pair) -> None:
    """Remove the channel and whatever is in it."""
    assert pair.write("--remove").code == 0


class TestCount:
    def test_takes_so_many_records_and_leaves_the_rest(self, pair: Pair) -> None:
        for word in ("one", "two", "three"):
            pair.write(word)
        first = pair.read("--count", 2)
        assert (first.code, first.out) == (0, b"one\ntwo\n")
        assert "detached; 1 slot to be read" in first.err
        rest = pair.read()
        assert (rest.code, rest.out) == (0, b"three\n")

    def test_ends_inside_a_packed_slot(self, pair: Pair) -> None:
        pair.write("--lines", stdin=b"one\ntwo\nthree\n")
        assert status_of(pair)["header"]["head"] == 1
        assert [pair.read("--count", 1).out for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
        assert segments(pair) == [], "the one that took the last record removed the channel"

    def test_of_more_than_there_are_ends_with_the_last_writer(self, pair: Pair) -> None:
        pair.write("one")
        done = pair.read("--count", 5)
        assert (done.code, done.out) == (0, b"one\n")


class TestFollow:
    def test_waits_for_further_writers(self, pair: Pair) -> None:
        reader = pair.start("reader", "--follow")
        assert reader.stdout
        for word in ("one", "two", "three"):
            assert pair.write(word).code == 0
            assert reader.stdout.readline() == f"{word}\n".encode()
        wait_until(lambda: sleeps_on(pair, "full_slots"))
        reader.send_signal(signal.SIGINT)
        done = finish(reader)
        assert (done.code, done.out) == (128 + signal.SIGINT, b"")

    def test_with_count(self, pair: Pair) -> None:
        reader = pair.start("reader", "--follow", "--count", 2)
        assert [pair.write(word).code for word in ("one", "two")] == [0, 0]
        done = finish(reader)
        assert (done.code, done.out) == (0, b"one\ntwo\n")

    def test_with_count_leaves_nothing(self, pair: Pair) -> None:
        """The reader goes last, with the channel empty: it removes it, although it could have followed on."""
        pair.write("one")
        done = pair.read("--follow", "--count", 1)
        assert (done.code, done.out) == (0, b"one\n")
        assert segments(pair) == []


class TestKeep:
    def test_removes_nothing(self, pair: Pair) -> None:
        pair.write("one")
        kept = pair.read("--keep")
        assert (kept.code, kept.out) == (0, b"one\n")
        assert "detached; the channel stays (--keep)" in kept.err
        before = status_of(pair)
        assert (before["header"]["state"], before["header"]["unread"]) == ("open", 0)
        assert pair.write("two").code == 0
        assert status_of(pair)["segment"]["id"] == before["segment"]["id"], "the same channel goes on"
        assert pair.read().out == b"two\n"

    def test_leaves_an_empty_channel_to_the_next_reader(self, pair: Pair) -> None:
        pair.write("one")
        pair.read("--keep")
        done = pair.read()
        assert (done.code, done.out) == (0, b"")


class TestWait:
    def test_returns_when_all_is_consumed(self, pair: Pair) -> None:
        writer = pair.start("writer", "--wait", "hello")
        assert writer.stderr
        line = b""
        while b"nobody is reading" not in line:
            assert writer.poll() is None
            line = writer.stderr.readline()
        assert plain(line.decode()) == "writer: waiting until all is read, and nobody is reading; start `reader.py`\n"
        assert pair.read().out == b"hello\n"
        done = finish(writer)
        assert done.code == 0
        assert "writer: all of it is consumed\n" in done.err

    def test_without_it_nobody_waits(self, pair: Pair) -> None:
        done = pair.write("hello")
        assert "consumed" not in done.err
        assert status_of(pair)["header"]["unread"] == 1
        pair.read()

    def test_last_one_out_removes(self, pair: Pair) -> None:
        """The reader has had enough before the writer goes: then the writer clears the channel."""
        writer = pair.start("writer", "--lines", "--wait")
        reader = pair.start("reader", "--count", 1)
        assert writer.stdin
        writer.stdin.write(b"hello\n")
        writer.stdin.flush()
        assert finish(reader).out == b"hello\n"
        done = finish(writer)
        assert done.code == 0
        calls = names_of(pair)
        assert f"writer: {calls.remove}, {calls.detach}: removed the channel: nothing is left\n" in done.err


class TestTimeout:
    """--timeout: 124, and one line that says what was waited for."""

    def test_reader_without_a_channel(self, pair: Pair) -> None:
        done = pair.read("--timeout", 0.2, "--quiet")
        assert (done.code, done.err) == (
            124,
            "reader: gave up after 0.2 s of waiting for a channel; start `writer.py`\n",
        )

    def test_reader_without_data(self, pair: Pair) -> None:
        writer = pair.start("writer", "--lines")
        wait_until(lambda: value_of(pair, "writers"))
        done = pair.read("--timeout", 0.2, "--quiet")
        assert (done.code, done.err) == (
            124,
            "reader: gave up after 0.2 s of waiting for data; a writer is there, and sends nothing\n",
        )
        assert finish(writer, b"late\n").code == 0
        assert pair.read().out == b"late\n"

    def test_reader_that_follows(self, pair: Pair) -> None:
        pair.write("hello")
        done = pair.read("--follow", "--timeout", 0.2, "--quiet")
        assert (done.code, done.out) == (124, b"hello\n")
        assert done.err == "reader: gave up after 0.2 s of waiting for a writer; start `writer.py`\n"
        assert segments(pair) == [], "an empty channel without a writer is of no use to anyone"

    def test_writer_without_room(self, pair: Pair) -> None:
        done = pair.write("--slots", 2, "--slot-size", "4K", "--timeout", 0.2, "--quiet", stdin=bytes(2 * PAGE + 1))
        assert done.code == 124
        assert done.err == (
            "writer: gave up after 0.2 s of waiting for room: all 2 slots are full and nobody is reading;"
            " start `reader.py`\n"
        )
        clear(pair)

    def test_writer_that_waits_until_all_is_read(self, pair: Pair) -> None:
        done = pair.write("--wait", "--timeout", 0.2, "--quiet", "hello")
        assert done.code == 124
        assert done.err == (
            "writer: gave up after 0.2 s of waiting until all is read, and nobody is reading; start `reader.py`\n"
        )
        assert pair.read().out == b"hello\n"

    @pytest.mark.parametrize("program", ["writer", "reader"])
    def test_at_the_doorway(self, pair: Pair, program: str) -> None:
        with shut_doorway(pair):
            done = pair.run(program, "--timeout", 0.2, "--quiet")
        assert done.code == 124
        assert done.err == (
            f"{program}: gave up after 0.2 s of waiting for the lock on {pair.key_path}, which another process holds\n"
        )

    @slow_over_posix
    def test_counts_only_time_without_progress(self, pair: Pair) -> None:
        """A transfer may take longer than --timeout as long as something comes."""
        reader = pair.start("reader", "--timeout", 3)
        writer = pair.start("writer", "--lines")
        assert writer.stdin and reader.stdout
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            writer.stdin.write(b"tick\n")
            writer.stdin.flush()
            assert reader.stdout.readline() == b"tick\n"
            time.sleep(0.1)  # the pace of a producer, not a wait
        assert finish(writer).code == 0
        assert finish(reader).code == 0


class TestCreation:
    def test_exclusive(self, pair: Pair) -> None:
        assert pair.write("--exclusive", "one").code == 0
        refused = pair.write("--exclusive", "--quiet", "two")
        assert refused.code == 1
        said = {
            "sysv": ", IPC_CREAT|IPC_EXCL|0660): EEXIST (File exists): a segment with this key exists; ",
            "posix": ", O_RDWR|O_CREAT|O_EXCL, 0660): EEXIST (File exists): an object with this name exists; ",
        }
        assert said[pair.ipc] in refused.err, refused
        assert refused.err.count("\n") == 1
        assert pair.read().out == b"one\n"

    @families("mode", ["0600", "640", "0666"], posix=["640"])
    def test_mode(self, pair: Pair, mode: str) -> None:
        """The mode is that of the segment and of all five semaphores, whatever the umask."""
        assert pair.write("--mode", mode, "hello", umask=0o077).code == 0
        assert modes(pair) == [int(mode, 8)] * 6
        pair.read()

    def test_default_mode_is_that_of_the_lab(self, pair: Pair) -> None:
        pair.write("hello")
        assert modes(pair) == [0o660] * 6
        pair.read()

    @families(
        "size, expected",
        [
            ("4096", 4096),
            ("1", 4096),
            ("4097", 8192),
            ("8k", 8192),
            ("256K", 2**18),
            ("1M", 2**20),
            ("1m", 2**20),
        ],
        posix=[("4097", 8192), ("1m", 2**20)],
    )
    def test_geometry(self, pair: Pair, size: str, expected: int) -> None:
        """Suffixes count in powers of two; a slot is whole pages."""
        assert pair.write("--slots", 3, "--slot-size", size, "hello").code == 0
        header = status_of(pair)["header"]
        assert (header["slot_count"], header["slot_size"]) == (3, expected)
        # One page of header, one of slot headers (3 * 64 bytes, rounded up), and the slots.
        assert segments(pair)[0].size == 2 * PAGE + 3 * expected
        pair.read()

    def test_geometry_that_differs_is_refused(self, pair: Pair) -> None:
        pair.write("--slots", 3, "hello")
        assert pair.write("--slots", 3, "again").code == 0
        for slots in (2, 64):
            refused = pair.write("--slots", slots, "--quiet", "no")
            size = DEFAULT_GEOMETRY.slot_size
            said = f"writer: EINVAL: the channel has 3 slots of {size} bytes, and asked for were {slots} of {size}; "
            assert refused.code == 1 and refused.err.startswith(said), refused
            assert refused.err.count("\n") == 1
        assert pair.read().out == b"hello\nagain\n"

    @only("sysv", "mmap has no SHM_RND, and --attach-at is refused: tests/test_options.py")
    def test_attach_at_is_rounded_down_to_a_page(self, pair: Pair) -> None:
        written = pair.write("--attach-at", "0x7e0000000123", "hello")
        assert "writer: shmat: attached it at 0x7e0000000000\n" in written.err
        read = pair.read("--attach-at", 0x7D0000000FFF)
        assert "reader: shmat: attached it at 0x7d0000000000\n" in read.err
        assert read.out == b"hello\n"

    def test_key_path_may_be_a_directory(self, pair: Pair, tmp_path: Path) -> None:
        """As the default is, whose inode survives an editor that replaces files."""
        (tmp_path / "directory").mkdir()
        in_directory = Pair(tmp_path / "directory", tmp_path, ipc=pair.ipc)
        assert in_directory.write("hello").code == 0
        assert in_directory.read().out == b"hello\n"
        assert left_of(in_directory) == []

    def test_key_path_that_is_missing(self, pair: Pair, tmp_path: Path) -> None:
        done = pair.write("--key-path", tmp_path / "nowhere", "--quiet", "hello")
        assert done.code == 1
        assert done.err.startswith(f"writer: {tmp_path}/nowhere: ENOENT (No such file or directory): ")
        assert done.err.count("\n") == 1


def modes(pair: Pair) -> list[int]:
    """The permissions of the segment and of the five semaphores."""
    (row,) = segments(pair)
    semaphores = [semaphore(pair, name) for name in SEMAPHORES]
    return [row.mode, *(found.mode for found in semaphores if found)]


class TestControl:
    def test_chmod(self, pair: Pair) -> None:
        pair.write("hello")
        done = pair.write("--chmod", "0604")
        assert (done.code, done.out) == (0, b"")
        assert modes(pair) == [0o604] * 6
        assert "and its semaphores: mode 0604, uid " in done.err
        assert pair.read().out == b"hello\n"

    @pytest.mark.skipif(not is_root(), reason="only root can give an object away: run the tests as root")
    @pytest.mark.parametrize(
        ("owner", "uid", "gid"), [("65534", 65534, 0), ("65533:65534", 65533, 65534), (":65534", 0, 65534)]
    )
    def test_chown(self, pair: Pair, owner: str, uid: int, gid: int) -> None:
        pair.write("hello")
        assert pair.write("--chown", owner).code == 0
        (row,) = segments(pair)
        assert (row.uid, row.gid) == (uid, gid)
        owners = {(found.uid, found.gid) for name in SEMAPHORES if (found := semaphore(pair, name))}
        assert owners == {(uid, gid)}
        assert pair.read().out == b"hello\n"

    def test_chown_by_name(self, pair: Pair) -> None:
        pair.write("hello")
        assert pair.write("--chown", pwd.getpwuid(os.geteuid()).pw_name).code == 0
        assert segments(pair)[0].uid == os.geteuid()
        pair.read()

    @pytest.mark.parametrize("option", [["--chmod", "0600"], ["--chown", "0"]])
    def test_needs_a_channel(self, pair: Pair, option: list[str]) -> None:
        done = pair.write(*option, "--quiet")
        assert done.code == 1
        what = {"sysv": "key", "posix": "name"}[pair.ipc]
        assert f": ENOENT (No such file or directory): no channel has this {what}" in done.err, done
        assert done.err.count("\n") == 1

    def test_remove_needs_none(self, pair: Pair) -> None:
        done = pair.write("--remove")
        assert (done.code, done.out) == (0, b""), done
        (said,) = [line for line in done.err.splitlines() if not line.startswith("writer: key ")]
        assert said.startswith("writer: nothing to remove: no channel has key 0x"), done


class TestStatus:
    def test_json(self, pair: Pair) -> None:
        """Every figure is the kernel's own, and nothing is consumed."""
        written = pair.write("--slots", 4, "hello")
        done = pair.read("--status", "--json")
        assert (done.code, done.err) == (0, "")
        status = json.loads(done.out)
        (row,) = segments(pair)
        assert status["key"] == f"{key_of(pair, 1) & 0xFFFFFFFF:#010x}"
        assert status["key_path"] == str(pair.key_path)
        found = status["segment"]
        assert {name: found[name] for name in ("id", "size", "uid", "gid")} == {
            "id": row.id,
            "size": row.size,
            "uid": row.uid,
            "gid": row.gid,
        }
        creator = segment(row.id)  # which POSIX does not know
        assert found["creator_pid"] == (creator["cpid"] if creator else None)
        assert (found["mode"], found["attached"], found["marked_for_removal"]) == ("0660", 0, False)
        header = status["header"]
        assert (header["magic"], header["state"], header["slot_count"]) == ("SHMPAIR1", "open", 4)
        assert (header["head"], header["tail"], header["unread"], header["writers_joined"]) == (1, 0, 1, 1)
        for name in SEMAPHORES:
            kernels = semaphore(pair, name)
            assert kernels
            told = status["semaphores"][name]
            assert told["name" if pair.ipc == "posix" else "id"] == kernels.id
            if pair.ipc == "posix" and name.endswith("turn"):
                assert told["locked"] is is_taken(pair, name) is False
            else:
                assert told["value"] == value_of(pair, name)
        assert status["damage"] is None
        assert written.code == 0 and pair.read().out == b"hello\n"

    def test_for_a_person(self, pair: Pair) -> None:
        pair.write("hello")
        done = pair.read("--status", env={**os.environ, "COLUMNS": "80"})
        assert (done.code, done.err) == (0, "")
        text = done.out.decode()
        (row,) = segments(pair)
        for wanted in (
            f"{'id ' if pair.ipc == 'sysv' else ''}{row.id}, key {key_of(pair, 1) & 0xFFFFFFFF:#010x}",
            f"{row.size} B, 8 slots of {DEFAULT_GEOMETRY.slot_size}",
            f"pid {known['cpid']}" if (known := segment(row.id)) else "attached nobody",
            "0660",
            "unread 1\n",
            "1 published",
        ):
            assert wanted in text
        assert "\x1b" not in text, "no colours in a pipe"
        pair.read()

    def test_shows_who_is_attached(self, pair: Pair) -> None:
        writer = pair.start("writer")
        wait_until(lambda: (status := pair.status()) and status["header"]["writer_pid"] == writer.pid)
        status = status_of(pair)
        assert status["segment"]["attached"] == attached(pair) == 1
        assert status["semaphores"]["writers"]["value"] == 1
        turn = status["semaphores"]["writer_turn"]
        assert turn["locked"] if pair.ipc == "posix" else turn["value"] == 0
        assert finish(writer, b"").code == 0
        pair.read()

    def test_without_a_channel(self, pair: Pair) -> None:
        done = pair.read("--status")
        assert (done.code, done.out) == (1, b"")
        assert done.err.startswith(f"reader: {names_of(pair).find}(") and done.err.count("\n") == 1
        what = {"sysv": ", 0, 0): {} key", "posix": ", O_RDONLY, 0): {} name"}[pair.ipc]
        assert what.format("ENOENT (No such file or directory): no channel has this") in done.err

    @only("sysv", "an unlinked POSIX object has no name by which anybody could hold it")
    def test_of_a_channel_that_is_marked_is_that_of_none(self, pair: Pair) -> None:
        """The key of a removed segment is free, so there is nothing to find, however long others hold the memory."""
        pair.write("hello")
        shmid = int(segments(pair)[0].id)
        observer = sysv_ipc.attach(shmid)
        clear(pair)
        assert segment(shmid) is not None
        assert pair.read("--status").code == 1
        observer.detach()


class TestQuiet:
    def test_nothing_on_standard_error(self, pair: Pair) -> None:
        assert pair.write("--quiet", "hello").err == ""
        assert pair.write("--quiet", "--chmod", "0600").err == ""
        assert pair.read("--quiet", "--count", 1).err == ""
        assert pair.write("--quiet", "hello").err == ""
        assert pair.write("--quiet", "--remove").err == ""

    def test_no_word_about_a_long_wait(self, pair: Pair) -> None:
        reader = pair.start("reader", "--quiet", "--timeout", 1.3)
        done = finish(reader)
        assert done.err == "reader: gave up after 1.3 s of waiting for a channel; start `writer.py`\n"


WRITER_USAGE = [
    ["--no-such-option"],
    ["--file", "x", "message"],
    ["--file", "", "message"],
    ["--lines", "message"],
    ["--remove", "message"],
    ["--remove", "--file", "x"],
    ["--remove", "--chmod", "0600"],
    ["--remove", "--chown", "0"],
    ["--chmod", "0600", "message"],
    ["--chown", "0", "--lines"],
    ["--chmod", "rw"],
    ["--chmod", "0o1777"],
    ["--mode", "0888"],
    ["--mode", "01777"],
    ["--mode", "-1"],
    ["--chown", "no-such-user-at-all"],
    ["--chown", ":"],
    ["--chown", "4294967295"],
    ["--chown", "0:4294967295"],
    ["--slots", "-1"],
    ["--slots", "two"],
    ["--slots", "1.5"],
    ["--slot-size", "4X"],
    ["--slot-size", "K"],
    ["--slot-size", ""],
    ["--slot-size", "-4K"],
    ["--slot-size", "\u0664K"],
    ["--channel", "32"],
    ["--channel", "-1"],
    ["--timeout", "-1"],
    ["--timeout", "soon"],
    ["--timeout", "nan"],
    ["--timeout", "inf"],
    ["--attach-at", "here"],
    ["--attach-at", "0"],
    ["--resume"],
    ["--resume", "--lines", "--file", "x"],
    ["--excl"],
]
READER_USAGE = [
    ["message"],
    ["--no-such-option"],
    ["--count", "0"],
    ["--count", "-1"],
    ["--count", "many"],
    ["--json"],
    ["--resume"],
    ["--status", "--count", "1"],
    ["--status", "--output", "x"],
    ["--status", "--output", ""],
    ["--status", "--follow"],
    ["--status", "--keep"],
    ["--watch", "--timeout", "1"],
]


@families(
    "program, arguments",
    [("writer", arguments) for arguments in WRITER_USAGE] + [("reader", arguments) for arguments in READER_USAGE],
    posix=[("writer", ["--mode", "0888"])],
)
def test_usage_error(pair: Pair, program: str, arguments: list[str]) -> None:
    """Code 2, the usage and one line of reason on standard error, and no channel made."""
    done = pair.run(program, *arguments)
    assert (done.code, done.out) == (2, b""), done
    assert done.err.startswith(f"usage: {program}.py ")
    assert done.err.splitlines()[-1].startswith(f"{program}.py: error: ")
    assert segments(pair) == []


@only("sysv", "it is the same text")
@pytest.mark.parametrize("program", ["writer", "reader"])
def test_help(pair: Pair, program: str) -> None:
    done = pair.run(program, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: {program}.py ".encode())


def test_a_dash_is_the_standard_stream(pair: Pair) -> None:
    assert pair.write("--file", "-", stdin=b"standard input").code == 0
    done = pair.read("--output", "-")
    assert (done.code, done.out) == (0, b"standard input"), done
    assert not (pair.directory / "-").exists()


def test_a_file_named_dash_has_its_directory(pair: Pair) -> None:
    (pair.directory / "-").write_bytes(b"the file")
    assert pair.write("--file", "./-", stdin=b"standard input").code == 0
    (pair.directory / "-").unlink()
    assert pair.read("--output", "./-").code == 0
    assert (pair.directory / "-").read_bytes() == b"the file"


def test_bad_paths_leave_nothing(pair: Pair, tmp_path: Path) -> None:
    """What cannot be opened is found out before there is a channel."""
    missing = pair.write("--quiet", "--file", tmp_path / "missing")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert missing.err.startswith(f"writer: {tmp_path}/missing: ENOENT (No such file or directory)")
    directory = pair.write("--quiet", "--file", tmp_path)
    assert (directory.code, directory.err.count("\n")) == (1, 1)
    assert directory.err.startswith(f"writer: {tmp_path}: EISDIR (Is a directory)")
    output = pair.read("--quiet", "--output", tmp_path / "no" / "where")
    assert (output.code, output.err.count("\n")) == (1, 1)
    assert output.err.startswith(f"reader: {tmp_path}/no/where: ENOENT (No such file or directory)")
    assert segments(pair) == []


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("writer", ["--file", ""]),
        ("writer", ["--file", "", "--resume"]),
        ("writer", ["--file", "", "--lines"]),
        ("reader", ["--output", "", "--timeout", "0"]),
    ],
)
def test_an_empty_path_is_a_path(pair: Pair, program: str, arguments: list[str]) -> None:
    """It is not the same as none, and the message shows where it is."""
    done = pair.run(program, "--quiet", *arguments)
    assert (done.code, done.out, done.err) == (
        1,
        b"",
        f"{program}: '': ENOENT (No such file or directory): there is no such file; check the path\n",
    )
    assert segments(pair) == []


def under_another_name(pair: Pair, name: bytes) -> Pair:
    """The pair on a second name of its key path: the keys stay the same."""
    path = pair.directory / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    os.link(pair.key_path, path)
    return Pair(path, pair.directory, ipc=pair.ipc)


@families("name", [b"key\xff\xfe", b"d[/b]", b"[red]key"], posix=[b"key\xff\xfe"])
def test_key_path_may_have_any_name(pair: Pair, name: bytes) -> None:
    """Bytes that are no UTF-8, and what would be markup in a title, 'b]' in a directory 'd['."""
    renamed = under_another_name(pair, name)
    assert renamed.write("hello").code == 0
    shown = renamed.read("--status")
    assert (shown.code, shown.err) == (0, "")
    # However long the path is and wherever the title is broken.
    path = os.fsencode(renamed.key_path).decode("utf-8", "backslashreplace").encode()
    assert b"channel0of" + path + b"(notatomic)" in b"".join(shown.out.split())
    assert status_of(renamed)["key_path"] == str(renamed.key_path)
    read = renamed.read()
    assert (read.code, read.out) == (0, b"hello\n")


def test_key_path_may_be_a_fifo(pair: Pair) -> None:
    """Opening it must not wait for a writer of its own."""
    os.mkfifo(pair.directory / "fifo")
    on_fifo = Pair(pair.directory / "fifo", pair.directory, ipc=pair.ipc)
    assert on_fifo.write("hello").code == 0
    assert on_fifo.read().out == b"hello\n"
    assert left_of(on_fifo) == []


def test_a_newline_in_a_name_ends_no_line(pair: Pair) -> None:
    done = pair.write("--quiet", "--file", "no\nsuch")
    assert done.err.startswith(r"writer: no\nsuch: ENOENT (No such file or directory): ")
    assert done.err.count("\n") == 1
    renamed = under_another_name(pair, b"new\nline")
    traced = renamed.write("--trace", "hello").err.splitlines()
    shown = str(pair.directory / r"new\nline")
    (ftok, key) = (line for line in traced if "ftok" in line and ", 1)" in line)
    assert ftok.startswith(f'ftok("{shown}", 1) = 0x') and key.endswith(f'= ftok("{shown}", 1)')
    assert renamed.read("--quiet").out == b"hello\n"
