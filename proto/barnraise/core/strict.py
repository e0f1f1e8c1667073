"""Frozen pydantic models that refuse unknown keys and suggest the near one."""

from __future__ import annotations

import difflib
import json
import types
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from barnraise.core.errors import BarnraiseError


class Strict(BaseModel):
    """Base of everything that is read from a file or from the wire."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


M = TypeVar("M", bound=Strict)


def parse_table(model: type[M], table: dict[str, Any], error: type[BarnraiseError], where: str) -> M:
    """Validate `table` as `model`.

    Raises `error` with one line per fault, in the words of the file, and the nearest known key.
    """
    try:
        # By way of JSON: TOML's lists and integers then fill tuples and floats, and nothing laxer does.
        return model.model_validate_json(json.dumps(table, default=str))
    except ValidationError as invalid:
        faults = [_describe(model, fault) for fault in invalid.errors(include_url=False)]
        raise error(
            f"{where}: " + "; ".join(faults), fix=f"Correct {where} and run the command again."
        ) from None


def _describe(model: type[BaseModel], fault: Any) -> str:
    path = [str(part) for part in fault["loc"] if not str(part).startswith("function-")]
    name = ".".join(path) or "the whole"
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key `{name}` ({hint})"
    if fault["type"] == "union_tag_not_found":
        return f"`{name}.kind` is missing"
    if fault["type"] == "missing":
        return f"`{name}` is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"`{name}`: {message[:1].lower()}{message[1:]} (found {fault.get('input')!r:.80})"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The field names at `path`, walking nested models and tagged unions by their tag's name."""
    candidates: list[type[BaseModel]] = [model]
    for part in path:
        nested = [
            inner
            for candidate in candidates
            if part in candidate.model_fields
            for inner in _models_in(candidate.model_fields[part].annotation)
        ]
        if nested:
            candidates = nested
        else:  # the tag that pydantic puts into the path of a discriminated union
            tagged = [m for m in candidates if _has_tag(m, part)]
            candidates = tagged or candidates
    return sorted({name for candidate in candidates for name in candidate.model_fields})


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return [model for inner in get_args(annotation) for model in _models_in(inner)]
    if hasattr(annotation, "__metadata__"):
        return _models_in(get_args(annotation)[0])
    return []
