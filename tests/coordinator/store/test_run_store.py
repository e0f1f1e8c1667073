"""The book across crashes: what was settled, what was forgotten, and who agreed to be named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barnraise.contract.archive import folder_of
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import JoinClaim, blob_name
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, blob_hash
from barnraise.core.signed import sign
from coordinator.checkpoints.card_data import about, card_facts
from coordinator.store.history import Share
from coordinator.store.journal import Event, Kind
from coordinator.store.run_store import Book
from tests.support import parts
from tests.support.desk import archive, fold_round, opened_book, reopened, show, train_round
from tests.support.parts import ADA, BEN, STRANGER


@contextmanager
def kept(folder: Path, **checkpoint: object) -> Iterator[Book]:
    spec = parts.run_spec()
    changed = spec.checkpoint.model_copy(update=checkpoint)
    with opened_book(folder, spec.model_copy(update={"checkpoint": changed})) as book:
        yield book


def files_of(book: Book) -> set[str]:
    """Whatever the store holds."""
    return {path.name for path in book.blobs.folder.glob("??/*")}


def told(book: Book) -> dict[str, object]:
    """What a restart has to bring back."""
    return {
        "checkpoints": {round: signed.wire for round, signed in book.checkpoints.items()},
        "settled": book.settled,
        "scores": book.scores,
        "standing": book.standing(),
        "replay_from": book.replay_from,
        "sizes": book.history.sizes(),
        "shares": book.history.shares(before=len(book.closes)),
        "claims": book.claims,
        "content": book.content(()),
        "state": book.state.hash(),
    }


def claim(owner: Identity, name: str, credit: bool, at: int = parts.NOW) -> JoinClaim:
    return JoinClaim(run=parts.RUN, owner=owner.public, name=name, credit=credit, at=Millis(at))


def test_a_restart_finds_everything_that_was_settled(tmp_path: Path) -> None:
    with kept(tmp_path, keep=2) as book:
        book.admit(sign(ADA, claim(ADA, "ada", True)), parts.NOW)
        for round, loss in enumerate((2.0, 3.0, 4.0, None)):
            train_round(book, ADA, *[BEN][: round % 2], loss=loss)
        fold_round(book, STRANGER)
        book.write_checkpoint(parts.NOW)
        assert sorted(book.checkpoints) == [0, 1, 4, 5], "the first of a replay, the best, and the newest two"
        assert book.unsettled() == [5]
        assert set(book.scores) == {1, 2, 3}, "the curve keeps what was dropped"
        with reopened(book) as again:
            assert told(again) == told(book)
            show(again, loss=1.5)
            assert again.standing() is not None
            with reopened(again) as third:
                assert told(third) == told(again)


def test_the_manifest_that_a_head_may_name_stays_until_the_next_is_settled(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        fold_round(book, ADA)
        book.write_checkpoint(parts.NOW)
        first = BlobHash(book.head(parts.NOW, (), turns=1, volunteers=1, tokens=0).checkpoint)
        show(book, loss=2.0)
        assert book.head(parts.NOW, (), turns=1, volunteers=1, tokens=0).checkpoint != first
        assert first in book.blobs, "a volunteer may be about to fetch it"
        train_round(book, ADA)
        assert first not in book.blobs


def test_a_restart_drops_the_manifests_that_were_replaced(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        fold_round(book, ADA)
        first = blob_hash(book.write_checkpoint(parts.NOW).wire)
        show(book)
        assert first in book.blobs
        with reopened(book):
            assert first not in book.blobs


def test_a_checkpoint_under_evaluation_stays(tmp_path: Path) -> None:
    with kept(tmp_path, keep=1) as book:
        fold_round(book, ADA)
        book.write_checkpoint(parts.NOW)
        book.settling = 1
        for _ in range(3):
            fold_round(book, ADA)
            book.write_checkpoint(parts.NOW)
        assert sorted(book.checkpoints) == [0, 1, 4]
        book.settling = None
        book.settle(1, None, about(book, 1, None), parts.NOW)
        assert sorted(book.checkpoints) == [0, 1, 4], "it is `main` as long as nothing newer is settled"


def test_contributions_go_only_up_to_a_checkpoint_that_everybody_sees(tmp_path: Path) -> None:
    with kept(tmp_path, log_gigabytes=0.0) as book:
        blobs = [blob_name(commit) for commit in fold_round(book, ADA, BEN).commits]
        book.write_checkpoint(parts.NOW)
        assert book.replay_from == 0
        assert all(blob in book.blobs for blob in blobs), "a replay has to start from what is shown"
        show(book)
        assert book.replay_from == 1
        assert not any(blob in book.blobs for blob in blobs)
        assert 0 in book.checkpoints, "it is one of the newest"


def test_a_crash_while_contributions_are_dropped_is_mended(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        train_round(book, ADA, BEN)
        train_round(book, ADA)
        dropped, stays = book.history.blobs[0], book.history.blobs[1]
        book.journal.append(Event(Kind.FORGOT, parts.NOW, 1, b""))  # and here it died
        with reopened(book) as again:
            assert again.replay_from == 1
            assert not any(blob in again.blobs for blob in dropped)
            assert all(blob in again.blobs for blob in stays)
            assert again.content(()).contributions.keys() == {1}


def test_a_crash_while_a_checkpoint_is_dropped_is_mended(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        train_round(book, ADA)
        train_round(book, ADA)
        dropped = book.checkpoints[1]
        book.blobs.remove(blob_hash(dropped.wire))  # the first that goes; and here it died
        shared = {entry.hash for entry in book.checkpoints[2].value.files}
        own = {entry.hash for entry in dropped.value.files} - shared
        assert own & files_of(book)
        with reopened(book) as again:
            assert sorted(again.checkpoints) == [0, 2]
            assert again.settled == {0, 2}
            assert not own & files_of(again)
            assert shared <= files_of(again)
            show(again)


def test_nothing_is_left_of_what_was_dropped(tmp_path: Path) -> None:
    with kept(tmp_path, keep=1, log_gigabytes=0.0) as book:
        for _ in range(4):
            train_round(book, ADA, BEN)
        [last] = book.checkpoints.values()
        named = {entry.hash for entry in last.value.files} | {blob_hash(last.wire), *book.closes}
        assert files_of(book) == named | {*book._superseded}
        assert not (archive(book) / folder_of("trained", 3)).exists()


def admitted(book: Book) -> int:
    rows = sqlite3.connect(book.folder / "journal.sqlite")
    try:
        return int(rows.execute("SELECT COUNT(*) FROM events WHERE kind = 'admitted'").fetchone()[0])
    finally:
        rows.close()


def test_a_renewal_that_says_the_same_is_not_written_down(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        for later in range(5):
            book.admit(sign(ADA, claim(ADA, "ada", True, parts.NOW + later)), parts.NOW)
        assert admitted(book) == 1
        book.admit(sign(ADA, claim(ADA, "ada", False)), parts.NOW)
        assert admitted(book) == 2


@pytest.mark.parametrize("restart", [False, True], ids=["served on", "restarted"])
def test_who_takes_consent_back_is_no_longer_named(tmp_path: Path, restart: bool) -> None:
    with opened_book(tmp_path) as book:
        for owner, name in ((ADA, "Ada"), (BEN, "Ben")):
            book.admit(sign(owner, claim(owner, name, True)), parts.NOW)
        train_round(book, ADA, BEN)
        assert [name for name, _ in card_facts(book, 1, None).credits.named] == ["Ada", "Ben"]
        book.admit(sign(ADA, claim(ADA, "Ada", False)), parts.NOW)
        with reopened(book) as again:
            shown = card_facts(again if restart else book, 1, None).credits
            assert shown.named == (("Ben", Share(1, 64)),)
            assert shown.unnamed == 1


def test_a_card_counts_the_rounds_up_to_its_own(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        book.admit(sign(ADA, claim(ADA, "Ada", True)), parts.NOW)
        train_round(book, ADA)
        train_round(book, ADA)
        assert card_facts(book, 1, None).credits.named == (("Ada", Share(1, 64)),)
        assert card_facts(book, 2, None).credits.named == (("Ada", Share(2, 128)),)


def test_the_curve_ends_at_its_own_round(tmp_path: Path) -> None:
    with opened_book(tmp_path) as book:
        assert "held-out.svg" not in about(book, 0, None)
        for loss in (3.0, 2.5, 2.0):
            train_round(book, ADA, loss=loss)
        for round, circles in ((1, 1), (2, 2), (3, 3)):
            found = book.scores[round].held_out
            assert about(book, round, found)["held-out.svg"].count(b"<circle") == circles
        assert about(book, 3, HeldOut(loss=1.0, tokens=5))["held-out.svg"].count(b"<circle") == 3
