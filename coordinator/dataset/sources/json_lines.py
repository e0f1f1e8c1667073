"""Reads JSON lines: a JSON value on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from coordinator.dataset.rows.field_values import shown
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.encoding import NOT_UTF8
from coordinator.dataset.sources.json_values import JsonValues, names_twice, unwrapped
from coordinator.dataset.sources.lines import CR_FIX, IS_TOO_LONG, TOO_LONG_FIX, numbered

COMMENTS = ("//", "#", "/*")
_LINE_FIX = "Write one JSON object per line."
_MARK = "\ufeff"
"""A byte order mark: files that were joined have it in their middle."""


def json_lines(stream: BinaryIO, name: str) -> Iterator[Row | BadRow]:
    """A row for each line that is not blank. A line that cannot be parsed is a bad row."""
    values = JsonValues()
    for number, line in numbered(stream):
        if line is None:
            yield BadRow(f"{name}:{number}", f"it {IS_TOO_LONG}", TOO_LONG_FIX)
        elif not line.isspace():
            yield _row(line, f"{name}:{number}", values)


def _row(line: bytes, where: str, values: JsonValues) -> Row | BadRow:
    text = ""
    try:
        text = line.decode().strip().removeprefix(_MARK)
        value = unwrapped(values.decode(text), values)
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8"
        return BadRow(where, found, NOT_UTF8)
    except RecursionError:
        return BadRow(where, "it is nested too deeply", "Write flatter JSON.")
    except json.JSONDecodeError as error:
        return BadRow(where, *_fault(text, error))
    except ValueError as error:  # a number of thousands of digits
        return BadRow(where, f"it is not usable: {error}", "Shorten the number.")
    twice = values.take_twice()
    return names_twice(where, twice) if twice is not None else Row(value, where)


def _fault(line: str, error: json.JSONDecodeError) -> tuple[str, str]:
    """What is wrong with a line, and what to do."""
    if line.startswith(COMMENTS):
        return "it is a comment, which JSON does not have", "Remove the line."
    if error.msg != "Extra data":
        return f"it is not valid JSON at column {error.colno}: {error.msg}", _LINE_FIX
    if "\r" in line:
        return "its lines end with CR alone", CR_FIX
    rest = line[error.pos :]
    fix = "Remove the comma at the end of each line." if rest == "," else _LINE_FIX
    return f"after its JSON value, at column {error.colno}, follows `{shown(rest)}`", fix
