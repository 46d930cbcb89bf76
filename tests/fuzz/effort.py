"""How hard hypothesis tries: the same few hundred examples in every test run, or `FUZZ_EXAMPLES=20000` new ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_WANTED = os.environ.get("FUZZ_EXAMPLES")


def effort(examples: int) -> settings:
    """The settings of a test that is content with `examples`; the machine may be slow, and channels are cleared."""
    return settings(
        max_examples=int(_WANTED or examples),
        derandomize=not _WANTED,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
