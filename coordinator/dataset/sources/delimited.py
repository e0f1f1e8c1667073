"""Reads CSV and TSV: the first line names the fields."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.encoding import NOT_UTF8, invalid_byte
from coordinator.dataset.sources.lines import IS_TOO_LONG, LONGEST, TOO_LONG_FIX, numbered

_DELIMITERS = ",;\t|"
_QUOTE_FIX = 'Put the whole field between double quotes, and double each quote in it: "She said ""no""."'


def delimited(stream: BinaryIO, name: str, delimiter: str | None) -> Iterator[Row | BadRow]:
    """A row for each record, as an object of strings.

    delimiter: None to take the most frequent of comma, semicolon, tab and bar in the first line, as in the
    exports of spreadsheets. A record with too few or too many fields is a bad row. Raises DatasetError for a
    header that cannot be used, and for a quote that is never closed: no row after it can be found.
    """
    lines = _Lines(stream, name)
    first = next(lines, "")
    header = _header(first, name, delimiter)
    csv.field_size_limit(LONGEST)
    reader = csv.reader(lines, delimiter=_delimiter(first, delimiter), strict=True)
    while True:
        start = lines.number + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DatasetError(
                    f"{name}:{start} opens a quote that is never closed", fix=_QUOTE_FIX
                ) from None
            yield BadRow(f"{name}:{start}", f"it is not valid CSV: {error}", _QUOTE_FIX)
            continue
        if fields is None:
            return
        if fields:
            yield _row(header, fields, f"{name}:{start}")


class _Lines:
    """The lines as text, counted; a record may take several."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._lines, self._name = numbered(stream), name
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if line is None:
            raise DatasetError(f"{self._name}:{self.number} {IS_TOO_LONG}", fix=TOO_LONG_FIX)
        return line.decode(errors="surrogateescape")


def _delimiter(first: str, delimiter: str | None) -> str:
    return delimiter or max(_DELIMITERS, key=first.count)


def _header(first: str, name: str, delimiter: str | None) -> list[str]:
    """The names of the fields. A nameless one is called as its position, such as `column 1`."""
    names = next(csv.reader([first], delimiter=_delimiter(first, delimiter)), [])
    if invalid_byte(first):
        raise DatasetError(f"{name}:1 is not UTF-8", fix=NOT_UTF8)
    header = [each.strip() or f"column {number}" for number, each in enumerate(names, start=1)]
    twice = sorted({each for each in header if header.count(each) > 1})
    if twice:
        raise DatasetError(f"{name}:1 names the field `{twice[0]}` twice", fix="Rename one of the two.")
    return header


def _row(header: list[str], fields: list[str], where: str) -> Row | BadRow:
    if len(fields) != len(header):
        return BadRow(where, f"it has {len(fields)} fields, and line 1 names {len(header)}", _QUOTE_FIX)
    fault = next(filter(None, map(invalid_byte, fields)), None)
    if fault is not None:
        return BadRow(where, f"{fault[1]} is not UTF-8", NOT_UTF8)
    return Row(dict(zip(header, fields, strict=True)), where)
