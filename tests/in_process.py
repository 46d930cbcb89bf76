"""Both ends of one channel in this process, over real IPC objects: what the unit tests of the protocol use.

Reading and writing alternate in one thread, or the ends run in two. A death in the middle of a record is a source
or a sink that raises: an end then leaves the same traces in the segment as a process that was killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sysv_ipc

from common.channel.end import End
from common.channel.listener import Call, Listener, News, Reason
from common.channel.objects import Objects
from common.channel.patience import Patience
from common.channel.read import ReadEnd
from common.channel.write import WriteEnd
from common.errors import CallFailed
from common.geometry import Geometry
from common.ipc.doorway import FlockDoorway
from common.ipc.family import Family
from common.ipc.lifecycle import Wanted, join_channel, open_channel
from common.ipc.place import Place
from common.ipc.posix import PosixFamily
from common.ipc.posix_calls import SEM_VALUE_MAX, segment_path, semaphore_path
from common.ipc.posix_objects import PosixObjects, segment_name
from common.ipc.posix_roles import ATTACHED, READER_TURN, WRITER_TURN
from common.ipc.posix_semaphores import named_after, remove_if_there
from common.ipc.sysv import SysvFamily, SysvObjects
from common.ipc.sysv_calls import Semaphore, segment_memory
from common.layout import PAGE, REMOVED, SEMAPHORES, UNKNOWN
from common.notes import FileId
from tests.helpers import PATIENCE, ROOT, locks_on

T = TypeVar("T")
AnyEnd = TypeVar("AnyEnd", bound=End)

SMALL = Geometry(slot_count=2, slot_size=PAGE)
MODE = 0o660
NOBODY = 65534
SEMVMX = 32767  # <linux/sem.h>: the most tokens of a semaphore of System V


# The calls of this process, told to whoever is `observing`.
LISTENER = Listener()
FAMILY = SysvFamily(LISTENER)
sysv = FAMILY.calls
POSIX = PosixFamily(LISTENER)
posix = POSIX.calls
FAMILIES: dict[str, Family] = {"sysv": FAMILY, "posix": POSIX}  # as --ipc names them


class Heard(Listener):
    """A listener that remembers what it was told of waits and of others."""

    def __init__(self) -> None:
        self.reasons: list[Reason] = []
        self.told: list[News] = []

    def wait(self, reason: Reason, seconds: float) -> None:
        self.reasons.append(reason)

    def news(self, news: News) -> None:
        self.told.append(news)


def ignore(*_: object) -> None:
    """Who hears of each call and does nothing."""


class Died(Exception):
    """What a source or a sink raises to end its end in the middle of a record."""


class Collector:
    """A sink that keeps what it gets, and dies when the `dies_at`-th fragment is put into it."""

    identity = file = None

    def __init__(self, dies_at: int | None = None) -> None:
        self.settled = False
        self.pieces: list[bytes] = []
        self._dies_at = dies_at

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: memoryview) -> None:
        if len(self.pieces) == self._dies_at:
            raise Died
        self.pieces.append(bytes(data))

    def cut(self, size: int) -> None:
        """What it got stays."""


class Script:
    """A source that gives `data`, as much as there is room for, and dies at its `dies_at`-th byte."""

    identity = FileId(1, 1, 1)  # as if it were a file
    file = (1, 1)

    def __init__(self, data: bytes, *, total: int | None = None, dies_at: int | None = None) -> None:
        self.total = len(data) if total is None else total
        self.offset = 0
        self.data = data
        self._dies_at = dies_at

    def fill(self, room: memoryview) -> int:
        if self._dies_at is not None and self.offset >= self._dies_at:
            raise Died
        piece = self.data[self.offset : self.offset + len(room)]
        room[: len(piece)] = piece
        self.offset += len(piece)
        return len(piece)

    def skip_to(self, offset: int) -> None:
        self.offset = offset


def stream(data: bytes) -> Script:
    """A source that does not know its size, like a pipe."""
    return Script(data, total=UNKNOWN)


class Local:
    """A channel on `key_path` and the ends opened on it. Leaving it removes whatever is still there."""

    def __init__(
        self, key_path: Path, geometry: Geometry = SMALL, timeout: float = PATIENCE, family: Family = FAMILY
    ) -> None:
        self.place = place_of(key_path)
        self.family = family
        self.timeout = timeout
        self.heard = Heard()
        self._wanted = Wanted(geometry.slot_count, geometry.slot_size, MODE, exclusive=False)
        self._open: list[tuple[End, FlockDoorway]] = []

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._open:
            self.detach(self._open[-1][0])
        remove_objects(self.place, self.family)

    def writer(self, timeout: float | None = None) -> WriteEnd:
        """A joined writing end; the first one creates the channel."""
        doorway = self._doorway()
        with doorway:
            there = join_channel(self.family, self.place, self._wanted)
            end = self._keep(WriteEnd(there, doorway, self._patience(timeout)), doorway)
            end.join()
        return end

    def reader(
        self, timeout: float | None = None, *, keep: bool = False, follow: bool = False, resume: bool = False
    ) -> ReadEnd:
        """A reading end of the channel, which must exist."""
        doorway = self._doorway()
        with doorway:
            there = open_channel(self.family, self.place)
        assert there is not None, "there is no channel"
        end = ReadEnd(there, doorway, self._patience(timeout), keep=keep, follow=follow, resume=resume)
        return self._keep(end, doorway)

    def leave(self, end: WriteEnd, *, failed: bool = False) -> bool:
        """A writer leaves, as writer.py does: with a goodbye, unless it `failed`."""
        end.all_said = not failed
        with end.doorway:
            removed = end.leave()
        self.detach(end)
        return removed

    def detach(self, end: End) -> None:
        """Detach without a goodbye. A writer that does so still counts as alive: only a process can die."""
        (doorway,) = (d for e, d in self._open if e is end)
        self._open.remove((end, doorway))
        end.detach()
        doorway.close()

    @contextmanager
    def removed_on_failure(self) -> Iterator[None]:
        """When the block fails, ends that wait in other threads give up at their next heartbeat."""
        try:
            yield
        except BaseException:
            for end, _ in self._open:
                end.ring.header.state = REMOVED
            raise

    def objects(self) -> list[str]:
        return objects(self.place, self.family)

    def _doorway(self) -> FlockDoorway:
        return FlockDoorway(self.place.path, self._patience(None))

    def _patience(self, timeout: float | None) -> Patience:
        return Patience(self.timeout if timeout is None else timeout, self.heard)

    def _keep(self, end: AnyEnd, doorway: FlockDoorway) -> AnyEnd:
        self._open.append((end, doorway))
        return end


def place_of(key_path: Path, channel: int = 0) -> Place:
    status = key_path.stat()
    return Place.of(sysv, str(key_path), channel, (status.st_dev, status.st_ino))


def memory_of(segment: Any) -> memoryview:
    """All the bytes of an attached segment."""
    return segment_memory(segment, sysv.stat_segment(segment.id).size)


def by_library(semaphore: Semaphore) -> sysv_ipc.Semaphore:
    """The same semaphore as sysv_ipc sees it: another witness than the code under test."""
    return sysv_ipc.Semaphore(sysv.stat_semaphore(semaphore).key)


def tokens(end: End) -> dict[str, int]:
    """The value of each of the channel's semaphores; of a turn of POSIX, 1 while nobody has its lock."""
    return dict(zip(SEMAPHORES, values_of(end.objects), strict=True))


