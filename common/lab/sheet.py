"""The sentences of the lab sheet that can be true or false, in its order, each with its verdict and what shows it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What becomes of a sentence on Linux."""

    HOLDS = "holds"
    NUANCE = "holds with a nuance"
    FALSE = "not on Linux"
    NO_CLAIM = "no claim"


class Sentence(NamedTuple):
    """One sentence, in short; `why` is the nuance, and `shown` names experiments, or is a command."""

    text: str
    verdict: Verdict
    why: str
    shown: str

    @property
    def experiments(self) -> tuple[str, ...]:
        """The names of the experiments that show it."""
        return () if "/" in self.shown else tuple(self.shown.split())


HOLDS, NUANCE, FALSE, NO_CLAIM = Verdict

SHEET = (
    Sentence(
        "Shared memory is memory that is mapped and shared by more than one process",
        NUANCE,
        "one process may have it alone, or twice",
        "mapping",
    ),
    Sentence(
        "It is by far the fastest form of IPC",
        NUANCE,
        "for bulk data; for tiny messages the semaphore costs as much as a pipe",
        "./run_demo.sh compare",
    ),
    Sentence(
        "... because there is no intermediation",
        NUANCE,
        "the data needs none; to wait for the other needs the kernel",
        "intermediary",
    ),
    Sentence("The segment is mapped directly into the caller's address space", HOLDS, "", "mapping"),
    Sentence(
        "Created by one process, it is written and read by any number",
        NUANCE,
        "the mode must let them; nattch counts attachments (strictly, mappings), not processes",
        "many",
    ),
    Sentence(
        "To create a new message queue, or access an existing queue, shmget() is used",
        FALSE,
        "copied from the sheet's msgget; the three families have separate tables",
        "three-tables",
    ),
    Sentence("int shmget(key_t key, int size, int shmflg)", FALSE, "size_t size: shmget(2)", "sizes"),
    Sentence("It returns the segment's identifier", NUANCE, "0 is one: test for -1", "first-id"),
    Sentence("-1 on error", HOLDS, "", "first-id"),
    Sentence(
        "shmget EINVAL: invalid segment size",
        NUANCE,
        "0 only when it creates; also larger than the segment that is there, or than SHMMAX",
        "sizes limits",
    ),
    Sentence(
        "shmget EEXIST: the segment exists and cannot be created",
        NUANCE,
        "only with IPC_CREAT and IPC_EXCL together",
        "opening",
    ),
    Sentence(
        "shmget EIDRM: it is marked for deletion or was removed",
        FALSE,
        "since Linux 2.3.30 the key is free at once: shmget(2)",
        "removed-key",
    ),
    Sentence(
        "shmget ENOENT: it does not exist",
        NUANCE,
        "and IPC_CREAT was not asked for; or it exists in another IPC namespace",
        "opening namespaces",
    ),
    Sentence(
        "shmget EACCES: permission denied", NUANCE, "only what the flags ask for is checked; root passes", "permission"
    ),
    Sentence(
        "shmget ENOMEM: not enough memory",
        NUANCE,
        "SHMALL and SHMMNI give ENOSPC, which the sheet leaves out",
        "too-large limits",
    ),
    Sentence(
        "It is like msgget() and semget()", NUANCE, "the same rules for keys and flags, separate tables", "three-tables"
    ),
    Sentence(
        "The first argument is the key, in our case from ftok()", NUANCE, "any number will do; 0 is IPC_PRIVATE", "keys"
    ),
    Sentence(
        "The key is compared to those of the other segments in the kernel",
        NUANCE,
        "of the same IPC namespace; IPC_PRIVATE is not compared at all",
        "keys namespaces",
    ),
    Sentence("Whether it opens or creates depends on shmflg", HOLDS, "", "opening"),
    Sentence("IPC_CREAT creates the segment if it does not exist", HOLDS, "", "opening"),
    Sentence("IPC_EXCL with IPC_CREAT fails if it exists", HOLDS, "", "opening"),
    Sentence(
        "IPC_CREAT alone returns a new segment's id or an existing one's",
        NUANCE,
        "or fails, by its size or its mode",
        "opening sizes permission",
    ),
    Sentence(
        "IPC_EXCL with IPC_CREAT makes a new one or fails with -1",
        HOLDS,
        "EEXIST also for those whom the mode keeps out",
        "opening permission",
    ),
    Sentence("IPC_EXCL is useless by itself", HOLDS, "it is ignored", "opening"),
    Sentence(
        "With IPC_CREAT it guarantees that no existing segment is opened",
        HOLDS,
        "and of many who try at once one succeeds",
        "race",
    ),
    Sentence(
        "An optional octal mode may be OR'd in",
        NUANCE,
        "the compiler takes it for optional; mode 0 keeps even its creator out. No umask",
        "mode",
    ),
    Sentence(
        "The explicit permissions of 0660",
        NUANCE,
        "they are set at creation; of an existing segment they are what one asks for",
        "mode",
    ),
    Sentence("open_segment() returns an identifier or -1", HOLDS, "", "wrappers"),
    Sentence("The requested size is in bytes", HOLDS, "the mapping is in whole pages", "sizes"),
    Sentence("With a valid identifier the next step is to attach", HOLDS, "the id is enough, in any process", "many"),
    Sentence(
        "int shmat(int shmid, char *shmaddr, int shmflg)",
        FALSE,
        "void *shmat(int, const void *, int): an int loses half of the address",
        "pointer",
    ),
    Sentence("It returns the address, or -1", NUANCE, "(void *) -1, and not NULL", "pointer"),
    Sentence(
        "shmat EINVAL: invalid id or attach address",
        NUANCE,
        "an address that is not aligned, in use, or wraps round; one that no process has is ENOMEM",
        "attach-errors",
    ),
    Sentence(
        "shmat ENOMEM: not enough memory to attach",
        NUANCE,
        "no such address, or too few of them left; or no memory for the descriptor or page tables (shmop(2))",
        "address-space attach-errors",
    ),
    Sentence(
        "shmat EACCES: permission denied",
        HOLDS,
        "a read-only one may still be possible; what the sheet leaves out: EIDRM, and EPERM below vm.mmap_min_addr",
        "permission attach-errors",
    ),
    Sentence("With address 0 the kernel finds an unmapped region", HOLDS, "", "addresses"),
    Sentence("That is the recommended method", HOLDS, "shmop(2): the preferred, portable way", "addresses"),
    Sentence(
        "An address is given for special hardware, or to avoid conflicts with other programs",
        FALSE,
        "each process has an address space of its own; a reason would be pointers in the segment",
        "addresses",
    ),
    Sentence(
        "SHM_RND rounds a given address down to the page size",
        NUANCE,
        "to SHMLBA, which is a page here and more on some other processors",
        "addresses",
    ),
    Sentence(
        "With SHM_RDONLY it is mapped, but marked read-only", HOLDS, "this attachment, not the segment", "read-only"
    ),
    Sentence(
        "attach_segment() is the simplest: return shmat(shmid, 0, 0)",
        NUANCE,
        "what it returns must be compared with (char *) -1",
        "wrappers",
    ),
    Sentence(
        "Reading and writing become as easy as dereferencing a pointer",
        NUANCE,
        "easy, and not safe: nothing keeps two processes apart",
        "unsynchronised",
    ),
    Sentence(
        "Lose the original pointer, and the segment cannot be reached",
        FALSE,
        "/proc/self/maps has it, with the id as inode; or attach again",
        "lost-pointer",
    ),
    Sentence("int shmctl(int, int, struct shmid_ds *)", HOLDS, "", "commands"),
    Sentence("It returns 0 on success", NUANCE, "SHM_INFO and IPC_INFO return an index, SHM_STAT an id", "commands"),
    Sentence("shmctl EACCES: no read permission, with IPC_STAT", HOLDS, "root passes", "owner"),
    Sentence(
        "shmctl EFAULT: buf is invalid, with IPC_SET or IPC_STAT", HOLDS, "IPC_RMID takes no notice of it", "commands"
    ),
    Sentence(
        "shmctl EIDRM: it was removed meanwhile",
        NUANCE,
        "in that very moment only; a removed id is EINVAL",
        "removed-id",
    ),
    Sentence(
        "shmctl EINVAL: the id is invalid",
        HOLDS,
        "or the command; or IPC_SET has an owner whom the user namespace does not know",
        "removed-id",
    ),
    Sentence(
        "shmctl EPERM: IPC_SET or IPC_RMID without write access",
        FALSE,
        "owner, creator or CAP_SYS_ADMIN: write access is neither enough nor needed",
        "owner",
    ),
    Sentence("It is modelled after msgctl()", HOLDS, "the same IPC_STAT, IPC_SET, IPC_RMID: 2, 1, 0", "commands"),
    Sentence("IPC_STAT stores the segment's shmid_ds in buf", HOLDS, "", "commands"),
    Sentence(
        "IPC_SET sets ipc_perm from buf",
        NUANCE,
        "uid, gid and the nine bits of the mode; the rest is ignored",
        "setting",
    ),
    Sentence("IPC_RMID marks it for removal", HOLDS, "", "removal"),
    Sentence(
        "It does not really remove it",
        NUANCE,
        "it does when nobody has it attached; while it is marked, Linux lets one attach by the id",
        "removal",
    ),
    Sentence(
        'It is removed when the last process has "properly" detached',
        NUANCE,
        "exit, exec and kill -9 detach as well",
        "leaving",
    ),
    Sentence("With nobody attached the removal is immediate", HOLDS, "", "removal"),
    Sentence("To detach properly, a process calls shmdt", NUANCE, "exit and exec do it, too; fork attaches", "leaving"),
    Sentence("int shmdt(char *shmaddr)", NUANCE, "const void * today: shmop(2)", "detaching"),
    Sentence("shmdt: -1 and EINVAL for a bad address", HOLDS, "0 when it succeeds", "detaching"),
    Sentence("When it is no longer needed it should be detached", HOLDS, "good advice", "nattch"),
    Sentence("Detaching is not removing", HOLDS, "", "nattch"),
    Sentence("After a detach shm_nattch is one less", HOLDS, "", "nattch"),
    Sentence(
        "When this value reaches zero, the kernel removes the segment",
        FALSE,
        "only if it was marked with IPC_RMID, or with kernel.shm_rmid_forced = 1",
        "nattch forced-removal",
    ),
    Sentence("Thus we studied IPC mechanisms", NO_CLAIM, "", ""),
)


def sentences_of(name: str) -> list[tuple[int, Sentence]]:
    """The sentences that an experiment answers, with their numbers."""
    return [(number, sentence) for number, sentence in enumerate(SHEET, 1) if name in sentence.experiments]
