"""Tools and calls of tools, in the forms of OpenAI, LLaMA-Factory and the Hub's datasets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.dataset.rows.field_values import from_json, is_filled, kind
from coordinator.dataset.rows.row import Unusable

_FIX_TOOL = 'Write each tool as OpenAI does: `{"type": "function", "function": {"name": …}}`.'
_FIX_CALL = "Write each call with a `name`, and with `arguments` as an object or as JSON of one."


def tools_of(value: object, name: str) -> tuple[Mapping[str, Any], ...]:
    """The tools of a `tools` or `functions` field, each in OpenAI's form.

    A bare schema (`{"name": …, "parameters": …}`) gets its wrapper. Raises Unusable.
    """
    if not is_filled(value):
        return ()
    several = _several(from_json(value, name), name)
    return tuple(_tool(from_json(tool, f"{name}[]"), name) for tool in several)


def _tool(tool: object, name: str) -> Mapping[str, Any]:
    if isinstance(tool, Mapping):
        if isinstance(tool.get("function"), Mapping):
            return {"type": "function", **tool}
        if isinstance(tool.get("name"), str):
            function = {key: value for key, value in tool.items() if key != "type"}
            return {"type": "function", "function": function}
    raise Unusable(f"`{name}` has {kind(tool)} that names no function", fix=_FIX_TOOL)


def calls_of(value: object, name: str) -> tuple[Mapping[str, Any], ...]:
    """The calls of a `tool_calls` or `function_call` field, in OpenAI's form; `arguments` is an object.

    Raises Unusable.
    """
    if not is_filled(value):
        return ()
    several = _several(from_json(value, name), name)
    return tuple(_call(from_json(call, f"{name}[]"), name) for call in several)


def _call(call: object, name: str) -> Mapping[str, Any]:
    if not isinstance(call, Mapping):
        raise Unusable(f"`{name}` has {kind(call)} instead of a call", fix=_FIX_CALL)
    inner = call.get("function")
    if isinstance(inner, Mapping):
        return {"type": "function", **call, "function": _function(inner, name)}
    return {"type": "function", "function": _function(call, name)}


def _function(called: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(called.get("name"), str) or not called["name"]:
        raise Unusable(f"a call in `{name}` has no `name`", fix=_FIX_CALL)
    key = "arguments" if "arguments" in called else "parameters"
    given = called.get(key)
    arguments = given
    for _ in range(2):  # some programs write JSON of JSON
        arguments = from_json(arguments, f"{name}[].{key}") if is_filled(arguments) else {}
    if not isinstance(arguments, Mapping):
        raise Unusable(f"`{key}` of a call in `{name}` is {kind(arguments)}", fix=_FIX_CALL)
    rest = {field: value for field, value in called.items() if field not in (key, "type")}
    return {**rest, "arguments": arguments}


def _several(value: object, name: str) -> Sequence[object]:
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return value
    raise Unusable(f"`{name}` is {kind(value)}, not a list", fix="Write a list of objects.")