def values_of(there: Objects) -> list[int]:
    """The same of attached objects, as a list."""
    if isinstance(there, SysvObjects):
        return [sysv.semaphore_value(semaphore) for semaphore in there.semaphores.opened]
    assert isinstance(there, PosixObjects)
    values = [posix.semaphore_value(semaphore) for semaphore in there.semaphores.opened]
    fd = posix.open_segment(there.name)  # our own locks count as somebody else's through it
    values[2:4] = [not posix.is_locked(fd, byte, exclusive=True) for byte in (WRITER_TURN, READER_TURN)]
    posix.close_segment(fd)
    return values


def take_all(end: ReadEnd, at_most: int | None = None) -> bytes:
    """Everything until the channel is over."""
    sink = Collector()
    while end.receive(sink, at_most):
        pass
    return sink.data


def objects(place: Place, family: Family = FAMILY) -> list[str]:
    """Which of the channel's objects exist: "segment" and the names of the semaphores."""
    if family is POSIX:
        name = segment_name(place)
        there = {role for role, _ in named_after(name)}
        with suppress(CallFailed):
            posix.stat_name(name)
            there.add("segment")
        return [name for name in ("segment", *SEMAPHORES) if name in there]
    found = []
    for name, key, opener in _finders(place):
        with suppress(CallFailed):
            opener(key)
            found.append(name)
    return found


def remove_objects(place: Place, family: Family = FAMILY) -> None:
    """Remove every object with the channel's keys, whosever it is."""
    if family is POSIX:
        for _, semaphore in named_after(segment_name(place)):
            remove_if_there(posix, semaphore)
        with suppress(CallFailed):
            posix.remove_segment(segment_name(place))
        return
    for name, key, opener in _finders(place):
        with suppress(CallFailed):
            found = opener(key)
            (sysv.remove_segment if name == "segment" else sysv.remove_semaphore)(found)


def segment_file(place: Place) -> Path:
    """The file that is the segment of a POSIX channel."""
    return Path(segment_path(segment_name(place)))


def _open_sysv(place: Place, name: str) -> Semaphore:
    """One of SEMAPHORES, of System V."""
    return sysv.open_semaphore(place.semaphore_keys[SEMAPHORES.index(name)])


def posix_name(place: Place, name: str) -> str:
    """The name of one of SEMAPHORES, for sem_open."""
    return dict(named_after(segment_name(place)))[name]


def take_segment_away(place: Place, family: Family) -> None:
    """What ipcrm -m does, or rm: the segment alone goes."""
    if family is POSIX:
        posix.remove_segment(segment_name(place))
    else:
        sysv.remove_segment(sysv.open_segment(place.segment_key))


