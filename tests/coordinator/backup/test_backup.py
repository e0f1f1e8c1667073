"""Backups of a run's folder, and the folders that are restored from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.core.errors import NewerVersion, StateError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.runtime.damaged import DAMAGED
from barnraise.runtime.files import UNFINISHED, write_atomic
from coordinator.audits.ledger_file import LedgerFile
from coordinator.backup import take
from coordinator.backup.manifest import BACKUP, needed_manifest
from coordinator.backup.restore import restore_backup
from coordinator.backup.take import take_backup
from coordinator.reasons.backup import BackupRestored, BackupTaken, JournalUsed
from coordinator.run_folder import (
    AUDIT_LEDGER,
    AUDIT_SECRET,
    AUDITS,
    AUTHORITY_KEY,
    CHAT_TEMPLATE,
    HELD_OUT,
    JOURNAL,
    VOTES,
)
from coordinator.store.journal import Journal, copy_journal
from coordinator.store.row_reader import find_charter
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, opened_store, train_round
from tests.support.parts import ADA, BEN


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run with two closed rounds and one accepted contribution."""
    with opened_store(tmp_path / "run") as store:
        write_atomic(store.folder / AUTHORITY_KEY, parts.AUTHORITY.seed, mode=0o600)
        (store.folder / VOTES).write_bytes(b"what a closer voted")
        (store.folder / HELD_OUT).mkdir()
        (store.folder / HELD_OUT / HELD_OUT_INDEX).write_bytes(b"{}")
        index = store.blobs.put(b"the index of the data")
        assert index != store.charter.data_index_hash, "the data of this run is lost"
        train_round(store, ADA, BEN)
        train_round(store, ADA, BEN)
        commit, blob = contribution(store, ADA, 7)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
        yield store


def backed_up(store: RunStore, target: Path, *, with_key: bool = True) -> BackupTaken:
    return take_backup(store.folder, target, lambda: parts.NOW, with_key=with_key)


def opened(folder: Path, base: Path) -> tuple[RunStore, Journal]:
    """What `serve` continues."""
    journal = Journal(folder / JOURNAL)
    charter = find_charter(journal.rows(), parts.AUTHORITY.public)
    assert charter is not None
    return RunStore.restore(parts.AUTHORITY, charter, base, folder, journal), journal


def inodes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in folder.glob("??/*")}


def continues(folder: Path, store: RunStore) -> None:
    """Assert that `folder` leads to the run of `store`, and that the run goes on there."""
    again, journal = opened(folder, store.base)
    try:
        assert again.state.hash() == store.state.hash()
        assert again.snapshot.tip == store.snapshot.tip
        assert again.snapshot.accepted.keys() == store.snapshot.accepted.keys()
        assert again.snapshot.checkpoints.keys() == store.snapshot.checkpoints.keys()
        assert not again.lost
        if BEN.public not in again.snapshot.accepted:
            commit, blob = contribution(again, BEN, 8)
            again.blobs.put(blob)
            again.accept(commit, parts.NOW)
        again.fold(again.close("goes on", parts.NOW))
    finally:
        journal.close()


def test_a_backup_of_a_running_coordinator_is_restored_elsewhere(store: RunStore, tmp_path: Path) -> None:
    taken = backed_up(store, tmp_path / "backup")
    assert taken.has_key
    assert taken.round == 2
    restored = restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert restored.key is None
    assert restored.journal is JournalUsed.BACKUP
    with_mark = Journal(tmp_path / "elsewhere" / JOURNAL)
    assert with_mark.behind == parts.NOW
    with_mark.close()
    continues(tmp_path / "elsewhere", store)
    assert not (tmp_path / "elsewhere" / VOTES).exists(), "votes are in no backup"
    assert not (tmp_path / "backup" / VOTES).exists()


def test_what_the_folder_lacks_is_named_and_the_rest_is_copied(store: RunStore, tmp_path: Path) -> None:
    taken = backed_up(store, tmp_path / "backup")
    index = store.charter.data_index_hash
    assert taken.lost == (f"blobs/{index[:2]}/{index}",)


