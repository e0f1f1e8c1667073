"""Prefetching: announced contributions are fetched, false ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.records import blob_name
from barnraise.core.errors import HashMismatch
from barnraise.core.ids import blob_hash
from barnraise.core.signed import sign
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import announce, contribution, opened_store, train_round
from tests.support.exchanging import Peer, played


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as store:
        yield store


def test_announced_contributions_that_fit_are_fetched(store: RunStore, tmp_path: Path) -> None:
    good, blob = contribution(store, parts.BEN, seed=5)
    stranger = parts.STRANGER
    too_large, too_small = announce(store, stranger, blob + b"x"), announce(store, stranger, blob[:-1])
    elsewhere = sign(stranger, parts.commit(stranger, base=parts.HASH_B, blob=parts.HASH_A, size=len(blob)))
    nowhere = announce(store, stranger, blob[::-1])

    async def play(peer: Peer) -> None:
        ours = await peer.publish()
        peer.swarm.announced += [ours, good, too_large, too_small, elsewhere, nowhere]
        peer.swarm.held |= {blob_hash(made): made for made in (blob, blob + b"x", blob[:-1])}
        await peer.prefetch()

    peer = played(store, tmp_path, play)
    assert set(peer.swarm.fetched) == {blob_name(good.value), blob_name(nowhere.value)}
    assert blob_name(good.value) in peer.work.blobs


def test_a_commit_that_cannot_be_true_is_refused_and_the_others_are_fetched(
    store: RunStore, tmp_path: Path
) -> None:
    lie, good = contribution(store, parts.STRANGER, 1), contribution(store, parts.BEN, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.announced.append(lie[0])
        peer.swarm.held[blob_name(good[0].value)] = good[1]
        peer.swarm.broken.append(HashMismatch("its pieces are not its blob", fix="It is left out."))
        await peer.prefetch()
        assert not peer.swarm.broken
        peer.swarm.announced.append(good[0])
        await peer.prefetch()

    peer = played(store, tmp_path, play)
    assert peer.swarm.fetched == [blob_name(good[0].value)]


def test_a_slow_download_delays_no_other(store: RunStore, tmp_path: Path) -> None:
    (slow, one), (late, other) = contribution(store, parts.BEN, 1), contribution(store, parts.STRANGER, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.held |= {blob_name(slow.value): one, blob_name(late.value): other}
        peer.swarm.gate.clear()
        for commit in (slow, late):
            peer.swarm.announced.append(commit)
            peer.swarm.asked.clear()
            await peer.exchange.prefetch.look()
            await peer.swarm.asked.wait()
        peer.swarm.gate.set()
        await peer.exchange.prefetch.finish()

    assert len(played(store, tmp_path, play).swarm.fetched) == 2


def test_a_prefetched_blob_stays_only_if_the_close_lists_it(store: RunStore, tmp_path: Path) -> None:
    (good, blob), (late, other) = contribution(store, parts.BEN, 1), contribution(store, parts.STRANGER, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.announced += [good, late]
        peer.swarm.held |= {blob_name(good.value): blob, blob_name(late.value): other}
        await peer.prefetch()
        assert blob_name(late.value) in peer.work.blobs
        store.blobs.put(blob)
        store.accept(good, parts.NOW)
        store.fold(store.close("the deadline passed", parts.NOW))
        peer.swarm.fetched.clear()
        await peer.catch_up()
        assert blob_name(good.value) not in peer.swarm.fetched

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert blob_name(good.value) in peer.work.blobs
    assert blob_name(late.value) not in peer.work.blobs


def test_a_blob_that_was_here_before_stays(store: RunStore, tmp_path: Path) -> None:
    """A commit can name a shard of the data set, or our own contribution."""
    shard = contribution(store, parts.BEN, seed=6)[1]

    async def play(peer: Peer) -> None:
        peer.work.blobs.put(shard)
        peer.swarm.announced.append(announce(store, parts.STRANGER, shard))
        await peer.prefetch()
        train_round(store, parts.BEN)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert blob_hash(shard) in peer.work.blobs


def test_a_blob_that_is_no_contribution_is_removed(store: RunStore, tmp_path: Path) -> None:
    data = bytes(len(contribution(store, parts.BEN)[1]))
    commit = announce(store, parts.BEN, data)

    async def play(peer: Peer) -> None:
        peer.swarm.announced.append(commit)
        peer.swarm.held[blob_hash(data)] = data
        await peer.prefetch()
        await peer.prefetch()

    peer = played(store, tmp_path, play)
    assert peer.swarm.fetched == [blob_hash(data)], "and it is refused"
    assert blob_hash(data) not in peer.work.blobs


def test_a_false_commit_is_no_obstacle_to_the_true_one_of_the_same_blob(
    store: RunStore, tmp_path: Path
) -> None:
    """The false one is announced first, and its download is slow."""
    true, blob = contribution(store, parts.BEN, 1)
    copied = announce(store, parts.STRANGER, blob).value
    false = sign(parts.STRANGER, copied.model_copy(update={"size": len(blob), "pieces": parts.HASH_A}))

    async def play(peer: Peer) -> None:
        peer.swarm.announced += [false, true]
        peer.swarm.held[blob_hash(blob)] = blob
        peer.swarm.gate.clear()
        await peer.exchange.prefetch.look()
        assert set(peer.exchange.prefetch._downloads) == {false.wire, true.wire}
        peer.swarm.gate.set()
        await peer.exchange.prefetch.finish()

    assert blob_hash(blob) in played(store, tmp_path, play).work.blobs
