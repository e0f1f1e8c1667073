"""The parts of `scripts/demo` that need no run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, ArchiveIndex, Repo, Revision, folder_of
from barnraise.core.ids import blob_hash
from coordinator.run_folder import ARCHIVE
from scripts.demo import state_of, wait_until_public
from scripts.stage import DemoFailed, Program, wait_for
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


@pytest.fixture
def ended(tmp_path: Path) -> Program:
    """A volunteer's program that has ended."""
    log = tmp_path / "ada.log"
    log.write_text(
        "round 5: folding round 5 (loss 2.6, up 13 MB, down 11 MB, state 0123abcd)\n"
        "round 6: the run is over after 6 rounds (loss 2.6, up 13 MB, down 11 MB, state 4567cdef)\n"
        "13:05:18 left; up 13 MB, down 11 MB. The run is over after 6 rounds.\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    return Program("ada", process, log, tmp_path)


def test_a_volunteer_s_log_has_the_state_that_it_holds(ended: Program) -> None:
    assert state_of(ended) == "4567cdef"
    ended.log.write_text("joined demo\n", encoding="utf-8")
    assert state_of(ended) == ""


def test_a_line_is_waited_for_as_long_as_the_program_runs(ended: Program) -> None:
    assert wait_for(ended, r"after (\d+) rounds \(") == "6"
    with pytest.raises(DemoFailed, match="ada did not print 'the mean'"):
        wait_for(ended, "the mean")
