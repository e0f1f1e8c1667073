"""Messages as chat templates read them, and which of their fields a template writes.

Templates ignore what they do not know. What a template ignores is found by rendering the chat without it:
the text is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coordinator.dataset.records import Chat, Message
from coordinator.dataset.rendering.chat_templates import REFUSALS, ChatTemplate, Turn
from coordinator.dataset.rows.row import Unusable

Tools = Sequence[dict[str, Any]]
Edit = Callable[[dict[str, Any]], dict[str, Any]]

PROBE = "?"
"""Stands in for a text that a template may or may not write."""


def turns_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages in OpenAI's form; keys without a value are left out, because templates test for them."""
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.tool_calls:
        turn["tool_calls"] = [dict(call) for call in message.tool_calls]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.name:
        turn["name"] = message.name
    return turn


def tools_of(chat: Chat) -> list[dict[str, Any]]:
    """The tools of a chat, for `tools=` of a template."""
    return [dict(tool) for tool in chat.tools]


def accepted_turns(template: ChatTemplate, turns: list[dict[str, Any]], tools: Tools) -> list[dict[str, Any]]:
    """The turns in the form that the template takes. Raises one of REFUSALS where it takes none.

    Templates differ in whether they know the role `developer`, read a call's arguments as an object or as
    JSON, and prescribe the form of its id.
    """
    if not _has_calls(turns) and all(turn["role"] != "developer" for turn in turns):
        return turns
    refusal: Exception | None = None
    for form in _forms(turns):
        try:
            text = template.apply(form, tools)
        except REFUSALS as error:
            # Of `developer` and `system`, the words on `system` are those that help.
            refusal = error if refusal is None or not _has_calls(turns) else refusal
            continue
        if all(_is_written(turn, text) for turn in form if turn["role"] == "developer"):
            return form
    if refusal is not None:
        raise refusal
    return turns


def _forms(turns: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    yield turns
    has_developer = any(turn["role"] == "developer" for turn in turns)
    named = [{**turn, "role": "system"} if turn["role"] == "developer" else turn for turn in turns]
    if has_developer:
        yield named
    if _has_calls(turns):
        yield [_edit_calls(turn, _with_json_arguments) for turn in named]
        yield [_with_short_ids(turn) for turn in named]


def _has_calls(turns: Sequence[Turn]) -> bool:
    return any(turn.get("tool_calls") for turn in turns)


def _edit_calls(turn: dict[str, Any], edit: Edit) -> dict[str, Any]:
    calls = turn.get("tool_calls")
    return {**turn, "tool_calls": [edit(call) for call in calls]} if calls else turn


def _with_json_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}}


def _with_short_ids(turn: dict[str, Any]) -> dict[str, Any]:
    """The turn with ids of 9 letters and digits, as Mistral's templates require."""
    if turn.get("tool_call_id"):
        turn = {**turn, "tool_call_id": _short_id(turn["tool_call_id"])}
    return _edit_calls(turn, lambda call: {**call, "id": _short_id(str(call.get("id", "")))})


def _short_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:9]


_MAY_BE_LOST = frozenset({"system", "tools", "reasoning_content", "name", "tool_call_id"})
"""Fields without which a chat still has a meaning: they are counted."""


def ignored_fields(template: ChatTemplate, turns: Sequence[Turn], tools: Tools, text: str) -> tuple[str, ...]:
    """The fields of a chat that are not in its rendered text, each as often as it is ignored.

    Raises Unusable where the chat means nothing without such a field: a tool's call or its result, a
    question or an answer.
    """
    ignored = list(_ignored(template, turns, tools, text))
    lost = [field for field in ignored if field not in _MAY_BE_LOST]
    if lost:
        raise Unusable(
            f"the chat template does not write `{lost[0]}`, so the chat would lose it",
            fix="Choose a template that writes it by `chat_template` under [data] in run.toml, or remove "
            "these rows.",
        )
    return tuple(ignored)


def _ignored(template: ChatTemplate, turns: Sequence[Turn], tools: Tools, text: str) -> Iterator[str]:
    if tools and _same(template, turns, (), text):
        yield "tools"
    unwritten = _unwritten(turns, text)
    for k, turn in enumerate(turns):
        if turn.get("reasoning_content") and _same(
            template, _edited(turns, k, _without("reasoning_content")), tools, text
        ):
            yield "reasoning_content"
        for key in ("name", "tool_call_id"):
            if turn.get(key) and _same(template, _edited(turns, k, _without(key)), tools, text):
                yield key
        for number in range(len(turn.get("tool_calls", ()))):
            if _same(template, _edited(turns, k, _without_name(number)), tools, text):
                yield "tool_calls"
        if k in unwritten:
            yield from _ignored_content(template, turns, k, tools, text)


def _ignored_content(
    template: ChatTemplate, turns: Sequence[Turn], k: int, tools: Tools, text: str
) -> Iterator[str]:
    """The name of turn k's content where the text does not depend on it."""
    role = turns[k]["role"]
    if _same(template, _edited(turns, k, lambda turn: {**turn, "content": PROBE}), tools, text):
        yield "system" if role in ("system", "developer") else f"content of {role}"
    elif role == "assistant" and "</think>" in turns[k]["content"]:
        yield "reasoning_content"  # the template removes it from the content of earlier turns


def _unwritten(turns: Sequence[Turn], text: str) -> set[int]:
    """The numbers of the turns whose content is not in the text.

    Each is first searched for behind the one before: from the start, the time grows by the square of the
    chat.
    """
    found: set[int] = set()
    place = 0
    for k, turn in enumerate(turns):
        at = text.find(turn["content"].strip(), place)
        if at >= 0:
            place = at
        elif not _is_written(turn, text):
            found.add(k)
    return found


def _is_written(turn: Turn, text: str) -> bool:
    return turn["content"].strip() in text


def _same(template: ChatTemplate, turns: Sequence[Turn], tools: Tools, text: str) -> bool:
    try:
        return template.apply(turns, tools) == text
    except REFUSALS:
        return False


def _edited(turns: Sequence[Turn], k: int, edit: Edit) -> list[Turn]:
    return [*turns[:k], edit(dict(turns[k])), *turns[k + 1 :]]


def _without(key: str) -> Edit:
    return lambda turn: {name: value for name, value in turn.items() if name != key}


def _without_name(number: int) -> Edit:
    """Replaces the name of the function of one call."""

    def edit(turn: dict[str, Any]) -> dict[str, Any]:
        calls = list(turn["tool_calls"])
        calls[number] = {**calls[number], "function": {**calls[number].get("function", {}), "name": PROBE}}
        return {**turn, "tool_calls": calls}

    return edit
