"""Recognizes the record that a row holds, among the shapes that people bring. Pure.

Shapes, tried in this order; docs/DATA.md lists the fields that are read in addition:

    the field that `text_field` names: text, messages, or an object of one of the shapes below
    {"chosen": …, "rejected": …}                     a preference: the chosen answer is trained on
    {"messages": [{"role": "user", "content": "…"}, …]}, or `conversations` and other names
    {"prompt": …, "completion": …}, or other names of a question and its answer
    {"text": "…"}                                    plain text
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from coordinator.dataset.records import Record, Text
from coordinator.dataset.rows.chat_fields import (
    CALLS,
    COMPANIONS,
    LABELS,
    PAIR_COMPANIONS,
    answer,
    chat,
    holds_messages,
    is_disliked,
    pair,
    preference,
)
from coordinator.dataset.rows.field_values import (
    MEDIA,
    check_characters,
    fields_of,
    holds_json,
    is_filled,
    kind,
    shown,
    string,
)
from coordinator.dataset.rows.paths import ABSENT, filled_names, lookup, obstacle, path_of, siblings, unfolded
from coordinator.dataset.rows.row import Unusable
from coordinator.dataset.rows.turns import REASONING, conversation, is_turns

_MAYBE_TEXT = ("conversation", "dialogue", "dialog", "chat")
CONTAINERS = ("messages", "conversations", "contents", *_MAYBE_TEXT)
"""Fields that hold the messages of a chat; the last ones may hold other text too, which is no chat."""
QUESTIONS = ("instruction", "prompt", "question", "query", "problem", "input", "inputs", "user", "human")
ANSWERS = (
    *("output", "completion", "response", "solution", "answer", "generation", "target", "targets"),
    *("assistant", "bot", "gpt", CALLS),
)
DEFAULT_TEXT = "text"
_FIX_TEXT = "Name the field that holds the text as `text_field` under [data] in run.toml"
_FIX = f"{_FIX_TEXT}, or rename the fields of a question and its answer to `prompt` and `completion`."
_PLANS = 1024
"""Combinations of fields that are remembered."""


class LeftOut(Enum):
    """Why a row that is not bad gives no record."""

    BLANK = "its text is blank"
    DISLIKED = "its label is false"


class Recognized(NamedTuple):
    """What a row holds."""

    record: Record | LeftOut
    shape: str
    """The fields that it was recognized by, for the report."""
    ignored: Sequence[str]
    """Filled fields that have no meaning for training."""
    lacks_named: bool = False
    """Whether the row lacks the field that the maintainer named, and was recognized without it."""


_ReadRow = Callable[[Mapping[str, Any], str, list[str]], Record | LeftOut]


class _Plan(NamedTuple):
    """How to read rows with a certain combination of filled fields."""

    shape: str
    read: _ReadRow
    unused: tuple[str, ...]
    media: tuple[str, ...]
    container: str = ""
    """The field of the messages, if there is one."""


class Recognizer:
    """Recognizes the records of one source; it remembers how rows with the same fields are read."""

    def __init__(self, text_field: str | None) -> None:
        """text_field: as the maintainer set it; it wins over the other shapes."""
        self._text_field = text_field
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def recognize(self, value: object, where: str) -> Recognized:
        """The record that a row holds. Raises Unusable for a row that cannot be trained on."""
        if type(value) is not dict:
            if isinstance(value, str):
                lacks_named = self._text_field is not None
                return Recognized(_text(value, "the text", where), "plain text", (), lacks_named)
            if is_turns(value):
                return self.recognize({"messages": value}, where)
            if not isinstance(value, Mapping):
                raise Unusable(f"it is {kind(value)}, not a JSON object", fix="Write one object per record.")
        if self._text_field is not None:
            value = unfolded(value, path_of(value, self._text_field)[:-1])
            found = lookup(value, self._text_field)
            if found is not ABSENT:
                return self._named(value, found, where)
            return self._without_named(value, where)
        return self._by_shape(value, where)

    def _without_named(self, value: Mapping[str, Any], where: str) -> Recognized:
        """The record of a row that lacks the field that the maintainer named."""
        try:
            return self._by_shape(value, where)._replace(lacks_named=True)
        except Unusable as fault:
            name = self._text_field or DEFAULT_TEXT
            problem = f"no `{name}`, which `text_field` names{obstacle(value, name)}; {fault.problem}"
            raise Unusable(problem, fix=fault.fix) from None

    def _by_shape(self, value: Mapping[str, Any], where: str) -> Recognized:
        filled = filled_names(value)
        plan = self._plan(filled)
        if not plan.shape and (renamed := _in_lower_case(value)) and self._plan(filled_names(renamed)).shape:
            return self._by_shape(renamed, where)
        if plan.read is _read_text and holds_messages(value[DEFAULT_TEXT]):
            plan = _container_plan(DEFAULT_TEXT, filled)
        ignored: list[str] = []
        if plan.container in _MAYBE_TEXT and _is_mere_text(value[plan.container]):
            ignored.append(plan.container)
            plan = self._plan(tuple(name for name in filled if name != plan.container))
        record = _read(plan, value, where, ignored)
        return Recognized(record, plan.shape, (*plan.unused, *ignored) if ignored else plan.unused)

    def _plan(self, filled: tuple[str, ...]) -> _Plan:
        plan = self._plans.get(filled)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[filled] = _plan_of(filled)
        return plan

    def _named(self, row: Mapping[str, Any], found: object, where: str) -> Recognized:
        """The record in the field that the maintainer named."""
        name = self._text_field or DEFAULT_TEXT
        path = path_of(row, name)
        if isinstance(found, Mapping):
            inner = Recognizer(None).recognize(found, where)
            return Recognized(
                inner.record, f"`{name}`: {inner.shape}", [*siblings(row, path), *inner.ignored]
            )
        if not _may_be_messages(found):
            return Recognized(_text(found, name, where), f"`{name}`", list(siblings(row, path)))
        parent: Any = row
        for part in path[:-1]:
            parent = parent[part]
        plan = _container_plan(path[-1], filled_names(parent))
        outer = "".join(f"{part}." for part in path[:-1])
        ignored = [*siblings(row, path[:-1]), *(outer + unused for unused in plan.unused)]
        return Recognized(_read(plan, parent, where, ignored), f"`{name}`", ignored)


def _may_be_messages(value: object) -> bool:
    """Whether a named field is read as messages: a list of anything but texts, or JSON of messages."""
    if isinstance(value, list | tuple):
        return not value or not all(_is_mere_text(part) for part in value)
    return holds_messages(value)


def _in_lower_case(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row with the names of its fields in lower case, as the first line of a spreadsheet has them in
    capitals; None where they are, or would not be distinct."""
    names = [str(name).strip().lower() for name in row]
    if names == [*row] or len({*names}) < len(names):
        return None
    return dict(zip(names, row.values(), strict=True))


