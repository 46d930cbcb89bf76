"""What each call of System V, and the doorway's, does in this project; meanings.py has the errnos.

Loaded only by an error and by --explain. The table of calls in tests/lab/README.md is this one.
"""

from __future__ import annotations

from collections.abc import Callable

from common.typed import Any, NamedTuple


class CallMeaning(NamedTuple):
    """What a call does, why our programs make it, and what has changed in the kernel when it succeeded, "" for nothing.

    {0}, {1} ... are its arguments as --trace shows them; {name} is its semaphore, {role} what that or the lock is for,
    {take} and {give} why a token is taken and given, {undo} what SEM_UNDO does; {nattch} is how many have the segment
    attached, such as "nattch 0 -> 1", and {then} what follows from that.
    """

    what: str
    why: str
    now: str = ""


_ASKED = CallMeaning(
    "stores uid, gid and mode, here those that it has already",
    "this takes the right that IPC_RMID takes: so we know whether we may remove all of it before anything is changed",
    "nothing but the time of its last change",
)
_ASKED_AS_NOBODY = CallMeaning(
    "would store uid, gid and mode, but uid -1 is nobody's: who may is told EINVAL, who may not EPERM, and nothing is"
    " stored",
    "this takes the right that IPC_RMID takes: so we know whether we may remove all of it; an owner who reads as 65534"
    " may have no number in our user namespace, and cannot be stored again",
)

# By kind of call, see KINDS.
CALLS = {
    "ftok": CallMeaning(
        "makes a key out of the path's device, its inode and the number; it asks the kernel for nothing but stat",
        "both programs have the path, so both have the same keys, and neither has to tell the other an id",
    ),
    "shmget IPC_CREAT": CallMeaning(
        "makes a segment with this key, zero in every byte, and returns its id; with IPC_EXCL it fails if there is one",
        "there is no channel and a writer has come; IPC_EXCL: if it succeeds, the segment is new, and we made it",
        "a segment of {1} bytes is there, nattch 0",
    ),
    "shmget, open": CallMeaning(
        "finds the segment with this key and returns its id; a size of 0 takes any, the mode is the rights we want",
        "to join the channel, or to look at it, if there is one",
    ),
    "shmat": CallMeaning(
        "maps the segment into our address space and returns the address: NULL lets the kernel choose it, SHM_RND"
        " rounds it down to a page; with SHM_RDONLY a store would be a SIGSEGV",
        "from here on its bytes are loaded and stored like all others of ours, and no call moves them",
        "{nattch}",
    ),
    "shmdt": CallMeaning(
        "takes the segment out of our address space; it does not remove it",
        "we are through with it; the end of the process would do the same",
        "{nattch}{then}",
    ),
    "shmctl IPC_STAT": CallMeaning(
        "asks for struct shmid_ds: owner, mode, size, how many have it attached (nattch), whether it is marked",
        "whose it is and how large, before we trust it; while we wait and before we leave, whether it was removed and"
        " who else has it",
    ),
    "shmctl IPC_SET": CallMeaning(
        "stores uid, gid and the nine bits of mode from the struct, and heeds nothing else in it",
        "--chmod or --chown asked for it",
        "uid, gid and mode are as shown",
    ),
    "shmctl IPC_SET, to ask": _ASKED,
    "shmctl IPC_SET, to ask with uid -1": _ASKED_AS_NOBODY,
    "shmctl IPC_RMID": CallMeaning(
        "marks the segment for removal; its memory goes when nobody has it attached any more",
        "nobody is to join it any more: all is read and no writer is left, --remove asked for it, its making failed, or"
        " it would go with our detach (kernel.shm_rmid_forced); else it would stay",
        'it is marked ("dest" in ipcs -m), its key is free at once; {nattch}{then}',
    ),
    "semget IPC_CREAT": CallMeaning(
        "makes a set of one semaphore with this key and returns its id",
        "{role}",
        "a semaphore is there; its value comes next, before anybody can join",
    ),
    "semget, open": CallMeaning("finds the semaphore with this key and returns its id", "{role}"),
    "semctl SETVAL": CallMeaning(
        "sets the value, and makes the kernel forget what it would undo (SEM_UNDO)",
        "its first value: {role}",
        "the value is {3}",
    ),
    "semctl GETVAL": CallMeaning("returns the value", "is it still there, and what does it say: {role}"),
    "semctl GETPID": CallMeaning(
        "returns the pid of the process that operated on it last",
        "to name that process to a person, and for nothing else: {role}",
    ),
    "semctl GETNCNT": CallMeaning("returns how many processes sleep until it has a token", "who waits: {role}"),
    "semctl GETZCNT": CallMeaning(
        "returns how many processes sleep until it has no token",
        "none of ours ever does: whoever sleeps so is a stranger, and then the semaphore is not for us to remove",
    ),
    "semctl IPC_STAT": CallMeaning(
        "asks for struct semid_ds: owner, creator, mode, the time of the last operation",
        "whose it is, before we change or remove it: {role}",
    ),
    "semctl IPC_SET": CallMeaning(
        "stores uid, gid and the nine bits of mode from the struct, and heeds nothing else in it",
        "it gets the owner and the mode that the segment has: {role}",
        "uid, gid and mode are as shown",
    ),
    "semctl IPC_SET, to ask": _ASKED,
    "semctl IPC_SET, to ask with uid -1": _ASKED_AS_NOBODY,
    "semctl IPC_RMID": CallMeaning(
        "removes the semaphore at once",
        "its channel goes, too, or has lost another one, and all are made anew: {role}",
        "it is gone; whoever sleeps on it wakes with EIDRM",
    ),
    "semop, take": CallMeaning(
        "takes a token from the semaphore (-1); IPC_NOWAIT: if there is none, it fails instead of sleeping",
        "{take}",
        "{name} is one less{undo}",
    ),
    "semop, put back": CallMeaning(
        "puts a token into the semaphore (+1), which wakes one process that sleeps on it",
        "{give}",
        "{name} is one more{undo}",
    ),
    "semtimedop": CallMeaning(
        "takes a token from the semaphore (-1), asleep until there is one or the time is over",
        "to sleep until the other side wakes us takes no processor time: {take}",
        "{name} is one less{undo}",
    ),
    "flock LOCK_EX": CallMeaning(
        "locks the key path for us alone; LOCK_NB: if somebody else has the lock, it fails instead of sleeping",
        "the doorway: who joins, leaves, looks or removes is alone; what is half-made in there, the dead have left."
        " What is looked at inside without a call is the header: the number of the input, and whether the segment goes"
        " with us",
        "the doorway is shut behind us; the kernel opens it if we die",
    ),
    "flock LOCK_UN": CallMeaning("gives the lock back", "we are through, and the next one may", "the doorway is open"),
}

