"""What the harness reads from a coordinator's folder while its programs use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.records import blob_name
from barnraise.core.ids import short
from barnraise.runtime.files import write_atomic
from coordinator.run_folder import AUTHORITY_KEY
from coordinator.store.run_store import RunStore
from scripts.chaos.cases import File
from scripts.chaos.evidence import JournalReader, Reference
from scripts.chaos.inject import flip_a_bit
from scripts.chaos.victims import blob_of
from tests.support import parts
from tests.support.coordinators import contribution, fold_round, opened_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        write_atomic(tmp_path / AUTHORITY_KEY, parts.AUTHORITY.seed, mode=0o600)
        yield made


def test_the_reference_holds_the_states_of_the_run(store: RunStore) -> None:
    reference = Reference(JournalReader(store.folder))
    states = [short(store.snapshot.tip.state)]
    for _ in range(3):
        link = fold_round(store, parts.ADA, parts.BEN)
        states.append(short(store.snapshot.tip.state))
        reference.catch_up()
        assert reference.listed[link.close.round] == {blob_name(commit) for commit in link.commits}
        assert reference.accepted[link.close.round].keys() == reference.listed[link.close.round]
    assert reference.states == dict(enumerate(states))


def test_a_damaged_contribution_is_found_and_stays_where_it_is(store: RunStore) -> None:
    reference = Reference(JournalReader(store.folder))
    link = fold_round(store, parts.ADA)
    path = store.blobs.path(blob_name(link.commits[0]))
    flip_a_bit(path)
    with pytest.raises(AssertionError, match="damaged"):
        reference.catch_up()
    assert path.exists(), "the program that uses the store sets it aside"


def test_each_file_of_a_coordinator_that_is_damaged_is_there(store: RunStore) -> None:
    link = fold_round(store, parts.ADA)
    commit, blob = contribution(store, parts.BEN, seed=7)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    assert blob_of(store.folder, File.CLOSE) == link.hash
    assert blob_of(store.folder, File.FOLDED) == blob_name(link.commits[0])
    assert blob_of(store.folder, File.ACCEPTED) == blob_name(commit.value)
    state = blob_of(store.folder, File.CHECKPOINT)
    assert state is not None
    assert state in store.blobs
