"""Finds what a chat template has the model generate: the spans of the assistant's turns in the text.

In this order:

1. The template marks it by `{% generation %}`.
2. The template writes each turn by itself (`local_templates.py`).
3. Where it rewrites a turn once others follow, a built-in template that writes the same text has the marks.
4. The chat up to a turn, with the prompt to answer it, begins the chat through the turn, and that begins the
   whole text. Then the turn is exactly what generation has to write.
5. Else the turn is searched for: its content, reasoning and calls are rendered with characters before and
   after them that occur nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.dataset.rendering.chat_templates import REFUSALS, ChatTemplate, Span, Turn
from coordinator.dataset.rendering.local_templates import LocalTemplate, learn

PROBES: Sequence[Sequence[Turn]] = tuple(
    [{"role": role, "content": role[0]} for role in shape.split()]
    for shape in ("user assistant user assistant", "system user assistant user assistant")
)
"""Chats by which the built-in template of a family is recognized."""
_BEGIN, _END = "\ue0b0", "\ue0b1"  # private use
_HEADER = 128
"""Characters before an answer's first text in which its prompt is searched for."""
_SHARED = 8
"""Characters of the end of a prompt that identify it there."""
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


@dataclass(frozen=True)
class Marker:
    """Finds the spans in chats of one template."""

    template: ChatTemplate
    local: LocalTemplate | None
    """Set for a template that is local: it saves the rendering of prefixes."""
    variants: Sequence[ChatTemplate]
    """Built-in templates with marks that write some probe as the template does."""

    @classmethod
    def of(cls, template: ChatTemplate, builtins: Sequence[ChatTemplate]) -> Marker:
        """The marker of a template. It renders probes."""
        variants = [each for each in builtins if any(_write_alike(template, each, probe) for probe in PROBES)]
        return cls(template, learn(template), variants)

    def mark(self, turns: Sequence[Turn], tools: Sequence[dict[str, Any]]) -> MarkedText:
        """Render a chat and find the assistant's turns. Raises one of REFUSALS where it is refused."""
        if self.template.has_marks:
            text, marked = self.template.apply_marked(turns, tools)
            if marked:  # of several templates in one, some may have no marks
                return MarkedText(text, tuple(marked), "marks")
        text = self.template.apply(turns, tools)
        spans = self.local.spans(turns, text) if self.local else None
        if spans is not None:
            return MarkedText(text, tuple(spans), "prefixes")
        answers = sum(turn["role"] == "assistant" for turn in turns)
        for variant in self.variants if self.local is None else ():
            found = _by_variant(variant, turns, tools, text)
            if len(found) == answers:
                return MarkedText(text, tuple(found), variant.origin)
        return _by_turns(self.template, turns, tools, text)


def _write_alike(template: ChatTemplate, variant: ChatTemplate, probe: Sequence[Turn]) -> bool:
    try:
        return template.apply(probe) == variant.apply(probe)
    except REFUSALS:
        return False


def _by_turns(
    template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[dict[str, Any]], text: str
) -> MarkedText:
    """Each of the assistant's turns by prefixes, or searched for."""
    answers = [k for k, turn in enumerate(turns) if turn["role"] == "assistant"]
    spans = tuple(_by_prefixes(template, turns, tools, k, text) for k in answers)
    if None not in spans:
        return MarkedText(text, spans, "prefixes")
    searched = tuple(
        span or _searched(template, turns, tools, k, text) for k, span in zip(answers, spans, strict=True)
    )
    return MarkedText(text, searched, "search")


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


def _searched(
    template: ChatTemplate, turns: Sequence[Turn], tools: Sequence[dict[str, Any]], k: int, text: str
) -> Span | None:
    """The span of turn k, from what follows its prompt to where it ends in the chat through k, too."""
    enclosed = _enclosed(turns[k])
    try:
        written = template.apply([*turns[:k], enclosed, *turns[k + 1 :]], tools)
        through = template.apply([*turns[:k], enclosed], tools)
    except REFUSALS:
        return None
    if _bare(written) != text or _BEGIN not in written or _BEGIN not in through:
        return None
    begin = written.index(_BEGIN)
    last = written.rindex(_BEGIN)
    alone = through[through.rindex(_BEGIN) :]
    if written.startswith(alone, last):
        end = last + len(alone)
    elif turns[k].get("tool_calls"):
        return None  # where its calls end is not known
    else:
        end = written.rindex(_END)
    # A space before an answer often is part of its first token.
    first = len(written[:begin].rstrip(" "))
    return _after_prompt(template, turns[:k], tools, text, first), len(_bare(written[:end]))


def _after_prompt(
    template: ChatTemplate, before: Sequence[Turn], tools: Sequence[dict[str, Any]], text: str, first: int
) -> int:
    """Where an answer whose first text is at `first` begins: after what its text shares with its prompt.

    What the template writes between the two, such as a channel or the opening of a call, is generated. Where
    nothing is shared in the `_HEADER` characters before its first text, the answer begins there.
    """
    try:
        without, prompted = template.apply(before, tools), template.apply(before, tools, prompt=True)
    except REFUSALS:
        return first
    added = len(prompted) - len(without) if prompted.startswith(without) else 0
    for shared in range(len(prompted), len(prompted) - added - 1, -1):
        tail = prompted[max(0, shared - _SHARED) : shared]
        if tail.rfind("<") > tail.rfind(">"):
            continue  # it ends within a tag
        found = text.rfind(tail, max(0, first - _HEADER), first)
        if tail and found >= 0:
            return found + len(tail)
    return first


def _enclosed(turn: Turn) -> dict[str, Any]:
    """The turn with its texts between `_BEGIN` and `_END`, inside the white space that templates strip.

    Before the name of its first call is a `_BEGIN`.
    """
    enclosed = {**turn, **dict(_enclosed_texts(turn))}
    if calls := turn.get("tool_calls"):
        function = calls[0].get("function", {})
        named = {**calls[0], "function": {**function, "name": f"{_BEGIN}{function.get('name', '')}"}}
        enclosed["tool_calls"] = [named, *calls[1:]]
    return enclosed


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
