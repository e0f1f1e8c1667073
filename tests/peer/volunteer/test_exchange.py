"""What runs in parallel with the training, on a real log and a fake swarm."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.records import Head, blob_name
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import MachineError, StateError
from barnraise.core.ids import BlobHash, Millis, blob_hash
from coordinator.store.run_store import RunStore
from peer.timing import TIMING
from peer.volunteer.contribution_state import ContributionEvent, ContributionState
from peer.volunteer.log_follower import LogFollower
from peer.volunteer.saved_state import SavedState, SavedWork
from tests.support import parts
from tests.support.coordinators import contribution, opened_store, train_round
from tests.support.exchanging import Peer, played


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as store:
        yield store


# Following the log


def test_a_round_is_folded_and_saved(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.follower.state.hash() == store.snapshot.tip.state
    saved = SavedState(tmp_path / "peer/work", store.charter.digest).load()
    assert isinstance(saved, SavedWork)
    assert saved.tip == store.snapshot.tip
    assert saved.inner["steps"].tolist() == [3]
    assert peer.retention.keeps(store.snapshot.tip.round) == 0


def test_the_inner_optimizer_is_saved_at_its_interval(store: RunStore, tmp_path: Path) -> None:
    written, interval = [], TIMING.save_inner

    async def play(peer: Peer) -> None:
        before = files = set((peer.folder / "work").glob("inner*"))
        for seconds in (0.0, interval - 1, interval, interval + 1):
            peer.now = Millis(parts.NOW + round(1000 * seconds))
            await peer.exchange.save()
            before, files = files, set((peer.folder / "work").glob("inner*"))
            written.append(files != before)

    played(store, tmp_path, play)
    assert written == [True, False, True, False]


def test_it_runs_in_parallel_with_the_caller(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        peer.swarm.gate.clear()
        peer.offer_blobs()
        assert not peer.busy
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        assert peer.busy
        await peer.swarm.asked.wait()
        peer.exchange.look()
        assert peer.busy
        assert peer.follower.tip.round == 0
        peer.swarm.gate.set()
        await peer.exchange.finish()
        assert not peer.busy
        peer.exchange.look()
        await peer.exchange.finish()

    assert played(store, tmp_path, play).follower.tip == store.snapshot.tip


def test_a_listed_contribution_is_not_owed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.accepted(await peer.publish())
        train_round(store, parts.BEN)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.lifecycle.state is ContributionState.LISTED
    assert not peer.owes  # the codec is exact


def test_a_missed_contribution_is_owed_and_its_blob_dropped(store: RunStore, tmp_path: Path) -> None:
    sent: list[BlobHash] = []

    async def play(peer: Peer) -> None:
        sent.append(blob_name((await peer.publish()).value))
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)
        assert sent[0] in peer.work.blobs
        train_round(store, parts.BEN)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.lifecycle.state is ContributionState.MISSED
    assert peer.owes
    assert sent[0] not in peer.work.blobs


def test_a_crash_before_the_state_is_saved_keeps_a_missed_contribution(
    store: RunStore, tmp_path: Path
) -> None:
    """The first fold drops its blob, long before the last fold is saved."""

    async def play(peer: Peer) -> None:
        commit = await peer.publish()
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)
        train_round(store, parts.BEN)
        missing = blob_name(train_round(store, parts.BEN).commits[0])
        peer.offer_blobs()
        del peer.swarm.held[missing]
        await peer.try_to_catch_up()
        assert peer.follower.tip.round == 1
        assert blob_name(commit.value) not in peer.work.blobs

    before = played(store, tmp_path, play)
    after = before.restarted()
    assert after.lifecycle.state is ContributionState.TRAINING
    assert after.owes
    owed, missed = after.work.residual, before.exchange.hand_over().missed
    assert missed is not None
    assert all((owed[name] == before.work.residual[name] + missed.tensor(name)).all() for name in owed)


def test_an_unreachable_blob_is_requested_again(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(store, parts.BEN)
    missing = blob_name(train_round(store, parts.BEN).commits[0])

    async def play(peer: Peer) -> None:
        await peer.publish()
        del peer.swarm.held[missing]
        await peer.try_to_catch_up()
        assert not peer.busy
        assert peer.follower.tip.round == 1  # the folded round is kept
        (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert missing[:8] in warning.message
        owed = parts.copied(peer.work.residual)
        await peer.catch_up()
        assert all((peer.work.residual[name] == owed[name]).all() for name in owed)

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.owes


def test_false_bytes_are_logged_and_requested_again(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(store, parts.BEN)
    junk = b"no close"

    async def play(peer: Peer) -> None:
        peer.swarm.held[blob_hash(junk)] = junk
        await peer.catch_up(head=peer.head.model_copy(update={"entry": blob_hash(junk)}))
        assert peer.follower.tip.round == 0
        assert "trying again" in caplog.text
        await peer.catch_up()

    assert played(store, tmp_path, play).follower.tip == store.snapshot.tip


def test_look_raises_errors_that_end_the_program(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        peer.swarm.broken.append(MachineError("no room for blobs", fix="Make room."))
        peer.offer_blobs()
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        assert peer.exchange._task is not None
        await asyncio.wait([peer.exchange._task])
        with pytest.raises(MachineError, match="no room"):
            peer.exchange.look()
        assert not peer.busy

    played(store, tmp_path, play)


# Checkpoints


def test_a_checkpoint_saves_the_rounds_before_it(store: RunStore, tmp_path: Path) -> None:
    skipped = [blob_name(train_round(store, parts.BEN).commits[0]) for _ in range(2)]

    async def play(peer: Peer) -> None:
        await peer.publish()
        await peer.catch_up(from_checkpoint=True)

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.follower.state.hash() == store.snapshot.tip.state
    assert not set(skipped) & set(peer.swarm.fetched)
    assert peer.lifecycle.state is ContributionState.MISSED
    assert peer.owes


def test_rounds_after_the_checkpoint_are_folded(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)
    commit, blob = contribution(store, parts.BEN, seed=99)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    store.fold(store.close("all contributed", parts.NOW))
    assert store.snapshot.newest_checkpoint.value.round == 1

    async def play(peer: Peer) -> None:
        await peer.catch_up(from_checkpoint=True)

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.retention.keeps(store.snapshot.tip.round) == 1


def test_the_weight_of_our_own_contribution_is_known_once_it_is_folded(
    store: RunStore, tmp_path: Path
) -> None:
    commit, blob = contribution(store, parts.ADA)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)

    async def play(peer: Peer) -> None:
        assert peer.exchange.weight is None
        store.fold(store.close("all contributed", parts.NOW))
        await peer.catch_up()

    weight = played(store, tmp_path, play).exchange.weight
    assert weight is not None
    assert (weight.round, weight.weight, weight.total) == (0, commit.value.tokens, commit.value.tokens)


@pytest.mark.parametrize("behind", [0, 1])
def test_a_state_that_is_not_the_run_s_is_replaced_by_the_checkpoint(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, behind: int
) -> None:
    """Found by the head (0), or by the next close (1)."""
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        wrong = parts.state(seed=77)
        tip = store.snapshot.tip if behind == 0 else peer.follower.tip
        peer.follower.state = wrong
        peer.follower.tip = Tip(Position(tip.round, tip.previous), wrong.hash())
        await peer.catch_up(from_checkpoint=behind == 0)

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.follower.state.hash() == store.snapshot.tip.state
    assert ("taking the newest checkpoint" in caplog.text) is (behind == 1)


def test_a_checkpoint_that_is_no_better_is_waited_out_for_another_one(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(store, parts.BEN)

    async def never(self: LogFollower, head: Head) -> None:
        raise StateError("the checkpoint's state is not its hash", fix="Wait for the next one.")

    monkeypatch.setattr(LogFollower, "take_checkpoint", never)

    async def play(peer: Peer) -> None:
        before = peer.follower.tip
        await peer.catch_up(from_checkpoint=True)
        assert peer.follower.tip == before
        assert "is not its hash" in caplog.text

    played(store, tmp_path, play)


# Sending


def sent_in(peer: Peer) -> float:
    return peer.timer.measured(peer.now).send


def test_a_contribution_is_published_and_timed_until_a_peer_has_it(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.now = Millis(parts.NOW + 60_000)
        commit = await peer.publish()
        assert peer.swarm.published == [commit.value]
        assert peer.timer.measured(peer.now).send == 0.0
        peer.now = Millis(parts.NOW + 67_500)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert sent_in(played(store, tmp_path, play)) == 7.5


def test_a_sending_that_outlasts_its_round_is_timed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.publish()
        train_round(store, parts.BEN)
        await peer.catch_up()
        peer.lifecycle.advance(ContributionEvent.REBASE)
        peer.timer.rebased(peer.now)
        peer.now = Millis(parts.NOW + 40_000)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert sent_in(played(store, tmp_path, play)) == 40.0


def test_a_contribution_that_no_peer_fetches_is_not_timed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.swarm.unserved = True
        await peer.publish()
        peer.now = Millis(parts.NOW + 600_000)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert sent_in(played(store, tmp_path, play)) == 0.0


def test_stop_leaves_nothing_running(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        await peer.publish()
        peer.swarm.gate.clear()
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        await peer.swarm.asked.wait()
        tasks = [peer.exchange._task, *peer.exchange._watching]
        peer.exchange.stop()
        ended = await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        assert [type(end) for end in ended] == [asyncio.CancelledError] * 2

    played(store, tmp_path, play)
