"""What a removal has done to the semaphores, and what it left alone."""

from __future__ import annotations

from common.typed import NamedTuple


class Left(NamedTuple):
    """A semaphore with one of our keys or names that a removal left alone, and why; `ours` when it is of our uid."""

    name: str
    id: int | str
    why: str
    ours: bool

    def __str__(self) -> str:
        return f"semaphore {self.id} ({self.name}): {self.why}"


class Removal(NamedTuple):
    """What became of the five semaphores: removed, gone before, or left (there, with our key, and not removed)."""

    removed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()

    def __str__(self) -> str:
        """Such as: removed 4 semaphores (writers was gone)."""
        rest = [f"{', '.join(self.gone)} {'was' if len(self.gone) == 1 else 'were'} gone"] if self.gone else []
        for why in dict.fromkeys(left.why for left in self.left):
            alike = [left for left in self.left if left.why == why]
            names = ", ".join(left.name for left in alike)
            rest.append(f"left {alike[0] if len(alike) == 1 else f'semaphores {names}: {why}'}")
        count = len(self.removed)
        return f"removed {count} semaphore{'' if count == 1 else 's'}" + (f" ({'; '.join(rest)})" if rest else "")

    @property
    def ours_left(self) -> tuple[Left, ...]:
        """What stays that is of our uid: the removal is no success."""
        return tuple(left for left in self.left if left.ours)
