"""The messages of a conversation, in the forms of OpenAI, ShareGPT, LLaMA-Factory and others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.dataset.records import Message
from coordinator.dataset.rows.field_values import (
    MEDIA,
    all_text,
    as_json,
    fields_of,
    from_json,
    holds_json,
    is_filled,
    kind,
    shown,
    string,
    text_alone,
    text_and_thoughts,
)
from coordinator.dataset.rows.row import Unusable
from coordinator.dataset.rows.tool_fields import calls_of

ROLES = {
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "model", "chatgpt", "bot", "chatbot", "ai", "bing", "bard"), "assistant"
    ),
    **dict.fromkeys(
        ("tool", "function", "ipython", "observation", "tool_response", "tool_result", "function_response"),
        "tool",
    ),
}
"""Names of roles, in lower case, and the role that each means."""
CALLS = frozenset({"function_call", "tool_call"})
"""Roles of turns of the assistant whose text is a call, or a list of calls, in JSON."""
REASONING = (
    *("reasoning_content", "reasoning", "thinking", "thinking_blocks"),
    *("thought", "cot", "complex_cot", "chain_of_thought"),
)
"""Fields of what the assistant thinks before it answers; the first that is filled counts."""
_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text", "parts")
_WEIGHTS = ("weight", "train", "training", "loss", "train_on_turn", "loss_weight", "loss_mask", "trainable")
"""Fields that say whether a turn is trained on."""
_MASKED = "masked"
"""The field that says whether a turn is not trained on."""
_UNCLEAR = "mask"
"""Programs differ in whether they train on what it is 1 for."""
_WRITTEN_WEIGHTS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "false": 0, "true": 1}
_SPANS = ("train_detail", "training_detail")
"""Fields that say it of parts of a turn."""
_ASKED = ("user", "human", "input", "question", "prompt", "instruction")
_ANSWERED = ("assistant", "bot", "gpt", "output", "answer", "response")
_KNOWN = {*REASONING, *_WEIGHTS, _MASKED, "name", "tool_calls", "function_call", "tool_call_id"}


def is_turns(value: object) -> bool:
    """Whether a value is a list of objects that have a role."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)


def conversation(value: object, field: str, ignored: list[str]) -> tuple[Message, ...]:
    """The messages of a field: a list of turns, one turn, or JSON of either.

    ignored: gets the names of the turns' fields that have no meaning here. Raises Unusable.
    """
    if isinstance(value, str) and not holds_json(value):
        raise Unusable(f"`{field}` is text, not a list of messages", fix="Write a list of messages.")
    turns = from_json(value, field)
    if isinstance(turns, Mapping):
        turns = _columns(turns, field, ignored) or [turns]
    if not isinstance(turns, list | tuple):
        raise Unusable(f"`{field}` is {kind(turns)}, not a list", fix="Write a list of messages.")
    messages: list[Message] = []
    for turn in turns:
        plain = _plain(turn)
        if plain is not None:
            messages.append(plain)
            continue
        if isinstance(turn, str) and holds_json(turn):
            turn = from_json(turn, f"{field}[]")
        for message in _messages(turn, field, ignored):
            _append(messages, message)
    return tuple(messages)


def _columns(turns: Mapping[str, Any], field: str, ignored: list[str]) -> list[Mapping[str, Any]]:
    """The turns of an object of lists, one for each field, as the Hub's datasets may store them."""
    if not any(isinstance(turns.get(key), list) for key in _ROLE_KEYS):
        return []
    lists = {key: values for key, values in turns.items() if isinstance(values, list)}
    if len({len(values) for values in lists.values()}) != 1:
        raise Unusable("the lists of a conversation differ in length", fix="Write a list of messages.")
    ignored += [f"{field}.{shown(key)}" for key in turns if key not in lists and is_filled(turns[key])]
    return [dict(zip(lists, turn, strict=True)) for turn in zip(*lists.values(), strict=True)]


