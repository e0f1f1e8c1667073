"""A journal that lacks its newest rows is noticed by the archive that was written from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from barnraise.runtime.files import write_atomic
from coordinator.recovery import opening
from coordinator.recovery.beginning import Asked, Recover
from coordinator.recovery.opening import folder_facts, open_folder
from coordinator.run_folder import AUTHORITY_KEY, JOURNAL
from coordinator.store.completeness import JournalFacts, archived_entries, journal_facts
from coordinator.store.events import Row
from coordinator.store.journal import Journal, JournalDamaged
from coordinator.store.run_store import RunStore
from tests.support.coordinators import archive, fold_round, opened_store, train_round
from tests.support.parts import ADA, AUTHORITY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run with one round in its archive, and a second one that is closed."""
    with opened_store(tmp_path / "run") as store:
        train_round(store, ADA)
        fold_round(store, ADA)
        yield store


def test_a_complete_journal_is_at_least_as_long_as_its_archive(store: RunStore) -> None:
    assert archived_entries(archive(store)) <= journal_facts(store.journal.rows()).entries


def test_a_copy_without_the_write_ahead_log_is_shorter(store: RunStore, tmp_path: Path) -> None:
    lone = tmp_path / JOURNAL
    lone.write_bytes((store.folder / JOURNAL).read_bytes())
    with closing(Journal(lone)) as journal:
        entries = journal_facts(journal.rows()).entries
        assert archived_entries(archive(store)) > entries
        assert archived_entries(tmp_path) == 0, "no archive says nothing"


def test_a_start_without_the_write_ahead_log_recovers(store: RunStore) -> None:
    write_atomic(store.folder / AUTHORITY_KEY, AUTHORITY.seed, mode=0o600)
    assert not folder_facts(store.folder).restored
    store.journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    train_round(store, ADA)
    alone = (store.folder / JOURNAL).read_bytes()
    store.journal.close()
    (store.folder / JOURNAL).write_bytes(alone)
    assert folder_facts(store.folder).restored
    with closing(Journal(store.folder / JOURNAL)) as journal:
        assert journal.behind is not None


def test_a_run_that_goes_on_while_its_folder_is_read_is_not_behind(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(store.folder / AUTHORITY_KEY, AUTHORITY.seed, mode=0o600)

    def read(rows: Iterable[Row]) -> JournalFacts:
        found = journal_facts(rows)
        train_round(store, ADA)
        return found

    monkeypatch.setattr(opening, "journal_facts", read)
    assert not folder_facts(store.folder).restored


def test_the_first_rows_of_a_damaged_journal_are_kept_without_an_archive(store: RunStore) -> None:
    write_atomic(store.folder / AUTHORITY_KEY, AUTHORITY.seed, mode=0o600)
    shutil.rmtree(archive(store))
    rows = len(list(store.journal.rows()))
    store.journal._db.execute("UPDATE events SET round = round + 1 WHERE id = ?", (rows - 1,))
    store.journal.close()
    with pytest.raises(JournalDamaged):
        open_folder(store.folder, Asked())
    _, beginning = open_folder(store.folder, Asked(recover_from="https://mirror.example"))
    assert beginning == Recover("https://mirror.example")
    with closing(Journal(store.folder / JOURNAL)) as journal:
        assert len(list(journal.rows())) == rows - 2
