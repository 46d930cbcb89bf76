"""The sheet's two functions, in C and in Python."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path
from typing import Any

from common.ipc.sysv_calls import IPC_CREAT
from common.lab.calls import Lab
from common.lab.experiment import Observed, experiment

SHEET_C = Path(__file__).with_name("sheet.c")


def open_segment(lab: Lab, keyval: int, segsize: int) -> Any:
    return lab.shmget(keyval, segsize, IPC_CREAT | 0o660)


def attach_segment(lab: Lab, shmid: int) -> Any:
    return lab.shmat(shmid, None, 0)


def show_beside(lab: Lab) -> None:
    """The two functions in C, and beneath each its Python lines."""
    for function in (open_segment, attach_segment):
        in_c = re.search(rf"^\w.*\b{function.__name__}\((.|\n)*?^}}$", SHEET_C.read_text(), re.MULTILINE)
        for language, text in (("C", in_c[0] if in_c else ""), ("Python", inspect.getsource(function))):
            for line in text.splitlines():
                lab.note(f"{language:<6} | {line}")


@experiment(
    promised={
        "what C found": "hello from Python",
        "what Python finds": "hello from C",
        "attach_segment of an id that is none": "EINVAL",
    },
    lesson="The sheet's two wrappers, in C and in Python: the calls are the same, so a program in C and one in Python"
    " exchange what they like through one segment, as soon as both know the key and what lies where. What the wrapper"
    " returns is (char *) -1 when it failed, and nothing in it checks that.",
    needs=("cc",),
)
def wrappers(lab: Lab) -> Observed:
    """Do the sheet's own functions work?"""
    program = str(lab.scratch / "sheet")
    show_beside(lab)
    subprocess.run(["cc", "-o", program, SHEET_C], check=True)
    shmid = open_segment(lab, lab.key, 4096)
    address = attach_segment(lab, shmid)
    lab.store(address, b"hello from Python\0")
    run = [program, str(lab.key)]
    said = subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout
    answer = lab.load(address, 12).decode()
    in_c = said.decode().strip().removeprefix("found: ")
    return in_c, answer, attach_segment(lab, -1)
