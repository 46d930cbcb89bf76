"""A clock step: only monotonic clocks decide, so the time of day may jump as it likes, or not exist at all."""

from __future__ import annotations

import json

import pytest

from tests.faults.tools import Transfer, patched
from tests.helpers import Pair, finish

# Each look at the time of day jumps between the epoch and the year 2242, and nothing else tells it.
JUMPING = """
import itertools, time
jumps = itertools.cycle((0, 2**33))
time.time = lambda: float(next(jumps))
time.time_ns = lambda: next(jumps) * 10**9
"""
# The header's created_ns is the one place that asks for it.
MISSING = """
import time
def missing():
    raise SystemExit("a decision rests on the time of day")
time.time = missing
time.time_ns = lambda: 0
"""
every_clock = pytest.mark.parametrize("clock", [JUMPING, MISSING], ids=["jumping", "missing"])


@every_clock
def test_a_transfer(pair: Pair, clock: str) -> None:
    transfer = Transfer(patched(pair, clock))
    writer = transfer.start_writer("--timeout", 30)
    reader = transfer.read("--timeout", 30)
    done = finish(writer)
    assert (done.code, done.err, reader.code, reader.err) == (0, "", 0, "")
    assert transfer.output.read_bytes() == transfer.data


@every_clock
def test_a_timeout(pair: Pair, clock: str) -> None:
    done = patched(pair, clock).read("--quiet", "--timeout", 0.3)
    assert (done.code, done.err) == (124, "reader: gave up after 0.3 s of waiting for a channel; start `writer.py`\n")


def test_the_patch_is_in_force(pair: Pair) -> None:
    """Otherwise the tests above would prove nothing."""
    strange = patched(pair, MISSING.replace("lambda: 0", "lambda: 1_234_567"))
    assert strange.write("--quiet", "kept").code == 0
    status = json.loads(pair.read("--status", "--json").out)
    assert status["header"]["created_ns"] == 1_234_567
    assert pair.read("--quiet").out == b"kept\n"
