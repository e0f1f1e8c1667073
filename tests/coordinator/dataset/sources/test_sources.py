"""Reading rows from files, folders and the Hub."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from barnraise.contract.spec import DataSpec, SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.records import Chat, Message, Text
from coordinator.dataset.sources.documents import Cutting
from coordinator.dataset.sources.read import find_data, open_source, open_sources, read, repetitions
from coordinator.reasons.source_files import DescribesData, HiddenFile, UnknownKind
from tests.support.data_files import FILES
from tests.support.datasets import write_lines


def spec_of(source: str | Path, **fields: str) -> SourceSpec:
    return SourceSpec.model_validate({"source": str(source), **fields})


def refused(source: str | Path, **fields: str) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        list(open_source(spec_of(source, **fields)).rows(Cutting()))
    return caught.value


def test_a_folder_is_read_in_sorted_order_without_hidden_and_blank_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("z.txt", "b/a.md", "a.txt", ".git/x.txt", "picture.png", "LICENSE"):
        (tmp_path / name).write_text(name)
    (tmp_path / "blank.txt").write_text(" \n")
    write_lines(tmp_path / "c.jsonl", [{"body": "c"}])
    found = list(read(DataSpec(source=str(tmp_path), text_field="body")))
    assert found == [Text("a.txt"), Text("b/a.md"), Text("c"), Text("z.txt")]
    report = open_source(SourceSpec(source=str(tmp_path))).report
    assert report.taken.examples == ("a.txt", "b/a.md", "blank.txt", "c.jsonl", "z.txt")
    assert {(each.reason, each.files.examples) for each in report.skipped} == {
        (DescribesData(), ("LICENSE",)),
        (UnknownKind(".png"), ("picture.png",)),
        (HiddenFile(), (".git/",)),
    }


def test_records_of_several_sources_follow_each_other(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a.jsonl", [{"text": "a"}])
    second = write_lines(tmp_path / "b.jsonl", [{"body": "b"}])
    sources = (SourceSpec(source=str(first)), SourceSpec(source=str(second), text_field="body"))
    assert list(read(DataSpec(sources=sources))) == [Text("a"), Text("b")]


@pytest.mark.parametrize(("weight", "fewest", "most"), [(0.25, 200, 300), (1, 1000, 1000), (2.5, 2450, 2550)])
def test_a_weight_repeats_records_by_their_digests(weight: float, fewest: int, most: int) -> None:
    digests = [Text(f"{number}").digest(0) for number in range(1000)]
    times = [repetitions(digest, weight) for digest in digests]
    assert fewest <= sum(times) <= most
    assert set(times) <= {int(weight), int(weight) + 1}
    assert times == [repetitions(digest, weight) for digest in digests]


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        ("owner/name", 'source = "hub:owner/name"'),
        ("datasets/owner/name", 'source = "hub:owner/name"'),
        ("https://huggingface.co/datasets/owner/na.me", 'source = "hub:owner/na.me"'),
        ("https://huggingface.co/datasets/owner/name/", 'source = "hub:owner/name"'),
        ("https://huggingface.co/datasets/owner/name/tree/main/data", 'source = "hub:owner/name"` in'),
        (
            "https://huggingface.co/datasets/owner/name/resolve/v1.0/train.jsonl?download=true",
            'source = "hub:owner/name"` and `revision = "v1.0"`',
        ),
        ("hf://datasets/owner/name@v2", 'source = "hub:owner/name"` and `revision = "v2"`'),
        ("hub:https://hf.co/datasets/owner/name", 'source = "hub:owner/name"'),
        ("hub:datasets/owner/name", 'source = "hub:owner/name"'),
        ("hub:a b", 'source = "hub:owner/name"'),
        ("https://example.org/rows.jsonl", "Download it"),
        ("s3://bucket/rows.jsonl", "Download it"),
        ("nobody", "Correct `source`"),
        ("~nosuchuser/rows.jsonl", "Correct `source`"),
        ("a\0b", "Correct `source`"),
        ("x" * 4000, ""),
    ],
)
def test_a_source_that_is_no_path_is_refused_with_what_it_probably_means(source: str, fix: str) -> None:
    assert fix in refused(source).fix


def test_a_revision_of_what_is_not_on_the_hub_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    spec = DataSpec(source=str(tmp_path / "rows.jsonl"), revision="main")
    for find in (open_sources, find_data):
        with pytest.raises(DatasetError) as caught:
            find(spec)
        assert "Remove `revision`" in caught.value.fix


def test_a_misspelled_path_suggests_the_name_that_exists(tmp_path: Path) -> None:
    (tmp_path / "Chats.jsonl").write_text("{}")
    assert f"`{tmp_path}/Chats.jsonl`" in refused(tmp_path / "chat.jsonl").fix


def test_what_cannot_be_read_twice_or_at_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not a regular file" in refused("/dev/null").problem
    (tmp_path / "tilde.txt").write_text("text")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source(SourceSpec(source="~/tilde.txt")).report.taken.count == 1

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)
    found = refused(tmp_path)
    assert f"cannot read {tmp_path}: Permission denied" in found.problem
    assert "chmod" in found.fix


def test_a_configuration_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert "Remove `config`" in refused(tmp_path / "a.txt", config="en").fix


def test_each_configuration_and_split_of_a_card_has_its_own_files(tmp_path: Path) -> None:
    FILES["configs"][1](tmp_path)

    def taken(**fields: str) -> tuple[str, ...]:
        return open_source(spec_of(tmp_path, **fields)).report.taken.examples

    assert taken(config="en") == ("en/train-0.jsonl",)
    assert taken(config="en", split="test") == ("en/test.jsonl",)
    assert taken(config="en", split="train+test") == ("en/test.jsonl", "en/train-0.jsonl")
    assert taken(config="fr") == ("fr/a.jsonl",)
    assert "it has: en, fr" in refused(tmp_path, config="de").problem
    assert "it has: train" in refused(tmp_path, config="fr", split="test").problem
    assert 'config = "en"' in refused(tmp_path).fix


def test_a_malformed_card_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')
    (tmp_path / "README.md").write_text("---\nconfigs: [\n---\n")
    assert "not valid YAML" in refused(tmp_path).problem
    (tmp_path / "README.md").write_text("---\nconfigs: 5\n---\n")
    assert "malformed" in refused(tmp_path).problem


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.jsonl.zst"])
def test_a_missing_extra_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = refused(tmp_path / name)
    assert "not installed" in found.problem
    assert ".[data]" in found.fix


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the `data` extra is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    parquet.write_table(pyarrow.table({"messages": [messages]}), tmp_path / "d.parquet")
    spec = DataSpec(source=str(tmp_path / "d.parquet"))
    assert list(read(spec)) == [Chat((Message("user", "Q"), Message("assistant", "A")))]
