"""`peer verify` on a run that was rolled back: void rounds are passed over, their checkpoints are gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from barnraise.contract.archive import contribution_path
from barnraise.contract.records import blob_name
from barnraise.contract.spec import Schedule
from barnraise.core.errors import UserError
from barnraise.core.ids import StateHash
from coordinator.store.next_entry import decay_of, rollback_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore
from peer.verify.proof import FromCheckpoint
from tests.support import parts
from tests.support.coordinators import archive, show, train_round
from tests.support.parts import ADA, BEN
from tests.support.verifying import SPEC, differs, options, proved, run_of


@contextmanager
def rolled_back(folder: Path) -> Iterator[RunStore]:
    """Rounds 0 to 2, back to 1, and one more round."""
    with run_of(folder, rounds=2) as store:
        void = train_round(store, BEN)
        store.amend(rollback_to(1, (), "noise", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
        store.rebuild()
        store.write_checkpoint(parts.NOW)
        for commit in void.commits:
            (archive(store) / contribution_path(blob_name(commit))).unlink()  # nobody reads it
        train_round(store, ADA)
        yield store


def test_void_rounds_are_passed_over(tmp_path: Path) -> None:
    with rolled_back(tmp_path / "run") as store:
        found = proved(options(archive(store)))
        assert (found.rounds, found.contributions) == (2, 3)
        assert found.state == store.state.hash()
        assert found.tokens == store.snapshot.tokens
        assert proved(options(archive(store), start=1)).start == FromCheckpoint(1)
        assert proved(options(archive(store), start=4)).start == FromCheckpoint(4)


@pytest.mark.parametrize("round", [2, 3])
def test_a_checkpoint_of_a_void_round_is_withdrawn(tmp_path: Path, round: int) -> None:
    with rolled_back(tmp_path / "run") as store, pytest.raises(UserError, match=f"round {round} is void"):
        proved(options(archive(store), revision=str(round)))


def test_a_run_that_ended_by_a_decay_is_replayed_with_its_rates(tmp_path: Path) -> None:
    spec = parts.scheduled(SPEC, Schedule(warmup_rounds=1))
    with run_of(tmp_path / "run", rounds=1, spec=spec) as store:
        store.amend(decay_of(store.snapshot, 2, parts.NOW), parts.NOW)
        for _ in range(3):
            train_round(store, ADA)
        assert store.snapshot.ended_after == 4
        found = proved(options(archive(store)))
        assert (found.rounds, found.state) == (4, store.state.hash())
        for start in (1, 2, 3):
            assert proved(options(archive(store), start=start)).state == store.state.hash()


@pytest.mark.parametrize("wrong", [-1, 0])
def test_a_rollback_to_another_number_of_tokens_is_found(tmp_path: Path, wrong: int) -> None:
    spec = parts.scheduled(SPEC, Schedule(tokens=10_000))
    with run_of(tmp_path / "run", rounds=2, spec=spec) as store:
        entry = rollback_to(1, (), "noise", store.snapshot, store.blobs.get, parts.NOW)
        assert entry.tokens is not None
        store.amend(entry.model_copy(update={"tokens": entry.tokens + wrong}), parts.NOW)
        store.rebuild()
        train_round(store, ADA)
        reader = options(archive(store))
        if wrong == 0:
            assert proved(reader).tokens == store.snapshot.tokens
        else:
            assert differs(reader).what == "entry"


def test_a_rollback_to_another_state_than_it_says_is_found(tmp_path: Path) -> None:
    with run_of(tmp_path / "run", rounds=2) as store:
        wrong = StateHash("e" * 64)
        store.amend(rollback_of(store.snapshot, 1, wrong, (), "", parts.NOW), parts.NOW)
        honest = store.snapshot.position
        with pytest.raises(Exception, match="went back"):
            store.rebuild()
        assert store.snapshot.position == honest
        show(store)
        found = proved(options(archive(store), revision="1"))
        assert found.rounds == 1
