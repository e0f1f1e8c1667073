"""The settings of a model as tables, with the documentation in its docstrings. Pure.

run.toml (`coordinator.setup.template`) and docs/CONFIGURATION.md (`scripts.configuration`) are both made
from these tables, so that neither can lack a setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One key of a table."""

    name: str
    values: str
    """In words, such as "whole number, at least 1, at most 1,024"."""
    choices: tuple[str, ...]
    """As TOML; empty where the values are not enumerated."""
    default: str | None
    """As TOML; None where the setting is required, or where it is unset by default."""
    required: bool
    example: str | None
    """As TOML, for a setting that is unset by default."""
    summary: str
    """The first line of its documentation, one sentence."""
    details: str
    """The rest of its documentation."""


@dataclass(frozen=True)
class Table:
    """A table of settings: a nested model, or one variant of a tagged union."""

    path: str
    """As in TOML, such as `train.inner`; empty for the top level."""
    about: str
    settings: tuple[Setting, ...]
    kind: str | None = None
    """The value of `kind` that selects this variant; None for a table without variants."""
    chosen: bool = True
    """Whether it is the default variant."""
    array: bool = False
    """Whether it may stand several times, as `[[path]]`."""


def tables_of(model: type[BaseModel]) -> list[Table]:
    """The tables of `model` in the order of its fields, each before those inside it."""
    schema = model.model_json_schema()
    return list(_tables("", schema, "", schema.get("$defs", {})))


def as_toml(value: Any) -> str:
    """A string, number, boolean or list of these."""
    return json.dumps(value, ensure_ascii=False)


def _tables(path: str, schema: Schema, about: str, definitions: Schema) -> Iterator[Table]:
    properties = schema["properties"]
    nested = {
        name: each
        for name, each in properties.items()
        if "$ref" in each or "discriminator" in each or _is_array_of_tables(each)
    }
    plain = {name: each for name, each in properties.items() if name not in nested}
    settings = tuple(_setting(name, each, schema) for name, each in plain.items())
    yield Table(path, about or schema.get("description", ""), settings)
    for name, each in nested.items():
        inner = f"{path}.{name}" if path else name
        if "$ref" in each:
            definition = definitions[each["$ref"].rpartition("/")[2]]
            yield from _tables(inner, definition, each.get("description", ""), definitions)
        if _is_array_of_tables(each):
            definition = definitions[each["items"]["$ref"].rpartition("/")[2]]
            yield Table(inner, each.get("description", ""), _settings(definition), chosen=False, array=True)
        for kind, reference in _variants(each):
            definition = definitions[reference.rpartition("/")[2]]
            yield _variant(inner, kind, definition, kind == each["default"]["kind"])


def _variant(path: str, kind: str, definition: Schema, chosen: bool) -> Table:
    settings = tuple(each for each in _settings(definition) if each.name != "kind")
    return Table(path, definition["description"], settings, kind, chosen)


def _settings(definition: Schema) -> tuple[Setting, ...]:
    return tuple(_setting(name, each, definition) for name, each in definition["properties"].items())


def _is_array_of_tables(property: Schema) -> bool:
    return "$ref" in property.get("items", {})


def _variants(property: Schema) -> list[tuple[str, str]]:
    """(kind, reference to its model) of a tagged union, the default first."""
    mapping = property.get("discriminator", {}).get("mapping", {})
    return sorted(mapping.items(), key=lambda item: item[0] != property["default"]["kind"])


def _setting(name: str, property: Schema, table: Schema) -> Setting:
    summary, _, details = property.get("description", "").partition("\n")
    default = property.get("default")
    examples = property.get("examples", [])
    return Setting(
        name=name,
        values=_values(property),
        choices=tuple(as_toml(each) for each in _set_type(property).get("enum", ())),
        default=None if default is None else as_toml(default),
        required=name in table.get("required", ()),
        example=as_toml(examples[0]) if examples else None,
        summary=summary,
        details=details.replace("\n", " "),
    )


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}


def _values(property: Schema) -> str:
    """What a property may be, in words."""
    property = _set_type(property)
    if "enum" in property:
        return "one of " + ", ".join(f"`{as_toml(each)}`" for each in property["enum"])
    if property["type"] == "array":
        return f"list; each item: {_values(property['items'])}"
    if "pattern" in property:
        return f"text that matches `{property['pattern']}`"
    bounds = [f"{words} {property[name]:,}" for name, words in _BOUNDS.items() if name in property]
    return ", ".join([_TYPES[property["type"]], *bounds])


def _set_type(property: Schema) -> Schema:
    """Of a setting that may be unset (null): what it is otherwise."""
    return next((each for each in property.get("anyOf", ()) if each["type"] != "null"), property)


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}
