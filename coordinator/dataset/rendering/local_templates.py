"""Templates that write each turn by itself: the spans of a chat from one rendering.

Most templates are local: a chat's text is its contents with a fixed string between each two roles. The
strings are learned once, from rendered probes. The text that they predict for a chat is compared with the one
that the template writes; where the two are equal, it is known where each turn begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordinator.dataset.rendering.chat_templates import REFUSALS, ChatTemplate, Span, Turn

Strings = dict[tuple[str, str], str]
"""What is written between the contents of two roles; empty before the first turn and after the last."""

_KEYS = {"role", "content"}
_MARK = "\ue100"
"""The first of some characters for private use, which stand for the contents of probes."""
_SHAPES = (
    ("user", "assistant", "user", "assistant"),
    ("system", "user", "assistant", "user", "assistant"),
)


@dataclass(frozen=True)
class LocalTemplate:
    """What a template writes around the contents of turns."""

    between: Strings
    lead: str
    """What it writes between the prompt of an answer and the answer's content."""
    closing: str
    """What ends an answer: each string after one begins with it."""
    strips: frozenset[str]
    """The roles whose contents it strips of white space."""

    def spans(self, turns: Sequence[Turn], text: str) -> list[Span] | None:
        """The spans of the assistant's turns in `text`, or None where it is not what the strings predict."""
        if any(set(turn) != _KEYS for turn in turns):
            return None
        parts: list[str] = []
        spans: list[Span] = []
        length = 0
        for before, after in pairwise([None, *turns, None]):
            roles = (before["role"] if before else "", after["role"] if after else "")
            if roles not in self.between:
                return None
            content = self._content(after)
            parts += [self.between[roles], content]
            length += len(self.between[roles]) + len(content)
            if roles[1] == "assistant":
                spans.append((length - len(content) - len(self.lead), length + len(self.closing)))
        return spans if "".join(parts) == text else None

    def _content(self, turn: Turn | None) -> str:
        if turn is None:
            return ""
        content = str(turn["content"])
        return content.strip() if turn["role"] in self.strips else content


def learn(template: ChatTemplate) -> LocalTemplate | None:
    """The strings of a template that is local and stable under prefixes; None for another."""
    try:
        plain, asked = _strings(template, _SHAPES[0]), _strings(template, _SHAPES[0][:1])
        prompted = template.apply([{"role": "user", "content": _MARK}], prompt=True)
        strips = frozenset(role for role in ("user", "assistant") if _strips(template, role))
    except REFUSALS:
        return None
    if plain is None or asked is None or asked["", "user"] != plain["", "user"]:
        return None
    closing, prompt = plain["assistant", ""], prompted.rpartition(_MARK)[2]
    stable = (
        plain["assistant", "user"].startswith(closing)
        and plain["user", "assistant"].startswith(prompt)
        and prompt.startswith(asked["user", ""])
    )
    if not stable:
        return None
    lead = plain["user", "assistant"][len(prompt) :]
    return LocalTemplate(asked | plain | _with_system(template, plain), lead, closing, strips)


def _with_system(template: ChatTemplate, plain: Strings) -> Strings:
    """The strings of a chat that a system turn opens, where the others stay the same."""
    try:
        strings = _strings(template, _SHAPES[1])
    except REFUSALS:
        return {}
    same = strings is not None and all(plain.get(roles, text) == text for roles, text in strings.items())
    return strings if strings is not None and same else {}


def _strings(template: ChatTemplate, shape: Sequence[str]) -> Strings | None:
    """The strings between the contents of a chat of these roles, or None where a pair of roles has two."""
    marks = [chr(ord(_MARK) + place) for place in range(len(shape))]
    text = template.apply([{"role": role, "content": mark} for role, mark in zip(shape, marks, strict=True)])
    if [char for char in text if char in marks] != marks:
        return None
    pieces = re.split(f"[{marks[0]}-{marks[-1]}]", text)
    found: Strings = {}
    for roles, piece in zip(pairwise(["", *shape, ""]), pieces, strict=True):
        if found.setdefault(roles, piece) != piece:
            return None
    return found


def _strips(template: ChatTemplate, role: str) -> bool:
    padded = f" {_MARK} "
    turns = [{"role": "user", "content": padded}, {"role": "assistant", "content": padded}]
    return padded not in template.apply(
        turns[:1] if role == "user" else [{**turns[0], "content": "?"}, turns[1]]
    )
