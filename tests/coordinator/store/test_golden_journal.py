"""A journal and blobs of the version before lead to the same run, and the run continues.

`tests.support.kept_run` wrote `golden_journal.json` with the first version of typed log entries: seven rounds
and a resume. Each kind of row occurs, checkpoints were evaluated by volunteers, dropped and replaced,
contributions were forgotten, and the process died with a round open. Its summary is what that version
restored. `journal_version_1.zlib` is the SQLite file with these rows. Every later version has to continue it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from barnraise.contract.charter import Charter
from barnraise.contract.records import blob_name, seal
from barnraise.core.errors import StateError
from barnraise.core.ids import BlobHash, Millis, blob_hash
from barnraise.runtime.blob_store import BlobStore
from coordinator.checkpoints.archive_writer import ArchiveContent
from coordinator.run_folder import BLOBS
from coordinator.store.events import Kind, Row
from coordinator.store.journal import Journal
from coordinator.store.row_reader import RowReader, find_charter
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from tests.support import parts

GOLDEN = json.loads((Path(__file__).parent / "golden_journal.json").read_text(encoding="utf-8"))
ROWS = [Row(Kind(kind), Millis(at), round, bytes.fromhex(body)) for kind, at, round, body in GOLDEN["rows"]]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The golden journal, in a folder with the blobs that the process left."""
    blobs = BlobStore(tmp_path / BLOBS)
    for name, packed in GOLDEN["blobs"].items():
        assert blobs.put(zlib.decompress(base64.b64decode(packed))) == name
    packed = (Path(__file__).parent / "journal_version_1.zlib").read_bytes()
    (tmp_path / "journal.sqlite").write_bytes(zlib.decompress(packed))
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def restored(journal: Journal, folder: Path) -> RunStore:
    charter = find_charter(journal.rows(), parts.AUTHORITY.public)
    assert charter is not None
    return RunStore.restore(parts.AUTHORITY, charter, folder / "base", folder, journal)


def summary(store: RunStore) -> dict[str, Any]:
    run = store.snapshot
    promotion = run.promotion()
    assert promotion is not None
    head = run.head(parts.NOW, CoordinatorAddresses(("/ip4/127.0.0.1",)), turns=2, volunteers=3, tokens=5)
    return {
        "round": run.round,
        "opens": run.opens,
        "tip": [run.tip.round, run.tip.previous, run.tip.state],
        "state": store.state.hash(),
        "tokens": run.tokens,
        "loss": run.loss,
        "log": [[logged.name, logged.epoch] for logged in run.log],
        "epoch": run.position.epoch,
        "accepted": {owner: blob_name(commit.value) for owner, commit in run.accepted.items()},
        "checkpoints": {str(round): blob_hash(signed.wire) for round, signed in run.checkpoints.items()},
        "published": sorted(run.published),
        "unpublished": run.unpublished,
        "unevaluated": run.unevaluated,
        "scores": {str(round): [score.tokens, score.held_out.loss] for round, score in run.scores.items()},
        "promotion": [promotion.main, promotion.best, promotion.latest],
        "replay_from": run.replay_from,
        "contributions": {str(round): dict(blobs) for round, blobs in run.history.blobs.items()},
        "shares": {
            owner: [share.rounds, share.tokens] for owner, share in run.history.shares(before=99).items()
        },
        "claims": {owner: [claim.name, claim.credit, claim.at] for owner, claim in run.claims.items()},
        "evaluations": {
            str(round): {owner: signed.value.loss for owner, signed in found.items()}
            for round, found in run.evaluations.items()
        },
        "charter": blob_hash(ArchiveContent.of(run, ()).charter),
        "head": blob_hash(seal(parts.AUTHORITY, head)),
    }


def test_the_golden_journal_leads_to_the_same_run(journal: Journal, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / BLOBS)
    store = restored(journal, tmp_path)
    removed = sorted(name for name in GOLDEN["blobs"] if BlobHash(name) not in blobs)
    assert summary(store) | {"files_removed": removed} == GOLDEN["summary"]


def test_the_golden_journal_continues(journal: Journal, tmp_path: Path) -> None:
    store = restored(journal, tmp_path)
    before = store.snapshot
    link = store.close("all contributed", parts.NOW)
    store.fold(link)
    assert link.close.previous == before.position.previous
    assert store.snapshot.tip.round == before.round + 1
    assert restored(journal, tmp_path).snapshot.position == store.snapshot.position


def test_each_golden_row_is_read_and_written_as_it_was(journal: Journal, tmp_path: Path) -> None:
    charter = find_charter(ROWS, parts.AUTHORITY.public)
    assert charter is not None
    blobs = BlobStore(tmp_path / BLOBS)
    reader = RowReader(charter.value, blobs, lambda votes: blobs.get(BlobHash(votes.vote.entry)))
    events = [(row, event) for row in ROWS if (event := reader.read(row)) is not None]
    assert {row.kind for row, _ in events} == set(Kind) - {Kind.SAVED}, "test_snapshot has snapshots"
    assert all(event.row() == row for row, event in events)


def test_a_journal_of_the_unreleased_format_is_refused(journal: Journal) -> None:
    row = next(row for row in ROWS if row.kind is Kind.CHARTERED)
    signed = find_charter([row], parts.AUTHORITY.public)
    assert signed is not None
    old = signed.payload.replace(b'"needs":"0.1.0",', b"")
    wire = bytes.fromhex(parts.AUTHORITY.public) + parts.AUTHORITY.sign(Charter.DOMAIN + old) + old
    with pytest.raises(StateError, match="before its first release"):
        find_charter([replace(row, body=wire)], parts.AUTHORITY.public)


def test_the_file_of_version_1_has_the_golden_rows_and_takes_more(journal: Journal) -> None:
    assert list(journal.rows()) == ROWS
    journal.append(ROWS[-1])
    assert list(journal.rows()) == [*ROWS, ROWS[-1]]
