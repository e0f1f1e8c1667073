"""Cutting plain text into documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import DataSpec, SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import Row
from coordinator.dataset.sources import documents
from coordinator.dataset.sources.documents import Cutting, cut
from coordinator.dataset.sources.read import open_source

PIECE = st.sampled_from(["a", "bc ", " ", "\n", "\n\n", "```\n", "word " * 5, "x" * 40])
CUTTINGS = st.builds(Cutting, st.sampled_from(["size", "blank-lines", "file"]), st.integers(1, 60))


def documents_of(text: str, cutting: Cutting, *, fenced: bool = False) -> list[str]:
    return list(cut(text.splitlines(keepends=True), cutting, fenced=fenced))


@given(st.lists(PIECE, max_size=60), CUTTINGS, st.booleans())
def test_nothing_is_lost_and_no_document_is_too_long(
    pieces: list[str], cutting: Cutting, fenced: bool
) -> None:
    text = "".join(pieces)
    found = documents_of(text, cutting, fenced=fenced)
    assert "".join(found) == text
    assert all(0 < len(document) <= cutting.size for document in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short\n\ntext", ["short\n\ntext"]),
        ("a" * 12 + "\n\n" + "b" * 12 + "\n" + "c" * 9, ["a" * 12 + "\n\n", "b" * 12 + "\n", "c" * 9]),
        ("aaaa\n\n" + "b" * 9 + "\n" + "c" * 9 + "\n", ["aaaa\n\n" + "b" * 9 + "\n", "c" * 9 + "\n"]),
        ("one two three four five six", ["one two three four ", "five six"]),
        ("x" * 45, ["x" * 20, "x" * 20, "x" * 5]),
    ],
)
def test_a_document_ends_at_a_blank_line_else_a_line_else_a_space(text: str, expected: list[str]) -> None:
    assert documents_of(text, Cutting("size", 20)) == expected


def test_a_code_block_is_kept_together_where_it_fits() -> None:
    block = "```\na\n\nb\n\nc\n```\n"
    text = "# Title\n\ntext\n" + block
    assert documents_of(text, Cutting("size", 20), fenced=True) == ["# Title\n\ntext\n", block]
    assert documents_of(text, Cutting("size", 20))[0] != "# Title\n\ntext\n"


def test_documents_at_blank_lines_hold_a_paragraph_each() -> None:
    text = "one\nmore\n\n\ntwo\n \nthree"
    assert documents_of(text, Cutting("blank-lines", 1000)) == ["one\nmore\n\n\n", "two\n \n", "three"]


def test_a_document_of_a_sample_is_the_default() -> None:
    assert Cutting.of(DataSpec(source="x", sequence_length=100)) == Cutting("size", 400)
    assert Cutting.of(DataSpec(source="x", documents="file")).size == documents.LARGEST


def test_the_lines_of_documents_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo\r\nthree\r\n" + b"x" * 200_000 + b"\nfour")
    opened = open_source(SourceSpec(source=str(tmp_path / "a.txt")))
    rows = [row for row in opened.rows(Cutting("size", 12)) if isinstance(row, Row)]
    assert "".join(str(row.value) for row in rows) == "one\n\ntwo\nthree\n" + "x" * 200_000 + "\nfour"
    assert rows[1] == Row("three\n", f"{tmp_path}/a.txt:4")
    assert rows[-1] == Row("four", f"{tmp_path}/a.txt:6")


def test_a_file_that_is_too_long_for_one_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word\n" * 9)
    opened = open_source(SourceSpec(source=str(tmp_path / "a.txt")))
    assert [row.where for row in opened.rows(Cutting("file", 100)) if isinstance(row, Row)] == [
        f"{tmp_path}/a.txt:1"
    ]
    with pytest.raises(DatasetError) as caught:
        list(opened.rows(Cutting("file", 20)))
    assert 'documents = "size"' in caught.value.fix
