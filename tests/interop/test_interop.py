"""The segment is a plain C struct: our own small C program, peek, finds every field where layout.py has it.

shmpair.h states each offset once more and the compiler checks them; here they are compared with what common/layout.py
really stores, and what peek reads out of a live channel with what writer.py put in.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sysv_ipc

from common.geometry import read_geometry
from common.layout import CHECKED, FIRST, LAST, LINES, PAGE, SEMAPHORES, SLOT, UNKNOWN, Header, SlotHeader
from common.notes import OutputNote
from tests.helpers import Pair

HERE = Path(__file__).parent
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
SANITIZERS = "-fsanitize=address,undefined"

Peek = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session")
def peek(tmp_path_factory: pytest.TempPathFactory) -> Peek:
    """Compile peek.c, with every warning an error and with sanitizers where there are some, and run it."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    program = tmp_path_factory.mktemp("peek") / "peek"
    build = [compiler, *STRICT, "-o", str(program), str(HERE / "peek.c")]
    if subprocess.run([*build, SANITIZERS, "-fno-sanitize-recover"], capture_output=True).returncode != 0:
        subprocess.run(build, check=True)

    def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([program, *map(str, arguments)], capture_output=True)

    return run


def _span(store: Callable[[bytearray, int], None]) -> tuple[int, int]:
    """Offset and size of the field that `store(memory, value)` fills, seen by storing all ones into zeros."""
    memory = bytearray(PAGE)
    try:
        store(memory, 2**64 - 1)
    except (ValueError, struct.error):
        store(memory, 2**32 - 1)
    ones = [at for at, byte in enumerate(memory) if byte]
    assert ones == list(range(ones[0], ones[-1] + 1))
    return ones[0], len(ones)


def _header_field(name: str) -> tuple[int, int]:
    return _span(lambda memory, value: setattr(Header(memoryview(memory)), name, value))


def _note_field(name: str) -> tuple[int, int]:
    """In the note of an odd tail, which is the second one: tail itself must be odd."""
    nothing = OutputNote(tail=0, dev=0, ino=0, size=0)._replace(**{name: 0})

    def store(memory: bytearray, value: int) -> None:
        Header(memoryview(memory)).note_output(nothing._replace(**{name: value}))

    at, size = _span(store)
    return (at - Header.OUTPUT_NOTES) % 32, size


def _slot_field(name: str) -> tuple[int, int]:
    nothing = SlotHeader(0, 0, 0, 0, 0, 0, 0, 0)
    return _span(lambda memory, value: SLOT.pack_into(memory, 0, *nothing._replace(**{name: value})))


def _layout_of_python() -> dict[str, tuple[int, int]]:
    """Every field that layout.py stores, by its name in C."""
    names = [name for name, field in vars(Header).items() if hasattr(field, "offset")]
    fields = {f"header.{name}": _header_field(name) for name in names}
    fields["header.magic"] = _span(lambda memory, _: setattr(Header(memoryview(memory)), "magic", b"\xff" * 8))
    fields["header.semaphore_ids"] = (Header.SEMAPHORE_IDS, 4 * len(SEMAPHORES))
    fields["header.output_notes"] = (Header.OUTPUT_NOTES, 64)
    fields |= {f"output_note.{name}": _note_field(name) for name in OutputNote._fields}
    in_c = {"records": "count"}
    return fields | {f"slot.{in_c.get(name, name)}": _slot_field(name) for name in SlotHeader._fields}


def test_every_field_is_where_c_has_it(peek: Peek) -> None:
    printed = [line.split() for line in peek("--layout").stdout.decode().splitlines()]
    assert {name: (int(offset), int(size)) for name, offset, size in printed} == _layout_of_python()


def _header_of(text: str) -> dict[str, str]:
    """The lines `name value` of peek's header; a name that is repeated keeps its last."""
    lines = (line.split(" ", 1) for line in text.splitlines())
    return {name: value for name, value in lines if name != "fragment"}


def test_c_reads_the_header_that_python_wrote(pair: Pair, peek: Peek) -> None:
    pair.write("--slots", "4", "--slot-size", "8K", "hello")
    status = pair.status()
    assert status
    seen = _header_of(peek(pair.key_path).stdout.decode())
    for name in ("magic", "version", "slot_count", "slot_size", "created_ns", "creator_pid", "writers_joined"):
        assert seen[name] == str(status["header"][name]), name
    assert (seen["head"], seen["tail"], seen["state"]) == ("1", "0", "1")
    assert int(seen["segment_size"]) == status["segment"]["size"]
    identity = pair.key_path.stat()
    assert (int(seen["key_dev"]), int(seen["key_ino"])) == (identity.st_dev, identity.st_ino)
    assert int(seen["semaphore_id"]) == status["semaphores"][SEMAPHORES[-1]]["id"]
    assert pair.read().out == b"hello\n"


def _fragments_of(text: str) -> list[dict[str, str]]:
    lines = (line.split() for line in text.splitlines() if line.startswith("fragment "))
    return [dict(zip(words[::2], words[1::2], strict=True)) for words in lines]


