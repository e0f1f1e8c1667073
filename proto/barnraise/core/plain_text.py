"""Text from others, made plain for a terminal, a log or a document, which then only shows it. Pure.

Every output of both programs goes through one of these: the console and the log
(`barnraise.runtime.console`),
rich's displays (`barnraise.runtime.plain_console`), errors, cards, pages.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that start escape sequences, end lines, reverse the writing direction, or
have no shape of their own."""
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters of other categories that show nothing (Default_Ignorable_Code_Point, and the empty Braille)."""
_JOINERS = frozenset("\u200c\u200d\ufe0f")
"""Spell words and emoji in the text of a language model."""
MAX_MARKS = 4
"""Accents on one letter that are shown: more of them would cover the lines above and below."""
_MARKS = frozenset({"Mn", "Me"})


def is_plain(character: str) -> bool:
    """Whether a character shows itself, on its line, and does nothing else."""
    return (character.isascii() and character.isprintable()) or not _is_unseen(character)


def printable(text: str) -> str:
    """`text` with every other character escaped, as in `\\x1b[31m`; line ends and tabs stay."""
    return text if text.isascii() and text.isprintable() else _escaped(text, "\n\t")


def one_line(text: str) -> str:
    """`text` on one line: line ends and tabs are escaped, too."""
    return text if text.isascii() and text.isprintable() else _escaped(text, "")


def spelled(text: str, kept: str = "\n\t") -> str:
    """As `printable`, for prose: the characters that join letters and emoji stay, and those in `kept`."""
    return _escaped(text, kept + "".join(_JOINERS))


def blanked(text: str) -> str:
    """`text` on one line, with spaces in place of all other characters: for documents."""
    return " ".join("".join(c if is_plain(c) else " " for c in text).split())


def json_text(value: object) -> str:
    """JSON of ASCII characters that are printable, for a terminal and for programs."""
    return json.dumps(value, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")


def yaml_text(value: object) -> str:
    """A YAML scalar or flow of printable ASCII. As JSON, but for the characters that JSON writes as two."""
    if isinstance(value, Mapping):
        pairs = [f"{yaml_text(str(key))}: {yaml_text(each)}" for key, each in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_text, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(map(_quoted, value)) + '"'
    return json.dumps(value)


def _quoted(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isascii() and character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN_CATEGORIES or _BLANK.match(character) is not None


def _escaped(text: str, kept: str) -> str:
    parts, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in _MARKS else 0
        shown = character in kept or (is_plain(character) and marks <= MAX_MARKS)
        parts.append(character if shown else character.encode("unicode_escape").decode("ascii"))
    return "".join(parts)
