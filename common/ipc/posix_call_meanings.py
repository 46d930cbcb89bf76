"""What each call of POSIX does in this project, as call_meanings.py says it of System V's.

Loaded only by an error and by --explain.
"""

from __future__ import annotations

from collections.abc import Callable

from common.ipc.call_meanings import GIVES, TAKES, CallMeaning

_WHOLE_CHANNEL = "it gets the owner and the mode that the object has: {role}"

# By kind of call, see POSIX_KINDS.
POSIX_CALLS = {
    "shm_open O_CREAT": CallMeaning(
        "makes an object with this name, of no bytes yet, and returns a descriptor; O_EXCL: it fails if there is one",
        "there is no channel and a writer has come; O_EXCL: if it succeeds, the object is new, and we made it",
        "a file of this name is in /dev/shm, 0 bytes long, its mode less what the umask takes",
    ),
    "shm_open, open": CallMeaning(
        "finds the object with this name and returns a descriptor",
        "to join the channel, or to look at it, if there is one",
        "nothing: nobody counts who has it open",
    ),
    "shm_unlink": CallMeaning(
        "takes the name away; the object lives until nobody has it open or mapped",
        "nobody is to join it any more: all is read and no writer is left, --remove asked for it, or its making failed;"
        " else it would stay",
        "the name is free at once (st_nlink 0), and the memory goes with the last munmap and the last close",
    ),
    "ftruncate": CallMeaning(
        "makes the object that long; what is new reads as zero",
        "shm_open makes it without a size",
        "the object has {1} bytes, and no memory for them yet",
    ),
    "posix_fallocate": CallMeaning(
        "reserves the memory for these bytes",
        "on a full /dev/shm this is ENOSPC; without it a store would be a SIGBUS, later",
        "the object has the memory for its {2} bytes",
    ),
    "mmap MAP_SHARED": CallMeaning(
        "maps the object into our address space and returns the address, which the kernel chooses (NULL)",
        "from here on its bytes are loaded and stored like all others of ours, and no call moves them",
        "it is mapped once more; nobody counts that, there is no nattch",
    ),
    "mmap MAP_FIXED": CallMeaning(
        "maps zeros that are ours alone over what was mapped there",
        "somebody truncated the object: to touch what it has no longer would be a SIGBUS, which ends us",
        "the object is not mapped here any more",
    ),
    "munmap": CallMeaning(
        "takes the object out of our address space; it does not remove it",
        "we are through with it; the end of the process would do the same",
        "it is mapped once less; if it has no name any more and we were the last, its memory goes with close",
    ),
    "fstat": CallMeaning(
        "asks for struct stat of the opened object: owner, mode, size, st_nlink, which is 0 when its name is gone",
        "whose it is and how large, before we trust it; while we wait and before we leave, whether it was removed",
    ),
    "lstat /dev/shm/shmpair": CallMeaning(
        "asks for struct stat of what has the object's name now",
        "is it a file, and still the one that we have open (st_ino)? Somebody may have removed and made it anew",
    ),
    "lstat /dev/shm/sem": CallMeaning(
        "asks for struct stat of the semaphore's file",
        "whose it is, whether it is whole and still the same (st_ino): {role}",
    ),
    "fchmod": CallMeaning(
        "sets the mode of the object",
        "exactly the mode that was asked for, whatever the umask took; before a removal, the mode it has: that takes"
        " the right that shm_unlink takes, so we know it before anything is changed",
        "its mode is {1}",
    ),
    "fchown": CallMeaning("gives the object to another user or group", "--chown asked for it", "it has a new owner"),
    "chmod": CallMeaning(
        "sets the mode of the semaphore's file",
        "it has the mode that the object has; before a removal this asks for the right to sem_unlink: {role}",
        "its mode is {1}",
    ),
    "lchown": CallMeaning("gives the semaphore's file to another user or group", _WHOLE_CHANNEL, "it has a new owner"),
    "close": CallMeaning(
        "gives the descriptor back",
        "we are through with the object; the end of the process would do the same",
        "its locks go with it, unless a child that was forked has the descriptor, too",
    ),
    "sem_open O_CREAT": CallMeaning(
        "makes a semaphore with this name and value, and maps it: what it returns is an address",
        "{role}",
        "a file of this name is in /dev/shm, its value {3}",
    ),
    "sem_open, open": CallMeaning("finds the semaphore with this name, and maps it", "{role}"),
    "sem_close": CallMeaning("takes the semaphore out of our address space", "we are through with it: {role}"),
    "sem_unlink": CallMeaning(
        "takes the semaphore's name away",
        "its channel goes, too, or has lost another one, and all are made anew: {role}",
        "the name is free at once; it wakes nobody, and whoever has it open can go on with it",
    ),
    "sem_post": CallMeaning(
        "adds 1 to the semaphore; somebody who sleeps on it is woken, and only for that the kernel is called (futex)",
        "{give}",
        "{name} is one more",
    ),
    "sem_trywait": CallMeaning(
        "takes 1 from the semaphore; if it is 0, it fails instead of sleeping; one instruction, and no system call",
        "{take}",
        "{name} is one less",
    ),
    "sem_clockwait": CallMeaning(
        "takes 1 from the semaphore, asleep until there is one or that moment of a clock which nobody can set",
        "to sleep until the other side wakes us takes no processor time: {take}",
        "{name} is one less",
    ),
    "sem_timedwait": CallMeaning(
        "takes 1 from the semaphore, asleep until there is one or that time of day",
        "to sleep until the other side wakes us takes no processor time: {take}",
        "{name} is one less",
    ),
    "sem_getvalue": CallMeaning("loads the value, without a system call", "{role}"),
    "fcntl F_RDLCK": CallMeaning(
        "locks a byte of the object, together with others (F_RDLCK)",
        "{role}",
        "the kernel notes the lock, and drops it if we die",
    ),
    "fcntl F_WRLCK": CallMeaning(
        "locks a byte of the object for us alone (F_WRLCK); if somebody else has a lock on it, it fails",
        "{role}",
        "the kernel notes the lock, and drops it if we die: what SEM_UNDO is for in System V",
    ),
    "fcntl F_UNLCK": CallMeaning("gives the lock on a byte of the object back", "{role}", "the byte is free"),
    "fcntl l_len=0": CallMeaning(
        "gives back every lock that was taken through this descriptor (l_len=0: up to the end)",
        "close alone would leave them to a child that was forked meanwhile",
        "we take part no longer",
    ),
    "fcntl F_OFD_GETLK": CallMeaning(
        "asks who would refuse us this lock: F_UNLCK in the answer is nobody, and ours never count",
        "{role}",
    ),
}

