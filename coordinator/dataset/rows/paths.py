"""The field that `text_field` names, where a dot leads into an object. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coordinator.dataset.rows.field_values import from_json, holds_json, kind, shown

ABSENT = object()
"""What `lookup` gives for a field that a row lacks."""


def unfolded(row: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """The row with the objects on a path as such, where they are JSON in a string."""
    if not path:
        return row
    inner = row.get(path[0])
    if isinstance(inner, str) and holds_json(inner):
        inner = from_json(inner, path[0])
    return {**row, path[0]: unfolded(inner, path[1:])} if isinstance(inner, Mapping) else row


def obstacle(row: Mapping[str, Any], name: str) -> str:
    """What a path leads into that is no object, for messages; empty where a part of it is merely absent."""
    inside: Any = row
    path = path_of(row, name)
    for depth, part in enumerate(path):
        if not isinstance(inside, Mapping):
            return f" (`{'.'.join(path[:depth])}` is {kind(inside)})"
        if part not in inside:
            return ""
        inside = inside[part]
    return ""


def lookup(row: Mapping[str, Any], name: str) -> object:
    """The field `name` of a row, where a dot leads into an object; a marker when it is absent."""
    found: object = row
    for part in path_of(row, name):
        if not isinstance(found, Mapping) or part not in found:
            return ABSENT
        found = found[part]
    return found


def path_of(row: Mapping[str, Any], name: str) -> list[str]:
    """The names of the fields that lead to `name`; one of a field's own that contains dots comes first."""
    return [name] if name in row else name.split(".")


def siblings(row: Mapping[str, Any], path: Sequence[str]) -> Iterator[str]:
    """The filled fields next to each part of a path."""
    inside: Any = row
    for depth, part in enumerate(path):
        for key in filled_names(inside):
            if key != part:
                yield shown(".".join([*path[:depth], str(key)]))
        inside = inside[part]


def filled_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the fields that hold anything."""
    return tuple([key for key, field in row.items() if field or field == 0])
