"""Reading JSON: lines, arrays, objects around them; in blocks."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import AnyRow, BadRow, OtherSplitRow, Row
from coordinator.dataset.sources import delimited, json_text, lines
from coordinator.dataset.sources.json_document import is_document, json_document
from coordinator.dataset.sources.json_lines import json_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)
OBJECTS = st.dictionaries(
    st.text(), st.text() | st.floats(allow_nan=False) | st.dictionaries(st.text(), VALUES)
)


def document(data: bytes) -> list[AnyRow]:
    return list(json_document(io.BytesIO(data), "f", None))


@given(st.lists(VALUES), st.sampled_from([None, 1]), st.integers(1, 40))
def test_an_array_is_read_in_blocks_of_any_size(values: list[object], indent: int | None, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_BLOCK", block)
        rows = document(json.dumps(values, indent=indent, ensure_ascii=False).encode(errors="surrogatepass"))
    assert [row.value for row in rows if isinstance(row, Row)] == values


@settings(max_examples=50)
@given(st.lists(OBJECTS, min_size=1, max_size=4))
def test_concatenated_objects_over_several_lines_are_rows(values: list[dict[str, object]]) -> None:
    rows = document("\n".join(json.dumps(value, indent=1) for value in values).encode())
    assert [row.value for row in rows if isinstance(row, Row)] == values


def test_rows_have_the_lines_of_their_elements() -> None:
    rows = document(b'{\n"version": 1,\n"data": [\n{"a": 1},\n\n{"a":\n2}\n]\n}')
    assert rows == [Row({"a": 1}, "f:4"), Row({"a": 2}, "f:6")]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "Q"}]},
        {"turns": [{"from": "human", "value": "Q"}]},
        {"messages": [], "tools": [{"type": "function"}]},
        {"text": "x", "entities": [{"start": 1}]},
    ],
)
def test_a_record_with_a_list_of_objects_is_one_row(record: object) -> None:
    assert document(json.dumps(record, indent=1).encode()) == [Row(record, "f:1")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ('"text"', False),
        ('{"a": 1}\n{"a": 2}', False),
        ('{"a": 1}', True),
        ("[1]\n[2]", False),
        ("[1,\n2]", True),
        ("[{}]", True),
        ('\n [\n{"a": 1}]', True),
        ('{\n"a": 1}', True),
        ('{"a": \n{"a": 1}', False),
        ('{"a": ', False),
        ("{'a': 1}\n{'a': 2}", False),
    ],
)
def test_the_first_lines_tell_lines_from_a_document(text: str, expected: bool) -> None:
    assert is_document(text.encode()) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"a": 1}\n{"a": 2}]', "f:2 is not valid JSON: expecting ',' or ']', found '{'"),
        ('[{"a": 1},\n', "f:2 is not valid JSON: Expecting value"),
        ('[{"a": 1}] x', "f:1 is not valid JSON: expecting an object, found 'x'"),
        ('{"a": 1', "f:1 is not valid JSON: expecting ',' or '}', found the end"),
        ('{"a" 1}', "f:1 is not valid JSON: expecting ':', found '1'"),
        ("{1: 2}", "f:1 is not valid JSON: expecting '\"', found '1'"),
        ("[" * 100_000, "f:1 is nested too deeply"),
        ('{"data": [{"a": 1}], "text": "b"}', "holds both the list `data` and fields of a record"),
    ],
)
def test_a_fault_of_the_syntax_refuses_a_document(text: str, problem: str) -> None:
    with pytest.raises(DatasetError) as caught:
        document(text.encode())
    assert problem in caught.value.problem


def test_a_line_that_is_too_long_is_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 20)
    data = b'{"a": 1}\n' + b"x" * 50 + b'\n{"a": 2}'
    first, long, last = json_lines(io.BytesIO(data), "f")
    assert (first, last) == (Row({"a": 1}, "f:1"), Row({"a": 2}, "f:3"))
    assert isinstance(long, BadRow)
    assert long.where == "f:2"


def test_a_line_of_csv_that_is_too_long_is_a_bad_row_outside_of_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 20)
    monkeypatch.setattr(delimited, "LONGEST", 20)
    long = b"x" * 50 + b"\n"
    first, bad, last = delimited.delimited(io.BytesIO(b"a\n1\n" + long + b"2\n"), "f", ",")
    assert (first, last) == (Row({"a": "1"}, "f:2"), Row({"a": "2"}, "f:4"))
    assert isinstance(bad, BadRow)
    assert bad.where == "f:3"
    assert [row.where for row in delimited.delimited(io.BytesIO(b"a\n" + long), "f", ",") if row] == ["f:2"]
    for refused in (b'a\n"1\n' + long + b'2"\n', long + b"1\n"):
        with pytest.raises(DatasetError):
            list(delimited.delimited(io.BytesIO(refused), "f", ","))


@pytest.mark.parametrize("line", ["[" * 100_000, "1" * 5000, '{"a": "\udce9"}'])
def test_a_line_that_cannot_be_parsed_is_a_bad_row(line: str) -> None:
    (row,) = json_lines(io.BytesIO(line.encode(errors="surrogateescape")), "f")
    assert isinstance(row, BadRow)
    assert row.where == "f:1"


def test_the_lists_of_an_object_are_splits_where_they_are_called_so() -> None:
    text = json.dumps({"train": [{"a": 1}], "val": [{"a": 2}], "test": [{"a": 3}]}).encode()
    rows = json_document(io.BytesIO(text), "f", None, ("train", "validation"))
    assert list(rows) == [Row({"a": 1}, "f:1"), Row({"a": 2}, "f:1"), OtherSplitRow("test")]


def test_an_object_has_one_list_of_no_split() -> None:
    for lists in ({"train": [{"a": 1}], "more": [{"a": 2}]}, {"more": [{"a": 1}], "train": [{"a": 2}]}):
        with pytest.raises(DatasetError):
            document(json.dumps(lists).encode())
    assert document(b'{"more": [{"a": 1}], "test": [{"a": 2}]}') == [
        Row({"a": 1}, "f:1"),
        OtherSplitRow("test"),
    ]
