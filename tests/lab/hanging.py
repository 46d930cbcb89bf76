"""An experiment that makes one of everything and does not end: `python -m tests.lab.hanging alone|shared`.

shared: as where one may not have an IPC namespace of one's own.
"""

from __future__ import annotations

import os
import signal
import sys

from common.ipc.sysv_calls import IPC_CREAT
from common.lab.__main__ import main
from common.lab.calls import Lab, libc
from common.lab.experiment import Observed, experiment
from common.lab.programs import Program, found


@experiment(promised={}, lesson="")
def hanging(lab: Lab) -> Observed:
    """Does it leave anything behind?"""
    lab.shmat(lab.shmget(lab.key, 4096, IPC_CREAT | 0o600))
    lab.shmget(0, 4096, IPC_CREAT | 0o600)
    lab.semget(lab.new_key(), 1, IPC_CREAT | 0o600)
    with open(f"/dev/shm{lab.name}-object", "w"), open(lab.scratch / "file", "w"):
        lab.child(signal.pause)
    of_a_file = lab.scratch / "key-file"
    of_a_file.touch()
    Program(lab, "classic_writer", path=of_a_file).hear("type the message")
    found(lab, of_a_file)
    lab.note(f"hanging: pid {os.getpid()}")
    signal.pause()
    return ()


if __name__ == "__main__":
    if sys.argv.pop() == "shared":
        vars(libc)["unshare"] = lambda flags: -1
    sys.argv.append("hanging")
    sys.exit(main())
