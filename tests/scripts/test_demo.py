"""The parts of `scripts/demo` that need no run."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, ArchiveIndex, Repo, Revision, folder_of
from barnraise.core.ids import blob_hash
from coordinator.run_folder import ARCHIVE
from scripts.demo import wait_until_public
from scripts.stage import DemoFailed
from tests.support.parts import AUTHORITY


@pytest.fixture
def coordinator(tmp_path: Path) -> Path:
    """A coordinator's folder whose archive has the checkpoint of round 3."""
    revision = Revision(folder=folder_of("trained", 3), manifest=blob_hash(b""), round=3, names=("main",))
    repo = Repo(id="demo/demo", kind="model", form="trained", revisions=(revision,))
    index = ArchiveIndex(
        version=2, run="demo", authority=AUTHORITY.public, closed=4, replay_from=0, repos=(repo,)
    )
    (tmp_path / ARCHIVE).mkdir()
    (tmp_path / ARCHIVE / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    return tmp_path


def test_a_checkpoint_in_the_archive_is_public(coordinator: Path) -> None:
    wait_until_public(coordinator, 3)


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_checkpoint_that_is_not_published_in_time_fails_the_demo(
    coordinator: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("scripts.demo.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("scripts.demo.time.sleep", lambda _: None)
    with pytest.raises(DemoFailed, match="round 4"):
        wait_until_public(coordinator / folder, 4)
