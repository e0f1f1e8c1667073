"""Messages as chat templates read them, and which of their fields a template writes.

Templates ignore what they do not know. What a template ignores is found by rendering the chat without it:
the text is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coordinator.dataset.chat_templates import REFUSALS, ChatTemplate, Turn
from coordinator.dataset.records import Chat, Message
from coordinator.dataset.rows import Unusable

Tools = Sequence[dict[str, Any]]
Edit = Callable[[dict[str, Any]], dict[str, Any]]

PROBE = "?"


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


def with_known_roles(
    template: ChatTemplate, turns: list[dict[str, Any]], tools: Tools
) -> list[dict[str, Any]]:
    """The turns, with `developer` renamed to `system` where the template rejects or ignores that role."""
    if all(turn["role"] != "developer" for turn in turns):
        return turns
    try:
        text = template.apply(turns, tools)
        if all(_is_written(turn, text) for turn in turns if turn["role"] == "developer"):
            return turns
    except REFUSALS:
        pass  # as `system`
    return [{**turn, "role": "system"} if turn["role"] == "developer" else turn for turn in turns]


def ignored_fields(template: ChatTemplate, turns: Sequence[Turn], tools: Tools, text: str) -> tuple[str, ...]:
    """The fields of a chat that are not in its rendered text, each as often as it is ignored.

    Raises Unusable where the chat means nothing without such a field: a tool's call or its result, a
    question or an answer.
    """
    ignored = list(_ignored(template, turns, tools, text))
    lost = [field for field in ignored if field not in ("system", "tools", "reasoning_content")]
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
    for k, turn in enumerate(turns):
        if turn.get("reasoning_content") and _same(
            template, _edited(turns, k, _without("reasoning_content")), tools, text
        ):
            yield "reasoning_content"
        if turn.get("tool_calls") and _same(template, _edited(turns, k, _renamed_calls), tools, text):
            yield "tool_calls"
        if turn["content"].strip() and not _is_written(turn, text):
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


def _renamed_calls(turn: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {**call, "function": {**call.get("function", call), "name": PROBE}} for call in turn["tool_calls"]
    ]
    return {**turn, "tool_calls": calls}
