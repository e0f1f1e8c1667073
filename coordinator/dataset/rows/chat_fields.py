"""Chats from the fields of a row: messages, a question and its answer, or a preference. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from coordinator.dataset.records import Chat, Message, Text
from coordinator.dataset.rows.field_values import (
    all_text,
    as_json,
    check_characters,
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
from coordinator.dataset.rows.tool_fields import calls_of, tools_of
from coordinator.dataset.rows.turns import REASONING, conversation, is_turns

SYSTEMS = ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction")
TOOLS = ("tools", "functions")
_SYSTEM_ROLES = ("system", "developer")
COMPANIONS = frozenset({*SYSTEMS, *TOOLS})
"""Fields that are read in addition to the messages of every chat."""
CALLS = "answers"
"""Field of what answers a question: calls, in data sets of function calls, or texts, as in SQuAD."""
LABELS = ("label", "kto_tag")
"""Fields that say whether an answer is a good one."""
_GOOD = frozenset({"true", "1", "1.0", "yes", "good", "desirable", "chosen"})
_BAD = frozenset({"false", "0", "0.0", "no", "bad", "undesirable", "rejected"})
CONTEXTS = ("input", "context")
"""Fields that belong to a question: what it is about."""
PAIR_COMPANIONS = COMPANIONS | {*CONTEXTS, *REASONING, "history"}
"""Fields that are read in addition to a question and its answer."""
_CONTEXT_FIRST = frozenset({"question", "query", "problem"})
"""Questions that follow their context; instructions precede it, as Alpaca has it."""
_FIX_HISTORY = "Write pairs of question and answer."
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def chat(row: Mapping[str, Any], messages: tuple[Message, ...], where: str, ignored: list[str]) -> Chat:
    """A chat of `messages`, with the row's system prompt and tools. Raises Unusable."""
    if COMPANIONS.isdisjoint(row):
        found = Chat(messages, where=where)
        _check(found)
        return found
    tools: tuple[Mapping[str, Any], ...] = ()
    for name in TOOLS:
        if tools and is_filled(row.get(name)):
            ignored.append(name)
        tools = tools or tools_of(row.get(name), name)
    found = Chat(_with_system(row, messages, ignored), tools, where)
    _check(found)
    return found


def pair(row: Mapping[str, Any], question: str, answer: str, where: str, ignored: list[str]) -> Chat:
    """A chat of a question and its answer, after the row's `history`. Raises Unusable."""
    asked = _asked(row, question, ignored)
    messages = _continued(asked, question, _answered(row, answer, ignored), answer)
    return chat(row, messages, where, ignored)


def answer(
    row: Mapping[str, Any], asked: tuple[Message, ...], answered: str, where: str, ignored: list[str]
) -> Chat:
    """A chat of messages that end with a question, and its answer in another field. Raises Unusable."""
    return chat(row, (*map(_as_context, asked), *_answered(row, answered, ignored)), where, ignored)


def preference(row: Mapping[str, Any], asked: str | None, where: str, ignored: list[str]) -> Chat | Text:
    """The question with its chosen answer, or the chosen conversation. Raises Unusable.

    asked: the field of the question, if there is one.
    """
    chosen = row["chosen"]
    if isinstance(chosen, str) and _TRANSCRIPT.match(chosen):
        answer = _transcript(chosen)
    elif asked is None and isinstance(chosen, str) and not holds_messages(chosen):
        check_characters(chosen, "chosen")
        ignored += [name for name in PAIR_COMPANIONS if is_filled(row.get(name))]
        return Text(chosen, where)
    else:
        answer = _answered(row, "chosen", ignored)
    if answer and answer[0].role != "assistant":  # the whole conversation
        if asked is not None and not _repeats(row[asked], asked, answer):
            instructions = _instructions(row[asked], asked, answer, ignored)
            ignored += [] if instructions else [asked]
            answer = instructions + answer
        unread = PAIR_COMPANIONS - COMPANIONS - {asked}
        ignored += [name for name in unread if is_filled(row.get(name))]
        return chat(row, answer, where, ignored)
    messages = answer if asked is None else _continued(_asked(row, asked, ignored), asked, answer, "chosen")
    return chat(row, messages, where, ignored)


