"""What --doctor makes of the facts: pure functions, a line each, and what to type where something is wrong."""

from __future__ import annotations

import os
import struct
import sys
from typing import NamedTuple

from common.ipc.lifecycle import DEFAULT_GEOMETRY
from common.ipc.machine import DEV_SHM, FIRST_NAMESPACE, LAST_SYSTEM_UID, NO_LIMIT, DevShm, Limits, Used, pages_of
from common.layout import SEMAPHORES
from common.words import plural

OK, NOTE, STOP = "ok", "note", "stop"  # stop: what stands in the way
_FILES = 1 + len(SEMAPHORES) + 1  # and the one that sem_open makes first
# Their struct shmid_ds and struct semid_ds are not the generic ones (sysv_calls.py).
_OTHER_STRUCTS = ("ppc", "mips", "sparc")


class Finding(NamedTuple):
    """One line: how bad it is, what it is about, what there is, and the command that mends it, "" for none."""

    mark: str
    about: str
    text: str
    do: str = ""
    ipc: str = ""  # the family that it concerns, "" for both
    creating: bool = False  # it is in the way of a new channel only

    def data(self) -> dict[str, str]:
        """For --json."""
        return {"mark": self.mark, "about": self.about, "text": self.text, "do": self.do, "ipc": self.ipc}

    def weigh(self, ipc: str, *, exists: bool) -> Finding:
        """Nothing is in the way that concerns the other family, or a creation where the channel is there already."""
        harmless = (self.ipc and self.ipc != ipc) or (self.creating and exists)
        return self._replace(mark=NOTE) if harmless and self.mark == STOP else self


def check_platform() -> Finding:
    """Which system this is. The code counts on 64 bits and on the generic structs of the kernel."""
    machine, bits = os.uname().machine, 8 * struct.calcsize("P")
    possible = sys.platform == "linux" and bits == 64 and not machine.startswith(_OTHER_STRUCTS)
    text = f"{os.uname().sysname} {os.uname().release} on {machine}, Python {sys.version.split()[0]}, {bits} bits"
    return Finding(OK if possible else STOP, "system", text)


def check_user(uid: int, gid: int, missing: list[str]) -> Finding:
    """Who we are; `missing` are capabilities, which root is thought to have."""
    if uid == 0 and missing:
        text = f"root without {', '.join(missing)}: what others own stays theirs"
        return Finding(NOTE, "user", text)
    return Finding(OK, "user", f"uid {uid}, gid {gid}{': root, whom no mode keeps out' if uid == 0 else ''}")


def check_namespace(name: str) -> Finding:
    """Which objects of System V can be seen at all; namespaces(7)."""
    if name == FIRST_NAMESPACE:
        return Finding(OK, "namespace", f"{name}, the machine's own", ipc="sysv")
    return Finding(NOTE, "namespace", f"{name}, a container's: both programs must be in it", ipc="sysv")


def check_limits(limits: Limits, used: Used) -> list[Finding]:
    """Whether there is room for one channel of the default geometry."""
    size, sets = DEFAULT_GEOMETRY.segment_size, len(SEMAPHORES)
    pages = pages_of(size)
    # What a writer needs of the third is one operation; of the first, a set of one.
    sem = (limits.semmsl, limits.semmns, limits.semopm, limits.semmni)
    least = (1, used.semaphores + sets, 1, used.sets + sets)
    raise_sem = f'kernel.sem="{" ".join(map(str, map(max, sem, least)))}"'
    rows = (
        ("SHMMAX", None, limits.shmmax, "bytes a segment", size, f"kernel.shmmax={size}"),
        ("SHMALL", used.pages, limits.shmall, "pages", pages, f"kernel.shmall={used.pages + pages}"),
        ("SHMMNI", used.segments, limits.shmmni, "segments", 1, f"kernel.shmmni={used.segments + 1}"),
        ("SEMMSL", None, limits.semmsl, "semaphores a set", 1, raise_sem),
        ("SEMMNS", used.semaphores, limits.semmns, "semaphores", sets, raise_sem),
        ("SEMOPM", None, limits.semopm, "operations a semop", 1, raise_sem),
        ("SEMMNI", used.sets, limits.semmni, "sets", sets, raise_sem),
    )
    return [_check_limit(*row) for row in rows]


