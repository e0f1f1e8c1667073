"""Holders serve another state to a volunteer that joins: whole, or one tensor of it, under the true names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barnraise.contract.state import TrainState
from barnraise.contract.state_index import WantedState, assemble, read_index
from barnraise.core.errors import HashMismatch, MalformedBlob, TrustError, Unreachable
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.network.state_download import download_state
from barnraise.runtime.blob_store import BlobStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm

TRUE, POISONED = parts.state(1), parts.state(2)
WANTED = WantedState(TRUE.hash(), 0, TRUE.layout.digest(), ())


def taken(held: dict[BlobHash, bytes], folder: Path) -> TrainState:
    """What a joiner takes from holders with these bytes."""
    blobs = BlobStore(folder / "blobs")
    swarm = FakeSwarm(blobs, held=held)
    asyncio.run(download_state(WANTED, swarm.as_swarm, blobs, [PublicKey(parts.STRANGER.public)]))
    tensors = read_index(blobs.get(WANTED.index), WANTED)
    return assemble(WANTED, tensors, lambda name: blobs.get(name))


def test_the_true_state_is_taken(tmp_path: Path) -> None:
    assert taken(parts.state_blobs(TRUE), tmp_path).hash() == TRUE.hash()


@pytest.mark.parametrize("place", range(len(parts.state_blobs(TRUE))))
def test_a_poisoned_state_is_not_taken(place: int, tmp_path: Path) -> None:
    """Its index, or any tensor, in place of the true bytes."""
    true, false = parts.state_blobs(TRUE), parts.state_blobs(POISONED)
    name = list(true)[place]
    held = {**true, name: list(false.values())[place]}
    with pytest.raises((HashMismatch, MalformedBlob, TrustError, Unreachable)):
        taken(held, tmp_path)


def test_another_state_is_not_taken_under_the_name_of_the_true_one(tmp_path: Path) -> None:
    false = parts.state_blobs(POISONED)
    with pytest.raises((HashMismatch, MalformedBlob, TrustError, Unreachable)):
        taken({**false, WANTED.index: false[BlobHash(POISONED.hash())]}, tmp_path)
