"""An immutable sequence that is cheap to extend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

T = TypeVar("T")


class AppendOnly(Sequence[T]):
    """Immutable. A longer sequence that `extended` returns shares the items of the shorter one.

    Extending a tuple copies it: a restart that applies n closes would copy n²/2 items. Any thread may read;
    one thread at a time calls `extended`.
    """

    __slots__ = ("_items", "_length")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = list(items)
        self._length = len(self._items)

    def extended(self, item: T) -> AppendOnly[T]:
        """This sequence and `item`."""
        newest = self._length == len(self._items)  # else another sequence was made from this one
        longer = AppendOnly[T]()
        longer._items = self._items if newest else list(self)
        longer._items.append(item)
        longer._length = self._length + 1
        return longer

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        places = range(self._length)[index]
        if isinstance(places, range):
            return tuple(self._items[place] for place in places)
        return self._items[places]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return islice(self._items, self._length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"AppendOnly({list(self)!r})"
