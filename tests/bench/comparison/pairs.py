"""Two processes with a way between them and one back: started, waited for and ended, whatever happens."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeVar

import posix_ipc  # type: ignore[import-not-found, unused-ignore]
import sysv_ipc

from common.errors import ChannelError
from common.ipc.doorway import ENDING
from tests.bench.mechanisms.way import Way

LIMIT = 20  # seconds that a pair has; it takes about one

_T = TypeVar("_T")
Work = Callable[[Way, Way], _T]  # what a process does with the way there and the way back

_FORK = multiprocessing.get_context("fork")  # the ways are inherited


class Refused(Exception):
    """The system does not let us have this mechanism; the text says why."""


_REFUSALS = (OSError, sysv_ipc.Error, posix_ipc.Error, ChannelError)


def run_pair(mechanism: type[Way], directory: Path, produce: Work[_T], consume: Work[_T]) -> tuple[_T, _T]:
    """What both return, each in a process of its own; nothing of it stays, in `directory` or elsewhere.

    Raises Refused, TimeoutError, EOFError for a process that died.
    """

    def producer(there: Way, back: Way) -> _T:
        there.connect_sender()
        back.connect_receiver()
        return produce(there, back)

    def consumer(there: Way, back: Way) -> _T:
        there.connect_receiver()
        back.connect_sender()
        return consume(there, back)

    with _signals(signal.SIG_BLOCK), ExitStack() as made:  # what is begun is noted, and what is made is removed
        try:
            ways = [made.enter_context(_made(mechanism, directory, number)) for number in range(2)]
        except _REFUSALS as error:
            raise Refused(_describe(error)) from error
        answers = [made.enter_context(_started(work, ways)) for work in (producer, consumer)]
        with _signals(signal.SIG_UNBLOCK):
            results: list[_T] = _collect(answers)
    return results[0], results[1]


@contextmanager
def _signals(how: int) -> Iterator[None]:
    """Hold back the signals that would end us, or let them through."""
    before = signal.pthread_sigmask(how, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _made(mechanism: type[Way], directory: Path, number: int) -> Iterator[Way]:
    way = mechanism(directory, number)
    try:
        yield way
    finally:
        way.remove()


@contextmanager
def _started(work: Work[_T], ways: list[Way]) -> Iterator[Connection]:
    """A process that works; what is yielded has its answer. It hears no signal, and its parent ends it."""
    answers, answer = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_run, args=(answer, work, ways))
    process.start()
    try:
        answer.close()  # or its death would not be the end of `answers`
        yield answers
        process.join(LIMIT)
    finally:
        process.kill()
        process.join()
        answers.close()


def _run(answer: Connection, work: Work[_T], ways: list[Way]) -> None:
    """In the child."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIMIT)  # where our parent was killed, nobody else ends us
    there, back = ways
    try:
        result = work(there, back)
        there.disconnect()
        back.disconnect()
        answer.send(result)
    except (EOFError, ConnectionError):
        pass  # the other process is dead, and our parent sees that as well
    except _REFUSALS as error:
        answer.send(Refused(_describe(error)))


def _collect(answers: list[Connection]) -> list[_T]:
    """The answers of all, as soon as they come: one that dies is not waited for."""
    deadline = time.monotonic() + LIMIT
    results: dict[Connection, _T] = {}
    while len(results) < len(answers):
        ready = wait([one for one in answers if one not in results], max(deadline - time.monotonic(), 0))
        if not ready:
            raise TimeoutError(f"no answer in {LIMIT} s")
        for one in ready:
            assert isinstance(one, Connection)
            result = one.recv()
            if isinstance(result, Refused):
                raise result
            results[one] = result
    return [results[one] for one in answers]


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
