"""Coverage-guided fuzzing of layout.py and of both ends: `python -m tests.fuzz.coverage --seconds 60`.

It needs atheris (`pip install atheris`; Linux, and a CPython that it has a wheel for), which no other test does. An
input is a recipe: which action, on how full a channel, which stores before it and which while it runs. The run fails
on the first error that run would not turn into one line; it prints that input, and `--input FILE` repeats it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["common"]):
    from common.layout import PAGE, SLOT
    from tests.fuzz.fakes import GEOMETRY
    from tests.fuzz.pokes import EDGES, HEADER_FIELDS, SLOT_FIELDS, Poke, header_poke, slot_poke
    from tests.fuzz.scenarios import ACTIONS, AGES, age_channel, honest_channel, run_scenario

MOST_STORES = 6
RAW_END = PAGE + GEOMETRY.slot_count * SLOT.size


def a_store(data: atheris.FuzzedDataProvider) -> Poke:
    """Into a field by name, or anywhere in header and slot headers."""
    value = data.PickValueInList([data.ConsumeIntInRange(0, 8), data.ConsumeUInt(8), *EDGES])
    kind = data.ConsumeIntInRange(0, 2)
    if kind == 0:
        return header_poke(data.PickValueInList(sorted(HEADER_FIELDS)), value)
    if kind == 1:
        slot = data.ConsumeIntInRange(0, GEOMETRY.slot_count - 1)
        return slot_poke(slot, data.PickValueInList(sorted(SLOT_FIELDS)), value)
    return Poke(data.ConsumeIntInRange(0, RAW_END), 1, value % 256)


def run_one(content: bytes) -> None:
    """Cook one recipe."""
    data = atheris.FuzzedDataProvider(content)
    action = data.PickValueInList(sorted(ACTIONS))
    memory = honest_channel(data.ConsumeIntInRange(0, GEOMETRY.slot_count))
    age_channel(memory, data.PickValueInList(list(AGES)))
    tokens = data.ConsumeIntInRange(0, 4)
    for _ in range(data.ConsumeIntInRange(0, MOST_STORES)):
        a_store(data).into(memory)
    stores = data.ConsumeIntInRange(0, MOST_STORES)
    run_scenario(action, memory, [(data.ConsumeIntInRange(0, 12), a_store(data)) for _ in range(stores)], tokens)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coverage", description="Fuzz with atheris.")
    parser.add_argument("--seconds", type=int, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (1)")
    parser.add_argument("--input", metavar="FILE", help="run only this input, which an earlier run printed")
    options = parser.parse_args()
    limits = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-max_len=256", "-print_final_stats=1"]
    artifacts = f"-artifact_prefix={tempfile.gettempdir()}/shmpair-fuzz-"
    atheris.Setup([sys.argv[0], *([options.input] if options.input else limits), artifacts], run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
