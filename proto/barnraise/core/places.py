"""A limited number of places, such as connections, that addresses share. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHARED = ""
"""The group of clients that cannot be distinguished, as those behind a proxy on this machine: its share is
not limited."""


@dataclass
class Places:
    """A group may take as many places as it leaves free: alone half of them, with other groups less.

    So a group that takes all that it can leaves places for groups that have none, and many volunteers behind
    one address are not limited while there is room.
    """

    total: int
    reserved: int = 0
    """Of them, those for groups that are known to take part."""
    _taken: Counter[str] = field(default_factory=Counter)

    def enter(self, group: str, *, is_known: bool = False) -> bool:
        """Take a place, if the group may."""
        if not self.has_room(group, is_known=is_known):
            return False
        self._taken[group] += 1
        return True

    def has_room(self, group: str, *, is_known: bool = False) -> bool:
        """Whether `enter` would take one."""
        free = self.total - self._taken.total() - (0 if is_known else self.reserved)
        return free > (0 if group == SHARED else self._taken[group])

    def leave(self, group: str) -> None:
        """Give a place back."""
        self._taken[group] -= 1
        if not self._taken[group]:
            del self._taken[group]

    def __len__(self) -> int:
        return self._taken.total()
