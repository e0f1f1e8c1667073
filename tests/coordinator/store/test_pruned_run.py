"""A run whose journal has pruned its first rows: it restarts, is backed up, restored and recovered."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.records import JoinClaim
from barnraise.contract.spec import CheckpointSpec
from barnraise.core.signed import sign
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import write_atomic
from coordinator.backup.restore import restore_backup
from coordinator.backup.take import take_backup
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.reasons.backup import JournalUsed
from coordinator.recovery.opening import folder_facts
from coordinator.recovery.recover import Recovery, resume_after_recovery
from coordinator.run_folder import ARCHIVE, AUTHORITY_KEY, EARLIER, JOURNAL
from coordinator.store.completeness import journal_facts
from coordinator.store.events import Kind
from coordinator.store.journal import Journal, JournalDamaged
from coordinator.store.journal_salvage import salvage
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store, reopened, show, train_round

ROWS = 12
"""Rows from one snapshot to the next."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """Ten rounds, of which the first ones have no rows any more."""
    monkeypatch.setattr("coordinator.store.journal.SNAPSHOT_ROWS", ROWS)
    spec = parts.run_spec().model_copy(update={"checkpoint": CheckpointSpec(keep=2)})
    with opened_store(tmp_path / "run", spec) as made:
        claim = JoinClaim(run=parts.RUN, owner=parts.ADA.public, name="Ada", credit=True, at=parts.NOW)
        made.admit(sign(parts.ADA, claim), parts.NOW)
        write_atomic(made.folder / AUTHORITY_KEY, parts.AUTHORITY.seed, mode=0o600)
        go_on(made, 10)
        assert made.journal.pruned.rows > ROWS
        yield made


def go_on(store: RunStore, rounds: int) -> None:
    for _ in range(rounds):
        train_round(store, parts.ADA, parts.BEN)


def copied(store: RunStore, folder: Path) -> RunStore:
    shutil.copytree(store.folder, folder)
    return replace(store, folder=folder)


def recovered(store: RunStore, source: RunStore) -> RunStore:
    """As `coordinator serve --recover-from`."""
    archive = str(source.folder / ARCHIVE)
    Recovery(store.folder, parts.AUTHORITY, parts.RUN, lambda: parts.NOW).from_archive(archive)
    with reopened(store, mirrors=[archive]) as found:
        resume_after_recovery(found, found.journal, parts.NOW)
        fold_round(found, parts.BEN)
        return found


def names(store: RunStore) -> list[str]:
    return [logged.name for logged in store.snapshot.log]


def test_the_rows_of_a_journal_stay_within_two_snapshots(store: RunStore) -> None:
    counts = []
    for _ in range(12):
        go_on(store, 1)
        counts.append(sum(1 for _ in store.journal.rows()))
    assert max(counts[6:]) == max(counts[:6]) <= 2 * (ROWS + 8)


def test_a_restart_from_a_pruned_journal_has_the_whole_run(store: RunStore) -> None:
    with reopened(store) as again:
        assert again.state.hash() == store.state.hash()
        assert again.snapshot.position == store.snapshot.position
        assert names(again) == names(store)
        assert again.snapshot.claims == store.snapshot.claims != {}
        assert again.snapshot.history.shares(10) == store.snapshot.history.shares(10)
        assert again.snapshot.published == store.snapshot.published
    facts = journal_facts(store.journal.rows())
    assert (facts.signer, facts.entries) == (parts.AUTHORITY.public, 10)
    assert not folder_facts(store.folder).restored, "the archive is not ahead"


def test_a_backup_of_a_pruned_journal_is_restored_elsewhere(store: RunStore, tmp_path: Path) -> None:
    taken = take_backup(store.folder, tmp_path / "backup", lambda: parts.NOW, with_key=True)
    index = store.charter.data_index_hash
    assert taken.lost == (f"blobs/{index[:2]}/{index}",), "no dropped checkpoint is missed"
    restored = restore_backup(tmp_path / "backup", tmp_path / "new")
    assert restored.journal is JournalUsed.BACKUP
    with reopened(replace(store, folder=tmp_path / "new")) as again:
        assert again.state.hash() == store.state.hash()
        assert names(again) == names(store)
        go_on(again, 8)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_backup_from_before_the_rows_that_are_left_gives_way(
    store: RunStore, tmp_path: Path, damaged: bool
) -> None:
    take_backup(store.folder, tmp_path / "backup", lambda: parts.NOW)
    go_on(store, 20)
    if damaged:
        store.journal.close()
        damage(store.folder / JOURNAL, "SELECT max(id) FROM events")
    restored = restore_backup(tmp_path / "backup", store.folder)
    assert restored.journal is (JournalUsed.SALVAGED if damaged else JournalUsed.OWN)
    with reopened(store) as again:
        assert again.snapshot.round == 30


def damage(path: Path, query: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE events SET body = x'00' WHERE id = ({query})")


def test_a_newer_backup_takes_the_place_of_a_pruned_journal(store: RunStore, tmp_path: Path) -> None:
    older = copied(store, tmp_path / "older")
    go_on(store, 20)
    take_backup(store.folder, tmp_path / "backup", lambda: parts.NOW)
    restored = restore_backup(tmp_path / "backup", older.folder)
    assert restored.journal is JournalUsed.BACKUP
    with reopened(older) as again:
        assert names(again) == names(store)


def test_a_damaged_snapshot_leaves_the_one_before_it(store: RunStore, tmp_path: Path) -> None:
    store.journal.close()
    damage(store.folder / JOURNAL, "SELECT max(id) FROM events WHERE kind = 'saved'")
    with closing(Journal(store.folder / JOURNAL)) as journal, pytest.raises(JournalDamaged):
        list(journal.rows())
    salvage(store.folder / JOURNAL, DamagedFiles(store.folder / DAMAGED))
    shutil.copytree(store.folder / ARCHIVE, tmp_path / "source" / ARCHIVE)
    found = recovered(store, replace(store, folder=tmp_path / "source"))
    assert names(found)[:10] == names(store)


def test_a_pruned_journal_catches_up_with_an_archive(store: RunStore, tmp_path: Path) -> None:
    older = copied(store, tmp_path / "older")
    go_on(store, 3)
    found = recovered(older, store)
    assert names(found)[:13] == names(store)
    assert found.snapshot.round == 14
    assert found.journal.pruned.rows > 0
    assert not (older.folder / EARLIER).exists(), "the rows that it had stay"


@pytest.mark.parametrize("after", [1, 25])
def test_a_pruned_journal_that_forked_is_replaced(store: RunStore, tmp_path: Path, after: int) -> None:
    """after: rounds after the fork; after 25, the rows of the fork's place were pruned."""
    with reopened(copied(store, tmp_path / "fork")) as fork:
        for _ in range(after):
            fold_round(fork, parts.STRANGER)
        show(fork)
    go_on(store, after + 1)
    found = recovered(fork, store)
    assert names(found)[: 10 + after + 1] == names(store)
    assert (found.journal.pruned.rows > 0) is (after == 1)
    [aside] = (fork.folder / EARLIER).iterdir()
    assert (aside / JOURNAL).is_file()
    with reopened(found) as again:
        assert again.state.hash() == found.state.hash()


def test_a_snapshot_without_its_charter_prunes_nothing(store: RunStore) -> None:
    """As a journal of before has them."""
    rows = list(store.journal.rows())
    first = [place for place, row in enumerate(rows) if row.kind is Kind.CHARTERED][-1]
    with closing(Journal(store.folder / "other.sqlite")) as journal:
        for row in (*rows[:first], *rows[first + 1 :], rows[-1]):
            journal.append(row)
        journal.prune()
        assert journal.pruned.rows == 0


def test_an_archive_writer_drops_what_was_published_and_is_not(store: RunStore) -> None:
    unknown = store.folder / ARCHIVE / "checkpoints" / "round-000999"
    unknown.mkdir()
    (store.folder / ARCHIVE / "checkpoints" / "round-x").mkdir()
    go_on(store, 2)
    ArchiveWriter(store.charter, store.folder / ARCHIVE, store.blobs).write(
        ArchiveContent.of(store.snapshot, ())
    )
    kept = {f"round-{round:06d}" for round in store.snapshot.published}
    found = {path.name for path in unknown.parent.iterdir()}
    assert found == {*kept, "round-000999", "round-x"}
