"""The options of a command line, as the programs parse it."""

from __future__ import annotations

import argparse
import sys

import pytest

from common.cli.options import reader_options, writer_options


def parse(program: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", [program, *arguments.split()])
    return {"writer": writer_options, "reader": reader_options}[program]()
