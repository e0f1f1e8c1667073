"""Responses to ranges and conditions, by RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.gateway.byte_ranges import (
    FullContent,
    NotModified,
    PartialContent,
    RangeNotSatisfiable,
    http_date,
    select_content,
)

TAG, MODIFIED, SIZE = '"abc"', 1_700_000_000, 1000
BEFORE, AFTER = http_date(MODIFIED - 1), http_date(MODIFIED + 1)


def asked(size: int = SIZE, method: str = "GET", **headers: str) -> object:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return select_content(method, named, size, TAG, MODIFIED)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes=0-0", PartialContent(0, 1)),
        ("bytes=0-", PartialContent(0, 1000)),
        ("bytes=400-499", PartialContent(400, 500)),
        ("bytes=999-", PartialContent(999, 1000)),
        ("bytes=400-99999999999999999999999", PartialContent(400, 1000)),
        ("bytes=-1", PartialContent(999, 1000)),
        ("bytes=-5000", PartialContent(0, 1000)),
        ("Bytes = 3-4", PartialContent(3, 5)),
        ("bytes=1000-", RangeNotSatisfiable()),
        ("bytes=99999999999999999999999999-", RangeNotSatisfiable()),
        ("bytes=" + "9" * 10_000 + "-", RangeNotSatisfiable()),
        ("bytes=5-4", RangeNotSatisfiable()),
        ("bytes=-0", RangeNotSatisfiable()),
        ("bytes=-", RangeNotSatisfiable()),
        ("bytes=", RangeNotSatisfiable()),
        ("bytes=x-y", RangeNotSatisfiable()),
        ("bytes=1_0-", RangeNotSatisfiable()),
        ("bytes=-1-2", RangeNotSatisfiable()),
        ("bytes=\u0663-", RangeNotSatisfiable()),
        ("bytes=0-1,5-6", FullContent()),
        ("pages=1-2", FullContent()),
        ("nonsense", FullContent()),
    ],
)
def test_ranges(text: str, wanted: object) -> None:
    assert asked(range=text) == wanted


def test_unsatisfiable_ranges_get_a_416() -> None:
    assert asked(size=0, range="bytes=0-") == RangeNotSatisfiable()
    assert asked(size=0) == FullContent()


def test_only_get_has_ranges() -> None:
    assert asked(method="HEAD", range="bytes=0-0") == FullContent()


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        (TAG, PartialContent(5, 1000)),
        (http_date(MODIFIED), PartialContent(5, 1000)),
        ('"other"', FullContent()),
        (f"W/{TAG}", FullContent()),
        (BEFORE, FullContent()),
        (AFTER, FullContent()),
        ("", FullContent()),
    ],
)
def test_if_range_requires_the_same_file(condition: str, wanted: object) -> None:
    assert asked(range="bytes=5-", if_range=condition) == wanted


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"if_none_match": TAG}, True),
        ({"if_none_match": "*"}, True),
        ({"if_none_match": f'"x", W/{TAG}'}, True),
        ({"if_none_match": '"x"'}, False),
        ({"if_none_match": ""}, False),
        ({"if_modified_since": http_date(MODIFIED)}, True),
        ({"if_modified_since": AFTER}, True),
        ({"if_modified_since": BEFORE}, False),
        ({"if_modified_since": "yesterday"}, False),
        ({"if_modified_since": "Mon, 01 Jan 99999 00:00:00 GMT"}, False),
        # The tag takes precedence over the date.
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, False),
        ({"if_none_match": TAG, "if_modified_since": BEFORE, "range": "bytes=0-0"}, True),
    ],
)
def test_an_unchanged_file_gets_a_304(headers: dict[str, str], same: bool) -> None:
    assert (asked(SIZE, "GET", **headers) == NotModified()) is same


TEXTS = st.one_of(st.text(), st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}", fullmatch=True))


@given(TEXTS, TEXTS, TEXTS, TEXTS, st.integers(0, 2000))
def test_every_range_is_within_the_file(text: str, none: str, since: str, condition: str, size: int) -> None:
    found = asked(size, range=text, if_none_match=none, if_modified_since=since, if_range=condition)
    if isinstance(found, PartialContent):
        assert 0 <= found.start < found.stop <= size
    for headers in ({"range": text}, {"if_modified_since": since}):
        found = asked(size, **headers)
        if isinstance(found, PartialContent):
            assert 0 <= found.start < found.stop <= size
