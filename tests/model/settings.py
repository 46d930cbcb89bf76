"""What is explored: small settings to the last state, larger ones as far as the time goes."""

from __future__ import annotations

from tests.model.explorer import ALWAYS, NEVER, Setting

ONE, TWO, LINES = (1,), (2,), ("lines",)

# To the last state, in seconds: CI does all of these.
COMPLETE = (
    Setting((ONE,), 1, heartbeats=ALWAYS),
    Setting(((2, 1),), 1),
    Setting(((),), 1, quitters=1),
    Setting((ONE, ()), 1, quitters=1),
    Setting((ONE,), 1, crashes=1),
    Setting((ONE,), 1, crashes=1, heartbeats=ALWAYS),
    Setting((ONE,), 1, crashes=1, heartbeats=NEVER),
    Setting((TWO,), 1, crashes=1),
    Setting((TWO,), 1, crashes=1, resume=True),
    Setting((TWO,), 1, crashes=1, resume=True, patient=True),
    Setting((ONE,), 1, crashes=2, resume=True, loads=False),
    Setting((LINES,), 1, crashes=1),
    Setting((LINES,), 1, crashes=1, at_most=1),
    Setting((ONE, ONE), 1),
    Setting((ONE, ONE), 1, slots=1),
    Setting((TWO,), 2),
    Setting((LINES,), 2, at_most=1),
)

# To the last state in minutes, and in gigabytes: CI does the beginning of these.
LARGER_THAN_CI = (
    Setting((TWO,), 1, crashes=1, heartbeats=NEVER, slots=1),
    Setting(((2, 1),), 1, crashes=1),
    Setting(((2, 1),), 1, crashes=1, resume=True),
    Setting(((1, 1),), 1, crashes=2, resume=True, loads=False),
    Setting((TWO,), 1, crashes=2, loads=False),
    Setting((TWO, LINES), 1),
    Setting((ONE, ONE), 1, crashes=1),
    Setting((ONE,), 2, crashes=1),
    Setting((TWO,), 2, crashes=1, loads=False),
    Setting((ONE, LINES), 2, at_most=1, loads=False),
    Setting((ONE, ONE), 2, loads=False),
    Setting((ONE, ONE), 2, crashes=1, loads=False),
)

# Too many states to visit: single schedules, chosen at random.
LARGE = (
    Setting(((2, 1), ("lines", 2)), 2, crashes=2),
    Setting(((2, "lines"), (3, 1), ("lines", 2)), 3, crashes=4),
    Setting(((3, 2, 1),), 3, crashes=3, resume=True),
    Setting(((3, 1),), 2, crashes=4, resume=True, patient=True),
    Setting(((1, 2), ("lines", 1)), 2, crashes=2, slots=1),
    Setting((("lines", 1), ("lines",)), 3, at_most=1),
)