def is_disliked(row: Mapping[str, Any], ignored: list[str]) -> bool:
    """Whether the row's label says that its answer is a bad one: false, 0, or a word for it."""
    for name in LABELS:
        label = row.get(name)
        written = str(label).strip().lower()
        if written in _BAD:
            return True
        if label is not None and written not in _GOOD:
            ignored.append(name)
    return False


def _asked(row: Mapping[str, Any], question: str, ignored: list[str]) -> tuple[Message, ...]:
    """What precedes the answer: history, then the question with its context.

    The assistant's messages of a question that is a list are context: they are not trained on.
    """
    history = _history(row.get("history"))
    value = row[question]
    if holds_messages(value):
        given = conversation(value, question, ignored)
        ignored += [name for name in CONTEXTS if name != question and is_filled(row.get(name))]
        return (*history, *map(_as_context, given))
    text = text_alone(_only(value, question), question, ignored)
    names = [name for name in CONTEXTS if name != question and is_filled(row.get(name))]
    contexts = [_context(row[name], name) for name in names]
    parts = [*contexts, text] if question in _CONTEXT_FIRST else [text, *contexts]
    return (*history, Message("user", "\n\n".join(part for part in parts if part)))


def _continued(
    asked: tuple[Message, ...], question: str, answers: tuple[Message, ...], answer: str
) -> tuple[Message, ...]:
    """A question with its answer. Raises Unusable where it ends with another answer already."""
    if not asked or not answers or {asked[-1].role, answers[0].role} != {"assistant"}:
        return asked + answers
    if asked[-1] == _as_context(answers[0]):
        return asked[:-1] + answers
    raise Unusable(
        f"`{question}` ends with a message of the assistant, and `{answer}` begins with another",
        fix="Write one answer: the continuation of a message is not trained on by itself.",
    )


def _as_context(message: Message) -> Message:
    return message._replace(trained=False) if message.role == "assistant" else message


def _context(value: object, name: str) -> str:
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return string(value, name)


def _answered(row: Mapping[str, Any], answer: str, ignored: list[str]) -> tuple[Message, ...]:
    value = row[answer]
    thoughts = [name for name in REASONING if is_filled(row.get(name))]
    if holds_messages(value):
        ignored += thoughts
        return conversation(value, answer, ignored)
    if answer == CALLS and (value := _texts(value, ignored)) is None:
        return (Message("assistant", "", tool_calls=calls_of(row[answer], answer)),)
    text, reasoning = text_and_thoughts(_only(value, answer), answer, ignored)
    if thoughts:
        ignored += [f"{answer}[].thinking"] if reasoning else []
        reasoning = all_text(row[thoughts[0]], thoughts[0], ignored)
        ignored += thoughts[1:]
    return (Message("assistant", text, reasoning=reasoning),)


def _texts(value: object, ignored: list[str]) -> object:
    """The texts of `answers`: of an object, of several, or bare ones; None where they are calls."""
    parts = value if isinstance(value, list | tuple) else [value]
    if any(map(_is_call, parts)):
        return None
    fields = {key: None for part in parts if isinstance(part, Mapping) for key in part}
    ignored += [f"{CALLS}.{shown(key)}" for key in fields if key != "text"]
    texts = [part["text"] if isinstance(part, Mapping) else part for part in parts]
    return texts if value is parts else texts[0]


def _is_call(value: object) -> bool:
    return holds_json(value) if isinstance(value, str) else isinstance(value, Mapping) and "text" not in value


def _only(value: object, name: str) -> object:
    """The text of a list of equal texts. Raises Unusable for several: which one is meant is not known."""
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        return value
    if not value:
        raise Unusable(f"`{name}` has no text", fix="Remove the row.")
    if any(part != value[0] for part in value):
        raise Unusable(f"`{name}` has {len(value)} texts", fix="Write a row for each, or keep one.")
    return value[0]


