"""Text from others, for a terminal: whatever could steer it is shown, not obeyed. Pure."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t")
_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control and formatting characters: escape sequences begin with one, and some turn
the direction of writing."""
_JOINERS = frozenset("\u200c\u200d")
"""Words and emoji are spelled with these."""


def escape_text(text: str) -> str:
    """`text` with its control characters spelled out, as in `\\x1b[31m`; line ends and tabs stay."""
    return "".join(_shown(c) for c in text)


def _shown(c: str) -> str:
    if c in _KEPT or c in _JOINERS or unicodedata.category(c) not in _STEERING:
        return c
    return c.encode("unicode_escape").decode("ascii")