def test_the_key_is_copied_only_on_demand_and_never_removed(store: RunStore, tmp_path: Path) -> None:
    assert not backed_up(store, tmp_path / "backup", with_key=False).has_key
    assert not (tmp_path / "backup" / AUTHORITY_KEY).exists()
    assert backed_up(store, tmp_path / "backup", with_key=True).has_key
    assert (tmp_path / "backup" / AUTHORITY_KEY).stat().st_mode & 0o77 == 0
    assert backed_up(store, tmp_path / "backup", with_key=False).has_key


def test_a_restored_folder_takes_the_key_from_a_file(store: RunStore, tmp_path: Path) -> None:
    backed_up(store, tmp_path / "backup", with_key=False)
    assert restore_backup(tmp_path / "backup", tmp_path / "without").key is not None
    key = store.folder / AUTHORITY_KEY
    assert restore_backup(tmp_path / "backup", tmp_path / "with", key).key is None
    assert (tmp_path / "with" / AUTHORITY_KEY).read_bytes() == key.read_bytes()
    stranger = tmp_path / "stranger.key"
    stranger.write_bytes(Identity.generate().seed)
    with pytest.raises(UserError):
        restore_backup(tmp_path / "backup", tmp_path / "other", stranger)


def test_a_later_backup_in_the_same_folder_copies_what_is_new(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backed_up(store, tmp_path / "backup")
    before = {
        path: path.stat().st_ino for path in (tmp_path / "backup" / "blobs").rglob("*") if path.is_file()
    }
    train_round(store, ADA, BEN)
    backed_up(store, tmp_path / "backup")
    after = inodes(tmp_path / "backup" / "blobs")
    assert {path for path in before if before[path] == after.get(path)}, "they are not copied again"
    assert len([*(tmp_path / "backup" / "journals").iterdir()]) == 1
    manifest = needed_manifest(tmp_path / "backup")
    there = {
        str(path.relative_to(tmp_path / "backup")) for path in (tmp_path / "backup" / "blobs").rglob("*/*")
    }
    assert there == {file.path for file in manifest.files if file.path.startswith("blobs/")}
    restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    continues(tmp_path / "elsewhere", store)


def test_the_ledger_of_audits_and_its_secret_are_backed_up_private_and_replace_no_newer_ones(
    store: RunStore, tmp_path: Path
) -> None:
    file, restored = LedgerFile(store.folder / AUDITS), LedgerFile(tmp_path / "elsewhere" / AUDITS)
    secret = file.secret()
    (store.folder / AUDIT_LEDGER).write_bytes(b"the ledger")
    backed_up(store, tmp_path / "backup")
    for path in (AUDIT_LEDGER, AUDIT_SECRET):
        assert (tmp_path / "backup" / path).stat().st_mode & 0o77 == 0
    restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert restored.secret() == secret
    assert (tmp_path / "elsewhere" / AUDIT_LEDGER).read_bytes() == b"the ledger"
    (tmp_path / "elsewhere" / AUDIT_LEDGER).write_bytes(b"a newer one")
    restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / AUDIT_LEDGER).read_bytes() == b"a newer one"


