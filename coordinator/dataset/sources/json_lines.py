"""Reads JSON lines: a JSON value on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.encoding import NOT_UTF8
from coordinator.dataset.sources.lines import IS_TOO_LONG, TOO_LONG_FIX, numbered


def json_lines(stream: BinaryIO, name: str) -> Iterator[Row | BadRow]:
    """A row for each line that is not blank. A line that cannot be parsed is a bad row."""
    for number, line in numbered(stream):
        if line is None:
            yield BadRow(f"{name}:{number}", f"it {IS_TOO_LONG}", TOO_LONG_FIX)
        elif not line.isspace():
            yield _row(line, f"{name}:{number}")


def _row(line: bytes, where: str) -> Row | BadRow:
    try:
        return Row(json.loads(line.strip().decode()), where)
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8"
        return BadRow(where, found, NOT_UTF8)
    except RecursionError:
        return BadRow(where, "it is nested too deeply", "Write flatter JSON.")
    except json.JSONDecodeError as error:
        problem = f"it is not valid JSON at column {error.colno}: {error.msg}"
        return BadRow(where, problem, "Write one JSON object per line.")
    except ValueError as error:  # a number of thousands of digits
        return BadRow(where, f"it is not usable: {error}", "Shorten the number.")
