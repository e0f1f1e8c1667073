"""A volunteer that nobody serves a checkpoint takes a state that the log names, from other volunteers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import Unreachable
from barnraise.core.ids import BlobHash, Round
from barnraise.fold.log import Link
from barnraise.fold.log_walk import Continues
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_store import RunStore
from peer.volunteer import named_state
from peer.volunteer.log_follower import LogFollower, first_follower
from peer.volunteer.named_state import StateSearch, TakenState
from tests.support import parts
from tests.support.coordinators import FakeSwarm, head_of, opened_store, train_round
from tests.support.parts import BEN, HASH_B

STATES: list[TrainState] = []
"""Before each round of `store`, and the newest."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """Three rounds, each with a checkpoint."""
    with opened_store(tmp_path / "run") as made:
        STATES[:] = [made.state]
        for _ in range(3):
            train_round(made, BEN)
            STATES.append(made.state)
        yield made


def swarm_with(store: RunStore, folder: Path, held: Mapping[BlobHash, bytes]) -> FakeSwarm:
    """Volunteers with the log, the contributions and `held`, and nobody with a checkpoint."""
    names = [
        *(logged.name for logged in store.snapshot.log),
        *(blob for blobs in store.snapshot.history.kept for blob in blobs),
    ]
    there = {name: store.blobs.get(name) for name in names}
    return FakeSwarm(BlobStore(folder), held=there | dict(held), present=[parts.presence(BEN)])


def search_in(store: RunStore, swarm: FakeSwarm) -> StateSearch:
    return StateSearch(store.charter, swarm.as_swarm, swarm.blobs)


def taken(store: RunStore, folder: Path, held: Mapping[BlobHash, bytes]) -> TakenState:
    swarm = swarm_with(store, folder, held)
    found = asyncio.run(search_in(store, swarm).take(head_of(store)))
    assert not any(name in swarm.blobs for name in parts.state_blobs(found.state))
    return found


def test_the_newest_state_is_named_by_the_head(store: RunStore, tmp_path: Path) -> None:
    held = parts.state_blobs(STATES[3]) | parts.state_blobs(STATES[2])
    found = taken(store, tmp_path / "peer", held)
    assert found.tip == store.snapshot.tip
    assert found.state.hash() == STATES[3].hash()


@pytest.mark.parametrize("round", [0, 1, 2])
def test_the_state_before_each_round_is_named_by_its_close(
    store: RunStore, tmp_path: Path, round: int
) -> None:
    found = taken(store, tmp_path / "peer", parts.state_blobs(STATES[round]))
    assert (found.tip.round, found.tip.state) == (round, STATES[round].hash())
    assert found.tip.position.height == round
    assert found.tip.previous == (store.snapshot.log[round - 1].name if round else store.charter.digest)
    assert found.state.hash() == STATES[round].hash()


def test_a_state_with_wrong_bytes_is_passed_over(store: RunStore, tmp_path: Path) -> None:
    wrong = {name: bytes(len(data)) for name, data in parts.state_blobs(STATES[3]).items()}
    found = taken(store, tmp_path / "peer", wrong | parts.state_blobs(STATES[2]))
    assert found.tip.round == 2


def test_a_state_that_the_log_does_not_name_is_not_asked_for(store: RunStore, tmp_path: Path) -> None:
    other = TrainState(parts.tensors(99), STATES[3].buffers, 3)
    swarm = swarm_with(store, tmp_path / "peer", parts.state_blobs(other))
    with pytest.raises(Unreachable):
        asyncio.run(search_in(store, swarm).take(head_of(store)))
    assert BlobHash(other.hash()) not in swarm.fetched


def test_what_was_fetched_of_a_state_is_kept_until_one_is_taken(store: RunStore, tmp_path: Path) -> None:
    newest, before = parts.state_blobs(STATES[3]), parts.state_blobs(STATES[2])
    *held, _ = newest.items()
    swarm = swarm_with(store, tmp_path / "peer", dict(held))
    search, head = search_in(store, swarm), head_of(store)
    with pytest.raises(Unreachable):
        asyncio.run(search.take(head))
    assert {name for name in newest if name in swarm.blobs} == dict(held).keys()
    swarm.held |= before
    assert asyncio.run(search.take(head)).tip.round == 2
    assert not any(name in swarm.blobs for name in newest | before)


def test_what_was_fetched_of_a_state_that_is_named_no_more_is_removed(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_state, "MOST_STATES", 1)
    newest = parts.state_blobs(STATES[3])
    *held, _ = newest.items()
    swarm = swarm_with(store, tmp_path / "peer", dict(held))
    search = search_in(store, swarm)
    with pytest.raises(Unreachable):
        asyncio.run(search.take(head_of(store)))
    train_round(store, BEN)
    swarm.held |= swarm_with(store, tmp_path / "peer", {}).held
    with pytest.raises(Unreachable):
        asyncio.run(search.take(head_of(store)))
    assert not any(name in swarm.blobs for name in newest)


def test_a_volunteer_joins_without_a_checkpoint_and_folds_on(store: RunStore, tmp_path: Path) -> None:
    swarm, head = swarm_with(store, tmp_path / "peer", parts.state_blobs(STATES[2])), head_of(store)

    async def scene() -> LogFollower:
        follower = await first_follower(store.charter, tmp_path, swarm.as_swarm, swarm.blobs, head)
        assert follower.tip.round == 2
        walked = await follower.walk(head)
        assert isinstance(walked, Continues)
        for step in walked.steps:
            assert isinstance(step, Link)
            await follower.fold(step)
        return follower

    follower = asyncio.run(scene())
    assert follower.tip == store.snapshot.tip
    assert follower.state.hash() == STATES[3].hash()


def test_a_volunteer_that_needs_another_state_takes_it_from_volunteers(
    store: RunStore, tmp_path: Path
) -> None:
    swarm = swarm_with(store, tmp_path / "peer", parts.state_blobs(STATES[3]))
    tip = Tip(Position(Round(1), BlobHash(HASH_B)), STATES[1].hash())
    follower = LogFollower(store.charter, swarm.as_swarm, swarm.blobs, tip, STATES[1])
    asyncio.run(follower.take_checkpoint(head_of(store)))
    assert follower.tip == store.snapshot.tip


def test_without_any_state_the_error_is_that_of_the_checkpoint(store: RunStore, tmp_path: Path) -> None:
    swarm, head = swarm_with(store, tmp_path / "peer", {}), head_of(store)
    with pytest.raises(Unreachable) as failed:
        asyncio.run(first_follower(store.charter, tmp_path, swarm.as_swarm, swarm.blobs, head))
    assert head.checkpoint[:8] in failed.value.problem
