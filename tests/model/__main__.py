"""The big sweep: `python -m tests.model`."""

from __future__ import annotations

import argparse
import resource
import sys
import time

from tests.model.explorer import Findings, Model, Setting, at_random, explore, walk
from tests.model.monitor import Violation
from tests.model.settings import COMPLETE, LARGE, LARGER_THAN_CI


def main() -> int:
    """Explore the chosen settings; 1 when a promise was broken."""
    sweeps = (*COMPLETE, *LARGER_THAN_CI)
    parser = argparse.ArgumentParser(
        prog="python -m tests.model",
        description="Explore every interleaving of the real channel.py on a simulated kernel, with crashes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="settings:\n" + "\n".join(f"  {number:2}  {setting}" for number, setting in enumerate(sweeps)),
    )
    parser.add_argument("setting", nargs="*", type=int, help="numbers of the settings to explore (all)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="states to visit in each (no limit)")
    parser.add_argument("--walks", type=int, default=0, metavar="N", help="instead: N random schedules of larger ones")
    options = parser.parse_args()
    if options.walks:
        return max(wander(setting, options.walks) for setting in LARGE)
    chosen = [sweeps[number] for number in options.setting] or sweeps
    return max(sweep(setting, options.limit) for setting in chosen)


def sweep(setting: Setting, limit: int) -> int:
    """Explore one setting and print what was found."""
    began = time.monotonic()
    findings = explore(setting, limit=limit)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    extent = "all" if findings.complete else "the first"
    schedules = "" if findings.schedules is None else f", {findings.schedules:.2e} schedules"
    print(
        f"{setting}: {extent} {findings.states} states, {findings.moves} moves{schedules},"
        f" {time.monotonic() - began:.0f} s, {megabytes} MiB at most: {findings.violation or 'every promise kept'}",
        flush=True,
    )
    return _tell(findings)


def _tell(findings: Findings) -> int:
    for line in findings.schedule:
        print(f"    {line}")
    return 1 if findings.violation else 0


def wander(setting: Setting, walks: int) -> int:
    """Follow random schedules of one setting and print how many operations they were."""
    model, operations, seed = Model(setting), 0, 0
    try:
        for seed in range(walks):
            operations += walk(model, at_random(seed))
    except Violation as violation:
        print(f"{setting}: schedule {seed}: {violation}", flush=True)
        return 1
    finally:
        model.behaviour.close()
    print(f"{setting}: {walks} schedules, {operations} operations: every promise kept", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
