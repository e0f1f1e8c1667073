"""A JSON text that is parsed value by value, with only the part in memory that is parsed next."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, BinaryIO, NoReturn

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.encoding import NOT_UTF8, invalid_byte
from coordinator.dataset.sources.json_values import JsonValues, names_twice, unwrapped
from coordinator.dataset.sources.lines import IS_TOO_LONG, LONGEST

_BLOCK = 1 << 16
_NEAR_END = 16
"""Characters before the end of the buffer within which an error may come from the missing rest: more than in
the longest literal."""
_SPACE = re.compile(r"[ \t\r\n]*")
_FIX = "Correct it there, or write one JSON object per line: then only its line is a bad row."


class JsonText:
    """Parses a stream of UTF-8. Raises DatasetError, with file and line, for what is not JSON."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._values = JsonValues()
        self._text = ""
        self._at = 0
        self._kept: int | None = None
        self._line, self._line_at = 1, 0
        """The number of the line that holds this position; lines are counted once."""
        self._ended = False

    @property
    def where(self) -> str:
        """File and line of what is parsed next."""
        return self._place(self._at)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._refill():
                return ""

    def take(self, one_of: str) -> str:
        """The next character, which must be one of these."""
        found = self.peek()
        if not found or found not in one_of:
            expected = " or ".join(map(repr, one_of))
            self.fail(f"is not valid JSON: expecting {expected}, found {repr(found) if found else 'the end'}")
        self._at += 1
        return found

    def row(self) -> Row | BadRow:
        """The next value as a row; a bad one where it contains invalid bytes, or a field twice."""
        self.peek()
        where = self.where
        value, end = self._next()
        fault = invalid_byte(self._text[self._at : end])
        place = self._place(self._at + fault[0]) if fault else where
        self._at = end
        if fault:
            return BadRow(place, f"{fault[1]} is not UTF-8", NOT_UTF8)
        value = unwrapped(value, self._values)
        twice = self._values.take_twice()
        return names_twice(where, twice) if twice is not None else Row(value, where)

    def value(self) -> Any:
        """The next value."""
        self.peek()
        value, self._at = self._next()
        return value

    def first_of_list(self) -> Any:
        """The first element of the list that begins here, which is not consumed; None if it is no object."""
        self.peek()
        self._kept = self._at
        self.take("[")
        value = self.value() if self.peek() == "{" else None
        self._at, self._kept = self._kept, None
        return value

    def fail(self, problem: str, fix: str = _FIX) -> NoReturn:
        """Raise DatasetError for what is parsed next."""
        raise DatasetError(f"{self.where} {problem}", fix=fix)

    def _next(self) -> tuple[Any, int]:
        """The value that begins here, and the position behind it."""
        while True:
            try:
                self._values.take_twice()
                value, end = self._values.raw_decode(self._text, self._at)
            except RecursionError:
                self.fail("is nested too deeply")
            except json.JSONDecodeError as error:
                if self._is_final(error) or not self._refill():
                    where = self._place(error.pos)
                    raise DatasetError(f"{where} is not valid JSON: {error.msg}", fix=_FIX) from None
            except ValueError as error:  # a number of thousands of digits
                self.fail(f"is not usable: {error}")
            else:
                # A number may go on behind the buffer.
                whole = self._text[end - 1] in '"]}' or end < len(self._text) - _NEAR_END
                if whole or not self._refill():
                    return value, end

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether more text cannot remove the error."""
        return not error.msg.startswith("Unterminated") and error.pos < len(self._text) - _NEAR_END

    def _refill(self) -> bool:
        """Read on, and forget what was parsed; False at the end."""
        if self._ended:
            return False
        if len(self._text) - self._at > LONGEST:
            self.fail(IS_TOO_LONG)
        parsed = self._at if self._kept is None else self._kept
        self._place(max(parsed, self._line_at))
        block = self._stream.read(max(_BLOCK, len(self._text) - parsed))
        self._ended = not block
        self._text = self._text[parsed:] + self._decoder.decode(block, self._ended)
        self._at -= parsed
        self._line_at -= parsed
        self._kept = None if self._kept is None else 0
        return True

    def _place(self, at: int) -> str:
        if at < self._line_at:
            return f"{self._name}:{self._line - self._text.count(chr(10), at, self._line_at)}"
        self._line += self._text.count("\n", self._line_at, at)
        self._line_at = at
        return f"{self._name}:{self._line}"
