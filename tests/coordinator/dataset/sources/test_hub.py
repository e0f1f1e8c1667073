"""Reading datasets of the Hugging Face Hub, whose folders are read as local ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import errors

from barnraise.contract.spec import DataSpec, SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import Row
from coordinator.dataset.sources import hub, read
from coordinator.dataset.sources.documents import Cutting
from coordinator.dataset.sources.folder import read_card
from coordinator.dataset.sources.hub import HubCommit
from coordinator.dataset.sources.read import find_data, open_source
from tests.support.data_files import FILES


@dataclass(frozen=True)
class FolderCommit(HubCommit):
    """A commit whose files are in a folder."""

    folder: Path = Path()

    def card(self) -> dict[str, object] | None:
        return read_card(self.folder / "README.md")

    def fetch(self, names: tuple[str, ...]) -> Path:
        return self.folder


def test_the_configurations_and_splits_of_the_hub_are_those_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILES["configs"][1](tmp_path)
    names = tuple(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    found = FolderCommit("owner/name", "abc", names, tmp_path)
    monkeypatch.setattr(read, "find_commit", lambda repo, revision: found)
    source = SourceSpec(source="hub:owner/name", config="en", split="test")
    opened = open_source(source)
    assert opened.spec.revision == "abc"
    assert (
        next(row.where for row in opened.rows(Cutting()) if isinstance(row, Row))
        == "hub:owner/name/en/test.jsonl:1"
    )
    with pytest.raises(DatasetError) as caught:
        open_source(source.model_copy(update={"config": None}))
    assert "several configurations, and none is the default: en, fr" in caught.value.problem
    data = DataSpec(sources=(source, SourceSpec(source=str(tmp_path))))
    assert [each.revision for each in find_data(data).all_sources] == ["abc", None]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (errors.GatedRepoError, "is gated"),
        (errors.RevisionNotFoundError, "no branch, tag or commit `v1`"),
        (errors.RepositoryNotFoundError, "no dataset owner/name, or it is private"),
        (ConnectionError, "cannot be fetched"),
    ],
)
def test_what_the_hub_refuses_is_named(failure: type[Exception], words: str) -> None:
    def ask() -> None:
        raise failure.__new__(failure)

    with pytest.raises(DatasetError) as caught:
        hub._asked("owner/name", "v1", ask)
    assert words in caught.value.problem
