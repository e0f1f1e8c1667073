"""Frozen pydantic models that refuse unknown keys and suggest what was meant."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from barnraise.core.errors import BarnraiseError
from barnraise.core.ids import HASH_PATTERN
from barnraise.core.suggestions import Synonyms, suggest

Hex64 = Annotated[str, Field(pattern=HASH_PATTERN)]
"""A field with 64 lower-case hex digits: a SHA-256, or a public key."""


class Strict(BaseModel):
    """Base of every model that is read from a file or from the wire."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


_ITEM = re.compile(r"\.(\d+)(?=\.|$)")
"""An index, as pydantic counts it, into a list or an array of tables."""

M = TypeVar("M", bound=Strict)


def parse_table(
    model: type[M],
    table: dict[str, Any],
    error: type[BarnraiseError],
    where: str,
    synonyms: Synonyms | None = None,
) -> M:
    """Validate `table` as `model`.

    Raises `error`, which names every invalid key by its path and suggests a known key for an unknown one.
    """
    try:
        # By way of JSON: TOML's lists and integers then fill tuples and floats, and nothing laxer does.
        return model.model_validate_json(json.dumps(table, default=str))
    except ValidationError as invalid:
        problems = [_describe(model, each, synonyms or {}) for each in invalid.errors(include_url=False)]
        raise error(
            f"{where}: " + "; ".join(problems), fix=f"Correct {where} and run the command again."
        ) from None


def _describe(model: type[BaseModel], problem: Any, synonyms: Synonyms) -> str:
    path = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    name = _ITEM.sub(lambda item: f" #{int(item[1]) + 1}", ".".join(path)) or "the whole"
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{name}` ({suggest(model, path, synonyms)})"
    if problem["type"] == "union_tag_not_found":
        return f"`{name}.kind` is missing"
    if problem["type"] == "missing":
        return f"`{name}` is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"`{name}`: {message[:1].lower()}{message[1:]} (found {problem.get('input')!r:.80})"