def _read(plan: _Plan, row: Mapping[str, Any], where: str, ignored: list[str]) -> Record | LeftOut:
    if plan.media:
        raise Unusable(f"it has `{plan.media[0]}`, and only text can be trained on", fix="Remove the row.")
    return plan.read(row, where, ignored)


def _is_mere_text(value: object) -> bool:
    return isinstance(value, str) and not holds_json(value)


def _text(value: object, name: str, where: str) -> Text | LeftOut:
    text = string(value, name)
    check_characters(text, name)
    return Text(text, where) if text and not text.isspace() else LeftOut.BLANK


def _plan_of(filled: tuple[str, ...]) -> _Plan:
    """How rows are read whose filled fields are these."""
    container = next((name for name in CONTAINERS if name in filled), None)
    asked = next((name for name in QUESTIONS if name in filled), None)
    answered = next((name for name in ANSWERS if name in filled), None)
    if "chosen" in filled:
        return _preference_plan(container or asked, filled)
    if container:
        return _container_plan(container, filled, answered)
    if asked and answered:
        return _pair_plan(asked, answered, filled)
    if DEFAULT_TEXT in filled:
        return _plan(f"`{DEFAULT_TEXT}`", _read_text, filled, {DEFAULT_TEXT})
    return _Plan("", _unshaped, (), ())


def _plan(shape: str, read: _ReadRow, filled: tuple[str, ...], used: set[str]) -> _Plan:
    unused = tuple(shown(name) for name in filled if name not in used)
    return _Plan(shape, read, unused, tuple(name for name in filled if name in MEDIA))


