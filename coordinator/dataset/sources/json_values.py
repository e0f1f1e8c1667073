"""Decodes JSON values, and notices what Python's `json` would drop without a word."""

from __future__ import annotations

import json
from typing import Any

from coordinator.dataset.rows.field_values import shown
from coordinator.dataset.rows.row import BadRow


class JsonValues:
    """A decoder of one reader. NaN, which pandas writes for a missing value, becomes null."""

    def __init__(self) -> None:
        self._twice: str | None = None
        decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=_constant)
        self.decode, self.raw_decode = decoder.decode, decoder.raw_decode

    def take_twice(self) -> str | None:
        """The name of a field that an object has had twice since the last call; its first value is lost."""
        twice, self._twice = self._twice, None
        return twice

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            self._twice = next(name for name in names if names.count(name) > 1)
        return found


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def unwrapped(value: Any, values: JsonValues) -> Any:
    """The object or list in a string of JSON: some rows are encoded twice. Other values unchanged."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return values.decode(value)
    except (ValueError, RecursionError):
        return value


def names_twice(where: str, name: str) -> BadRow:
    """The row at `where`, an object of which names a field twice."""
    return BadRow(where, f"an object has the field `{shown(name)}` twice", "Keep one of the two.")