def test_files_that_retention_drops_meanwhile_are_not_lost(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_journal
    copies = 0

    def copy_and_train(path: Path, target: Path) -> None:
        nonlocal copies
        copy(path, target)
        copies += 1
        if copies == 1:
            for _ in range(4):
                train_round(store, ADA, BEN)
            dropped = store.snapshot.replay_from
            store.forget_contributions(dropped + 2, parts.NOW)

    monkeypatch.setattr(take, "copy_journal", copy_and_train)
    taken = backed_up(store, tmp_path / "backup")
    assert copies > 1
    assert taken.round == 6
    assert len(taken.lost) == 1, "the index of the data, which was never there"
    restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    continues(tmp_path / "elsewhere", store)


def test_an_interrupted_backup_leaves_the_older_one(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backed_up(store, tmp_path / "backup")
    older = needed_manifest(tmp_path / "backup")
    train_round(store, ADA, BEN)
    with monkeypatch.context() as patch:
        patch.setattr(take, "write_atomic", _killed)
        with pytest.raises(KeyboardInterrupt):
            backed_up(store, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert needed_manifest(tmp_path / "backup") == older
    again, journal = opened(tmp_path / "elsewhere", store.base)
    assert again.snapshot.round == older.round
    journal.close()


def test_a_first_backup_that_was_interrupted_is_continued(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.folder / CHAT_TEMPLATE).write_bytes(b"{{ messages }}")
    (store.folder / ADAPTER_CONFIG).write_bytes(b"{}")
    with monkeypatch.context() as patch:
        patch.setattr(take, "write_atomic", _killed)
        with pytest.raises(KeyboardInterrupt):
            backed_up(store, tmp_path / "backup", with_key=False)
    assert not (tmp_path / "backup" / BACKUP).exists()
    (tmp_path / "backup" / f"{UNFINISHED}x").mkdir()  # a killed program leaves its scratch folder
    backed_up(store, tmp_path / "backup")
    restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    continues(tmp_path / "elsewhere", store)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


# Folders that have something


def cut(path: Path) -> None:
    """Damage the journal at half of its rows."""
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4 : len(data) * 3 // 4 + 4096] = bytes(4096)
    path.write_bytes(data)


@pytest.fixture
def stopped(store: RunStore) -> RunStore:
    """The run, whose coordinator has ended."""
    store.journal.close()
    return store


def test_an_intact_journal_is_kept_and_lost_files_are_brought(store: RunStore, tmp_path: Path) -> None:
    backed_up(store, tmp_path / "backup")
    train_round(store, ADA, BEN)
    store.journal.close()
    lost = sorted(store.snapshot.names() & {BlobHash(path.name) for path in blobs(tmp_path / "backup")})[0]
    store.blobs.path(lost).unlink()
    restored = restore_backup(tmp_path / "backup", store.folder)
    assert restored.journal is JournalUsed.OWN
    assert lost in store.blobs
    journal = Journal(store.folder / JOURNAL)
    assert journal.behind is None
    journal.close()
    continues(store.folder, store)


def test_the_journal_of_another_run_is_kept(store: RunStore, tmp_path: Path) -> None:
    backed_up(store, tmp_path / "backup")
    with opened_store(tmp_path / "other", genesis=parts.state(seed=5)) as other:
        other.journal.close()
        with pytest.raises(UserError):
            restore_backup(tmp_path / "backup", other.folder)


def blobs(folder: Path) -> list[Path]:
    return [*(folder / "blobs").glob("??/*")]


def test_a_damaged_journal_is_set_aside_and_other_files_are_kept(stopped: RunStore, tmp_path: Path) -> None:
    backed_up(stopped, tmp_path / "backup")
    name = BlobHash(next(iter(stopped.snapshot.names())))
    blob = stopped.blobs.path(name)
    blob.write_bytes(b"damaged")
    before = inodes(stopped.blobs.folder)
    (stopped.folder / JOURNAL).write_bytes(b"no journal")
    restored = restore_backup(tmp_path / "backup", stopped.folder)
    assert restored.journal is JournalUsed.BACKUP
    changed = inodes(stopped.blobs.folder).items() - before.items()
    assert [path for path, _ in changed] == [blob]
    aside = {path.name.partition("-")[2] for path in (stopped.folder / DAMAGED).iterdir()}
    assert aside >= {JOURNAL, name}
    continues(stopped.folder, stopped)


def test_intact_rows_of_a_damaged_journal_are_used_where_they_are_more(
    store: RunStore, tmp_path: Path
) -> None:
    backed_up(store, tmp_path / "backup")
    for _ in range(6):
        train_round(store, ADA, BEN)
    store.journal.close()
    cut(store.folder / JOURNAL)
    restored = restore_backup(tmp_path / "backup", store.folder)
    assert restored.journal is JournalUsed.SALVAGED
    again, journal = opened(store.folder, store.base)
    assert again.snapshot.round > 2
    assert journal.behind is not None
    journal.close()


def test_a_journal_without_its_write_ahead_log_is_replaced(store: RunStore, tmp_path: Path) -> None:
    """As a copy of the main file alone, which people make."""
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / JOURNAL).write_bytes((store.folder / JOURNAL).read_bytes())
    assert (store.folder / f"{JOURNAL}-wal").stat().st_size
    backed_up(store, tmp_path / "backup")
    restore_backup(tmp_path / "backup", lone)
    continues(lone, store)


# Backups that cannot be used


def edited(change: Callable[[str], str], folder: Path) -> None:
    path = folder / BACKUP
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text[:200], StateError),
        (lambda text: text.replace('"version": 1', '"version": 2', 1), NewerVersion),
        (lambda text: text.replace('"held-out/index.json"', '"../index.json"'), StateError),
        (lambda text: text.replace('"held-out/index.json"', f'"{VOTES}"'), StateError),
        (lambda text: text.replace('"held-out/index.json"', '"held-out/../../x"'), StateError),
    ],
)
def test_a_manifest_is_read_strictly(
    store: RunStore, tmp_path: Path, change: Callable[[str], str], error: type[Exception]
) -> None:
    backed_up(store, tmp_path / "backup")
    edited(change, tmp_path / "backup")
    with pytest.raises(error):
        restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / JOURNAL).exists()


