"""What an unknown key in a file probably means: "did you mean ...?" """

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

Synonyms = Mapping[str, Sequence[str]]
"""Full paths of settings, such as `train.inner.lr`, by the name that other tools use. The first is the most
likely; one in the table where the name was found comes before it."""

CLOSE = 0.85
"""Similarity from which a misspelled synonym counts (difflib's ratio)."""


def suggest(model: type[BaseModel], path: Sequence[str], synonyms: Synonyms) -> str:
    """A hint for the unknown key at `path`, as pydantic locates it, in a file that `model` describes."""
    key = path[-1]
    table, models = _table_at(model, path[:-1])
    known = sorted({name for each in models for name in each.model_fields})
    misspelled = difflib.get_close_matches(key, synonyms, n=1, cutoff=CLOSE)
    near = difflib.get_close_matches(key, [*known, *misspelled], n=1)
    elsewhere = [found for found in setting_paths(model) if found.rpartition(".")[2] == key]
    if key in synonyms:
        return _meant([_preferred(synonyms[key], table, known)])
    if near and near[0] in known:
        return _meant(near)
    if _joined(table, key) in elsewhere:
        return f"it belongs to another kind of `{table}`; known keys: {', '.join(known)}"
    if elsewhere:
        return _meant(elsewhere)
    if misspelled:
        return _meant([_preferred(synonyms[misspelled[0]], table, known)])
    return f"known keys: {', '.join(known)}"


def setting_path(model: type[BaseModel], location: Sequence[str]) -> str:
    """The path of the setting at `location`, as pydantic gives it, without tags of discriminated unions."""
    path: list[str] = []
    models = [model]
    for part in location:
        nested = [inner for each in models for inner in _field_models(each, part)]
        if any(part in each.model_fields for each in models):
            path.append(part)
            models = nested
        elif tagged := [each for each in models if _has_tag(each, part)]:
            models = tagged
        else:
            path.append(part)
    return ".".join(path)


def setting_paths(model: type[BaseModel], table: str = "") -> list[str]:
    """The full path of every setting and table below `model`, each once."""
    found: dict[str, None] = {}
    for name, field in model.model_fields.items():
        path = _joined(table, name)
        found[path] = None
        for inner in _models_in(field.annotation):
            found.update(dict.fromkeys(setting_paths(inner, path)))
    return list(found)


def _meant(paths: Sequence[str]) -> str:
    return f"did you mean {' or '.join(f'`{path}`' for path in paths)}?"


def _preferred(paths: Sequence[str], table: str, known: Sequence[str]) -> str:
    """The setting of this table, by its name alone; else the first, by its full path."""
    names = [path.rpartition(".")[2] for path in paths if path.rpartition(".")[0] == table]
    return next((name for name in names if name in known), paths[0])


def _joined(table: str, name: str) -> str:
    return f"{table}.{name}" if table else name


def _table_at(model: type[BaseModel], location: Sequence[str]) -> tuple[str, list[type[BaseModel]]]:
    """The path of the table at `location`, and the models that describe it.

    In `location`, pydantic puts the tag of a discriminated union behind its name; a path has no tags.
    """
    table, models = "", [model]
    for part in location:
        nested = [inner for each in models for inner in _field_models(each, part)]
        if nested:
            table, models = _joined(table, part), nested
        else:
            models = [each for each in models if _has_tag(each, part)] or models
    return table, models


def _field_models(model: type[BaseModel], name: str) -> Iterator[type[BaseModel]]:
    if name in model.model_fields:
        yield from _models_in(model.model_fields[name].annotation)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in a field's type: in unions, lists and `Annotated` too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return [model for inner in get_args(annotation) for model in _models_in(inner)]
    if hasattr(annotation, "__metadata__"):
        return _models_in(get_args(annotation)[0])
    return []
