"""Cuts plain text into documents, in bounded memory. The documents, joined, are the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from barnraise.contract.spec import DataSpec

CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly, with the tokenizers of today's models."""
LARGEST = 64 << 20
"""Characters of a document that is not cut by size."""
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True)
class Cutting:
    """How plain text is cut into documents."""

    at: Literal["size", "blank-lines", "file"] = "size"
    size: int = 2048
    """Characters of the longest document. A document of about one sample keeps most samples free of a second
    document, and gives a book many documents, so that some are held out."""

    @classmethod
    def of(cls, data: DataSpec) -> Cutting:
        size = CHARACTERS_PER_TOKEN * data.sequence_length
        return cls(data.documents, size if data.documents == "size" else LARGEST)


def cut(lines: Iterable[str], cutting: Cutting, *, fenced: bool) -> Iterator[str]:
    """The documents of a text.

    lines: with their line ends; one that is longer than `Cutting.size` may come in parts.
    fenced: whether the text is Markdown, whose code blocks are kept together where they fit.
    """
    cutter = _Cutter(cutting, fenced)
    for line in lines:
        yield from cutter.add(line)
    yield from cutter.rest()


class _Cutter:
    """The document that is being collected, and where it may end."""

    def __init__(self, cutting: Cutting, fenced: bool) -> None:
        self._at, self._size, self._fenced = cutting.at, cutting.size, fenced
        self._parts: list[str] = []
        self._length = 0
        self._fence = ""
        """The marks that opened the code block in which the text is; empty outside."""
        self._after_blank = 0
        """Parts up to the last blank line outside code blocks; 0 for none in the second half."""
        self._after_line = 0
        """The same for the last end of a line outside code blocks."""
        self._before_fence = 0
        """Parts before the code block in which the text is."""

    def add(self, line: str) -> Iterator[str]:
        blank = not line.strip()
        if self._at == "blank-lines" and not blank and self._after_blank == len(self._parts) > 0:
            yield self._take(len(self._parts))
        while self._length + len(line) > self._size and self._parts:
            best = self._after_blank or self._after_line or self._before_fence
            yield self._take(best or len(self._parts))
        while len(line) > self._size:
            end = _last_space(line, self._size)
            yield line[:end]
            line = line[end:]
        if line:
            self._append(line, blank)

    def rest(self) -> Iterator[str]:
        if self._parts:
            yield self._take(len(self._parts))

    def _append(self, line: str, blank: bool) -> None:
        self._parts.append(line)
        self._length += len(line)
        if self._fenced:
            self._track_fence(line)
        far_enough = self._at == "blank-lines" or self._length >= self._size // 2
        if self._fence or not far_enough:
            return
        self._after_line = len(self._parts)
        if blank:
            self._after_blank = len(self._parts)

    def _track_fence(self, line: str) -> None:
        marks = _FENCE.match(line)
        if marks is None:
            return
        if not self._fence:
            self._fence, self._before_fence = marks[1], len(self._parts) - 1
        elif marks[1].startswith(self._fence) and not line[marks.end() :].strip():
            self._fence, self._before_fence = "", 0

    def _take(self, parts: int) -> str:
        document = "".join(self._parts[:parts])
        self._parts = self._parts[parts:]
        self._length -= len(document)
        self._after_blank = self._after_line = self._before_fence = 0
        return document


def _last_space(line: str, size: int) -> int:
    """Where to end a part of a line without a better place: behind the last space of its second half."""
    return line.rfind(" ", size // 2, size) + 1 or size
