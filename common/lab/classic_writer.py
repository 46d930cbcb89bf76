"""The classic pair's writer: make a segment, attach it, write a message into it, detach. The reader removes it.

    python common/lab/classic_writer.py [PATH]    in one terminal; the message is typed
    python common/lab/classic_reader.py [PATH]    in another one

It is what one hands in, and it works as long as all goes well. Ten ways in which it does not: ./run_demo.sh lab
"""

from __future__ import annotations

import sys

import sysv_ipc


def main(path: str) -> None:
    key = sysv_ipc.ftok(path, ord("X"), silence_warning=True)
    segment = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREAT, 0o660, 4096)  # shmget, shmat
    ready = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREAT, 0o660, 0)  # semget, semctl: its value is 0
    print(f"writer: key {key & 0xFFFFFFFF:#010x}, id {segment.id}, attached at {segment.address:#x}")
    print("writer: type the message", flush=True)
    segment.write(input().encode())
    segment.detach()  # shmdt
    ready.release()  # semop: 1 more
    print("writer: it is in the segment")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
