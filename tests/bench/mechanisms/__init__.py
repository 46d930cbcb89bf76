"""The ways from one process to another, a file each, behind one interface (way.py)."""

from __future__ import annotations

from tests.bench.mechanisms.bare import Bare
from tests.bench.mechanisms.fifo import Fifo
from tests.bench.mechanisms.pipe import Pipe
from tests.bench.mechanisms.posix_queue import PosixQueue
from tests.bench.mechanisms.ring import Ring
from tests.bench.mechanisms.sysv_queue import SysvQueue
from tests.bench.mechanisms.tcp import Tcp
from tests.bench.mechanisms.unix_socket import UnixSocket
from tests.bench.mechanisms.way import Way

MECHANISMS: tuple[type[Way], ...] = (Ring, Bare, Pipe, Fifo, UnixSocket, Tcp, SysvQueue, PosixQueue)
