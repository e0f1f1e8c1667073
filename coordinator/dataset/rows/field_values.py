"""Values of a row's fields: JSON in strings, text in parts, and characters that no text may have. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from barnraise.core.plain_text import one_line
from coordinator.dataset.rows.row import Unusable

MEDIA = frozenset({"image", "images", "video", "videos", "audio", "audios"})
"""Fields that hold what only a multimodal model understands."""
_SHOWN_CHARACTERS = 60
_TEXT_PARTS = dict.fromkeys(("text", "input_text", "output_text", "summary_text"), "text")
"""Types of parts that hold text, and the key of it."""
_PART_KEYS = frozenset({"type", "text", "parts"})
_THOUGHT_PARTS = {"thinking": "thinking", "reasoning": "text"}
"""Types of parts that hold what the assistant thinks, and the key of it."""


def shown(value: object) -> str:
    """A name or a value of someone's file for a message: one short line of printable characters."""
    text = str(value)
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return one_line(cut)


def fields_of(row: Mapping[str, object]) -> str:
    """The names of an object's fields for a message: the first ten."""
    return ", ".join(map(shown, [*row][:10])) or "nothing"


def kind(value: object) -> str:
    """What a JSON value is, for messages."""
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def from_json(value: object, name: str) -> object:
    """The value that a string contains as JSON; other values unchanged. Raises Unusable."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        python = value.lstrip().startswith(("[{'", "{'"))
        raise Unusable(
            f"`{name}` is text that is not JSON: {error}",
            fix="It is written as Python prints it: write it by `json.dumps`."
            if python
            else f"Write `{name}` as a list or object, or as JSON.",
        ) from None


def as_json(value: object) -> str:
    """A value as JSON; dates and the like of Parquet become text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def holds_json(value: str) -> bool:
    """Whether a string looks like a list or an object in JSON."""
    return value.lstrip()[:1] in ("[", "{")


def is_filled(value: object) -> bool:
    """Whether a field holds anything: null, an empty text, list or object is nothing."""
    return bool(value) or value == 0


def string(value: object, name: str) -> str:
    """`value`, which must be text. Raises Unusable."""
    if not isinstance(value, str):
        raise Unusable(f"`{name}` is {kind(value)}, not text", fix="Write it as a string.")
    return value


def text_and_thoughts(content: object, name: str, ignored: list[str]) -> tuple[str, str]:
    """The text of a message's content, and the thoughts in it, where it is a list of parts, or one.

    Parts of text are joined by line breaks; empty ones are nothing. ignored: gets the names of the parts'
    fields that have no meaning here. Raises Unusable for content that is no text.
    """
    if isinstance(content, str):
        return content, ""
    if isinstance(content, Mapping) and not _PART_KEYS.isdisjoint(content):
        content = content.get("parts") or [content]
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise Unusable(f"`{name}` is {kind(content)}, not text", fix="Write it as a string.")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        text, is_thought = _part(part, name, ignored)
        if text:
            (thoughts if is_thought else texts).append(text)
    return "\n".join(texts), "\n".join(thoughts)


def text_alone(content: object, name: str, ignored: list[str]) -> str:
    """The text of content that has no place for thoughts, which are noted in `ignored`. Raises Unusable."""
    text, thoughts = text_and_thoughts(content, name, ignored)
    if thoughts:
        ignored.append(f"{name}[].thinking")
    return text


def all_text(content: object, name: str, ignored: list[str]) -> str:
    """The text and the thoughts of content that is all reasoning. Raises Unusable."""
    return "\n".join(filter(None, text_and_thoughts(content, name, ignored)))


def _part(part: object, name: str, ignored: list[str]) -> tuple[str, bool]:
    if isinstance(part, str):
        return part, False
    if not isinstance(part, Mapping):
        raise Unusable(f"`{name}` has a part that is {kind(part)}", fix="Write each part as an object.")
    of = part.get("type", "text")
    if of in _THOUGHT_PARTS:
        key = next((key for key in (_THOUGHT_PARTS[of], "summary") if key in part), _THOUGHT_PARTS[of])
        _note(part, key, name, ignored)
        return all_text(part.get(key), f"{name}[].{key}", ignored), True
    if of not in _TEXT_PARTS:
        raise Unusable(
            f"`{name}` has a part of the type `{shown(of)}`",
            fix="Only text can be trained on: remove the row.",
        )
    media = [key for key, value in part.items() if key in MEDIA and is_filled(value)]
    if media:
        raise Unusable(f"`{name}` has a part with `{media[0]}`", fix="Only text can be trained on.")
    text = part.get(_TEXT_PARTS[of])
    if text is None and "type" not in part:
        raise Unusable(f"`{name}` has a part without text: {fields_of(part)}", fix="Remove the row.")
    _note(part, _TEXT_PARTS[of], name, ignored)
    return "" if text is None else string(text, f"{name}[].text"), part.get("thought") is True


def _note(part: Mapping[str, object], used: str, name: str, ignored: list[str]) -> None:
    """Note the fields of a part that have no meaning for training, such as `cache_control`."""
    for key, value in part.items():
        if key not in ("type", "thought", used) and is_filled(value):
            ignored.append(f"{name}[].{shown(key)}")


def check_characters(text: str, name: str) -> None:
    """Raises Unusable for NUL and for lone surrogates, which tokenizers and UTF-8 reject."""
    if "\0" in text:
        raise Unusable(
            f"`{name}` has a NUL character at position {text.index(chr(0)) + 1}", fix="Remove the character."
        )
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unusable(
            f"`{name}` has half of a surrogate pair, {ascii(text[error.start])[1:-1]},"
            f" at position {error.start + 1}",
            fix="Write the whole character: the text was cut in the middle of it.",
        ) from None
