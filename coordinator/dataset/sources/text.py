"""Reads plain text and Markdown as documents."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.documents import LARGEST, Cutting, cut
from coordinator.dataset.sources.encoding import NOT_UTF8, invalid_byte

_PART = 1 << 16
"""Characters of a line that are read at a time."""


def text_documents(
    stream: BinaryIO, name: str, cutting: Cutting, *, markdown: bool
) -> Iterator[Row | BadRow]:
    """A row for each document of a text file; line ends become `\\n`."""
    with io.TextIOWrapper(stream, "utf-8", "surrogateescape") as reader:
        lines = iter(partial(reader.readline, _PART), "")
        line = 1
        for number, document in enumerate(cut(lines, cutting, fenced=markdown)):
            if number == 1 and cutting.at == "file":
                raise DatasetError(
                    f"{name} is longer than {LARGEST >> 20} MiB, which is too long for one document",
                    fix='Set `documents = "size"` under [data] in run.toml.',
                )
            yield _row(document, name, line)
            line += document.count("\n")


def _row(document: str, name: str, line: int) -> Row | BadRow:
    fault = invalid_byte(document)
    if fault is not None:
        return BadRow(_place(document, fault[0], name, line), f"{fault[1]} is not UTF-8", NOT_UTF8)
    if "\0" in document:
        return BadRow(
            _place(document, document.index("\0"), name, line), "it contains a NUL byte", "Remove it."
        )
    return Row(document, f"{name}:{line}")


def _place(document: str, position: int, name: str, line: int) -> str:
    return f"{name}:{line + document.count(chr(10), 0, position)}"
