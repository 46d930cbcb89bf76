"""A FIFO as input or output: whoever waits for its other end says so, and can be ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.watch import objects_of
from tests.helpers import Pair, finish


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_an_output_that_nobody_reads_is_waited_for(pair: Pair, fifo: Path) -> None:
    assert pair.write("--quiet", "hello").code == 0
    reader = pair.start("reader", "--output", fifo)
    assert reader.stderr
    assert reader.stderr.readline().decode() == f"reader: waiting for somebody to read {fifo}\n"
    assert fifo.read_bytes() == b"hello\n"
    assert finish(reader).code == 0
    assert objects_of(pair) == []


def test_an_output_that_nobody_reads_times_out_and_consumes_nothing(pair: Pair, fifo: Path) -> None:
    assert pair.write("--quiet", "hello").code == 0
    gave_up = pair.read("--output", fifo, "--timeout", 0)
    assert (gave_up.code, gave_up.err) == (124, f"reader: gave up after 0 s of waiting for somebody to read {fifo}\n")
    assert pair.read("--quiet").out == b"hello\n"


def test_an_input_that_nobody_writes_is_waited_for(pair: Pair, fifo: Path) -> None:
    writer = pair.start("writer", "--file", fifo)
    assert writer.stderr
    assert writer.stderr.readline().decode() == f"writer: waiting for somebody to write into {fifo}\n"
    reader = pair.start("reader", "--quiet")
    fifo.write_bytes(b"hello\n")
    assert (finish(writer).code, finish(reader).out) == (0, b"hello\n")
    assert objects_of(pair) == []


def test_an_input_that_nobody_writes_can_be_given_up(pair: Pair, fifo: Path) -> None:
    writer = pair.start("writer", "--file", fifo)
    assert writer.stderr and writer.stderr.readline()
    writer.send_signal(signal.SIGINT)
    assert finish(writer).code == 128 + signal.SIGINT
    assert objects_of(pair) == []
