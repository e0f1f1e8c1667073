"""Reads JSON that is not written line by line, in bounded memory.

The rows are the elements of an array, the values of concatenated JSON, or the elements of the list of objects
in an object such as {"version": 1, "data": [...]}, or those of the splits that are trained on in one such as
{"train": [...], "test": [...]}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from coordinator.dataset.rows.row import AnyRow, BadRow, OtherSplitRow, Row
from coordinator.dataset.sources.json_text import JsonText
from coordinator.dataset.sources.json_values import names_twice
from coordinator.dataset.sources.splits import TRAIN, split_called

HEAD = 1 << 20
"""Bytes at the start of a file that decide how its JSON is written."""
_OF_RECORDS = frozenset(("messages", "conversations", "conversation", "prompt", "completion", "instruction"))
_OF_RECORDS |= {"output", "input", "text", "chosen", "rejected", "tools", "functions", "history", "question"}
_OF_RECORDS |= {"answer", "response"}
"""Fields that a record has, not an object around all records."""
_OF_MESSAGES = frozenset(("role", "from", "content", "value"))
_COMMENTS = re.compile(r"\A(\s*(//|#)[^\n]*\n|\s*/\*.*?\*/)+", re.DOTALL)
_NO_COMMENTS = "Remove the comments: JSON has none."
_ONE_LIST = "Write the records of each list into a file of its own."


def is_document(head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD` bytes, or all of it) is not JSON lines."""
    text = _COMMENTS.sub("", head.decode(errors="surrogateescape")).lstrip()
    line, _, rest = text.partition("\n")
    rest = rest.strip()
    if not text.startswith(("[", "{")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        # The first line is not a value. The second distinguishes an object on several lines from a bad row.
        return text[0] == "[" or ((bool(rest) or len(head) >= HEAD) and not rest.startswith("{"))
    return not rest


def json_document(
    stream: BinaryIO, name: str, text_field: str | None, splits: Sequence[str] = (TRAIN,)
) -> Iterator[AnyRow]:
    """The rows of a JSON text.

    splits: those that are trained on, of an object with a list of records for each. Raises DatasetError at
    the first fault of the syntax: where the next row begins is unknown then.
    """
    text = JsonText(stream, name)
    of_records = _OF_RECORDS | {(text_field or "text").partition(".")[0]}
    while start := text.peek():
        if start == "[":
            yield from _elements(text)
        elif start == "{":
            yield from _object(text, of_records, splits)
        elif start in "/#":
            text.fail("begins a comment", _NO_COMMENTS)
        else:
            text.fail(f"is not valid JSON: expecting an object, found {start!r}")
        if text.peek() == ",":
            text.take(",")


def _elements(text: JsonText) -> Iterator[Row | BadRow]:
    text.take("[")
    end = text.take("]") if text.peek() == "]" else ""
    while not end or end == ",":
        if end and text.peek() == "]":
            text.fail("ends the list after a comma", "Remove the comma after the last element.")
        yield text.row()
        end = text.take(",]")


def _object(text: JsonText, of_records: frozenset[str], splits: Sequence[str]) -> Iterator[AnyRow]:
    """A record, or the records in the lists of an object around them."""
    where = text.where
    fields: dict[str, Any] = {}
    faults: list[BadRow] = []
    lists = _Lists(text, splits)
    text.take("{")
    end = text.take("}") if text.peek() == "}" else ""
    while end != "}":
        key = str(text.value()) if text.peek() == '"' else text.take('"')
        text.take(":")
        if text.peek() == "[" and not of_records & {key, *fields} and _holds_records(text):
            yield from lists.rows(key)
        else:
            found = text.row()
            faults += [found] if isinstance(found, BadRow) else []
            faults += [names_twice(where, key)] if key in fields else []
            fields[key] = found.value if isinstance(found, Row) else None
        end = text.take(",}")
    if not lists.names:
        yield faults[0] if faults else Row(fields, where)
    elif of_records & fields.keys():
        text.fail(
            f"ends an object that holds both the list `{lists.names[0]}` and fields of a record", _ONE_LIST
        )


class _Lists:
    """The lists of records in an object: one of any name, or one for each split."""

    def __init__(self, text: JsonText, splits: Sequence[str]) -> None:
        self._text, self._splits = text, splits
        self.names: list[str] = []
        self._taken: list[str] = []

    def rows(self, key: str) -> Iterator[AnyRow]:
        """The rows of the list that begins here."""
        self.names.append(key)
        split = split_called(key, self._splits)
        if split is not None and split not in self._splits:
            yield from (OtherSplitRow(split) for _ in _elements(self._text))
            return
        self._taken.append(key)
        if len(self._taken) > 1 and None in (split_called(name, self._splits) for name in self._taken):
            first = self._taken[0]
            self._text.fail(f"begins a second list of records, `{key}` after `{first}`", _ONE_LIST)
        yield from _elements(self._text)


def _holds_records(text: JsonText) -> bool:
    """Whether the list that begins here holds objects that are no messages."""
    first = text.first_of_list()
    return isinstance(first, dict) and not _OF_MESSAGES & first.keys()
