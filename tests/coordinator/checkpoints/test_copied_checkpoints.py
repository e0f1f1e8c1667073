"""A follower's checkpoints: the coordinator's, and its own ones while that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, parse_index
from barnraise.contract.certificates import certify
from barnraise.contract.close_rules import open_commits
from barnraise.contract.log_entries import vote_on
from barnraise.contract.manifest import open_manifest
from barnraise.contract.records import Evaluation
from barnraise.contract.standing import NONE
from barnraise.core.errors import Unreachable
from barnraise.core.ids import blob_hash
from barnraise.core.signed import sign
from barnraise.fold.log import Link
from barnraise.models.checkpoint_files import read_state
from coordinator.checkpoints.copied_checkpoints import CopiedCheckpoints
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm, archive, contribution, opened_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """Of the closer ADA. It has one round more than the coordinator's newest checkpoint."""
    spec = parts.run_spec()
    keys = (parts.ADA.public, parts.BEN.public)
    spec = spec.model_copy(update={"closers": spec.closers.model_copy(update={"keys": keys})})
    with opened_store(tmp_path / "run", spec) as made:
        commit, blob = contribution(made, parts.BEN)
        made.blobs.put(blob)
        made.accept(commit, parts.NOW)
        close = made.candidate("all contributed", parts.NOW)
        certificate = certify([parts.ADA, parts.BEN], vote_on(close, 1))
        link = Link(close, open_commits(close), certificate)
        made.enter(link)
        made.fold(link)
        made.authority = parts.ADA
        yield made


def copies(store: RunStore) -> CopiedCheckpoints:
    return CopiedCheckpoints.of(store, FakeSwarm(store.blobs).as_swarm, lambda: parts.NOW)


def test_a_closer_that_leads_writes_the_state_as_a_checkpoint(store: RunStore) -> None:
    asyncio.run(copies(store).write_checkpoint(leads=True))
    run = store.snapshot
    signed = run.newest_checkpoint
    assert (signed.signer, signed.value.tip(NONE)) == (parts.ADA.public, run.tip)
    wire = store.blobs.get(blob_hash(signed.wire))
    assert open_manifest(wire, run=parts.RUN, signers=run.signers) == signed
    assert read_state(signed.value, store.charter.layout, store.blobs.path).hash() == run.tip.state
    names = {entry.name for entry in signed.value.files}
    assert "README.md" not in names
    assert "adapter_config.json" in names


def test_no_archive_shows_it_and_a_restart_begins_with_it(store: RunStore) -> None:
    made = copies(store)
    asyncio.run(made.write_checkpoint(leads=True))
    asyncio.run(made.update_archive())
    index = parse_index((archive(store) / INDEX).read_bytes())
    assert index.closed == 1
    [trained] = [repo for repo in index.repos if repo.form == "trained"]
    assert [revision.round for revision in trained.revisions] == [0]
    journal = Journal(store.folder / "journal.sqlite")
    try:
        again = RunStore.restore(parts.ADA, store.snapshot.signed_charter, store.base, store.folder, journal)
        assert again.snapshot.newest_checkpoint.signer == parts.ADA.public
        assert again.snapshot.tip == store.snapshot.tip
    finally:
        journal.close()


def test_the_coordinator_s_replaces_it(store: RunStore) -> None:
    made = copies(store)
    asyncio.run(made.write_checkpoint(leads=True))
    store.authority = parts.AUTHORITY
    store.write_checkpoint(parts.NOW)
    final = store.snapshot.newest_checkpoint
    store.authority = parts.ADA
    store.adopt_checkpoint(final, parts.NOW, shown=True)
    assert store.snapshot.newest_checkpoint.signer == parts.AUTHORITY.public
    assert final.value.round in store.snapshot.published


def test_who_does_not_lead_writes_none(store: RunStore) -> None:
    before = store.snapshot.checkpoints
    asyncio.run(copies(store).write_checkpoint(leads=False))
    assert store.snapshot.checkpoints == before


def test_a_follower_takes_no_evaluations(store: RunStore) -> None:
    value = Evaluation(
        run=parts.RUN,
        round=0,
        state=parts.HASH_A,
        panel=parts.HASH_A,
        owner=parts.ADA.public,
        loss=1.0,
        tokens=1,
        at=parts.NOW,
    )
    with pytest.raises(Unreachable):
        copies(store).record_evaluation(sign(parts.ADA, value))