def _container_plan(container: str, filled: tuple[str, ...], answered: str | None = None) -> _Plan:
    """answered: the field of the last answer, where the messages do not end with it."""

    def read(row: Mapping[str, Any], where: str, ignored: list[str]) -> Record | LeftOut:
        if is_disliked(row, ignored):
            return LeftOut.DISLIKED
        messages = conversation(row[container], container, ignored)
        if answered is None:
            return chat(row, messages, where, ignored)
        if messages and messages[-1].role != "assistant":
            return answer(row, messages, answered, where, ignored)
        ignored += filter(lambda name: is_filled(row.get(name)), (answered, *REASONING))
        return chat(row, messages, where, ignored)

    used = {container, *COMPANIONS, *LABELS, *([answered, *REASONING] if answered else [])}
    return _plan(f"`{container}`", read, filled, used)._replace(container=container)


def _pair_plan(asked: str, answered: str, filled: tuple[str, ...]) -> _Plan:
    def read(row: Mapping[str, Any], where: str, ignored: list[str]) -> Record | LeftOut:
        if is_disliked(row, ignored):
            return LeftOut.DISLIKED
        return pair(row, asked, answered, where, ignored)

    used = {asked, answered, *PAIR_COMPANIONS, *LABELS}
    return _plan(f"`{asked}` and `{answered}`", read, filled, used)


def _preference_plan(asked: str | None, filled: tuple[str, ...]) -> _Plan:
    def read(row: Mapping[str, Any], where: str, ignored: list[str]) -> Record | LeftOut:
        return preference(row, asked, where, ignored)

    shape = f"`{asked}` and `chosen`" if asked else "`chosen`"
    return _plan(shape, read, filled, {"chosen", *PAIR_COMPANIONS, *([asked] if asked else [])})


def _read_text(row: Mapping[str, Any], where: str, ignored: list[str]) -> Record | LeftOut:
    return _text(row[DEFAULT_TEXT], DEFAULT_TEXT, where)


def _unshaped(row: Mapping[str, Any], where: str, ignored: list[str]) -> Record | LeftOut:
    """Say why a row has no shape: raises Unusable, or finds its text blank."""
    if row.get(DEFAULT_TEXT) == "":
        return LeftOut.BLANK
    known = [name for name in (*CONTAINERS, *QUESTIONS, *ANSWERS, DEFAULT_TEXT, "chosen") if name in row]
    empty = [name for name in known if not is_filled(row[name])]
    if empty:
        raise Unusable(
            f"`{empty[0]}` is {'null' if row[empty[0]] is None else 'blank'}",
            fix="Fill it in, or remove the row.",
        )
    if known and known[0] in CONTAINERS:
        raise Unusable(
            f"`{known[0]}` is text, not a list of messages",
            fix=f'Write a list of messages, or set `text_field = "{known[0]}"` under [data] in run.toml to '
            "train on it as plain text.",
        )
    if known:
        lacks, names = ("answer", ANSWERS) if known[0] in QUESTIONS else ("question", QUESTIONS)
        raise Unusable(
            f"`{known[0]}` without {'an' if lacks == 'answer' else 'a'} {lacks}; it has: {fields_of(row)}",
            fix=f"Name the {lacks} as one of: {', '.join(names)}. {_FIX_TEXT}.",
        )
    raise Unusable(f"no field of a known name; it has: {fields_of(row)}", fix=_suggestion(row))


def _suggestion(row: Mapping[str, Any]) -> str:
    """What to type: the inner field that would be recognized, if there is one."""
    fields = {name: _inner_field(name, inner) for name, inner in row.items()}
    found = [field for field in fields.values() if field]
    if len(found) > 1 and len(found) == len(row):
        return "If each field is a record, write the records as a list, or one per line."
    return f'Set `text_field = "{shown(found[0])}"` under [data] in run.toml.' if found else _FIX


def _inner_field(name: str, value: object) -> str:
    """The `text_field` by which a field would be recognized; empty for none."""
    if holds_messages(value):
        return name
    if not isinstance(value, Mapping):
        return ""
    plan = _plan_of(tuple(key for key, inner in value.items() if is_filled(inner)))
    return (f"{name}.{DEFAULT_TEXT}" if plan.read is _read_text else name) if plan.shape else ""
