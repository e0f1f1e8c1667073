"""Which bytes of a file a request gets: all, a part, or none (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

_RANGE = re.compile(r"^([0-9]*)-([0-9]*)$")
MAX_DIGITS = 18
"""Longer numbers exceed any file's size: they count as 10^18."""


@dataclass(frozen=True)
class FullContent:
    """200: the whole file."""


@dataclass(frozen=True)
class PartialContent:
    """206: bytes [start, stop)."""

    start: int
    stop: int


@dataclass(frozen=True)
class NotModified:
    """304: the client has this version."""


@dataclass(frozen=True)
class RangeNotSatisfiable:
    """416: the range is malformed, or contains no byte of the file."""


Content = FullContent | PartialContent | NotModified | RangeNotSatisfiable


def select_content(method: str, headers: Mapping[str, str], size: int, etag: str, modified: int) -> Content:
    """headers: of the request, by lower-case name. etag: with its quotes. modified: in seconds since 1970."""
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
        return FullContent()  # another unit, or several ranges: a server may ignore them
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
        return False  # not a date: the header is ignored


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
