"""A journal is brought up to the log that an archive holds; the run then resumes in a later epoch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, parse_index
from barnraise.core.errors import TrustError, Unreachable, UserError
from barnraise.core.identity import Identity
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.recovery.recover import Recovery, resume_after_recovery
from coordinator.run_folder import ARCHIVE, BLOBS, EARLIER, JOURNAL
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.averaged_runs import average_newest
from tests.support.coordinators import fold_round, opened_store, reopened, show, train_round


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """Two rounds, a checkpoint after the first, and an archive of both."""
    with opened_store(tmp_path / "run") as made:
        train_round(made, parts.BEN)
        fold_round(made, parts.ADA)
        update_archive(made)
        yield made


def update_archive(store: RunStore) -> None:
    ArchiveWriter(store.charter, store.folder / ARCHIVE, store.blobs).write(
        ArchiveContent.of(store.snapshot, ())
    )


def recovery(folder: Path, authority: Identity = parts.AUTHORITY) -> Recovery:
    return Recovery(folder, authority, parts.RUN, lambda: parts.NOW)


def lost(store: RunStore, folder: Path) -> RunStore:
    """A folder that has nothing of the run but its key, the base model and what describes it."""
    shutil.copytree(store.folder, folder, ignore=shutil.ignore_patterns("journal*", BLOBS, ARCHIVE))
    return replace(store, folder=folder)


def recovered(store: RunStore, source: Path) -> RunStore:
    """As `coordinator serve --recover-from`."""
    recovery(store.folder).from_archive(str(source))
    with reopened(store, mirrors=[str(source)]) as found:
        resume_after_recovery(found, found.journal, parts.NOW)
        assert found.journal.behind is None
        fold_round(found, parts.BEN)
        update_archive(found)
        return found


def test_a_lost_journal_is_rebuilt_from_an_archive(store: RunStore, tmp_path: Path) -> None:
    before = store.snapshot
    found = recovered(lost(store, tmp_path / "new"), store.folder / ARCHIVE).snapshot
    assert found.round == before.round + 1
    assert [logged.name for logged in found.log[: len(before.log)]] == [each.name for each in before.log]
    assert found.position.epoch == 1
    assert found.published == before.published
    assert found.scores == before.scores
    assert found.history.tokens[: before.round] == before.history.tokens[: before.round]


def test_a_mean_of_states_is_recovered_from_an_archive(tmp_path: Path) -> None:
    with opened_store(tmp_path / "run") as store:
        for round in range(2):
            train_round(store, parts.ADA, loss=3.0 - round)
        average_newest(store, 1.0)
        found = recovered(lost(store, tmp_path / "new"), store.folder / ARCHIVE).snapshot
        assert found.averages == store.snapshot.averages
        assert found.checkpoints.keys() == store.snapshot.checkpoints.keys()
        assert found.newest_checkpoint == store.snapshot.newest_checkpoint


def test_an_old_copy_of_the_journal_catches_up(store: RunStore, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "old")
    fold_round(store, parts.BEN)
    update_archive(store)
    found = recovered(replace(store, folder=tmp_path / "old"), store.folder / ARCHIVE).snapshot
    assert found.round == store.snapshot.round + 1
    assert not (tmp_path / "old" / EARLIER).exists(), "the rows that it had stay"


def test_a_journal_that_forked_is_replaced_from_the_fork_on_and_set_aside(
    store: RunStore, tmp_path: Path
) -> None:
    shutil.copytree(store.folder, tmp_path / "fork")
    with reopened(replace(store, folder=tmp_path / "fork")) as fork:
        fold_round(fork, parts.STRANGER)
        show(fork)
    fold_round(store, parts.BEN)
    fold_round(store, parts.BEN)
    update_archive(store)
    found = recovered(fork, store.folder / ARCHIVE).snapshot
    assert [logged.name for logged in found.log][:4] == [logged.name for logged in store.snapshot.log]
    [aside] = (tmp_path / "fork" / EARLIER).iterdir()
    assert (aside / JOURNAL).is_file()


def test_an_archive_that_is_behind_changes_nothing(store: RunStore, tmp_path: Path) -> None:
    shutil.copytree(store.folder / ARCHIVE, tmp_path / "archive")
    fold_round(store, parts.BEN)
    recovery(store.folder).from_archive(str(tmp_path / "archive"))
    assert store.journal.behind is None
    with reopened(store) as found:
        assert found.snapshot.round == store.snapshot.round


@pytest.mark.parametrize("said", [2, 10**6, 2**70])
def test_contributions_are_not_forgotten_up_to_a_round_without_a_checkpoint(
    store: RunStore, tmp_path: Path, said: int
) -> None:
    """What an archive's index says is not signed."""
    copy = tmp_path / "archive"
    shutil.copytree(store.folder / ARCHIVE, copy)
    index = parse_index((copy / INDEX).read_bytes()).model_copy(update={"replay_from": said})
    (copy / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    found = recovered(lost(store, tmp_path / "new"), copy).snapshot
    assert found.round == store.snapshot.round + 1
    assert found.replay_from == 1


def test_the_archive_of_another_key_is_refused(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        recovery(tmp_path / "new", parts.STRANGER).from_archive(str(store.folder))


@pytest.mark.parametrize("damage", ["log/0/000001.entry", "charter.bin", "archive.json"])
def test_a_damaged_archive_is_refused_and_nothing_is_written(
    store: RunStore, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "archive"
    shutil.copytree(store.folder / ARCHIVE, copy)
    (copy / damage).write_bytes((copy / damage).read_bytes().replace(b"0", b"1"))
    with pytest.raises((TrustError, Unreachable, UserError)):
        recovery(tmp_path / "new").from_archive(str(copy))
    assert not (tmp_path / "new" / JOURNAL).exists()
