"""Escape control characters in untrusted text, so that a terminal shows them and does not obey. Pure."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t")
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control and formatting characters: they start escape sequences, and some reverse the
writing direction."""
_JOINERS = frozenset("\u200c\u200d")
"""Needed to spell words and emoji."""


def escape_text(text: str) -> str:
    """`text` with control characters escaped, as in `\\x1b[31m`; line ends and tabs stay."""
    return "".join(_escaped(c) for c in text)


def _escaped(c: str) -> str:
    if c in _KEPT or c in _JOINERS or unicodedata.category(c) not in _CONTROL:
        return c
    return c.encode("unicode_escape").decode("ascii")
