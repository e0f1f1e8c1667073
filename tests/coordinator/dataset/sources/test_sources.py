"""Reading rows from files, folders and the Hub."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from barnraise.contract.spec import DataSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.records import Chat, Message, Text
from coordinator.dataset.sources.read import read
from tests.support.datasets import write_lines


def test_a_folder_is_read_in_sorted_order_without_hidden_and_blank_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("z.txt", "b/a.md", "a.txt", ".git/x.txt", "picture.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / "blank.txt").write_text(" \n")
    write_lines(tmp_path / "c.jsonl", [{"body": "c"}])
    found = list(read(DataSpec(source=str(tmp_path), text_field="body")))
    assert found == [Text("a.txt"), Text("b/a.md"), Text("c"), Text("z.txt")]


def test_unreadable_sources_are_reported(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b")
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00")
    for source, words in (
        ("none.txt", "does not exist"),
        ("d.csv", "unknown kind"),
        ("d.txt", "cannot read"),
    ):
        with pytest.raises(DatasetError, match=words):
            list(read(DataSpec(source=str(tmp_path / source))))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds none of"):
        list(read(DataSpec(source=str(tmp_path / "empty"))))


@pytest.mark.parametrize(("source", "module"), [("d.parquet", "pyarrow"), ("hub:owner/name", "datasets")])
def test_a_missing_extra_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, module: str
) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    place = source if source.startswith("hub:") else str(tmp_path / source)
    with pytest.raises(DatasetError, match="not installed") as caught:
        list(read(DataSpec(source=place)))
    assert ".[data]" in caught.value.fix


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the `data` extra is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    parquet.write_table(pyarrow.table({"messages": [messages]}), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"not parquet")
    spec = DataSpec(source=str(tmp_path / "d.parquet"))
    assert list(read(spec)) == [Chat((Message("user", "Q"), Message("assistant", "A")))]
    with pytest.raises(DatasetError, match="cannot read"):
        list(read(spec.model_copy(update={"source": str(tmp_path / "e.parquet")})))
