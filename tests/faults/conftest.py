"""The fault tests run over both families."""

from tests.families import ipc

__all__ = ["ipc"]
