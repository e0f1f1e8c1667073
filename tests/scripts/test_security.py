"""docs/SECURITY.md: each test that it names exists, and each attack in tests/attacks has a row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = (
    (ROOT / "docs" / "SECURITY.md")
    .read_text(encoding="utf-8")
    .partition("## Attacks")[2]
    .partition("\n## ")[0]
)
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][1:]
OUTCOMES = (
    "bounded",
    "dropped",
    "folders",
    "it finds",
    "left",
    "no close",
    "not followed",
    "printed as text",
    "proved",
    "reads nothing",
    "rejected",
    "suspended",
)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3
    assert row[1].startswith(OUTCOMES)
    named = re.findall(r"`([^`:]+)::(\w+)`", row[2])
    assert named, "no test attacks so"
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {name}"


def test_every_attack_has_a_row() -> None:
    files = {f"tests/attacks/{path.name}" for path in (ROOT / "tests" / "attacks").glob("test_*.py")}
    assert files - set(re.findall(r"`([^`:]+)::", SECTION)) == set()
