"""Decides which records are held out: by their digests, in one pass. Pure.

A record is held out when its 256-bit digest is below share · 2^256. A share above 0 holds out at least one
record and leaves at least one to train on, unless all records are equal. Equal records have equal digests,
so none is ever on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


def held_out_below(share: float, lowest: int, highest: int) -> int:
    """Records whose digest is below the returned bound are held out.

    lowest, highest: the least and greatest digest of the dataset.
    """
    if share <= 0 or lowest == highest:
        return 0
    return min(max(int(share * 2**256), lowest + 1), highest)


class Routed(NamedTuple, Generic[T]):
    """An item, and its side."""

    item: T
    held_out: bool


@dataclass
class _Candidate(Generic[T]):
    """The record that changes sides if no other record is on the other side, and its copies."""

    digest: int
    item: T
    copies: int

    def all(self, *, held_out: bool) -> Iterator[Routed[T]]:
        for _ in range(self.copies):
            yield Routed(self.item, held_out)


class HeldOutSplit(Generic[T]):
    """Divides a stream of items as `held_out_below` would, without knowing all digests first.

    As long as one side is empty, the record of the other side that would have to change over is kept back:
    the lowest digest of those to train on, the highest of those held out.
    """

    def __init__(self, share: float) -> None:
        self._nothing = share <= 0
        self._bound = int(max(0.0, share) * 2**256)
        self._seen = {True: False, False: False}
        self._passed = False
        self._candidate: _Candidate[T] | None = None

    def add(self, digest: int, item: T) -> Iterator[Routed[T]]:
        """What is decided once this item is known."""
        side = digest < self._bound
        if self._nothing or (self._seen[not side] and self._seen[side]):
            self._seen[side] = True
            yield Routed(item, side)
        elif self._seen[not side]:
            self._seen[side] = True
            yield from self._release(held_out=not side)
            yield Routed(item, side)
        else:
            self._seen[side] = True
            yield from self._keep_back(digest, item, side)

    def _keep_back(self, digest: int, item: T, side: bool) -> Iterator[Routed[T]]:
        """side: the only one that has records so far."""
        kept = self._candidate
        if kept is None:
            self._candidate = _Candidate(digest, item, 1)
        elif digest == kept.digest:
            kept.copies += 1
        elif (digest > kept.digest) == side:
            yield from self._release(held_out=side)
            self._candidate = _Candidate(digest, item, 1)
        else:
            self._passed = True
            yield Routed(item, side)

    def finish(self) -> Iterator[Routed[T]]:
        """The items that were kept back: on the empty side, unless all records are equal."""
        yield from self._release(held_out=self._passed and not self._seen[True])

    def _release(self, *, held_out: bool) -> Iterator[Routed[T]]:
        kept, self._candidate = self._candidate, None
        if kept is not None:
            self._passed = True
            yield from kept.all(held_out=held_out)