def take_semaphore_away(place: Place, family: Family, name: str) -> None:
    """What ipcrm -s does, or rm: one of SEMAPHORES goes."""
    if family is POSIX:
        posix.remove_semaphore(posix_name(place, name))
    else:
        sysv.remove_semaphore(_open_sysv(place, name))


def token_giver(place: Place, family: Family, name: str) -> Callable[[], None]:
    """What puts one more token into one of SEMAPHORES, as anybody can who may open it."""
    if family is POSIX:
        return partial(posix.release_semaphore, posix.open_semaphore(posix_name(place, name)))
    return partial(sysv.release_semaphore, _open_sysv(place, name))


def fill(place: Place, family: Family, name: str) -> None:
    """Give one of SEMAPHORES as many tokens as it can hold, whoever uses it."""
    if family is POSIX:
        with open(semaphore_path(posix_name(place, name)), "r+b") as file:
            file.write(SEM_VALUE_MAX.to_bytes(4, sys.byteorder))  # glibc has its sleepers in the four bytes behind it
    else:
        sysv.set_semaphore_value(_open_sysv(place, name), SEMVMX)


class Foreign(NamedTuple):
    """A segment that is not ours to touch: how it is named, and what removes it."""

    name: str
    remove: str


def foreign_segment(place: Place, family: Family, content: bytes, mode: int = MODE) -> Foreign:
    """A segment with our key, or our name, and these bytes."""
    if family is POSIX:
        fd = posix.create_segment(segment_name(place), mode)
        posix.set_mode(fd, mode)
        os.write(fd, content)
        os.close(fd)
        return Foreign(f"object {segment_name(place)}", f"rm {segment_file(place)}")
    shmid = sysv.create_segment(place.segment_key, len(content), mode)
    segment = sysv.attach_segment(shmid)
    with memory_of(segment) as memory:
        memory[:] = content
    sysv.detach_segment(segment)
    return Foreign(f"segment {shmid}", f"ipcrm -m {shmid}")


def strange_semaphore(place: Place, family: Family, name: str, nonce: int = 0) -> str:
    """A semaphore with the key of one of SEMAPHORES, or a name after our object, used and not ours; its id."""
    if family is POSIX:
        made = posix.create_semaphore(f"{segment_name(place)}-{nonce:016x}-{name}", 0o600, 0)
        posix.close_semaphore(made)
        return made.name
    semaphore = sysv.create_semaphore(place.semaphore_keys[SEMAPHORES.index(name)], 0o600, 0)
    sysv.release_semaphore(semaphore)
    return str(semaphore.id)


def modes_and_owners(there: Objects) -> list[tuple[int, int, int]]:
    """Mode, user and group of each semaphore."""
    if isinstance(there, SysvObjects):
        return [(s.mode, s.uid, s.gid) for s in map(by_library, there.semaphores.opened)]
    assert isinstance(there, PosixObjects)
    found = [posix.stat_semaphore(semaphore.name) for semaphore in there.semaphores.opened]
    return [(stat.mode, stat.uid, stat.gid) for stat in found]


def attached(place: Place, family: Family) -> int:
    """How many have the segment attached, or take part."""
    if family is POSIX:
        return locks_on(segment_file(place), ATTACHED)
    return sysv.stat_segment(sysv.open_segment(place.segment_key)).attached


def _finders(place: Place) -> Iterator[tuple[str, int, Callable[[int], Any]]]:
    yield "segment", place.segment_key, sysv.open_segment
    for name, key in zip(SEMAPHORES, place.semaphore_keys, strict=True):
        yield name, key, sysv.open_semaphore


@contextmanager
def in_thread(work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Run `work` beside the block; what is yielded waits for its result."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield lambda: future.result(PATIENCE)


@contextmanager
def observing(hear: Callable[[Call], None] = ignore) -> Iterator[list[Call]]:
    """The IPC calls made in the block; `hear` gets each one as it happens."""
    calls: list[Call] = []

    def observe(call: Call) -> None:
        calls.append(call)
        hear(call)

    LISTENER.call = observe
    try:
        yield calls
    finally:
        LISTENER.call = None


@contextmanager
def as_nobody() -> Iterator[None]:
    """Another user's rights inside the block; only root can give them. Both ids, so that no group of ours helps."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `code` in a process of its own, which can import ours; sys.argv[1:] are the arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_python(code: str, *arguments: object) -> str:
    """Run `code` in a process of its own to its end, whatever its exit code; its standard output."""
    with python(code, *arguments) as child:
        return child.communicate(timeout=PATIENCE)[0]


def file_of(key_path: Path) -> Path:
    """The file that is the POSIX object of channel 0."""
    return Path("/dev/shm", segment_name(place_of(key_path)).removeprefix("/"))


def semaphore_files(key_path: Path) -> list[Path]:
    """The files that are its semaphores."""
    return sorted(Path("/dev/shm").glob(f"sem.{file_of(key_path).name}-*"))
