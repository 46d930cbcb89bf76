"""The classic pair's reader: find the segment, attach it, wait for the message, detach, remove. See classic_writer.py.

python common/lab/classic_reader.py [PATH]
"""

from __future__ import annotations

import sys

import sysv_ipc


def main(path: str) -> None:
    key = sysv_ipc.ftok(path, ord("X"), silence_warning=True)
    segment = sysv_ipc.SharedMemory(key)  # shmget, shmat
    ready = sysv_ipc.Semaphore(key)  # semget
    print(f"reader: key {key & 0xFFFFFFFF:#010x}, id {segment.id}, attached at {segment.address:#x}", flush=True)
    ready.acquire()  # semop: 1 less, as soon as there is one
    message = segment.read().rstrip(b"\0").decode()
    print(f"reader: it says {message!r}")
    segment.detach()  # shmdt
    segment.remove()  # shmctl IPC_RMID
    ready.remove()  # semctl IPC_RMID


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
