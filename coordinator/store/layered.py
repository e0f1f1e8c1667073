"""An immutable mapping that is cheap to extend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

RECENT = 256
"""Entries that are copied with each change."""


class Layered(Mapping[K, V]):
    """Immutable: a large mapping that versions share, and the newest changes on top of it.

    Copying a dict for each change would make a restart that applies n changes copy n²/2 entries. Iteration
    begins with the keys whose value is oldest. Any thread may read.
    """

    __slots__ = ("_old", "_recent")

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._old: Mapping[K, V] = dict(items or {})
        self._recent: Mapping[K, V] = {}

    def with_items(self, items: Mapping[K, V]) -> Layered[K, V]:
        """This mapping with these values."""
        changed = Layered[K, V]()
        kept = {key: value for key, value in self._recent.items() if key not in items}
        changed._old, changed._recent = self._old, {**kept, **items}
        if len(changed._recent) > RECENT:
            changed._old, changed._recent = dict(changed.items()), {}
        return changed

    def __getitem__(self, key: K) -> V:
        return self._recent[key] if key in self._recent else self._old[key]

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._old if key not in self._recent)
        yield from self._recent

    def __len__(self) -> int:
        return len(self._old) + sum(key not in self._old for key in self._recent)

    def __repr__(self) -> str:
        return f"Layered({dict(self)!r})"
