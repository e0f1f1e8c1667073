"""What a file server answers when asked for a file: all of it, a part, or nothing (RFC 9110). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

_RANGE = re.compile(r"^([0-9]*)-([0-9]*)$")
MAX_DIGITS = 18
"""Numbers of more digits than any file's size are cut to a number that is as absurd."""


@dataclass(frozen=True)
class FullContent:
    pass


@dataclass(frozen=True)
class PartialContent:
    start: int
    stop: int
    """The byte after the last one."""


@dataclass(frozen=True)
class NotModified:
    """The asker has it already."""


@dataclass(frozen=True)
class RangeNotSatisfiable:
    """No byte of the file is in the range that was asked for, or it is no range."""


Decision = FullContent | PartialContent | NotModified | RangeNotSatisfiable


def select_content(method: str, headers: Mapping[str, str], size: int, etag: str, modified: int) -> Decision:
    """headers: of the request, by lower-case name. etag: in its quotes. modified: in seconds since 1970."""
    if _unchanged(headers, etag, modified):
        return NotModified()
    wanted = headers.get("range")
    if wanted is None or method != "GET":
        return FullContent()
    condition = headers.get("if-range")
    if condition is not None and condition not in (etag, http_date(modified)):
        return FullContent()
    unit, equals, ranges = wanted.partition("=")
    if not equals or unit.strip().lower() != "bytes" or "," in ranges:
        return FullContent()  # another unit, or many ranges: a server may ignore them
    return _part(ranges.strip(), size)


def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _unchanged(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    held = headers.get("if-none-match")
    if held is not None:
        return held.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in held.split(","))
    since = headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return modified <= parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):
        return False  # no date: as if it had not been sent


def _part(text: str, size: int) -> PartialContent | RangeNotSatisfiable:
    match = _RANGE.match(text)
    if match is None or text == "-":
        return RangeNotSatisfiable()
    first, last = match.groups()
    if first:
        start, stop = _number(first), min(_number(last) + 1, size) if last else size
    else:
        start, stop = max(0, size - _number(last)), size
    return PartialContent(start, stop) if start < stop else RangeNotSatisfiable()


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_DIGITS else 10**MAX_DIGITS
