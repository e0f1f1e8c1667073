"""A set that forgets its oldest members."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The members that were added last, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._members: dict[T, None] = {}

    def add(self, member: T) -> None:
        """Add a member, or make it the newest."""
        self._members.pop(member, None)
        self._members[member] = None
        if len(self._members) > self._limit:
            del self._members[next(iter(self._members))]

    def discard(self, member: T) -> None:
        """Remove a member that may be there."""
        self._members.pop(member, None)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __len__(self) -> int:
        return len(self._members)
