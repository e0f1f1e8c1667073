"""The run store across crashes: published checkpoints, dropped blobs, and the names in cards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.archive import folder_of
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import JoinClaim, blob_name
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, blob_hash
from barnraise.core.signed import sign
from coordinator.checkpoints.archive_writer import ArchiveContent
from coordinator.checkpoints.card_data import card_facts, card_files
from coordinator.store.events import ContributionsForgotten
from coordinator.store.history import Share
from coordinator.store.run_state import CLAIM_NEWS_SECONDS
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, fold_round, head_of, opened_store, reopened, show, train_round
from tests.support.parts import ADA, BEN, STRANGER


@contextmanager
def kept(folder: Path, **checkpoint: object) -> Iterator[RunStore]:
    spec = parts.run_spec()
    changed = spec.checkpoint.model_copy(update=checkpoint)
    with opened_store(folder, spec.model_copy(update={"checkpoint": changed})) as store:
        yield store


def files_of(store: RunStore) -> set[str]:
    """All blobs in the store."""
    return {path.name for path in store.blobs.folder.glob("??/*")}


def restored(store: RunStore) -> dict[str, object]:
    """The part of the state that a restart restores."""
    run = store.snapshot
    return {
        "run": replace(run, loss=None, evaluating=None),
        "sizes": run.history.sizes(),
        "shares": run.history.shares(before=run.round),
        "content": ArchiveContent.of(run, ()),
        "state": store.state.hash(),
    }


def named_by_head(store: RunStore) -> BlobHash:
    return BlobHash(head_of(store).checkpoint)


HOUR = round(1000 * CLAIM_NEWS_SECONDS)


def claim(owner: Identity, name: str, credit: bool, at: int = parts.NOW) -> JoinClaim:
    return JoinClaim(
        run=parts.RUN, owner=owner.public, instance=parts.INSTANCE, name=name, credit=credit, at=Millis(at)
    )


def test_a_restart_finds_everything_that_was_published(tmp_path: Path) -> None:
    with kept(tmp_path, keep=2) as store:
        store.admit(sign(ADA, claim(ADA, "ada", True)), parts.NOW)
        for round, loss in enumerate((2.0, 3.0, 4.0, None)):
            train_round(store, ADA, *[BEN][: round % 2], loss=loss)
        fold_round(store, STRANGER)
        store.write_checkpoint(parts.NOW)
        assert sorted(store.snapshot.checkpoints) == [0, 1, 4, 5], (
            "the first of a replay, the best, and the newest two"
        )
        assert store.snapshot.unpublished == [5]
        assert set(store.snapshot.scores) == {1, 2, 3}, "the curve keeps dropped checkpoints"
        with reopened(store) as again:
            assert restored(again) == restored(store)
            show(again, loss=1.5)
            assert again.snapshot.promotion() is not None
            with reopened(again) as third:
                assert restored(third) == restored(again)


def test_a_replaced_manifest_stays_until_the_next_is_published(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        fold_round(store, ADA)
        store.write_checkpoint(parts.NOW)
        first = named_by_head(store)
        show(store, loss=2.0)
        assert named_by_head(store) != first
        assert first in store.blobs, "a volunteer may be about to fetch it"
        train_round(store, ADA)
        assert first not in store.blobs


def test_a_restart_removes_replaced_manifests(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        fold_round(store, ADA)
        first = blob_hash(store.write_checkpoint(parts.NOW).wire)
        show(store)
        assert first in store.blobs
        with reopened(store):
            assert first not in store.blobs


def test_a_checkpoint_under_evaluation_stays(tmp_path: Path) -> None:
    with kept(tmp_path, keep=1) as store:
        fold_round(store, ADA)
        store.write_checkpoint(parts.NOW)
        store.start_evaluation(1)
        for _ in range(3):
            fold_round(store, ADA)
            store.write_checkpoint(parts.NOW)
        assert sorted(store.snapshot.checkpoints) == [0, 1, 4]
        store.end_evaluation()
        store.publish(1, None, card_files(store.snapshot, 1, None), parts.NOW)
        assert sorted(store.snapshot.checkpoints) == [0, 1, 4], "it is `main` until a newer one is published"


def test_contributions_are_dropped_only_up_to_a_published_checkpoint(tmp_path: Path) -> None:
    with kept(tmp_path, log_gigabytes=0.0, rollback_rounds=0) as store:
        blobs = [blob_name(commit) for commit in fold_round(store, ADA, BEN).commits]
        store.write_checkpoint(parts.NOW)
        assert store.snapshot.replay_from == 0
        assert all(blob in store.blobs for blob in blobs), "a replay starts from a published checkpoint"
        show(store)
        assert store.snapshot.replay_from == 1
        assert not any(blob in store.blobs for blob in blobs)
        assert 0 in store.snapshot.checkpoints, "it is one of the newest"


def test_a_crash_while_contributions_are_dropped_is_repaired(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        train_round(store, ADA, BEN)
        train_round(store, ADA)
        dropped, stays = store.snapshot.history.blobs[0], store.snapshot.history.blobs[1]
        store.journal.append(ContributionsForgotten(parts.NOW, 1).row())  # the process is killed here
        with reopened(store) as again:
            assert again.snapshot.replay_from == 1
            assert not any(blob in again.blobs for blob in dropped)
            assert all(blob in again.blobs for blob in stays)
            assert ArchiveContent.of(again.snapshot, ()).contributions.keys() == {1}


def test_a_crash_while_a_checkpoint_is_dropped_is_repaired(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        train_round(store, ADA)
        train_round(store, ADA)
        dropped = store.snapshot.checkpoints[1]
        store.blobs.remove(blob_hash(dropped.wire))  # removed first; the process is killed here
        shared = {entry.hash for entry in store.snapshot.checkpoints[2].value.files}
        own = {entry.hash for entry in dropped.value.files} - shared
        assert own & files_of(store)
        with reopened(store) as again:
            assert sorted(again.snapshot.checkpoints) == [0, 2]
            assert again.snapshot.published == {0, 2}
            assert not own & files_of(again)
            assert shared <= files_of(again)
            show(again)


def test_no_blob_of_dropped_checkpoints_is_left(tmp_path: Path) -> None:
    with kept(tmp_path, keep=1, log_gigabytes=0.0, rollback_rounds=0) as store:
        for _ in range(4):
            train_round(store, ADA, BEN)
        [last] = store.snapshot.checkpoints.values()
        named = {entry.hash for entry in last.value.files} | {
            blob_hash(last.wire),
            *(logged.name for logged in store.snapshot.log),
        }
        assert files_of(store) == named | {*store._replaced}
        assert not (archive(store) / folder_of("trained", 3)).exists()


def admitted(store: RunStore) -> int:
    rows = sqlite3.connect(store.folder / "journal.sqlite")
    try:
        return int(rows.execute("SELECT COUNT(*) FROM events WHERE kind = 'admitted'").fetchone()[0])
    finally:
        rows.close()


def test_an_unchanged_claim_is_not_journaled(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        for later in range(5):
            store.admit(sign(ADA, claim(ADA, "ada", True, parts.NOW + later)), parts.NOW)
        assert admitted(store) == 1
        store.admit(sign(ADA, claim(ADA, "ada", False, parts.NOW + HOUR - 1)), parts.NOW)
        assert admitted(store) == 1, "of each key one an hour"
        store.admit(sign(ADA, claim(ADA, "ada", False, parts.NOW + HOUR)), parts.NOW)
        assert admitted(store) == 2


@pytest.mark.parametrize("restart", [False, True], ids=["served on", "restarted"])
def test_withdrawn_consent_removes_the_name(tmp_path: Path, restart: bool) -> None:
    with opened_store(tmp_path) as store:
        for owner, name in ((ADA, "Ada"), (BEN, "Ben")):
            store.admit(sign(owner, claim(owner, name, True)), parts.NOW)
        train_round(store, ADA, BEN)
        assert [name for name, _ in card_facts(store.snapshot, 1, None).credits.named] == ["Ada", "Ben"]
        store.admit(sign(ADA, claim(ADA, "Ada", False, parts.NOW + HOUR)), parts.NOW)
        with reopened(store) as again:
            shown = card_facts((again if restart else store).snapshot, 1, None).credits
            assert shown.named == (("Ben", Share(1, 64)),)
            assert shown.unnamed == 1


def test_a_card_counts_the_rounds_up_to_its_own(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        store.admit(sign(ADA, claim(ADA, "Ada", True)), parts.NOW)
        train_round(store, ADA)
        train_round(store, ADA)
        assert card_facts(store.snapshot, 1, None).credits.named == (("Ada", Share(1, 64)),)
        assert card_facts(store.snapshot, 2, None).credits.named == (("Ada", Share(2, 128)),)


def test_the_curve_ends_at_its_own_round(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        assert "held-out.svg" not in card_files(store.snapshot, 0, None)
        for loss in (3.0, 2.5, 2.0):
            train_round(store, ADA, loss=loss)
        for round, circles in ((1, 1), (2, 2), (3, 3)):
            found = store.snapshot.scores[round].held_out
            assert card_files(store.snapshot, round, found)["held-out.svg"].count(b"<circle") == circles
        final = card_files(store.snapshot, 3, HeldOut(loss=1.0, tokens=5))
        assert final["held-out.svg"].count(b"<circle") == 3
