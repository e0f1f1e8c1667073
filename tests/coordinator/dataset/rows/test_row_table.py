"""The tables of rows in docs/DATA.md are what the programs do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.record_notation import outcome

DATA = Path(__file__).parents[4] / "docs" / "DATA.md"
SHORT = {
    "Q": '{"role": "user", "content": "Q"}',
    "A": '{"role": "assistant", "content": "A"}',
    "T": '{"type": "function", "function": {"name": "w", "parameters": {}}}',
    "W": '{"name": "w", "arguments": "{\\"c\\": 1}"}',
}
LINE = re.compile(r"\| `(?P<row>.+?)` \| (?:`(?P<text_field>[^`]+)`)? ?\| (?P<becomes>.+) \|")


class Case(NamedTuple):
    row: str
    text_field: str | None
    becomes: str


def cases() -> list[Case]:
    rows = DATA.read_text(encoding="utf-8").partition("\n## Rows\n")[2].partition("\n## ")[0]
    return [Case(*match.group("row", "text_field", "becomes")) for match in LINE.finditer(rows)]


def expanded(row: str) -> object:
    """The row with the table's abbreviations written out."""
    whole = re.sub(r'(?<!["\w])([QATW])(?!["\w])', lambda match: SHORT[match[1]], row)
    return json.loads(re.sub(r"json\(([^()]*)\)", lambda match: json.dumps(match[1]), whole))


def test_the_tables_hold_the_abbreviations_and_many_kinds_of_rows() -> None:
    text = DATA.read_text(encoding="utf-8")
    assert all(f"`{written}`" in text for written in SHORT.values())
    assert len(cases()) > 100
    assert len({*cases()}) == len(cases())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.row[:60])
def test_a_row_of_the_table(case: Case) -> None:
    assert outcome(expanded(case.row), case.text_field) == case.becomes
