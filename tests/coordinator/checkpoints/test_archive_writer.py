"""The archive folder agrees with the run store, also after a crash at any step of an update."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    ArchiveIndex,
    contribution_path,
    entry_path,
    folder_of,
    parse_index,
)
from barnraise.contract.charter import Charter
from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.manifest import MANIFEST, Manifest, open_manifest
from barnraise.contract.records import blob_name
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.core.signed import open_signed, sign
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, opened_store, train_round
from tests.support.parts import ADA, AUTHORITY, BEN, STRANGER


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run that keeps one checkpoint in addition to those that it needs, and the log since a checkpoint."""
    spec = parts.run_spec()
    kept = spec.checkpoint.model_copy(update={"keep": 1, "log_gigabytes": 0.0, "rollback_rounds": 0})
    with opened_store(tmp_path / "coordinator", spec.model_copy(update={"checkpoint": kept})) as made:
        yield made


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: what files hold, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def published(store: RunStore, folder: Path, content: ArchiveContent | None = None) -> ArchiveIndex:
    return ArchiveWriter(store.charter, folder, store.blobs).write(
        content or ArchiveContent.of(store.snapshot, ())
    )


def sound(store: RunStore, folder: Path) -> ArchiveIndex:
    """The index of an archive, after a check of every file that it names."""
    index = parse_index((folder / INDEX).read_bytes())
    charter = open_signed(Charter, (folder / CHARTER).read_bytes(), signer=AUTHORITY.public).value
    for height in range(index.entries):
        close = parse_entry((folder / index.path_of(height)).read_bytes())
        assert isinstance(close, Close)
        assert close.run == charter.run
        for commit in open_commits(close) if close.round >= index.replay_from else ():
            blob = (folder / contribution_path(blob_name(commit))).read_bytes()
            assert blob_hash(blob) == commit.blob
    for repo in index.repos:
        for revision in repo.revisions:
            wire = (folder / revision.folder / MANIFEST).read_bytes()
            assert blob_hash(wire) == revision.manifest
            for entry in open_manifest(wire, run=parts.RUN, signers=Signers(AUTHORITY.public)).value.files:
                assert blob_hash((folder / revision.folder / entry.name).read_bytes()) == entry.hash
    trained = index.repo("trained")
    assert trained is not None
    assert index.replay_from in {0, *(revision.round for revision in trained.revisions)}
    return index


def test_the_archive_holds_what_the_store_has(store: RunStore) -> None:
    train_round(store, ADA, BEN, loss=3.0)
    train_round(store, ADA, loss=2.5)
    index = sound(store, archive(store))
    assert (index.run, index.authority, index.closed) == (parts.RUN, AUTHORITY.public, 2)
    repo = index.repo("trained")
    assert repo is not None
    assert repo.id == "barnraise/barn"
    assert repo.revisions[-1].names == ("round-2", "main", "latest", "best")


def test_main_and_best_stay_at_the_best_loss(store: RunStore) -> None:
    train_round(store, ADA, loss=2.0)
    train_round(store, BEN, loss=9.0)
    train_round(store, STRANGER, loss=8.0)
    repo = sound(store, archive(store)).repo("trained")
    assert repo is not None
    names = {revision.round: revision.names for revision in repo.revisions}
    assert names[1] == ("round-1", "main", "best")
    assert names[3] == ("round-3", "latest")
    assert 2 not in names, "it is neither among the newest nor needed"


def test_the_archive_drops_what_retention_dropped(store: RunStore) -> None:
    first = train_round(store, ADA, BEN)
    dropped = [contribution_path(blob_name(commit)) for commit in first.commits]
    train_round(store, ADA)
    index = sound(store, archive(store))
    assert index.replay_from > 0
    assert not any((archive(store) / path).exists() for path in dropped)
    assert not (archive(store) / folder_of("trained", 0)).exists()
    assert (archive(store) / entry_path(0, 0)).exists(), "closes stay"


