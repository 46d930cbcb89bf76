"""The commands of the lab as data: each row of "Your lab sheet" (README.md) and of the tables of errnos in tests/lab/.

What a reader types is what the tests run: there is no second copy of it. test_errnos.py runs each row.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT

LAB_README = ROOT / "tests/lab/README.md"


class Case(NamedTuple):
    """One row: a call with its flag or errno, the command that shows it, and a part of a line that it then says.

    `needs` is what the command cannot do without: "root" (a second user, a private IPC namespace), "strace", or
    "overcommit" (a kernel that counts memory, vm.overcommit_memory other than 1).
    """

    what: str
    command: str
    line: str
    needs: str

    @property
    def ipc(self) -> str:
        """The family that it runs over."""
        return "posix" if "--ipc posix" in self.command else "sysv"

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "-", self.what.partition(":")[0])


def rows_under(readme: Path, title: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    text = readme.read_text()
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{readme} has no heading {title}"
    lines = [line.strip("|") for line in found[1].splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def _read_cases(readme: Path, title: str) -> list[Case]:
    return [
        Case(what, command.strip("`"), line.strip("`"), needs)
        for what, command, line, needs in rows_under(readme, title)
    ]


SHEET = _read_cases(ROOT / "README.md", "Your lab sheet")
MORE = _read_cases(LAB_README, "More errnos")
POSIX = _read_cases(LAB_README, "Errnos of POSIX")
CASES = SHEET + MORE + POSIX

# Every call, flag and errno of the sheet, in its order.
ON_THE_SHEET = [
    "ftok",
    *("shmget IPC_CREAT, IPC_EXCL", "shmget mode 0660"),
    *("shmget EINVAL", "shmget EEXIST", "shmget EIDRM", "shmget ENOENT", "shmget EACCES", "shmget ENOMEM"),
    *("shmat address NULL", "shmat SHM_RND", "shmat SHM_RDONLY"),
    *("shmat EINVAL", "shmat ENOMEM", "shmat EACCES"),
    *("shmctl IPC_STAT", "shmctl IPC_SET", "shmctl IPC_RMID"),
    *("shmctl EACCES", "shmctl EFAULT", "shmctl EIDRM", "shmctl EINVAL", "shmctl EPERM"),
    *("shmdt", "shmdt EINVAL"),
    *("shm_nattch", '"dest"'),
]
