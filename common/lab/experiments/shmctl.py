"""Of shmctl: what it tells, what it changes, and what removal is."""

from __future__ import annotations

from ctypes import addressof, create_string_buffer

from common.ipc.sysv_calls import IPC_CREAT, IPC_RMID, IPC_SET, IPC_STAT, SHM_DEST, ShmidDs
from common.lab.calls import IPCMNI, SHM_INFO, SHM_STAT, Lab
from common.lab.experiment import Observed, experiment, ok


@experiment(
    promised={
        "IPC_STAT returns": 0,
        "and has filled in the size": 4096,
        "SHM_STAT of its index returns the id": True,
        "SHM_INFO returns an index, which may be above 0": True,
        "buf is no address of ours: IPC_STAT": "EFAULT",
        "IPC_SET": "EFAULT",
        "IPC_RMID": 0,
    },
    lesson="IPC_STAT, IPC_SET and IPC_RMID are 2, 1 and 0, for shmctl, semctl and msgctl alike, and return 0. What"
    " ipcs uses, SHM_INFO and SHM_STAT, returns an index in the kernel's table and an id. EFAULT comes from an address"
    " that is not ours; IPC_RMID looks at no buffer.",
)
def commands(lab: Lab) -> Observed:
    """What does shmctl return and fill in?"""
    lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    stat = ShmidDs()
    returned = lab.shmctl(shmid, IPC_STAT, stat)
    room = create_string_buffer(256)
    found = lab.shmctl(shmid % IPCMNI, SHM_STAT, addressof(room))
    highest = lab.shmctl(0, SHM_INFO, addressof(room))
    bad = [lab.shmctl(shmid, command, 1) for command in (IPC_STAT, IPC_SET)]
    removed = lab.shmctl(shmid, IPC_RMID, 1)
    same = found == shmid
    return returned, stat.size, same, highest > 0, *bad, removed


@experiment(
    promised={
        "root's, 0600, for another user: IPC_STAT": "EACCES",
        "root's, 0666, for another user: shmat": "ok",
        "IPC_SET": "EPERM",
        "IPC_RMID": "EPERM",
        "the user's own, mode 0: shmat": "EACCES",
        "IPC_RMID of that": "ok",
    },
    lesson="The mode says who may read and write, and IPC_STAT is reading. To change or remove a segment is another"
    " right: its owner, its creator or root (CAP_SYS_ADMIN) has it. Write access is neither enough, as with the 0666,"
    " nor needed, as with the mode of 0.",
    needs=("root",),
)
def owner(lab: Lab) -> Observed:
    """Who may look, change and remove?"""
    closed = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    open_ = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o666)

    def try_all() -> list[str]:
        looked = lab.stat(closed)
        attached = lab.shmat(open_)
        changed = lab.shmctl(open_, IPC_SET, lab.stat(open_))
        removed = lab.shmctl(open_, IPC_RMID)
        own = lab.shmget(lab.new_key(), 4096, IPC_CREAT)
        results = (looked, attached, changed, removed)
        own_results = (lab.shmat(own), lab.shmctl(own, IPC_RMID))
        return [str(ok(result)) for result in results + own_results]

    return tuple(lab.in_child(try_all, nobody=True))


@experiment(
    promised={"an id that was removed": "EINVAL", "-1": "EINVAL", "a command that is none": "EINVAL"},
    lesson="An id that was removed is EINVAL: the kernel no longer knows it, and an id is used again only after very"
    " many others. EIDRM is left for a removal between finding the segment and looking at it, which nobody can bring"
    " about at will; `strace -e inject=shmctl:error=EIDRM` can feign it (see README.md, Your lab sheet).",
)
def removed_id(lab: Lab) -> Observed:
    """What does shmctl say to a wrong id?"""
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    other = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    lab.shmctl(shmid, IPC_RMID)
    buffer = ShmidDs()
    return (
        lab.shmctl(shmid, IPC_STAT, buffer),
        lab.shmctl(-1, IPC_STAT, buffer),
        lab.shmctl(other, 99, buffer),
    )


@experiment(
    promised={
        "uid and gid": "12345, 12345",
        "mode, asked for 07644": "0644",
        "key, size and creator are as before": True,
    },
    lesson="IPC_SET takes three things from the struct: uid, gid and nine bits of the mode; it sets shm_ctime, and"
    " ignores the rest. The size of a segment never changes. And one may give it away: the creator stays, and keeps the"
    " right to remove it.",
)
def setting(lab: Lab) -> Observed:
    """What does IPC_SET set?"""
    shmid = lab.shmget(lab.key, 5000, IPC_CREAT | 0o600)
    before, asked = lab.stat(shmid), lab.stat(shmid)
    asked.perm.uid = asked.perm.gid = 12345
    asked.perm.mode = 0o7644
    asked.perm.key = asked.perm.cuid = asked.size = 1
    lab.shmctl(shmid, IPC_SET, asked)
    after = lab.stat(shmid)

    def fixed(stat: ShmidDs) -> tuple[int, ...]:
        return stat.perm.key, stat.size, stat.perm.cuid

    ids = f"{after.perm.uid}, {after.perm.gid}"
    return ids, f"0{after.perm.mode:o}", fixed(before) == fixed(after)


@experiment(
    promised={
        "nobody has it attached: IPC_RMID, then IPC_STAT": "EINVAL",
        "somebody has: IPC_RMID, then nattch": 1,
        "it is marked (dest)": True,
        "its key": 0,
        "what is in it": "alive",
        "shmat by the id": "ok",
        "both detached, then IPC_STAT": "EINVAL",
    },
    lesson="IPC_RMID takes the name away at once and the memory when nobody has it any more, as unlink(2) does with a"
    " file. Until then ipcs says dest, all goes on, and Linux even lets one attach it by its id; other systems do not"
    " (shmctl(2), notes). So mark it as soon as all are attached, and no crash leaves it behind.",
)
def removal(lab: Lab) -> Observed:
    """When does IPC_RMID remove it?"""
    unused = lab.shmget(lab.new_key(), 4096, IPC_CREAT | 0o600)
    lab.shmctl(unused, IPC_RMID)
    at_once = lab.stat(unused)
    shmid = lab.shmget(lab.key, 4096, IPC_CREAT | 0o600)
    one = lab.shmat(shmid)
    lab.store(one, b"alive")
    lab.shmctl(shmid, IPC_RMID)
    lab.look()
    marked = lab.stat(shmid)
    other = lab.shmat(shmid)
    seen = lab.load(other, 5).decode()
    lab.shmdt(one)
    lab.shmdt(other)
    dest = bool(marked.perm.mode & SHM_DEST)
    kept = (marked.attached, dest, marked.perm.key)
    return at_once, *kept, seen, ok(other), lab.stat(shmid)
