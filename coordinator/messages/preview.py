"""Cuts a preview of training text to a screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate

from rich.cells import cell_len

from barnraise.core.plain_text import spelled

LINES, COLUMNS = 24, 80
_KEPT_END = 6
"""Lines of the end that are shown: the end of an answer is where masks go wrong."""
_REPEATED = re.compile(r"(<[^<>\n]{1,40}>)\1{3,}")
"""Padding: a special token many times."""
_OPEN, _CLOSE = "⟦", "⟧"


def preview_lines(text: str) -> list[str]:
    """`text` in at most `LINES` lines of `COLUMNS` columns, with its middle left out where it is longer.

    Control characters are escaped, so that text from a dataset cannot act on the terminal. A part between
    the marks of trained text that the cut divides is closed before and opened again after.
    """
    shown = _REPEATED.sub(lambda run: f"{run[1]} × {len(run[0]) // len(run[1])}", text.rstrip("\n"))
    lines = [piece for line in shown.split("\n") for piece in _wrapped(spelled(line, kept=""))]
    if len(lines) <= LINES:
        return lines
    begin, end = lines[: LINES - _KEPT_END - 1], lines[-_KEPT_END:]
    left_out = len(lines) - len(begin) - len(end)
    middle = f"… {left_out:,} lines …"
    if _is_open(begin):
        middle = f"{_CLOSE} {middle}"
    if _is_open(lines[: len(lines) - len(end)]):
        middle = f"{middle} {_OPEN}"
    return [*begin, middle, *end]


def _is_open(lines: list[str]) -> bool:
    """Whether a trained part goes on after these lines."""
    joined = "".join(lines)
    return joined.rfind(_OPEN) > joined.rfind(_CLOSE)


def _wrapped(line: str) -> Iterator[str]:
    """Breaks behind the last space of a line, unless that would leave it half empty."""
    while (end := _fitting(line)) < len(line):
        space = line.rfind(" ", 0, end) + 1
        if space > end // 2:
            end = space
        yield line[:end]
        line = line[end:]
    yield line


def _fitting(line: str) -> int:
    """How many of its characters fit into `COLUMNS`."""
    ends = accumulate(cell_len(char) for char in line[: COLUMNS + 1])
    return next((place for place, cells in enumerate(ends) if cells > COLUMNS), len(line))
