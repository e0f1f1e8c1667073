"""Content-addressed files: every read returns the bytes that the name hashes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from barnraise.contract.pieces import PIECE_BYTES, Wanted, piece_list, pieces_hash
from barnraise.core.errors import DiskFull, FileDamaged, HashMismatch, MachineError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, blob_hash
from barnraise.runtime.blob_store import Absent, BlobStore, Intact, SetAside, file_hash
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import Batch

DATA = b"two barns" * 1000
NAME = blob_hash(DATA)


def described(name: BlobHash, pieces: BlobHash = NAME) -> Wanted:
    return Wanted(name, len(DATA), pieces, PublicKey("0" * 64))


TRUE, FALSE = (described(NAME, pieces) for pieces in (pieces_hash(DATA), pieces_hash(b"other")))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_stored_blob_is_read(store: BlobStore) -> None:
    assert NAME not in store
    assert store.put(DATA) == NAME
    assert NAME in store
    assert (store.get(NAME), store.size(NAME)) == (DATA, len(DATA))


def test_putting_twice_keeps_one_file(store: BlobStore, tmp_path: Path) -> None:
    store.put(DATA)
    store.put(bytearray(DATA))
    assert everything(tmp_path) == [store.path(NAME)]


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"y" + d[1:], lambda _: b""]
)
@pytest.mark.parametrize("how", ["get", "check"])
def test_a_damaged_blob_is_set_aside_and_can_be_stored_again(
    store: BlobStore, tmp_path: Path, spoil: Callable[[bytes], bytes], how: str
) -> None:
    store.put(DATA)
    store.path(NAME).write_bytes(spoil(DATA))
    if how == "get":
        with pytest.raises(FileDamaged):
            store.get(NAME)
    else:
        assert isinstance(store.check(NAME), SetAside)
    assert store.check(NAME) == Absent()
    (aside,) = (tmp_path / DAMAGED).iterdir()
    assert aside.read_bytes() == spoil(DATA)
    assert aside.name.endswith(f"Z-{NAME}")
    store.put(DATA)
    assert (store.get(NAME), store.check(NAME)) == (DATA, Intact())


def test_a_blob_that_the_disk_cannot_read_is_damaged(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(DATA)

    def fail(_: Path) -> bytes:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(FileDamaged):
        store.get(NAME)
    assert NAME not in store


def test_the_oldest_damaged_files_are_removed_above_the_limit_but_never_the_newest(tmp_path: Path) -> None:
    damaged = DamagedFiles(tmp_path / DAMAGED, keep_bytes=25)
    for second, size in enumerate((10, 10, 10, 30)):
        file = tmp_path / f"file-{second}"
        file.write_bytes(bytes(size))
        damaged.set_aside(file, datetime(2026, 1, 1, 0, 0, second, tzinfo=timezone.utc))
        sizes = [path.stat().st_size for path in sorted((tmp_path / DAMAGED).iterdir())]
        assert sizes == ([10], [10, 10], [10, 10], [30])[second]


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", NAME.upper(), NAME[:-1], NAME + "0", "/" + NAME, NAME[:-1] + "\0"]
)
def test_a_name_that_is_not_a_hash_is_refused(store: BlobStore, name: str) -> None:
    with pytest.raises(HashMismatch, match="not a SHA-256"):
        store.path(BlobHash(name))


def test_a_complete_download_is_accepted(store: BlobStore) -> None:
    part = store.partial(NAME)
    part.write_bytes(DATA[:10])
    with store.partial(NAME).open("ab") as file:
        file.write(DATA[10:])
    assert NAME not in store
    assert store.accept(NAME) == store.path(NAME)
    assert store.get(NAME) == DATA
    assert not part.exists()


@pytest.mark.parametrize("got", [DATA[:-1], b"other", b""])
def test_a_download_of_other_bytes_is_removed(store: BlobStore, got: bytes, tmp_path: Path) -> None:
    store.partial(NAME).write_bytes(got)
    with pytest.raises(HashMismatch, match="asked for"):
        store.accept(NAME)
    assert NAME not in store
    assert everything(tmp_path) == []


def test_a_piece_list_is_computed_once_and_again_where_it_is_truncated(store: BlobStore) -> None:
    data = bytes(PIECE_BYTES) + b"x"
    name = store.put(data)
    assert store.piece_list(name) == piece_list(data)
    store.listing(name).write_bytes(piece_list(data)[:-1])
    assert store.piece_list(name) == piece_list(data)
    assert store.listing(name).read_bytes() == piece_list(data)
    assert store.piece_list(store.put(b"")) == b""


def test_a_download_in_pieces_is_accepted_or_removed(store: BlobStore) -> None:
    with pytest.raises(Unreachable, match="was removed"):
        store.accept_pieces(TRUE)
    store.in_pieces(FALSE).write_bytes(DATA[:-1])
    store.claimed_listing(FALSE).write_bytes(b"false")
    store.in_pieces(TRUE).write_bytes(DATA)
    store.claimed_listing(TRUE).write_bytes(piece_list(DATA))
    with pytest.raises(HashMismatch, match="asked for"):
        store.accept_pieces(FALSE)
    assert store.accept_pieces(TRUE) == store.path(NAME)
    assert store.get(NAME) == DATA
    assert store.listing(NAME).read_bytes() == piece_list(DATA)
    assert set(everything(store.folder)) == {store.path(NAME), store.listing(NAME)}


def test_an_adopted_file_remains_when_its_first_name_is_removed(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(DATA)
    with Batch() as batch:
        assert store.adopt(file, batch) == NAME == file_hash(file)
    file.unlink()
    assert store.get(NAME) == DATA


def test_a_file_is_copied_where_links_are_not_supported(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "model.bin").write_bytes(DATA)
    with Batch() as batch:
        store.adopt(tmp_path / "model.bin", batch)
    assert store.get(NAME) == DATA


def test_all_other_blobs_are_removed(store: BlobStore, tmp_path: Path) -> None:
    kept, gone = store.put(b"kept"), store.put(b"gone")
    store.partial(NAME).write_bytes(DATA[:5])
    store.in_pieces(TRUE).write_bytes(DATA[:5])
    for name in (kept, gone):
        store.piece_list(name)
    store.keep_only({kept})
    assert (kept in store, gone in store) == (True, False)
    assert set(everything(tmp_path)) == {store.path(kept), store.listing(kept)}
    store.remove(kept)
    store.remove(kept)
    assert everything(tmp_path) == []


def test_only_downloads_that_went_on_lately_are_resumed(store: BlobStore, tmp_path: Path) -> None:
    old, new, whole = (blob_hash(data) for data in (b"old", b"new", DATA))
    store.put(DATA)
    store.piece_list(whole)
    for name in (old, new):
        claimed = store.claimed_listing(described(name))
        for path in (store.partial(name), store.in_pieces(described(name)), claimed):
            path.write_bytes(b"x")
            os.utime(path, (100, 100) if name == old else (200, 200))
    store.remove_stale_downloads(before=150)
    kept = {store.partial(new), store.in_pieces(described(new)), store.claimed_listing(described(new))}
    assert set(everything(tmp_path)) == kept | {store.path(whole), store.listing(whole)}


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EACCES, MachineError)]
)
def test_a_full_disk_raises_and_leaves_no_partial_file(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[MachineError]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(error) as caught:
        store.put(DATA)
    assert caught.value.exit_code == 3
    assert NAME not in store
    assert everything(tmp_path) == []
