"""A volunteer of a run that is rolled back: it follows by itself, and drops what it trained since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.log_entries import Change
from barnraise.core.errors import KeyBanned
from coordinator.store.next_entry import standing_change_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore
from peer.volunteer.contribution_state import ContributionState
from peer.volunteer.saved_state import SavedWork
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store, train_round
from tests.support.exchanging import Peer, played


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        train_round(made, parts.BEN)
        yield made


def roll_back(store: RunStore, to: int, *, written: bool = True) -> None:
    store.amend(rollback_to(to, (), "noise", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    if written:
        store.write_checkpoint(parts.NOW)


def check(peer: Peer) -> None:
    run = peer.store.snapshot
    assert (peer.follower.tip, peer.follower.state.hash()) == (run.tip, run.tip.state)


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_a_volunteer_goes_back_and_drops_its_work(
    store: RunStore, tmp_path: Path, written: bool, listed: bool
) -> None:
    """written: a checkpoint of the new round is there. listed: its contribution was folded, and is void."""

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        commit = await peer.publish()
        if listed:
            peer.accepted(commit)
        fold_round(store, parts.BEN)
        await peer.catch_up()
        peer.exchange.hand_over()
        roll_back(store, 1, written=written)
        await peer.catch_up()
        check(peer)
        assert not peer.work.residual
        assert peer.exchange.hand_over().missed is None
        saved = peer.saves.load()
        assert isinstance(saved, SavedWork)
        np.testing.assert_array_equal(saved.inner["steps"], [0])
        assert (saved.tip, saved.residual, saved.folded) == (store.snapshot.tip, {}, ())
        fold_round(store, parts.BEN)
        await peer.catch_up()
        check(peer)

    played(store, tmp_path, play)


def test_a_pending_contribution_of_the_open_round_is_dropped(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        await peer.publish()
        roll_back(store, store.snapshot.round)
        await peer.catch_up()
        check(peer)
        assert peer.work.pending is None
        assert not peer.work.residual
        assert peer.exchange.hand_over().missed is None
        assert peer.lifecycle.state is ContributionState.MISSED, "until the training is rebased"

    played(store, tmp_path, play)


def test_a_volunteer_that_was_away_passes_the_void_rounds_over(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        first = await peer.publish()
        peer.accepted(first)
        fold_round(store)
        fold_round(store, parts.BEN, parts.STRANGER)
        void = {name for blobs in store.snapshot.history.kept[2:] for name in blobs}
        roll_back(store, 2, written=False)
        fold_round(store, parts.BEN)
        await peer.catch_up()
        check(peer)
        assert peer.lifecycle.state is ContributionState.LISTED
        assert peer.work.residual, "it is of before"
        assert not void & set(peer.swarm.fetched)

    played(store, tmp_path, play)


def test_a_volunteer_that_crashed_before_it_followed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        fold_round(store, parts.BEN)
        await peer.catch_up()
        await peer.publish()
        roll_back(store, 1)
        again, saved = peer.restarted(), peer.saves.load()
        assert isinstance(saved, SavedWork)
        again.follower.tip, again.follower.state = saved.tip, saved.state
        await again.catch_up()
        check(again)
        assert not again.work.residual

    played(store, tmp_path, play)


def test_a_ban_that_was_lifted_meanwhile_ends_nothing(store: RunStore, tmp_path: Path) -> None:
    """The saved work of a volunteer that comes back is from before the ban."""

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        for level in ("banned", "trusted"):
            change = Change.model_validate({"key": parts.ADA.public, "level": level, "cause": "order"})
            store.amend(standing_change_of(store.snapshot, [change], [], parts.NOW), parts.NOW)
        fold_round(store, parts.BEN)
        await peer.catch_up()
        check(peer)

    played(store, tmp_path, play)


def test_a_volunteer_that_a_rollback_bans_ends_with_the_reason(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        fold_round(store, parts.BEN)
        await peer.catch_up()
        ban = Change(key=parts.ADA.public, level="banned", cause="order", note="noise")
        store.amend(rollback_to(1, (ban,), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
        store.rebuild()
        store.write_checkpoint(parts.NOW)
        with pytest.raises(KeyBanned, match="noise"):
            await peer.catch_up()

    played(store, tmp_path, play)