# The same of what is no call: the payload goes in and out with none.
MOVES = {
    "store": CallMeaning(
        "read(2) or a plain copy puts the bytes into the slot; there is no call of IPC in it",
        "this is what shared memory is for; once head counts the slot, every reader sees it filled",
    ),
    "load": CallMeaning(
        "write(2) takes the bytes straight from the slot; there is no call of IPC in it",
        "this is what shared memory is for; once tail counts the slot, a writer may fill it anew",
    ),
}

# What the semaphores are for.
ROLES = {
    "full_slots": "full_slots counts the slots to be read (a token only wakes: head and tail decide)",
    "empty_slots": "empty_slots counts the slots to be filled (a token only wakes: head and tail decide)",
    "writer_turn": "writer_turn, 1 while it is free, lets one writer write; a turn lasts one record",
    "reader_turn": "reader_turn, 1 while it is free, lets one reader read; a turn lasts one record",
    "writers": "writers counts the writers that live",
}
# Why one takes a token of each, and why one gives it.
TAKES = {
    "full_slots": "is there a slot to read? head and tail decide, the token only wakes",
    "empty_slots": "is there a slot to fill? head and tail decide, the token only wakes",
    "writer_turn": "to have the turn to write, for one record",
    "reader_turn": "to have the turn to read, for one record",
    "writers": "this writer counts itself out",
}
GIVES = {
    "full_slots": "there may be more to read: a reader that sleeps is to look",
    "empty_slots": "there may be room to write: a writer that sleeps is to look",
    "writer_turn": "the turn to write is over: the next writer may have it",
    "reader_turn": "the turn to read is over: the next reader may have it",
    "writers": "this writer counts itself in",
}
# Of an operation with SEM_UNDO: whether it is the first half of a pair.
UNDO = {
    True: "; if we die, the kernel takes that back (SEM_UNDO)",
    False: "; now there is nothing to take back (SEM_UNDO)",
}

_SHMCTL = {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT"}
# What tells the uses of a call apart, by its arguments; a call that is not here has one.
KINDS: dict[str, Callable[..., str]] = {
    "shmget": lambda key, size, flags: "shmget IPC_CREAT" if flags & 0o1000 else "shmget, open",
    "shmctl": lambda shmid, command, buffer: (
        f"shmctl {_SHMCTL.get(command, command)}"
        f"{_to_ask(buffer) if command == 1 and getattr(buffer, 'size', None) == 0 else ''}"
    ),
    "semget": lambda key, members, flags: "semget IPC_CREAT" if flags & 0o1000 else "semget, open",
    "semctl": lambda semid, number, command, *rest: (
        f"semctl {command}{_to_ask(rest[0]) if command == 'IPC_SET' and not rest[0].members else ''}"
    ),
    "semop": lambda semid, change, flags: f"semop, {'take' if change < 0 else 'put back'}",
    "flock": lambda fd, operation: f"flock {'LOCK_UN' if operation & 8 else 'LOCK_EX'}",
}


def _to_ask(unfilled: Any) -> str:
    """An IPC_SET of a struct that no IPC_STAT has filled only asks for the right."""
    return ", to ask with uid -1" if unfilled.perm.uid == 2**32 - 1 else ", to ask"
