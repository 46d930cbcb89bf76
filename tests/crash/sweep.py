"""Kill every role at every step: `python -m tests.crash.sweep --jobs 2`, or `--role NAME` for one of them.

A step is a line executed inside a function of common/ or of the program. Steps are tried until the victim ends by
itself. The tests run the same with a --stride; a failure names the step, and `--role NAME --offset STEP --stride 0`
repeats it alone. The roles of test_interrupted.py, whose victim is not killed but interrupted, are played by name.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.crash.driver import Stage
from tests.crash.roles import INTERRUPTIONS, ROLES
from tests.crash.stepper import Strike, at_step, in_call
from tests.in_process import FAMILIES

# After so many failures a role has said enough; it might otherwise never come to its end.
ENOUGH = 3


class Result(NamedTuple):
    """What came of a role: how often its victim was killed, the last step, and how each failure looked."""

    role: str
    kills: int
    last: int
    failures: list[str]


def sweep(
    role: str,
    steps: Iterable[int],
    key_path: Path | None = None,
    strike_at: Callable[[int], Strike] = at_step,
    ipc: str = "sysv",
) -> Result:
    """Play the role once for each step, until its victim survives."""
    play = {**ROLES, **INTERRUPTIONS}[role]
    kills = last = 0
    failures = []
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(key_path or _touch(Path(directory) / "key"), Path(directory), ipc)
        for step in steps:
            stage.begin()
            try:
                killed = play(stage, strike_at(step))
                stage.finish()
            except Exception:
                killed = True
                said = "".join(f"{' '.join(child.words)}:\n{child.said}" for child in stage.children)
                failures.append(f"{role}, step {step}: {traceback.format_exc()}{said}")
                stage.clear()
            if not killed or len(failures) == ENOUGH:
                break
            kills, last = kills + 1, step
    if not (kills or failures):
        failures.append(f"{role}, step {step}: its victim was not killed, so nothing is proven")
    return Result(role, kills, last, failures)


def _touch(path: Path) -> Path:
    path.touch()
    return path


def main() -> int:
    """Print a line a role, then the failures; 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--role", action="append", choices=[*ROLES, *INTERRUPTIONS], help="only this one (may be repeated)"
    )
    parser.add_argument("--ipc", choices=FAMILIES, default="sysv", help="over this family of objects (sysv)")
    parser.add_argument("--jobs", type=int, default=1, help="so many roles at once")
    parser.add_argument("--stride", type=int, default=1, help="every so many steps (1); 0: only the offset")
    parser.add_argument("--offset", type=int, default=1, help="the first step (1)")
    parser.add_argument("--within", metavar="NAME:N", help="count the steps in the N-th call of this function only")
    parser.add_argument("--key-path", type=Path, help="with --jobs 1: the key path to play on")
    options = parser.parse_args()
    steps = itertools.count(options.offset, options.stride) if options.stride else [options.offset]
    function, _, nth = (options.within or "").partition(":")
    strike_at = partial(in_call, function, int(nth)) if function else at_step
    play = partial(sweep, steps=steps, key_path=options.key_path, strike_at=strike_at, ipc=options.ipc)
    roles = options.role or list(ROLES)
    with multiprocessing.Pool(options.jobs) as pool:
        results = [_show(result) for result in pool.imap(play, roles, chunksize=1)]
    failures = [failure for result in results for failure in result.failures]
    print(f"killed {sum(result.kills for result in results)} times in {len(results)} roles, {len(failures)} failures")
    print(*failures, sep="\n\n", end="")
    return 1 if failures else 0


def _show(result: Result) -> Result:
    print(f"{result.role:38} killed at {result.kills:5} steps, the last {result.last:5}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
