"""What a person should know of a line of the trace: --explain. What a call means in general, ipc/meanings.py has.

Loaded only when asked for. Below each line stand `#` lines: what the call does and its man page, why it is made here,
what has changed in the kernel, what its errno means. What was said before is not said again, but for what changed.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable

from common.channel.listener import Call
from common.ipc.call_meanings import GIVES, MOVES, ROLES, TAKES, UNDO
from common.ipc.meanings import kind_of, meaning_of_call, meaning_of_errno, page_of
from common.ipc.posix_call_meanings import LOCKS, POSIX_GIVES, POSIX_ROLES, POSIX_TAKES
from common.ipc.trace import errno_name, format_arguments
from common.layout import SEMAPHORES
from common.typed import Any

_SYSTEM_V = ("semget", "semctl", "semop", "semtimedop")
SEM_UNDO = 0x1000
SHM_DEST = 0o1000


class Explainer:
    """Explains the calls of one program, in their order: what one means can depend on those before it."""

    def __init__(self, to_be_typed: Callable[[str], str] = str) -> None:
        self._to_be_typed = to_be_typed  # a text, with its commands as they act on our channel, see Talk
        self._said: set[str] = set()
        self._roles: dict[int, str] = {}  # of a semaphore, by its key, its id or its address
        self._undone: dict[int, int] = {}  # what the kernel would add to each semaphore if we died (semadj, semop(2))
        self._attached: int | None = None  # nattch, as far as the calls tell
        self._marked = False

    def explain(self, call: Call) -> list[str]:
        """The lines below the line of this call."""
        kind = kind_of(call.name, call.arguments)
        meaning = meaning_of_call(kind)
        values = {**self._about(call), **self._follow(call, kind)}
        lines = self._once("what", f"{page_of(call.name)}: {meaning.what}")
        lines += self._once("why", meaning.why.format(**values).removesuffix(": "))
        if call.errno:
            said = meaning_of_errno(call.name, call.arguments, call.errno, goes_on=True)
            return lines + self._once("errno", f"{errno_name(call.errno)}: {said}" if said else "")
        now = meaning.now.format(*format_arguments(call.name, call.arguments), **values)
        return lines + _wrap("now", now)

    def explain_move(self, verb: str) -> list[str]:
        """The lines below that of a store or a load."""
        return self._once("what", MOVES[verb].what) + self._once("why", MOVES[verb].why)

    def _once(self, label: str, text: str) -> list[str]:
        if text in self._said:
            return []
        self._said.add(text)
        return _wrap(label, self._to_be_typed(text))

    def _about(self, call: Call) -> dict[str, str]:
        """What is to be said of the semaphore, or of the lock, of this call."""
        name, arguments = call.name, call.arguments
        if name == "fcntl":
            return {"role": LOCKS.get(arguments[2].start, "")}
        role = self._roles.get(arguments[0], "") if isinstance(arguments[0], int) else _in_name(arguments[0])
        if name == "ftok" and 2 <= arguments[1] % 8 < 2 + len(SEMAPHORES):
            role = SEMAPHORES[arguments[1] % 8 - 2]
        if name in ("ftok", "semget", "sem_open") and not call.errno:
            self._roles[call.result] = role
        ours = (ROLES, TAKES, GIVES) if name in _SYSTEM_V else (POSIX_ROLES, POSIX_TAKES, POSIX_GIVES)
        said = (texts.get(role, "") for texts in ours)
        return {"name": role or "it", **dict(zip(("role", "take", "give"), said, strict=True))}

    def _follow(self, call: Call, kind: str) -> dict[str, str]:
        """What becomes of nattch with this call, as far as the calls tell, and what of the segment."""
        before, then = self._attached, ""
        if not call.errno:
            self._count(call, kind)
        if self._attached == 0:
            then = _at_nobody(self._marked)
        elif self._marked:
            then = ": it goes when that is 0"
        nattch = f"nattch {before} -> {self._attached}" if before != self._attached else f"nattch {before}"
        if self._attached is None:
            nattch = {"shmat": "nattch is one more", "shmdt": "nattch is one less"}.get(
                call.name, "nattch is as it was"
            )
        return {"nattch": nattch, "then": then, "undo": self._undo(call)}

    def _undo(self, call: Call) -> str:
        if call.errno or call.name not in ("semop", "semtimedop") or not call.arguments[2] & SEM_UNDO:
            return ""
        semid, change, *_ = call.arguments
        self._undone[semid] = self._undone.get(semid, 0) - change
        return UNDO[self._undone[semid] != 0]

    def _count(self, call: Call, kind: str) -> None:
        if kind == "shmget IPC_CREAT":
            self._attached, self._marked = 0, False
        elif kind == "shmctl IPC_STAT":
            self._attached, self._marked = call.arguments[2].attached, bool(call.arguments[2].perm.mode & SHM_DEST)
        elif kind == "shmctl IPC_RMID":
            self._marked = True
        elif call.name in ("shmat", "shmdt") and self._attached is not None:
            self._attached += 1 if call.name == "shmat" else -1


def _in_name(name: Any) -> str:
    """Which semaphore has this name or path, if it is one."""
    return next((role for role in SEMAPHORES if str(name).endswith(f"-{role}")), "")


def _at_nobody(marked: bool) -> str:
    """What becomes of a segment that nobody has attached."""
    if marked:
        return ": nobody has it any more and it is marked, so the kernel frees it now"
    from common.ipc.sysv_calls import forced_removal

    if forced_removal():
        return ": kernel.shm_rmid_forced is 1, so the kernel removes it now"
    return "; it stays, with all that is in it, until somebody removes it"


def _wrap(label: str, text: str) -> list[str]:
    """Behind its label, as wide as the terminal; one line where there is none, and nothing for no text."""
    try:
        width = os.get_terminal_size(2).columns
    except OSError:
        width = sys.maxsize
    return textwrap.wrap(
        text,
        max(width - 1, 40),
        initial_indent=f"#   {label:<6}",
        subsequent_indent=f"#   {'':<6}",
        break_long_words=False,
        break_on_hyphens=False,
    )