def test_c_reads_the_fragments_and_consumes_nothing(pair: Pair, peek: Peek) -> None:
    payload = os.urandom(10_000)
    (pair.directory / "payload").write_bytes(payload)
    pair.write("--slots", "6", "--slot-size", "4K", "-n", "hello")
    pair.write("--file", "payload", "--verify")
    pair.write("--lines", stdin=b"one\ntwo\nthree\n")

    seen = peek(pair.key_path).stdout.decode()
    expected = [
        (0, 5, FIRST | LAST, 0, 0, 5, 1, "unchecked"),
        (1, 4096, FIRST | CHECKED, 1, 0, 10_000, 0, "good"),
        (2, 4096, CHECKED, 1, 4096, 10_000, 0, "good"),
        (3, 1808, LAST | CHECKED, 1, 8192, 10_000, 1, "good"),
        (4, 14, FIRST | LAST | LINES, 2, 0, 14, 3, "unchecked"),
    ]
    names = ("fragment", "length", "flags", "record", "offset", "total", "count", "crc32")
    fragments = _fragments_of(seen)
    assert [tuple(fragment[name] for name in names) for fragment in fragments] == [
        tuple(map(str, row)) for row in expected
    ]
    sent = b"hello" + payload + b"one\ntwo\nthree\n"
    for _ in range(2):
        assert peek("--cat", pair.key_path).stdout == sent
    assert pair.read().out == sent


def test_c_goes_on_where_a_reader_stopped_inside_a_slot(pair: Pair, peek: Peek) -> None:
    pair.write("--lines", stdin=b"one\ntwo\nthree\n")
    assert pair.read("--count", "1", "--output", "copy").code == 0
    seen = peek(pair.key_path).stdout.decode()
    assert _fragments_of(seen)[0]["taken"] == "4"
    copy = (pair.directory / "copy").stat()
    assert f"output_note 0 {copy.st_dev} {copy.st_ino} 0\n" in seen
    assert peek("--cat", pair.key_path).stdout == b"two\nthree\n"
    assert pair.read().out == b"two\nthree\n"


def test_c_sees_which_file_the_last_record_was_begun_from(pair: Pair, peek: Peek) -> None:
    payload = pair.directory / "payload"
    payload.write_bytes(b"content")
    pair.write("hello")
    pair.write("--file", payload)
    seen, identity = _header_of(peek(pair.key_path).stdout.decode()), payload.stat()
    assert (int(seen["input_dev"]), int(seen["input_ino"])) == (identity.st_dev, identity.st_ino)
    assert pair.read().out == b"hello\ncontent"


def attach(pair: Pair) -> sysv_ipc.SharedMemory:
    status = pair.status()
    assert status
    return sysv_ipc.attach(status["segment"]["id"])


def test_c_checks_the_same_crc(pair: Pair, peek: Peek) -> None:
    pair.write("--verify", "hello")
    segment = attach(pair)
    memory = memoryview(segment)
    at = read_geometry(memory).payloads_at
    memory[at] ^= 1
    assert _fragments_of(peek(pair.key_path).stdout.decode())[0]["crc32"] == "bad"
    memory[at] ^= 1
    memory.release()
    segment.detach()
    assert _fragments_of(peek(pair.key_path).stdout.decode())[0]["crc32"] == "good"
    assert pair.read().out == b"hello\n"


def test_c_knows_a_stream_by_its_total(pair: Pair, peek: Peek) -> None:
    """How a pipe cuts its bytes is its own business; that only the last fragment knows the total is ours."""
    pair.write("--slots", "64", stdin=b"x" * 9000)
    fragments = _fragments_of(peek(pair.key_path).stdout.decode())
    assert [int(fragment["total"]) for fragment in fragments] == [UNKNOWN] * (len(fragments) - 1) + [9000]
    assert pair.read().out == b"x" * 9000


def test_c_never_reads_behind_the_length_of_a_fragment(pair: Pair, peek: Peek) -> None:
    """The slot still holds bytes of an earlier, longer record; they are in no output."""
    pair.write("--slots", "1", "--slot-size", "4K", "the old secret")
    assert pair.read("--keep").out == b"the old secret\n"
    pair.write("-n", "new")
    assert peek("--cat", pair.key_path).stdout == b"new"
    assert b"secret" not in peek(pair.key_path).stdout
    assert pair.read().out == b"new"


def test_c_says_that_there_is_no_channel(pair: Pair, peek: Peek) -> None:
    done = peek(pair.key_path)
    assert (done.returncode, done.stderr) == (1, b"peek: shmget: No such file or directory\n")


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (0, b"XYZ", b"its magic is not SHMPAIR1"),
        (8, b"\1", b"its version is another"),
        (12, b"\0\0\0\1", b"its sizes contradict each other"),
        (16, b"\xff" * 8, b"its sizes contradict each other"),
        (24, b"\1", b"its sizes contradict each other"),
        (128, b"\xff", b"head and tail contradict each other"),
        (PAGE, b"\xff" * 4, b"a fragment is longer than its slot"),
    ],
)
def test_c_believes_nothing_that_it_has_not_checked(
    pair: Pair, peek: Peek, offset: int, value: bytes, why: bytes
) -> None:
    pair.write("hello")
    segment = attach(pair)
    before = segment.read(len(value), offset)
    segment.write(value, offset)
    done = peek("--cat", pair.key_path)
    segment.write(before, offset)
    segment.detach()
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"peek: not a channel that I can read: " + why + b"\n"
    assert pair.read().out == b"hello\n"
