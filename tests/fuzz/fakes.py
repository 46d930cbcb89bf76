"""The IPC objects of a channel in a bytearray, so that thousands of hostile segments cost no system call.

Nothing here waits: a process that would sleep gets its heartbeat at once, and after a few of them it gives up with
TimedOut, as with --timeout. Before each operation the fakes call `interfere`, which may change the memory at will:
a peer that scribbles while we run, and does so at the very same steps each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from common.channel.listener import Listener, Reason
from common.channel.patience import Patience
from common.channel.ring import Ring
from common.errors import BadSegment, Gone, TimedOut
from common.geometry import Geometry
from common.ipc.posix_roles import READER_TURN, WRITER_TURN
from common.ipc.removal import Removal
from common.layout import FIRST, LAST, MAGIC, OPEN, PAGE, VERSION, Header, SlotHeader

GEOMETRY = Geometry(slot_count=3, slot_size=PAGE)
HEARTBEATS = 3  # of a wait, before it gives up


class Interference:
    """What a peer does to the memory at each step; nothing, unless a test says so."""

    def __init__(self) -> None:
        self.act: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        self.act()


class Tokens:
    """A counting semaphore, and a turn, and the presence: on System V's side all three are a number."""

    most = 32767

    def __init__(self, objects: FakeObjects, value: int) -> None:
        self.objects = objects
        self.interfere = objects.interfere
        self.value = value
        self.gone = False

    def _operate(self) -> None:
        self.interfere()
        if self.gone:
            raise Gone("semop", (0, 0, 0), 43)

    def acquire(self, timeout: float) -> bool:
        """Take a token; a sleep is over at once."""
        self._operate()
        if not self.value:
            return False
        self.value -= 1
        return True

    def release(self) -> None:
        self._operate()
        self.value = min(self.value + 1, self.most)

    def holder(self) -> int | None:
        self._operate()
        return None if self.value else 4711

    def enter(self) -> None:
        self.release()

    def leave(self) -> None:
        self.acquire(0)

    def present(self) -> bool:
        self._operate()
        return self.value > 0


class PosixTokens(Tokens):
    """The same as POSIX has it: whose name is gone goes on, and a wait sees whether the object was truncated."""

    most = 2**31 - 1

    def _operate(self) -> None:
        self.interfere()

    def acquire(self, timeout: float) -> bool:
        taken = super().acquire(timeout)
        if timeout and not taken:
            self.objects.check_size()
        return taken


class PosixTurn(PosixTokens):
    """A lock, whose holder the memory names, and which nobody gives back who removed the channel."""

    def __init__(self, objects: FakeObjects, value: int, pid_at: int) -> None:
        super().__init__(objects, value)
        self._pid_at = pid_at

    def acquire(self, timeout: float) -> bool:
        taken = super().acquire(timeout)
        if timeout and not taken and self.gone:
            raise Gone("fcntl", (0, 0, 0), 43)
        return taken

    def holder(self) -> int | None:
        self.interfere()
        pid = bytes(self.objects.memory[self._pid_at : self._pid_at + 4])
        return None if self.value else int.from_bytes(pid, "little")


class FakeObjects:
    """channel.Objects of one family over `memory`; `removals` counts how often it was removed."""

    def __init__(self, memory: bytearray, ipc: str = "sysv") -> None:
        self.interfere = Interference()
        self.memory = memoryview(memory)
        self.truncated = False  # POSIX: under us, and zeros are in the place of the memory
        kind = {"sysv": Tokens, "posix": PosixTokens}[ipc]
        self.full_slots = kind(self, 0)
        self.empty_slots = kind(self, GEOMETRY.slot_count)
        self.writer_turn = PosixTurn(self, 1, WRITER_TURN) if ipc == "posix" else Tokens(self, 1)
        self.reader_turn = PosixTurn(self, 1, READER_TURN) if ipc == "posix" else Tokens(self, 1)
        self.writers = kind(self, 0)
        self.removals = 0
        self.removal = Removal()

    def check_size(self) -> None:
        if self.truncated:
            raise BadSegment("it was truncated")

    def removed(self) -> bool:
        self.interfere()
        self.check_size()
        return self.removals > 0

    def missing(self) -> str | None:
        self.interfere()
        return None

    def alone(self) -> bool:
        return True

    def goes_with_us(self) -> bool:
        return False

    def check_removable(self) -> None:
        """Anyone may."""

    def remove(self) -> None:
        self.removals += 1
        self.remove_semaphores()

    def remove_semaphores(self) -> None:
        for semaphore in (self.full_slots, self.empty_slots, self.writer_turn, self.reader_turn, self.writers):
            semaphore.gone = True

    def detach(self) -> None:
        self.memory.release()


class OpenDoorway:
    """Nobody else is ever inside."""

    def __enter__(self) -> OpenDoorway:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class ShortPatience(Patience):
    """Gives up after HEARTBEATS heartbeats in one wait, or 1000 in all."""

    def __init__(self) -> None:
        super().__init__(None, Listener())
        self._reason: str | None = None
        self._beats = 0
        self._all = itertools.count()

    def beat(self, reason: Reason, waited: float) -> None:
        self._beats = self._beats + 1 if reason.text == self._reason else 1
        self._reason = reason.text
        if self._beats > HEARTBEATS or next(self._all) > 1000:
            raise TimedOut(f"gave up {reason.text}")


class FakeSink:
    """A regular file in memory, whose every cut is noted."""

    identity: tuple[int, int] | None = (1, 2)
    file = identity

    def __init__(self, interfere: Interference, content: bytes = b"") -> None:
        self.interfere = interfere
        self.content = bytearray(content)
        self.settled = False

    @property
    def size(self) -> int:
        return len(self.content)

    def write(self, data: memoryview) -> None:
        self.interfere()
        self.content += data
        self.interfere()

    def cut(self, size: int) -> None:
        assert size <= len(self.content), "a cut must not make the file longer"
        del self.content[size:]


def open_memory(geometry: Geometry = GEOMETRY) -> bytearray:
    """The bytes of a channel just created."""
    memory = bytearray(geometry.segment_size)
    with memoryview(memory) as view:
        header = Header(view)
        header.version = VERSION
        header.slot_count, header.slot_size = geometry
        header.segment_size = geometry.segment_size
        header.key_dev, header.key_ino = 5, 6
        header.state = OPEN
        header.magic = MAGIC
        header.release()
    return memory


def add_fragment(memory: memoryview, payload: bytes, **fields: int) -> None:
    """Publish one fragment, by default a whole record; `fields` are SlotHeader's, and may lie."""
    ring = Ring(memory)
    number = ring.header.head
    honest = SlotHeader(len(payload), FIRST | LAST, number, 0, len(payload), 4711, 0, 1)
    with ring.payload(number, 0, len(payload)) as room:
        room[:] = payload
    ring.write_slot(number, honest._replace(**fields))
    ring.header.head = number + 1
    ring.release()
