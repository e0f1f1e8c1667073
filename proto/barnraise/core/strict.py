"""Frozen pydantic models that refuse unknown keys and suggest what was meant."""

from __future__ import annotations

import difflib
import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from barnraise.core.errors import BarnraiseError
from barnraise.core.ids import HASH_PATTERN
from barnraise.core.suggestions import Synonyms, setting_path, suggest

Hex64 = Annotated[str, Field(pattern=HASH_PATTERN)]
"""A field with 64 lower-case hex digits: a SHA-256, or a public key."""

MAX_TEXT = 4096
"""Characters of a text in a spec: as many as the longest path has."""
Text = Annotated[str, Field(max_length=MAX_TEXT)]
"""A path, a name or a licence. Other programs' logs and pages have it."""


class Strict(BaseModel):
    """Base of every model that is read from a file or from the wire."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


_ITEM = re.compile(r"\.(\d+)(?=\.|$)")
"""An index, as pydantic counts it, into a list or an array of tables."""

_TYPES = {
    "bool_type": "should be true or false",
    "float_type": "should be a number",
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "list_type": "should be a list",
    "string_type": "should be text in quotes",
    "tuple_type": "should be a list",
}
"""TOML's words for the types that pydantic's errors name as JSON does."""

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
    location = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    path, kind, context = setting_path(model, location), problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key `{_shown(path)}` ({suggest(model, location, synonyms)})"
    if kind == "union_tag_not_found":
        return f"`{_shown(path)}.kind` is missing"
    if kind == "missing":
        return f"`{_shown(path)}` is missing"
    if kind == "union_tag_invalid":
        return f"`{_shown(path)}.kind`: {_choice(context['expected_tags'], context['tag'])}"
    if kind == "literal_error":
        return f"`{_shown(path)}`: {_choice(context['expected'], problem['input'])}"
    return _described(path, problem)


def _described(path: str, problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    words = _TYPES.get(problem["type"], message[:1].lower() + message[1:])
    value = problem.get("input")
    if problem["type"] == "model_type":
        words = f"should be a table, which begins with [{_shown(path)}]"
    found = "" if isinstance(value, dict) else f" (found {value!r:.80})"
    return f"`{_shown(path)}`: {words}{found}" if path else words


def _choice(expected: str, found: object) -> str:
    """expected: the choices, each in quotes."""
    near = difflib.get_close_matches(str(found), re.findall(r"'([^']*)'", expected), n=1)
    return f"should be {expected} (found {found!r:.80}{f'; did you mean {near[0]!r}?' if near else ''})"


def _shown(path: str) -> str:
    return _ITEM.sub(lambda item: f" #{int(item[1]) + 1}", path)
