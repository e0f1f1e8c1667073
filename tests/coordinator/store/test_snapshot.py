"""A restart from a snapshot. The walks of test_run_state cover what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.run_keys import Successors, name_successor
from barnraise.core.errors import BadSignature
from barnraise.core.ids import BlobHash
from barnraise.core.signed import sign
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.events import Kind, StateSaved
from coordinator.store.layered import RECENT, Layered
from coordinator.store.state_snapshot import snapshot_of
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store, reopened, train_round


def test_a_restart_from_a_snapshot_has_the_state_and_opens_no_older_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_store(tmp_path) as store:
        train_round(store, parts.ADA, parts.BEN)
        store.save(parts.NOW)
        train_round(store, parts.BEN)
        fold_round(store, parts.ADA)
        opened: list[str] = []
        get = BlobStore.get

        def noted(blobs: BlobStore, name: BlobHash) -> bytes:
            opened.append(name)
            return get(blobs, name)

        monkeypatch.setattr(BlobStore, "get", noted)
        with reopened(store) as again:
            assert again.state.hash() == store.state.hash()
            assert again.snapshot.round == store.snapshot.round
            assert again.snapshot.log == store.snapshot.log
            assert again.snapshot.history.shares(3) == store.snapshot.history.shares(3)
        assert store.snapshot.log[0].name not in opened
        assert store.snapshot.log[1].name in opened


def test_a_close_takes_a_snapshot_once_many_rows_follow_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.store.journal.SNAPSHOT_ROWS", 6)
    with opened_store(tmp_path) as store:
        for _ in range(3):
            fold_round(store, parts.ADA, parts.BEN)
        kinds = [row.kind for row in store.journal.rows()]
        assert kinds.count(Kind.SAVED) == 2
        ends = [kinds[at - 2 : at] for at, kind in enumerate(kinds) if kind is Kind.SAVED]
        assert ends[1] == [Kind.CLOSED, Kind.CHARTERED]
        with reopened(store) as again:
            assert again.state.hash() == store.state.hash()


@pytest.mark.parametrize("named", [(), (name_successor(parts.RUN, 1, parts.BEN, parts.STRANGER),)])
def test_a_snapshot_by_a_key_that_no_run_key_named_is_refused(tmp_path: Path, named: Successors) -> None:
    with opened_store(tmp_path) as store:
        fold_round(store, parts.ADA)
        saved = snapshot_of(store.snapshot)
        position = saved.position.model_copy(update={"successors": named})
        forged = sign(parts.STRANGER, saved.model_copy(update={"position": position}))
        store.journal.append(StateSaved(parts.NOW, store.snapshot.round, forged).row())
        with pytest.raises(BadSignature), reopened(store):
            pass


@given(st.lists(st.dictionaries(st.integers(0, 400), st.integers(), max_size=3), max_size=40))
def test_a_layered_mapping_is_a_dict_whose_newest_values_are_last(changes: list[dict[int, int]]) -> None:
    layered, plain = (
        Layered[int, int](dict.fromkeys(range(RECENT), 0)),
        dict.fromkeys(range(RECENT), 0),
    )
    for change in changes:
        before, was = layered, dict(layered)
        layered = layered.with_items(change)
        for key, value in change.items():
            plain.pop(key, None)
            plain[key] = value
        assert list(layered.items()) == list(plain.items())
        assert len(layered) == len(plain)
        assert dict(before) == was, "the earlier version stays"
