"""`peer download` from an archive with altered or missing files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barnraise.contract.archive import CHARTER, INDEX
from barnraise.contract.manifest import MANIFEST
from barnraise.core.errors import BadSignature, HashMismatch, MalformedRecord
from coordinator.store.run_store import RunStore
from peer.archive.sources import Missing
from tests.support import parts
from tests.support.coordinators import LARGE, archive, checkpoint, files_in, train_round
from tests.support.downloading import all_of, got, in_folder


@pytest.mark.parametrize("place", [0, 350_000, 699_999])
def test_a_flipped_byte_is_refused_by_name_and_removed(store: RunStore, tmp_path: Path, place: int) -> None:
    blob = checkpoint(store) / LARGE
    whole = blob.read_bytes()
    blob.unlink()  # a hard link to the store's blob
    blob.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(HashMismatch, match=LARGE) as refused:
        got(store, tmp_path / "out")
    assert refused.value.exit_code == 5
    assert not any(LARGE in name for name in files_in(tmp_path / "out"))
    assert MANIFEST not in files_in(tmp_path / "out"), "an incomplete folder has a manifest"
    blob.write_bytes(whole)
    assert files_in(got(store, tmp_path / "out")) == all_of(store)


def test_a_flipped_byte_of_any_file_is_refused(store: RunStore, tmp_path: Path) -> None:
    for number, name in enumerate(sorted(set(all_of(store)) - {CHARTER, "manifest.json"})):
        file = checkpoint(store) / name
        whole = file.read_bytes()
        file.unlink()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises((HashMismatch, BadSignature)) as refused:
            in_folder(store, tmp_path / str(number))
        assert name == MANIFEST or name in refused.value.problem
        file.write_bytes(whole)


def test_a_missing_manifest_that_the_index_names_is_an_error(store: RunStore, tmp_path: Path) -> None:
    (checkpoint(store) / MANIFEST).unlink()
    with pytest.raises(Missing, match=MANIFEST):
        got(store, tmp_path / "out")


def test_a_missing_file_is_an_error(store: RunStore, tmp_path: Path) -> None:
    (checkpoint(store) / LARGE).unlink()
    with pytest.raises(Missing, match=LARGE):
        in_folder(store, tmp_path / "out")
    assert MANIFEST not in files_in(tmp_path / "out")


def test_an_old_checkpoint_under_a_new_name_is_refused(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.ADA)
    index = (archive(store) / INDEX).read_text(encoding="utf-8")
    (archive(store) / INDEX).write_text(index.replace("round-000001", "round-000000"), encoding="utf-8")
    with pytest.raises(MalformedRecord, match="form of round-0 as the trained form of round-1"):
        in_folder(store, tmp_path / "out", revision="1")


def test_another_manifest_than_the_index_names_is_refused(store: RunStore, tmp_path: Path) -> None:
    index = json.loads((archive(store) / INDEX).read_bytes())
    index["repos"][0]["revisions"][0]["manifest"] = parts.HASH_A
    (archive(store) / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(HashMismatch, match="another one than"):
        in_folder(store, tmp_path / "out")


@pytest.mark.parametrize("folder", ["../other", "/etc", "checkpoints/../..", "a/b/c", ""])
def test_an_index_that_leads_out_of_the_archive_is_refused(
    store: RunStore, tmp_path: Path, folder: str
) -> None:
    index = json.loads((archive(store) / INDEX).read_bytes())
    index["repos"][0]["revisions"][0]["folder"] = folder
    (archive(store) / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(MalformedRecord, match="folder"):
        in_folder(store, tmp_path / "out")


@pytest.mark.parametrize("index", [b"", b"{", b"[]", b"<!doctype html>", b"[" * 100_000, b"\xff\xfe"])
def test_an_unreadable_index_is_an_error(store: RunStore, tmp_path: Path, index: bytes) -> None:
    (archive(store) / INDEX).write_bytes(index)
    with pytest.raises(MalformedRecord, match=INDEX):
        in_folder(store, tmp_path / "out")
