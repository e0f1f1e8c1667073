"""The table of files and folders in docs/DATA.md is what the programs do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.data_files import FILES, outcome

DATA = Path(__file__).parents[4] / "docs" / "DATA.md"
LINE = re.compile(r"\| `(?P<name>[^`]+)` \| (?P<what>.+) \| (?P<becomes>.+) \|")


def table() -> dict[str, tuple[str, str]]:
    """(what it is, what it becomes) by the name of the file or folder."""
    section = DATA.read_text(encoding="utf-8").partition("\n## Files\n")[2].partition("\n## ")[0]
    return {line["name"]: (line["what"], line["becomes"]) for line in LINE.finditer(section)}


def test_the_table_lists_every_case() -> None:
    cases = {name: what for name, (what, _) in FILES.items()}
    assert {name: what for name, (what, _) in table().items()} == cases


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_table(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    FILES[name][1](tmp_path / name)
    assert outcome(tmp_path / name, f"{tmp_path}/") == table()[name][1]