# What the semaphores are for: they only wake, and head, tail and the locks decide.
POSIX_ROLES = {
    "full_slots": "full_slots counts the slots to be read (a token only wakes: head and tail decide)",
    "empty_slots": "empty_slots counts the slots to be filled (a token only wakes: head and tail decide)",
    "writer_turn": "writer_turn wakes one who waits for the turn to write; the lock on byte 72 is the turn",
    "reader_turn": "reader_turn wakes one who waits for the turn to read; the lock on byte 76 is the turn",
    "writers": "writers counts the writers for whoever looks; the lock on byte 64 says whether any lives",
}
_TRIES_THE_LOCK = "the turn is free: one that waits for it is to try the lock"
POSIX_TAKES = TAKES | {
    **dict.fromkeys(("writer_turn", "reader_turn"), "who gives the turn back wakes us, and then we try the lock again"),
    "writers": "this writer counts itself out, or takes away what the dead have left",
}
POSIX_GIVES = GIVES | dict.fromkeys(("writer_turn", "reader_turn"), _TRIES_THE_LOCK)

# What a lock on this byte of the object is for.
LOCKS = {
    0: "byte 0: whoever takes part shares it, so it tells whether anybody else has the object",
    64: "byte 64: each writer shares it, so it tells whether any writer lives",
    72: "byte 72: the turn to write; it lasts one record",
    76: "byte 76: the turn to read; it lasts one record",
}

# What tells the uses of a call apart, by its arguments.
POSIX_KINDS: dict[str, Callable[..., str]] = {
    "shm_open": lambda name, flags, mode: f"shm_open{' O_CREAT' if flags & 0o100 else ', open'}",
    "sem_open": lambda name, flags, *creation: f"sem_open{' O_CREAT' if flags & 0o100 else ', open'}",
    "mmap": lambda address, *rest: f"mmap {'MAP_SHARED' if address is None else 'MAP_FIXED'}",
    "lstat": lambda path, seen: f"lstat /dev/shm/{'sem' if path.startswith('/dev/shm/sem.') else 'shmpair'}",
    "fcntl": lambda fd, command, lock: f"fcntl {_lock_kind(command, lock.type, lock.length)}",
}


def _lock_kind(command: int, kind: int, length: int) -> str:
    if command == 36:
        return "F_OFD_GETLK"
    return ("F_RDLCK", "F_WRLCK", "F_UNLCK")[kind] if length else "l_len=0"