def test_publishing_again_changes_nothing(store: RunStore) -> None:
    train_round(store, ADA)

    def inodes() -> dict[Path, int]:
        return {p: p.stat().st_ino for p in archive(store).rglob("*") if p.name != INDEX}

    before, places = tree(archive(store)), inodes()
    again = ArchiveWriter(store.charter, archive(store), store.blobs)
    for _ in range(2):
        again.write(ArchiveContent.of(store.snapshot, ()))
        assert tree(archive(store)) == before
        assert inodes() == places, "something was written again"


class Killed(BaseException):
    """The process was killed: later operations fail too, cleanup included."""


def kill_after(monkeypatch: pytest.MonkeyPatch, changes: int) -> None:
    """Fail every change to the disk after the next `changes`."""
    left = changes

    def guarded(change: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return change(*arguments, **more)

        return act

    for name in ("link", "replace", "rename", "unlink", "mkdir", "rmdir"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))


def test_a_crash_at_any_step_is_recovered_and_the_index_stays_valid(store: RunStore, tmp_path: Path) -> None:
    train_round(store, ADA, BEN, loss=3.0)
    before = tmp_path / "before"
    published(store, before)
    train_round(store, ADA, loss=2.9)
    train_round(store, STRANGER, loss=2.8)
    content = ArchiveContent.of(store.snapshot, ("https://mirror.example",))
    after = tmp_path / "after"
    shutil.copytree(before, after)
    published(store, after, content)
    expected, steps = tree(after), 0
    assert sound(store, after) != sound(store, before)
    for folder in (tmp_path / f"{n:03d}" for n in range(1000)):
        shutil.copytree(before, folder)
        with pytest.MonkeyPatch.context() as patched:
            kill_after(patched, steps)
            try:
                published(store, folder, content)
                break
            except Killed:
                pass
        sound(store, folder)
        published(store, folder, content)
        assert tree(folder) == expected, f"after a crash before change {steps}"
        steps += 1
    assert steps > 20, "a close, contributions, checkpoints and an index were expected"


def test_a_full_disk_is_reported_and_the_index_stays_valid(store: RunStore, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    published(store, folder)
    was = (folder / INDEX).read_bytes()
    train_round(store, ADA)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", full)
        patched.setattr(shutil, "copyfileobj", full)
        with pytest.raises(DiskFull, match="no space left"):
            published(store, folder)
    assert (folder / INDEX).read_bytes() == was
    assert not list(folder.rglob(".*")), "a partial file was left"
    published(store, folder)
    sound(store, folder)


def test_a_folder_that_the_run_did_not_sign_is_left_out(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    true = store.snapshot.newest_checkpoint.value
    folder = archive(store) / folder_of("merged", 0)
    for by, form in ((STRANGER, "merged"), (AUTHORITY, "gguf")):
        folder.mkdir(parents=True)
        wire = sign(by, Manifest(**{**dict(true), "form": form})).wire
        (folder / MANIFEST).write_bytes(wire)
        index = published(store, archive(store))
        assert [repo.form for repo in index.repos] == ["trained"], form
        shutil.rmtree(folder)
    assert "is left out of the archive" in caplog.text


def test_a_missing_blob_is_reported(store: RunStore, tmp_path: Path) -> None:
    lacking = replace(ArchiveContent.of(store.snapshot, ()), contributions={0: [BlobHash(parts.HASH_A)]})
    with pytest.raises(StateError, match=f"contributions/{parts.HASH_A}"):
        published(store, tmp_path / "one", lacking)
    entry = store.snapshot.newest_checkpoint.value.files[0]
    store.blobs.path(BlobHash(entry.hash)).unlink()
    with pytest.raises(StateError, match=f"round-000000/{entry.name}"):
        published(store, tmp_path / "two")
    assert not (tmp_path / "two" / INDEX).exists()
