"""Reads JSON that is not written line by line, in bounded memory.

The rows are the elements of an array, the values of concatenated JSON, or the elements of the one list of
objects in an object such as {"version": 1, "data": [...]}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.json_text import JsonText

HEAD = 1 << 20
"""Bytes at the start of a file that decide how its JSON is written."""
_OF_RECORDS = frozenset(("messages", "conversations", "conversation", "prompt", "completion", "instruction"))
_OF_RECORDS |= {"output", "input", "text", "chosen", "rejected", "tools", "functions", "history", "question"}
_OF_RECORDS |= {"answer", "response"}
"""Fields that a record has, not an object around all records."""
_OF_MESSAGES = frozenset(("role", "from", "content", "value"))
_ONE_LIST = "Write the records of each list into a file of its own."


def is_document(head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD` bytes, or all of it) is not JSON lines."""
    text = head.decode(errors="surrogateescape").lstrip()
    line, _, rest = text.partition("\n")
    rest = rest.strip()
    if not text.startswith(("[", "{")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        # The first line is not a value. The second tells an object over several lines from a broken row.
        return text[0] == "[" or ((bool(rest) or len(head) >= HEAD) and not rest.startswith("{"))
    return not rest


def json_document(stream: BinaryIO, name: str, text_field: str | None) -> Iterator[Row | BadRow]:
    """Raises DatasetError at the first fault of the syntax: where the next row begins is unknown then."""
    text = JsonText(stream, name)
    of_records = _OF_RECORDS | {(text_field or "text").partition(".")[0]}
    while start := text.peek():
        if start == "[":
            yield from _elements(text)
        elif start == "{":
            yield from _object(text, of_records)
        else:
            text.fail(f"is not valid JSON: expecting an object, found {start!r}")
        if text.peek() == ",":
            text.take(",")


def _elements(text: JsonText) -> Iterator[Row | BadRow]:
    text.take("[")
    end = text.take("]") if text.peek() == "]" else ""
    while not end or end == ",":
        yield text.row()
        end = text.take(",]")


def _object(text: JsonText, of_records: frozenset[str]) -> Iterator[Row | BadRow]:
    """A record, or the records in the one list of an object around them."""
    where = text.where
    fields: dict[str, Any] = {}
    faults: list[BadRow] = []
    listed: str | None = None
    text.take("{")
    end = text.take("}") if text.peek() == "}" else ""
    while end != "}":
        key = str(text.value()) if text.peek() == '"' else text.take('"')
        text.take(":")
        if text.peek() == "[" and not of_records & {key, *fields} and _holds_records(text):
            if listed is not None:
                text.fail(f"begins a second list of records, `{key}` after `{listed}`", _ONE_LIST)
            listed = key
            yield from _elements(text)
        else:
            found = text.row()
            faults += [found] if isinstance(found, BadRow) else []
            fields[key] = found.value if isinstance(found, Row) else None
        end = text.take(",}")
    if listed is None:
        yield faults[0] if faults else Row(fields, where)
    elif of_records & fields.keys():
        text.fail(f"ends an object that holds both the list `{listed}` and fields of a record", _ONE_LIST)


def _holds_records(text: JsonText) -> bool:
    """Whether the list that begins here holds objects that are no messages."""
    first = text.first_of_list()
    return isinstance(first, dict) and not _OF_MESSAGES & first.keys()