def _plain(turn: object) -> Message | None:
    """A turn of nothing but role and text, which most are; None for others."""
    if type(turn) is not dict or len(turn) != 2:
        return None
    role, content = turn.get("role"), turn.get("content")
    if role is None:
        role, content = turn.get("from"), turn.get("value")
    known = ROLES.get(role) if type(role) is str else None
    return Message(known, content) if known is not None and type(content) is str else None


def _append(messages: list[Message], message: Message) -> None:
    """Add a message; a turn that only calls a tool joins the calls before it, which run in parallel.

    Calls replace an empty turn before them, which some programs write for the text that is missing.
    """
    last = messages[-1] if messages else None
    if last and last.tool_calls and message.tool_calls and not (message.content or message.reasoning):
        messages[-1] = last._replace(tool_calls=last.tool_calls + message.tool_calls)
    elif last and message.tool_calls and last.role == "assistant" and not (last.content or last.reasoning):
        messages[-1] = message
    else:
        messages.append(message)


def _messages(turn: object, field: str, ignored: list[str]) -> Iterator[Message]:
    """The messages of a turn that holds more than role and text, or two of them."""
    if not isinstance(turn, Mapping):
        raise Unusable(f"`{field}` has {kind(turn)} instead of a message", fix="Write each as an object.")
    role_key = next((key for key in _ROLE_KEYS if turn.get(key) is not None), None)
    if role_key is not None:
        yield _message(turn, role_key, field, ignored)
        return
    if len(turn) == 1 and (role := ROLES.get(shown(next(iter(turn))).lower())):
        yield Message(role, string(next(iter(turn.values())), f"{field}[].{shown(next(iter(turn)))}"))
        return
    asked = next((key for key in _ASKED if turn.get(key) is not None), None)
    answered = next((key for key in _ANSWERED if turn.get(key) is not None), None)
    if asked is None or answered is None:
        raise Unusable(
            f"a message in `{field}` has no `role`; it has: {_given(turn)}",
            fix="Give every message `role` and `content`.",
        )
    if is_filled(turn.get("system")):
        yield Message("system", string(turn["system"], f"{field}[].system"))
    yield Message("user", string(turn[asked], f"{field}[].{asked}"))
    yield Message(
        "assistant",
        string(turn[answered], f"{field}[].{answered}"),
        reasoning=_reasoning(turn, field, ignored),
        trained=_is_trained(turn, "assistant", field, ignored),
    )
    _note(turn, {asked, answered, "system", *REASONING, *_WEIGHTS, _MASKED}, field, ignored)


def _message(turn: Mapping[str, Any], role_key: str, field: str, ignored: list[str]) -> Message:
    given = shown(turn[role_key]).lower()
    role = "assistant" if given in CALLS else ROLES.get(given)
    if role is None:
        raise Unusable(f"unknown role `{shown(turn[role_key])}`", fix=f"Use one of: {', '.join(ROLES)}.")
    content_key = next((key for key in _CONTENT_KEYS if turn.get(key) is not None), "content")
    content, calls, thoughts = turn.get(content_key), _calls(turn, field, ignored), ""
    if given in CALLS:
        written = calls_of(content, f"{field}[].{content_key}")
        calls, text = (written if calls == written else written + calls), ""
    elif role == "tool" and not isinstance(content, str):
        text = _result(content, f"{field}[].{content_key}", ignored)
    elif content is None and role == "assistant" and (calls or any(map(turn.get, REASONING))):
        text = ""
    elif content is None:
        raise Unusable(
            f"a message in `{field}` has no `content`; it has: {_given(turn)}",
            fix="Give every message `role` and `content`.",
        )
    else:
        text, thoughts = text_and_thoughts(content, f"{field}[].{content_key}", ignored)
    if calls and role != "assistant":
        raise Unusable(f"a message of the role `{role}` calls tools", fix="Only the assistant can.")
    _note(turn, {role_key, content_key, *_KNOWN}, field, ignored)
    reasoning = _reasoning(turn, field, ignored)
    if thoughts and reasoning not in ("", thoughts):
        ignored.append(f"{field}[].{content_key}[].thinking")
    reasoning = reasoning or thoughts
    if reasoning and role != "assistant":
        key = next((key for key in REASONING if turn.get(key)), f"{content_key}[].thinking")
        ignored.append(f"{field}[].{key} of a {role}")
        reasoning = ""
    return Message(
        role,
        text,
        reasoning=reasoning,
        tool_calls=calls,
        tool_call_id=string(turn.get("tool_call_id") or "", f"{field}[].tool_call_id"),
        name=string(turn.get("name") or "", f"{field}[].name"),
        trained=_is_trained(turn, role, field, ignored),
    )


