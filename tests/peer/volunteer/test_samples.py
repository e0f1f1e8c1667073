"""A volunteer's samples, from shards that the run's maintainer built wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from barnraise.contract.shards import DataIndex, Sample, parse_shard
from barnraise.core.errors import InvalidRun, NetworkError, TrustError
from barnraise.core.ids import BlobHash, PublicKey, Round
from barnraise.runtime.blob_store import BlobStore
from peer.volunteer.samples import Samples, fetch_index
from tests.support import parts
from tests.support.coordinators import FakeSwarm
from tests.support.tiny import packed, tiny_samples


def batch(folder: Path, **changed: object) -> list[Sample]:
    """The first sample of a run whose index is changed; a holder serves what its maintainer stored."""
    store = BlobStore(folder / "holder")
    index = packed(store, tiny_samples(3))
    held = {ref.blob: store.get(ref.blob) for ref in index.shards}
    wrong = DataIndex.model_validate(index.model_dump() | changed)
    swarm = FakeSwarm(BlobStore(folder / "own"), held=held)
    charter = parts.charter(parts.run_spec(), parts.state())
    samples = Samples(charter, parts.AUTHORITY.public, wrong, swarm.as_swarm, swarm.blobs)
    return asyncio.run(samples.batch(Round(0), 0, 1))


def test_a_shard_that_its_maintainer_built_wrongly_ends_the_work(tmp_path: Path) -> None:
    assert len(batch(tmp_path / "right")) == 1
    with pytest.raises(InvalidRun) as caught:
        batch(tmp_path / "wrong", vocab_size=1)
    assert not isinstance(caught.value, TrustError | NetworkError), "the loop would try again for ever"
    assert "vocabulary's size 1" in caught.value.problem
    assert "maintainer" in caught.value.fix


def test_a_shard_with_other_rows_than_the_index_says_ends_the_work(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    (ref,) = packed(store, tiny_samples(3)).shards
    fewer = ref.model_copy(update={"samples": 2}).model_dump()
    with pytest.raises(InvalidRun):
        batch(tmp_path, shards=(fewer,), tokens=40, trained_tokens=1)


def test_other_volunteers_are_asked_after_those_that_have_all_data(tmp_path: Path) -> None:
    class Asked(FakeSwarm):
        async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
            asked.append(tuple(holders))
            return await super().fetch(name, limit, holders)

    asked: list[tuple[PublicKey, ...]] = []
    store, present = BlobStore(tmp_path / "holder"), [parts.presence(parts.BEN)]
    index = packed(store, tiny_samples(3))
    name = store.put(index.model_dump_json().encode())
    held = {ref.blob: store.get(ref.blob) for ref in index.shards} | {name: store.get(name)}
    swarm = Asked(BlobStore(tmp_path / "own"), held=held)
    charter = parts.charter(parts.run_spec(), parts.state()).model_copy(update={"data_index": name})

    async def scene() -> None:
        found = await fetch_index(charter, swarm.as_swarm, swarm.blobs, present)
        samples = Samples(charter, parts.ADA.public, found, swarm.as_swarm, swarm.blobs, lambda: present)
        await samples.batch(Round(0), 0, 1)

    asyncio.run(scene())
    assert asked == [(parts.AUTHORITY.public, parts.BEN.public)] * 2


def test_an_index_without_shards_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidRun):
        batch(tmp_path, shards=(), tokens=0, trained_tokens=0)


def test_an_index_that_its_maintainer_built_wrongly_ends_the_work(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    name: BlobHash = blobs.put(b"{}")
    charter = parts.charter(parts.run_spec(), parts.state()).model_copy(update={"data_index": name})
    with pytest.raises(InvalidRun):
        asyncio.run(fetch_index(charter, FakeSwarm(blobs).as_swarm, blobs))


def test_while_the_coordinator_is_away_samples_that_are_here_are_taken(tmp_path: Path) -> None:
    store, own = BlobStore(tmp_path / "holder"), BlobStore(tmp_path / "own")
    index = packed(store, *(tiny_samples(3, seed=seed) for seed in range(4)))
    held = {ref.blob: store.get(ref.blob) for ref in index.shards}
    charter = parts.charter(parts.run_spec(), parts.state())
    samples = Samples(charter, parts.ADA.public, index, FakeSwarm(own, held=held).as_swarm, own)
    alone = Samples(charter, parts.ADA.public, index, FakeSwarm(own, held={}).as_swarm, own)
    with pytest.raises(NetworkError):
        asyncio.run(alone.batch(Round(5), 0, 12, away=True))
    asyncio.run(samples.prefetch(Round(5)))
    (here,) = (ref.blob for ref in index.shards if ref.blob in own)
    first = asyncio.run(alone.batch(Round(5), 0, 3))
    assert sorted(sample.input_ids.tobytes() for sample in first) == sorted(
        sample.input_ids.tobytes() for sample in parse_shard(held[here], 24, None)
    )
    with pytest.raises(NetworkError):
        asyncio.run(alone.batch(Round(5), 0, 12))
    assert len(asyncio.run(alone.batch(Round(5), 0, 12, away=True))) == 12


def test_a_prefetch_that_fails_is_left_to_the_batch(tmp_path: Path) -> None:
    own = BlobStore(tmp_path / "own")
    index = packed(BlobStore(tmp_path / "holder"), tiny_samples(3))
    charter = parts.charter(parts.run_spec(), parts.state())
    samples = Samples(charter, parts.ADA.public, index, FakeSwarm(own, held={}).as_swarm, own)
    asyncio.run(samples.prefetch(Round(5)))
