"""Finds what a chat template has the model generate: the spans of the assistant's turns in the text.

In this order:

1. The template marks it by `{% generation %}`.
2. The chat up to a turn, with the prompt to answer it, begins the chat through the turn, and that begins the
   whole text. Then the turn is exactly what generation has to write.
3. Where the template rewrites a turn once others follow, a built-in template that writes the same text has
   the marks.
4. Else the turn's content and reasoning are searched for: each is rendered between two characters that occur
   nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.dataset.chat_templates import REFUSALS, ChatTemplate, Span, Turn

_BEGIN, _END = "\ue0b0", "\ue0b1"  # private use
_HEADER = 64
"""Characters that a template may write between the prompt of an answer and its content, such as a channel."""
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class MarkedText:
    """A rendered chat."""

    text: str
    spans: tuple[Span | None, ...]
    """What is generated: one span per turn of the assistant; None where a turn cannot be found.
    Marks may give another number of spans than there are such turns."""
    method: str
    """`marks`, `prefixes`, `built-in NAME` or `search`."""


def mark(
    template: ChatTemplate,
    variants: Sequence[ChatTemplate],
    turns: Sequence[Turn],
    tools: Sequence[dict[str, Any]],
) -> MarkedText:
    """Render a chat and find the assistant's turns. Raises one of REFUSALS where the template refuses it.

    variants: built-in templates with marks.
    """
    if template.has_marks:
        text, marked = template.apply_marked(turns, tools)
        return MarkedText(text, tuple(marked), "marks")
    text = template.apply(turns, tools)
    answers = [k for k, turn in enumerate(turns) if turn["role"] == "assistant"]
    spans = tuple(_by_prefixes(template, turns, tools, k, text) for k in answers)
    if None not in spans:
        return MarkedText(text, spans, "prefixes")
    for variant in variants:
        found = _by_variant(variant, turns, tools, text)
        if len(found) == len(answers):
            return MarkedText(text, tuple(found), variant.origin)
    searched = _by_search(template, turns, tools, text)
    return MarkedText(
        text,
        tuple(span or searched.get(k) for k, span in zip(answers, spans, strict=True)),
        "search",
    )


def _by_prefixes(
    template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[dict[str, Any]], k: int, text: str
) -> Span | None:
    """The span of turn k, or None where the template is not stable under prefixes."""
    try:
        before = template.apply(turns[:k], tools, prompt=True)
        through = text if k + 1 == len(turns) else template.apply(turns[: k + 1], tools)
    except REFUSALS:  # it accepts the whole chat, and not its beginning
        return None
    stable = text.startswith(through) and through.startswith(before)
    return (len(before), len(through)) if stable else None


def _by_variant(
    variant: ChatTemplate, turns: Sequence[Turn], tools: Sequence[dict[str, Any]], text: str
) -> list[Span]:
    """The spans that a built-in template marks, or none where it writes another text."""
    try:
        written, spans = variant.apply_marked(turns, tools)
    except REFUSALS:
        return []
    return spans if written == text else []


def _by_search(
    template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[dict[str, Any]], text: str
) -> dict[int, Span]:
    """The spans of the assistant's turns by number, where content and reasoning are written as they are."""
    found: dict[int, Span] = {}
    for k, turn in enumerate(turns):
        if turn["role"] != "assistant" or turn.get("tool_calls"):
            continue
        try:
            written = template.apply([*turns[:k], _enclosed(turn), *turns[k + 1 :]], tools)
        except REFUSALS:
            continue
        if _bare(written) == text and _BEGIN in written:
            begin, end = _outermost(written)
            found[k] = (_after_prompt(template, turns[:k], tools, text, begin), end)
    return found


def _after_prompt(
    template: ChatTemplate, before: Sequence[Turn], tools: Sequence[dict[str, Any]], text: str, begin: int
) -> int:
    """Where an answer begins: at its content, or at what the template writes between prompt and content."""
    try:
        without, prompted = template.apply(before, tools), template.apply(before, tools, prompt=True)
    except REFUSALS:
        return begin
    prompt = prompted[len(without) :] if prompted.startswith(without) else ""
    found = text.rfind(prompt, max(0, begin - len(prompt) - _HEADER), begin) if prompt else -1
    return begin if found < 0 else found + len(prompt)


def _enclosed(turn: Turn) -> dict[str, Any]:
    """The turn with its texts between `_BEGIN` and `_END`, inside the white space that templates strip."""
    return {**turn, **dict(_enclosed_texts(turn))}


def _enclosed_texts(turn: Turn) -> Iterator[tuple[str, str]]:
    for key in ("content", "reasoning_content"):
        text = turn.get(key)
        if not isinstance(text, str) or not text.strip():
            continue
        core = text.strip(_SPACE)
        begin = text.index(core)
        # Templates cut the content at this tag: what is before it may be dropped.
        thought, tag, said = core.rpartition("</think>")
        lead = said[: len(said) - len(said.lstrip(_SPACE))]
        inner = f"{thought}{tag}{lead}{_BEGIN}{said.strip(_SPACE)}{_END}" if tag else f"{_BEGIN}{core}{_END}"
        yield key, text[:begin] + inner + text[begin + len(core) :]


def _bare(text: str) -> str:
    return text.replace(_BEGIN, "").replace(_END, "")


def _outermost(written: str) -> Span:
    """From the first `_BEGIN` to the last `_END`, in the text without them."""
    begin, end = written.index(_BEGIN), written.rindex(_END)
    # A space before an answer often is part of its first token.
    return len(_bare(written[:begin]).rstrip(" ")), len(_bare(written[:end]))
