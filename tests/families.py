"""Which tests run over which family of IPC objects: over both, unless one of these says otherwise.

The fixture `ipc` names the family, and `pair` runs the programs over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


@pytest.fixture(params=["sysv", "posix"])
def ipc(request: pytest.FixtureRequest) -> str:
    """Each test over both families."""
    return str(request.param)


def only(family: str, why: str) -> pytest.MarkDecorator:
    """For a test of what one family alone has."""
    assert why
    return pytest.mark.parametrize("ipc", [family])


def families(names: str, values: Sequence[Any], posix: Sequence[Any]) -> pytest.MarkDecorator:
    """Each of the `values` over System V, and over POSIX those of `posix`: the kernel's objects make no difference."""
    rows = [(ipc, value) for ipc, given in (("sysv", values), ("posix", posix)) for value in given]
    alone = "," not in names
    return pytest.mark.parametrize(
        ["ipc", *names.split(", ")], [(ipc, value) if alone else (ipc, *value) for ipc, value in rows]
    )


slow_over_posix = pytest.mark.parametrize("ipc", ["sysv", pytest.param("posix", marks=pytest.mark.slow)])

both = pytest.mark.parametrize("ipc", ["sysv", "posix"])  # where the fixture `ipc` is not the one above
