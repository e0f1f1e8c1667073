"""Destinations that cannot be published to: reported with a fix, and left unchanged."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from barnraise.contract.archive import INDEX
from barnraise.core.errors import (
    BarnraiseError,
    DiskFull,
    MachineError,
    RefusedError,
    StateError,
    Unreachable,
    UserError,
)
from barnraise.runtime.files import disk_errors, replacing
from coordinator.publishing import destination
from coordinator.publishing.command import find_archive, publish
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import opened_store, raises_with_fix, train_round
from tests.support.mirrors import options, sent, trained, tree
from tests.support.parts import ADA


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with trained(tmp_path / "run") as made:
        yield made


def test_the_destination_of_another_run_is_left_alone(store: RunStore, tmp_path: Path) -> None:
    with opened_store(tmp_path / "other", parts.run_spec().model_copy(update={"name": "shed"})) as other:
        sent(other, tmp_path / "mirror")
        before = tree(tmp_path / "mirror")
        with raises_with_fix(UserError, 2, "shed", "its own destination"):
            sent(store, tmp_path / "mirror")
        assert tree(tmp_path / "mirror") == before


def test_an_older_copy_does_not_replace_a_newer_one(store: RunStore, tmp_path: Path) -> None:
    sent(store, tmp_path / "old")
    train_round(store, ADA, loss=1.1)
    sent(store, tmp_path / "mirror")
    with raises_with_fix(StateError, 7, "3 rounds", "only 2"):
        publish(tmp_path / "old", options(tmp_path / "mirror"), lambda _: None)


def test_a_full_disk_is_reported_and_leaves_no_partial_file(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Any:
        if path.name != "tokenizer.json":
            return replacing(path)
        with disk_errors(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(destination, "replacing", full)
    with pytest.raises(DiskFull):
        sent(store, tmp_path / "mirror")
    found = tree(tmp_path / "mirror")
    assert INDEX not in found
    assert not any("tokenizer" in path for path in found)


class Bucket(MemoryFileSystem):
    """A file system that refuses with the errors of S3's."""

    protocol = "bucket"
    refusal: OSError

    def put_file(self, *_: object, **__: object) -> None:
        raise self.refusal


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (PermissionError("Access Denied"), RefusedError, "Log in with an account that may write"),
        (FileNotFoundError("The specified bucket does not exist"), UserError, "Create the bucket"),
        (OSError("Could not connect"), Unreachable, "it resumes"),
    ],
)
def test_a_refusing_file_system_is_reported(
    store: RunStore, refusal: OSError, kind: type[BarnraiseError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "refusal", refusal, raising=False)
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    with raises_with_fix(kind, kind.exit_code, "bucket://barn", words):
        sent(store, "bucket://barn")


def test_an_unusable_destination_is_reported(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with raises_with_fix(MachineError, 3, "s3://", "pip install '.[s3]'"):
        sent(store, "s3://bucket/barn")
    with raises_with_fix(UserError, 2, "nosuch://x", "hf://OWNER/NAME"):
        sent(store, "nosuch://x")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with raises_with_fix(MachineError, 3, "file"):
        sent(store, tmp_path / "file")


def test_a_run_is_found_by_its_name_or_folder(store: RunStore, tmp_path: Path) -> None:
    store.folder.rename(tmp_path / "barn")
    found = tmp_path / "barn" / "archive"
    assert find_archive("barn", tmp_path) == found
    assert find_archive(str(tmp_path / "barn"), tmp_path / "none") == found
    assert find_archive(str(found), tmp_path / "none") == found
    with raises_with_fix(UserError, 2, "no archive in 'shed'", str(tmp_path / "shed")):
        find_archive("shed", tmp_path)