def test_a_damaged_journal_in_a_backup_is_refused_and_a_damaged_file_is_named(
    store: RunStore, tmp_path: Path
) -> None:
    backed_up(store, tmp_path / "backup")
    manifest = needed_manifest(tmp_path / "backup")
    blob = next(file for file in manifest.files if file.path.startswith("blobs/"))
    (tmp_path / "backup" / blob.path).write_bytes(b"damaged")
    restored = restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert blob.path in restored.lost
    assert not (tmp_path / "elsewhere" / blob.path).exists()
    (tmp_path / "backup" / manifest.journal.path).write_bytes(b"damaged")
    with pytest.raises(StateError):
        restore_backup(tmp_path / "backup", tmp_path / "third")


def test_a_folder_without_a_backup_or_with_other_files_is_refused(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        restore_backup(tmp_path / "nothing", tmp_path / "elsewhere")
    full = tmp_path / "photos"
    full.mkdir()
    (full / "cat.jpg").write_bytes(b"")
    with pytest.raises(UserError):
        backed_up(store, full)
    with pytest.raises(UserError):
        take_backup(full, tmp_path / "backup", lambda: Millis(0))


def test_a_backup_of_another_run_is_not_overwritten(store: RunStore, tmp_path: Path) -> None:
    backed_up(store, tmp_path / "backup")
    edited(lambda text: text.replace(parts.AUTHORITY.public, ADA.public), tmp_path / "backup")
    with pytest.raises(UserError):
        backed_up(store, tmp_path / "backup")


def test_a_backup_of_a_newer_release_is_not_overwritten(store: RunStore, tmp_path: Path) -> None:
    backed_up(store, tmp_path / "backup")
    edited(lambda text: text.replace('"version": 1', '"version": 2', 1), tmp_path / "backup")
    with pytest.raises(NewerVersion):
        backed_up(store, tmp_path / "backup")


def test_restored_is_the_same_wherever_it_is_said(store: RunStore, tmp_path: Path) -> None:
    taken = backed_up(store, tmp_path / "backup")
    restored = restore_backup(tmp_path / "backup", tmp_path / "elsewhere")
    assert isinstance(restored, BackupRestored)
    assert (restored.run, restored.taken, restored.round) == (taken.run, taken.taken, taken.round)
