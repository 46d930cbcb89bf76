"""The fuzz tests that ask for a family run over both."""

from tests.families import ipc

__all__ = ["ipc"]
