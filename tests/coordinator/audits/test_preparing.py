"""The job of an audit: secret samples of the dataset, and held-out ones where all are assigned."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.shards import DataIndex
from barnraise.core.ids import BlobHash
from barnraise.evaluation.audit_job import AuditJob
from barnraise.runtime.blob_store import BlobStore
from coordinator.audits.choose import Budget
from coordinator.audits.ledger import Ledger
from coordinator.audits.ledger_file import LedgerFile
from coordinator.audits.preparing import ClosedRound, prepare
from coordinator.reasons.audits import FilesMissing, NoSecretSamples, NotAudited
from coordinator.run_folder import AUDITS, HELD_OUT
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store
from tests.support.tiny import packed, tiny_samples

ROWS = 40


def prepared(
    store: RunStore, work: Path, index: DataIndex, monkeypatch: pytest.MonkeyPatch, drawn: int
) -> AuditJob | NotAudited:
    """drawn: samples that the round's one contribution names."""
    state, link = store.state, fold_round(store, parts.ADA)

    def get(name: BlobHash) -> bytes:
        assert name == store.charter.data_index_hash, "contributions are mapped, not read into memory"
        return index.to_bytes()

    monkeypatch.setattr(store.blobs, "get", get)
    ranges = (SampleRange(round=0, start=0, count=drawn),)
    commits = tuple(commit.model_copy(update={"ranges": ranges}) for commit in link.commits)
    closed = ClosedRound(type(link)(link.entry, commits, link.certificate), state, {})
    return prepare(closed, store, Ledger(), Budget(1000.0), LedgerFile(store.folder / AUDITS), work)


@pytest.mark.parametrize(("drawn", "held_out"), [(5, False), (ROWS, True)])
def test_samples_are_secret_or_held_out(
    drawn: int, held_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_store(tmp_path / "run") as store:
        index = packed(store.blobs, tiny_samples(ROWS))
        held = BlobStore(store.folder / HELD_OUT)
        own = packed(held, tiny_samples(20, seed=9))
        (store.folder / HELD_OUT / HELD_OUT_INDEX).write_bytes(own.to_bytes())
        job = prepared(store, tmp_path, index, monkeypatch, drawn)
        assert isinstance(job, AuditJob)
        folder = held if held_out else store.blobs
        shard = (own if held_out else index).shards[0]
        assert {each.path for each in job.samples} == {str(folder.path(BlobHash(shard.hash)))}
        assert len(job.samples) == (20 if held_out else 32)
        assert Path(job.state).is_file()
        assert [each.audited for each in job.contributions] == [True]


def test_a_round_with_a_damaged_contribution_is_not_audited(tmp_path: Path) -> None:
    with opened_store(tmp_path / "run") as store:
        state, link = store.state, fold_round(store, parts.ADA)
        store.blobs.path(BlobHash(link.commits[0].blob)).write_bytes(b"")
        closed, file = ClosedRound(link, state, {}), LedgerFile(store.folder / AUDITS)
        assert prepare(closed, store, Ledger(), Budget(1000.0), file, tmp_path) == FilesMissing()


def test_without_either_the_round_is_not_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_store(tmp_path / "run") as store:
        index = packed(store.blobs, tiny_samples(ROWS))
        assert prepared(store, tmp_path, index, monkeypatch, ROWS) == NoSecretSamples()
