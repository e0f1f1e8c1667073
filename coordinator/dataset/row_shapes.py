"""Recognizes the record that a row holds, among the common shapes of a JSON object. Pure.

Shapes, tried in this order:

    {"messages": [{"role": "user", "content": "…"}, …]}
    {"conversations": [{"from": "human", "value": "…"}, …]}      ShareGPT
    {"instruction": "…", "input": "…", "output": "…"}            Alpaca; `input` may be missing
    {"prompt": "…", "completion": "…"}
    {TEXT_FIELD: "…"}                                             plain text
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.dataset.records import Chat, Message, Record, Text
from coordinator.dataset.rows import Unusable

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}


def record_of(row: object, text_field: str, where: str) -> Record:
    """Recognize the shape of `row`, which stands at `where`. Raises Unusable when it has none."""
    if isinstance(row, str):
        return Text(row, where)
    if not isinstance(row, Mapping):
        raise Unusable("is not a JSON object", fix="Write one object per record.")
    if row.get("messages") is not None:
        return _chat(row["messages"], "role", "content", where)
    if row.get("conversations") is not None:
        return _chat(row["conversations"], "from", "value", where)
    if _has(row, "instruction", "output"):
        return _alpaca(row, where)
    if _has(row, "prompt", "completion"):
        return _pair(_string(row["prompt"], "prompt", where), row, "completion", where)
    if row.get(text_field) is not None:
        return Text(_string(row[text_field], text_field, where), where)
    raise Unusable(
        f"has neither `messages`, `conversations`, `instruction` and `output`, "
        f"`prompt` and `completion`, nor `{text_field}`; it has: {', '.join(map(str, row)) or 'nothing'}",
        fix="Name the field that holds the text as `text_field` under [data] in run.toml.",
    )


def _has(row: Mapping[str, Any], question: str, answer: str) -> bool:
    return row.get(question) is not None and row.get(answer) is not None


def _alpaca(row: Mapping[str, Any], where: str) -> Chat:
    asked = _string(row["instruction"], "instruction", where)
    if row.get("input"):
        asked = f"{asked}\n\n{_string(row['input'], 'input', where)}"
    return _pair(asked, row, "output", where)


def _pair(asked: str, row: Mapping[str, Any], answer: str, where: str) -> Chat:
    answered = _string(row[answer], answer, where)
    return _checked(Chat((Message("user", asked), Message("assistant", answered)), where=where))


def _chat(turns: object, role_key: str, content_key: str, where: str) -> Chat:
    if not isinstance(turns, list | tuple):
        raise Unusable("the conversation is not a list", fix="Write a list of messages.")
    return _checked(Chat(tuple(_message(turn, role_key, content_key, where) for turn in turns), where=where))


def _message(turn: Any, role_key: str, content_key: str, where: str) -> Message:
    if not isinstance(turn, Mapping) or role_key not in turn or content_key not in turn:
        raise Unusable(f"a message lacks `{role_key}` or `{content_key}`", fix="Give every message both.")
    role = _ROLES.get(str(turn[role_key]).lower())
    if role is None:
        raise Unusable(
            f"unknown role `{turn[role_key]}`",
            fix=f"Use one of: {', '.join(sorted(_ROLES))}. Tool calls cannot be trained on yet.",
        )
    return Message(role, _string(turn[content_key], content_key, where))


def _checked(chat: Chat) -> Chat:
    """Raise Unusable unless a question comes before every answer and no answer is blank."""
    roles = [message.role for message in chat.messages]
    if "assistant" not in roles:
        raise Unusable("no assistant message to train on", fix="Remove the record.")
    if roles[0] == "assistant":
        raise Unusable("the assistant speaks first", fix="Put a user's message before it.")
    if any(message.role == "assistant" and not message.content.strip() for message in chat.messages):
        raise Unusable("an assistant message is blank", fix="Fill it in, or remove the record.")
    return chat


def _string(value: object, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"`{name}` is {type(value).__name__}, not text", fix="Write it as a string.")
    return value