def _given(turn: Mapping[str, Any]) -> str:
    return fields_of({key: value for key, value in turn.items() if value is not None})


def _calls(turn: Mapping[str, Any], field: str, ignored: list[str]) -> tuple[Mapping[str, Any], ...]:
    calls = calls_of(turn.get("tool_calls"), f"{field}[].tool_calls")
    if calls and is_filled(turn.get("function_call")):
        ignored.append(f"{field}[].function_call")
    return calls or calls_of(turn.get("function_call"), f"{field}[].function_call")


def _result(content: object, name: str, ignored: list[str]) -> str:
    """The result of a tool as text: its text parts, or the value in JSON."""
    if content is None:
        return ""
    parts = content if isinstance(content, list | tuple) else ()
    if any(isinstance(part, Mapping) and "type" in part for part in parts):
        return text_alone(content, name, ignored)
    return as_json(content)


def _reasoning(turn: Mapping[str, Any], field: str, ignored: list[str]) -> str:
    """The reasoning of the first field that has any. The same in a second field is not counted as unused."""
    given = [key for key in REASONING if turn.get(key)]
    if not given:
        return ""
    ignored += [f"{field}[].{key}" for key in given[1:] if turn[key] != turn[given[0]]]
    return all_text(turn[given[0]], f"{field}[].{given[0]}", ignored)


def _is_trained(turn: Mapping[str, Any], role: str, field: str, ignored: list[str]) -> bool:
    """Whether the turn's weights, if any, let it be trained on. Raises Unusable for one between 0 and 1."""
    _check_weights(turn, field)
    trained = True
    for key in (*_WEIGHTS, _MASKED):
        weight = turn.get(key)
        if weight is None:
            continue
        if isinstance(weight, str):
            weight = _WRITTEN_WEIGHTS.get(weight.lower(), weight)
        if weight not in (0, 1):
            raise Unusable(
                f"`{field}[].{key}` is {shown(weight)}", fix="A message is trained on or not: write 1 or 0."
            )
        if key == _MASKED:
            weight = not weight
        trained = trained and bool(weight)
        if weight and role != "assistant":
            ignored.append(f"{field}[].{key} of a {role}")
    return trained


def _check_weights(turn: Mapping[str, Any], field: str) -> None:
    """Raises Unusable for fields that say what is trained on in a way that cannot be followed."""
    for key in _SPANS:
        if is_filled(turn.get(key)):
            raise Unusable(
                f"`{field}[].{key}` marks parts of a message",
                fix="Only whole messages can be trained on or not: give them `train`.",
            )
    if turn.get(_UNCLEAR) is not None:
        raise Unusable(
            f"`{field}[].{_UNCLEAR}` does not say whether 1 is trained on",
            fix="Name it `train`: true is trained on, false is not.",
        )


def _note(turn: Mapping[str, Any], used: set[str], field: str, ignored: list[str]) -> None:
    """Note the fields that have no meaning. Raises Unusable for one that changes the meaning of the turn."""
    for key, value in turn.items():
        if key not in used and is_filled(value):
            if key in MEDIA:
                raise Unusable(f"`{field}[].{key}` is no text", fix="Only text can be trained on.")
            if key not in _SPANS:
                ignored.append(f"{field}[].{shown(key)}")