def _check_limit(about: str, used: int | None, limit: int, of_what: str, need: int, setting: str) -> Finding:
    fits = (used or 0) + need <= limit
    there = f"{limit} {of_what}" if used is None else f"{used} of {limit} {of_what} used"
    mark, do = (OK, "") if fits else (STOP, f"sysctl -w {setting}")
    return Finding(mark, about, f"{there}; a channel takes {need}", do, "sysv", creating=about != "SEMOPM")


def check_forced_removal(forced: bool) -> Finding:
    """kernel.shm_rmid_forced (proc(5))."""
    if not forced:
        return Finding(OK, "rmid_forced", "0: a segment stays until somebody removes it", ipc="sysv")
    text = "1: a segment goes with its last detach; a writer waits for it"
    return Finding(NOTE, "rmid_forced", text, "sysctl -w kernel.shm_rmid_forced=0", "sysv")


def check_dev_shm(there: DevShm | None, uid: int) -> Finding:
    """Whether there is room for one channel of the default geometry in /dev/shm, and for us."""
    need = (pages_of(DEFAULT_GEOMETRY.segment_size) + len(SEMAPHORES)) * os.sysconf("SC_PAGESIZE")
    mark, creating = STOP, True
    if there is None:
        text, do, creating = "not there", f"mount -t tmpfs -o mode=1777 shm {DEV_SHM}", False
    elif there.readonly:
        text, do, creating = "mounted read-only", f"mount -o remount,rw {DEV_SHM}", False
    elif not there.writable:
        text, do = f"uid {uid} may make nothing in it", f"chmod 1777 {DEV_SHM}"
    elif there.files < _FILES:
        text = f"{plural(there.files, 'file')} may be made; a channel takes {_FILES}"
        do = f"mount -o remount,nr_inodes=0 {DEV_SHM}"
    else:
        free = "no limit" if there.room == NO_LIMIT else f"{there.room} of {there.size} bytes free"
        text, do = f"{free}; a channel takes {need}", ""
        if there.room < need:
            do = f"mount -o remount,size={there.size - there.room + need} {DEV_SHM}"
        elif not there.sticky:
            mark, text, do = NOTE, "not sticky: any user can remove what is another's", f"chmod 1777 {DEV_SHM}"
        else:
            mark = OK
    return Finding(mark, DEV_SHM, text, do, "posix", creating)


def check_file_size(soft: int, hard: int, uid: int) -> Finding:
    """`ulimit -f`: an object is a file, which ftruncate(2) makes as large as the segment; EFBIG beyond."""
    need = DEFAULT_GEOMETRY.segment_size
    if soft >= need:
        said = "no limit" if soft == NO_LIMIT else f"{soft} bytes a file"
        return Finding(OK, "ulimit -f", f"{said}; a channel takes {need}", ipc="posix")
    text, do = f"{soft} bytes a file; a channel takes {need}", "ulimit -f unlimited"
    if uid and hard != NO_LIMIT:
        text, do = f"{text}; root or a new login raises it", ""
    return Finding(STOP, "ulimit -f", text, do, "posix", creating=True)


def check_logout(uid: int, removes: bool | None, *, lingers: bool) -> Finding:
    """systemd-logind's RemoveIPC (logind.conf(5)), which takes what is this user's at the last logout."""
    if removes is None:
        return Finding(NOTE, "RemoveIPC", "not known: systemd-logind does not say; see logind.conf(5)")
    if not removes:
        return Finding(OK, "RemoveIPC", "no: nothing is removed when you log out")
    if uid <= LAST_SYSTEM_UID or lingers:
        why = "never logs out (linger)" if lingers else "is a system user"
        return Finding(OK, "RemoveIPC", f"yes, and uid {uid} {why}: nothing is removed")
    text = "yes: what nobody has attached goes at your last logout"
    return Finding(NOTE, "RemoveIPC", text, "loginctl enable-linger")


def check_temporary(count: int) -> Finding:
    """What sem_open makes before it gives a semaphore its name: left by a kill, it cannot be proved to be anybody's."""
    if not count:
        return Finding(OK, "sem files", "no sem.XXXXXX that a killed sem_open left", ipc="posix")
    text = f"{count} sem.XXXXXX: of a killed sem_open, or in use: never proved"
    return Finding(NOTE, "sem files", text, f"ls -l {DEV_SHM}/sem.??????", "posix")
