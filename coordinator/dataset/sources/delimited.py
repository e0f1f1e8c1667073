"""Reads CSV and TSV: the first line names the fields."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.encoding import NOT_UTF8, invalid_byte
from coordinator.dataset.sources.lines import CR_FIX, IS_TOO_LONG, LONGEST, TOO_LONG_FIX, numbered

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r"sep=[,;\t|]\s*")
"""The line by which Excel names the delimiter."""
_SHORT_FIX = "Write an empty field for each that is missing, with its delimiter."
_UNCLOSED = "opens a quote that is never closed"
_QUOTE_FIX = 'Put the whole field between double quotes, and double each quote in it: "She said ""no""."'


def delimited(stream: BinaryIO, name: str, delimiter: str | None) -> Iterator[Row | BadRow]:
    """A row for each record, as an object of strings.

    delimiter: None to find it among comma, semicolon, tab and bar, as in the exports of spreadsheets. A
    record with too few or too many fields is a bad row. Raises DatasetError for a header that cannot be used,
    and for a quote that is never closed: no row after it can be found.
    """
    lines = _Lines(stream, name)
    first = next((line for line in lines if not line.isspace()), "")
    if _SEPARATOR.fullmatch(first):
        delimiter, first = first[len("sep=")], next(lines, "")
    delimiter = delimiter or _delimiter(first, lines.peek())
    csv.field_size_limit(LONGEST)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    header = _header(first, f"{name}:{lines.number}", reader)
    while True:
        start = lines.number + 1
        try:
            fields = next(reader, None)
        except _LineTooLong:
            if lines.number > start:  # inside quotes: where they end is not known
                raise
            yield BadRow(f"{name}:{start}", f"it {IS_TOO_LONG}", TOO_LONG_FIX)
            continue
        except csv.Error as error:
            if _is_unclosed(error):
                raise DatasetError(f"{name}:{start} {_UNCLOSED}", fix=_QUOTE_FIX) from None
            yield BadRow(f"{name}:{start}", f"it is not valid CSV: {error}", _QUOTE_FIX)
            continue
        if fields is None:
            return
        if fields:
            yield _row(header, fields, f"{name}:{start}")


def _is_unclosed(error: csv.Error) -> bool:
    return "unexpected end of data" in str(error)


class _LineTooLong(DatasetError):
    """A line is not read because of its length."""


class _Lines:
    """The lines as text, counted; a record may take several."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._lines, self._name = numbered(stream), name
        self._ahead: list[tuple[int, bytes | None]] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.number, line = self._ahead.pop() if self._ahead else next(self._lines)
        return self._decoded(line)

    def peek(self) -> str:
        """The next line, which is not consumed; empty at the end."""
        self._ahead += [found for found in [next(self._lines, None)] if found is not None]
        line = self._ahead[-1][1] if self._ahead else None
        return "" if line is None else self._decoded(line)

    def _decoded(self, line: bytes | None) -> str:
        if line is None:
            raise _LineTooLong(f"{self._name}:{self.number} {IS_TOO_LONG}", fix=TOO_LONG_FIX)
        return line.decode(errors="surrogateescape")


def _delimiter(first: str, second: str) -> str:
    """The most frequent one in the first line; those come first that divide the second line as often."""

    def rank(delimiter: str) -> tuple[bool, int]:
        fields = first.count(delimiter)
        return 0 < fields == second.count(delimiter), fields

    return max(_DELIMITERS, key=rank)


def _header(first: str, where: str, reader: Iterator[list[str]]) -> list[str]:
    """The names of the fields. A nameless one is called as its position, such as `column 1`."""
    if "\r" in first.rstrip("\r\n"):
        raise DatasetError(f"{where} ends its lines with CR alone", fix=CR_FIX)
    if invalid_byte(first):
        raise DatasetError(f"{where} is not UTF-8", fix=NOT_UTF8)
    try:
        names = next(reader, [])
    except csv.Error as error:
        problem = _UNCLOSED if _is_unclosed(error) else f"is not valid CSV: {error}"
        raise DatasetError(f"{where} {problem}", fix=_QUOTE_FIX) from None
    header = [each.strip() or f"column {number}" for number, each in enumerate(names, start=1)]
    twice = sorted({each for each in header if header.count(each) > 1})
    if twice:
        raise DatasetError(f"{where} names the field `{twice[0]}` twice", fix="Rename one of the two.")
    return header


def _row(header: list[str], fields: list[str], where: str) -> Row | BadRow:
    if len(fields) != len(header):
        found = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
        fix = _QUOTE_FIX if len(fields) > len(header) else _SHORT_FIX
        return BadRow(where, f"it has {found}, and the header names {len(header)}", fix)
    fault = next(filter(None, map(invalid_byte, fields)), None)
    if fault is not None:
        return BadRow(where, f"{fault[1]} is not UTF-8", NOT_UTF8)
    return Row(dict(zip(header, fields, strict=True)), where)
