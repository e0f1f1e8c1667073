"""Fetching ahead of the close: what is announced comes, and what is false is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import peer.volunteer.prefetch as fetching_ahead
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


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching_ahead, "RETRY_SECONDS", 0.0)


def test_of_what_is_announced_what_fits_is_fetched_ahead(store: RunStore, tmp_path: Path) -> None:
    good, blob = contribution(store, parts.BEN, seed=5)
    stranger = parts.STRANGER
    too_large, too_small = announce(store, stranger, blob + b"x"), announce(store, stranger, blob[:-1])
    elsewhere = sign(stranger, parts.commit(stranger, base=parts.HASH_B, blob=parts.HASH_A, size=len(blob)))
    nowhere = announce(store, stranger, blob[::-1])

    async def play(peer: Peer) -> None:
        ours = await peer.publish()
        peer.swarm.announced += [ours, good, too_large, too_small, elsewhere, nowhere]
        peer.swarm.held |= {blob_hash(made): made for made in (blob, blob + b"x", blob[:-1])}
        await peer.look_ahead()

    peer = played(store, tmp_path, play)
    assert set(peer.swarm.fetched) == {blob_name(good.value), blob_name(nowhere.value)}
    assert blob_name(good.value) in peer.work.blobs


def test_a_commit_that_cannot_be_true_is_left_alone_and_the_others_are_fetched(
    store: RunStore, tmp_path: Path
) -> None:
    lie, good = contribution(store, parts.STRANGER, 1), contribution(store, parts.BEN, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.announced.append(lie[0])
        peer.swarm.held[blob_name(good[0].value)] = good[1]
        peer.swarm.broken.append(HashMismatch("its pieces are not its blob", fix="It is left out."))
        await peer.look_ahead()
        assert not peer.swarm.broken
        peer.swarm.announced.append(good[0])
        await peer.look_ahead()

    peer = played(store, tmp_path, play)
    assert peer.swarm.fetched == [blob_name(good[0].value)]


def test_one_that_is_slow_to_come_holds_up_no_other(store: RunStore, tmp_path: Path) -> None:
    (slow, one), (late, other) = contribution(store, parts.BEN, 1), contribution(store, parts.STRANGER, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.held |= {blob_name(slow.value): one, blob_name(late.value): other}
        peer.swarm.gate.clear()
        for commit in (slow, late):
            peer.swarm.announced.append(commit)
            peer.swarm.asked.clear()
            await peer.exchange.ahead.look()
            await peer.swarm.asked.wait()
        peer.swarm.gate.set()
        await peer.exchange.ahead.finish()

    assert len(played(store, tmp_path, play).swarm.fetched) == 2


def test_what_was_fetched_ahead_stays_only_if_the_close_lists_it(store: RunStore, tmp_path: Path) -> None:
    (good, blob), (late, other) = contribution(store, parts.BEN, 1), contribution(store, parts.STRANGER, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.announced += [good, late]
        peer.swarm.held |= {blob_name(good.value): blob, blob_name(late.value): other}
        await peer.look_ahead()
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


def test_what_was_here_before_stays_whatever_is_announced(store: RunStore, tmp_path: Path) -> None:
    """A commit can name a shard of the data, or our own contribution."""
    shard = contribution(store, parts.BEN, seed=6)[1]

    async def play(peer: Peer) -> None:
        peer.work.blobs.put(shard)
        peer.swarm.announced.append(announce(store, parts.STRANGER, shard))
        await peer.look_ahead()
        train_round(store, parts.BEN)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert blob_hash(shard) in peer.work.blobs
