"""textbook.c compiled and run: what our pair is compared with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bench.stage import CannotRun, Child, Stage

SOURCE = Path(__file__).with_name("textbook.c")
STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


def compiled(stage: Stage) -> Path:
    """The program. Raises CannotRun where there is no C compiler."""
    program = stage.directory / "textbook"
    if not program.exists():
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            raise CannotRun("no C compiler")
        subprocess.run([compiler, *STRICT, "-o", program, SOURCE], check=True)
    return program


def start(stage: Stage, source: Path, block: int, output: int = subprocess.DEVNULL) -> list[Child]:
    """Its writer and its reader, with a buffer of `block` bytes."""
    program = compiled(stage)
    with source.open("rb") as stream:
        writer = stage.spawn(program, "writer", stage.key_path, block, stdin=stream.fileno())
    return [writer, stage.spawn(program, "reader", stage.key_path, block, stdout=output)]