def holds_messages(value: object) -> bool:
    """Whether a field holds messages: a list of objects that have a role, one such object, or JSON of it."""
    if isinstance(value, str):
        if not holds_json(value):
            return False
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    turns = [value] if isinstance(value, Mapping) else value
    return is_turns(turns)


def _history(value: object) -> tuple[Message, ...]:
    """Earlier turns: pairs of question and answer, or messages."""
    if not is_filled(value):
        return ()
    turns = from_json(value, "history")
    if holds_messages(turns):
        return conversation(turns, "history", [])
    if not isinstance(turns, list | tuple):
        raise Unusable(f"`history` is {kind(turns)}, not a list", fix=_FIX_HISTORY)
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise Unusable("`history` has an entry that is no pair", fix=_FIX_HISTORY)
        asked, answered = (string(said, "history") for said in turn)
        messages += Message("user", asked), Message("assistant", answered)
    return tuple(messages)


def _transcript(text: str) -> tuple[Message, ...]:
    """The turns of a text like "\\n\\nHuman: …\\n\\nAssistant: …", as Anthropic's preferences have it."""
    _, *pieces = _TRANSCRIPT.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(
        Message(roles[name], said.strip()) for name, said in zip(pieces[::2], pieces[1::2], strict=True)
    )


def _repeats(value: object, asked: str, answer: tuple[Message, ...]) -> bool:
    """Whether a conversation begins with the messages of a question already, or has it as one."""
    if not holds_messages(value):
        return any(value == message.content for message in answer)
    given = conversation(value, asked, [])
    return given == answer[: len(given)]


def _instructions(
    value: object, asked: str, answer: tuple[Message, ...], ignored: list[str]
) -> tuple[Message, ...]:
    """The messages of a question that are system prompts alone, for a conversation that has none."""
    if not holds_messages(value) or answer[0].role in _SYSTEM_ROLES:
        return ()
    given = conversation(value, asked, ignored)
    return given if all(message.role in _SYSTEM_ROLES for message in given) else ()


def _with_system(
    row: Mapping[str, Any], messages: tuple[Message, ...], ignored: list[str]
) -> tuple[Message, ...]:
    """The messages after the row's system prompt. Raises Unusable when they have another of their own."""
    given = [name for name in SYSTEMS if is_filled(row.get(name))]
    if not given:
        return messages
    prompt = text_alone(row[given[0]], given[0], ignored)
    ignored += [name for name in given[1:] if row[name] != prompt]
    own = next((message.content for message in messages[:1] if message.role in _SYSTEM_ROLES), None)
    if own is None:
        return (Message("system", prompt), *messages) if prompt.strip() else messages
    if own != prompt:
        raise Unusable(
            f"`{given[0]}` is another system prompt than the first message", fix="Keep one of them."
        )
    return messages


def _check(found: Chat) -> None:
    """Raises Unusable unless a question precedes every answer and there is an answer to train on."""
    answers = [message for message in found.messages if message.role == "assistant"]
    if not answers:
        raise Unusable("no assistant message to train on", fix="Remove the row.")
    trained = [answer for answer in answers if answer.trained]
    if not trained:
        raise Unusable("every assistant message has the weight 0", fix="Remove the row.")
    if found.messages[0].role == "assistant":
        raise Unusable("the assistant speaks first", fix="Put a user's message before it.")
    for answer in trained:
        if not answer.tool_calls and (not answer.content or answer.content.isspace()):
            raise Unusable("an assistant message is blank", fix="Fill it in, or remove the row.")
    for message in found.messages:
        _check_message(message)
    if found.tools:
        check_characters(as_json(found.tools), "tools")


def _check_message(message: Message) -> None:
    check_characters(message.content, "content")
    if message.reasoning:
        check_characters(message.reasoning, "reasoning")
    if message.tool_calls:
        check_characters(as_json(message.tool_calls), "tool_calls")
