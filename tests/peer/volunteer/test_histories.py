"""A volunteer of a run with two histories: it steps back to a resume, and follows neither of two."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.double_signing import DoubleSigned
from barnraise.core.ids import BlobHash, blob_hash
from coordinator.rounds.log_watch import LogWatch
from coordinator.rounds.membership import Membership
from coordinator.store.run_store import RunStore
from peer.volunteer.actions import LogNews
from peer.volunteer.proofs import read_proofs
from tests.support import parts
from tests.support.coordinators import FakeSwarm, fold_round, head_of, opened_store, reopened, train_round
from tests.support.exchanging import Peer, played


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        train_round(made, parts.BEN)
        yield made


@contextmanager
def copied(store: RunStore, folder: Path) -> Iterator[RunStore]:
    """The coordinator that is started from a copy of its folder."""
    shutil.copytree(store.folder, folder)
    with reopened(replace(store, folder=folder)) as copy:
        yield copy


def test_a_volunteer_steps_back_to_a_resume_and_owes_what_it_gave_beyond(
    store: RunStore, tmp_path: Path
) -> None:
    """The coordinator lost round 1, which listed Ada, and resumed before it."""

    async def play(peer: Peer) -> None:
        await peer.catch_up()
        commit = await peer.publish()
        with copied(store, tmp_path / "copy") as copy:
            peer.accepted(commit)
            fold_round(store, parts.BEN)
            await peer.catch_up()
            peer.exchange.hand_over()
            assert not peer.owes
            copy.resume(parts.NOW)
            peer.store = copy
            assert peer.exchange.log_news(peer.head) is LogNews.AMENDED
            await peer.catch_up()
            assert (peer.follower.tip, peer.owes) == (copy.snapshot.tip, True)
            fold_round(copy, parts.STRANGER)
            await peer.catch_up()
            assert peer.follower.tip == copy.snapshot.tip
            assert peer.follower.tip.epoch == 1
            assert peer.exchange.log_news(head_of(store)) is LogNews.NONE, "a head of the older epoch"

    played(store, tmp_path, play)


def test_a_resume_at_our_place_leaves_the_pending_contribution(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        commit = await peer.publish()
        store.resume(parts.NOW)
        before = peer.follower.tip
        await peer.catch_up()
        assert peer.work.pending == commit
        assert (peer.follower.tip.round, peer.follower.tip.state) == (before.round, before.state)
        assert peer.follower.tip == store.snapshot.tip

    played(store, tmp_path, play)


def test_two_closes_of_a_round_stop_a_volunteer_until_a_resume(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.catch_up()
        with copied(store, tmp_path / "copy") as copy:
            fold_round(store, parts.BEN)
            await peer.catch_up()
            ours = peer.follower.tip
            fold_round(copy, parts.STRANGER)
            peer.store = copy
            assert peer.exchange.log_news(peer.head) is LogNews.CONTRADICTS
            await peer.catch_up()
            assert peer.follower.tip == ours
            assert peer.exchange.log_news(peer.head) is LogNews.DOUBLE_SIGNED
            longer = peer.head.model_copy(update={"height": peer.head.height + 1})
            assert peer.exchange.log_news(longer) is LogNews.DOUBLE_SIGNED, "it has a delegation too"
            assert peer.restarted().exchange.log_news(peer.head) is LogNews.DOUBLE_SIGNED
            [proof] = read_proofs(peer.folder / "proofs", store.charter)
            assert isinstance(proof, DoubleSigned)
            assert {proof.first.vote.entry, proof.second.vote.entry} == {
                store.snapshot.position.previous, copy.snapshot.position.previous,
            }  # fmt: skip
            await others_learn(peer, store, tmp_path)
            copy.resume(parts.NOW)
            assert peer.exchange.log_news(peer.head) is LogNews.AMENDED

    played(store, tmp_path, play)


async def others_learn(peer: Peer, store: RunStore, folder: Path) -> None:
    """A volunteer and the coordinator that saw one history get the proof, and the archive has it."""
    named = parts.presence(parts.ADA, proof=peer.exchange.proof)
    other = Peer(store, folder / "other")
    assert other.exchange.log_news(other.head) is LogNews.NONE
    peer.work.blobs.put(b"no proof")
    for false in (blob_hash(b"no proof"), None):
        other.exchange.update_others([parts.presence(parts.BEN, proof=false)])
    held = (peer.folder / "blobs").glob("??/*")
    other.swarm.held |= {BlobHash(path.name): path.read_bytes() for path in held}
    other.exchange.update_others([named])
    await other.exchange._search.finish()
    assert other.exchange.log_news(other.head) is LogNews.DOUBLE_SIGNED
    assert other.exchange.proof == other.restarted().exchange.proof == peer.exchange.proof
    swarm = FakeSwarm(store.blobs, held=other.swarm.held)
    watch = LogWatch(store, swarm.as_swarm)
    await watch.look(Membership.of([named]))
    await watch._proofs.finish()
    watch.cancel()
    assert [path.name for path in (store.folder / "archive" / "proofs").iterdir()] == [peer.exchange.proof]
