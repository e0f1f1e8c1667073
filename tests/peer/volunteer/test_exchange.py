"""What goes on beside the training, on a real log and a pretended swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import peer.volunteer.exchange as exchanging
from barnraise.contract.records import Head, blob_name
from barnraise.contract.tip import Tip
from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import BlobHash, Millis, blob_hash
from coordinator.store.run_store import RunStore
from peer.volunteer.exchange import INNER_SECONDS
from peer.volunteer.log_follower import LogFollower
from peer.volunteer.saved_state import SavedState, SavedWork
from tests.support import parts
from tests.support.coordinators import contribution, opened_store, train_round
from tests.support.exchanging import Peer, played


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "coordinator") as store:
        yield store


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "RETRY_SECONDS", 0.0)


# Following the log


def test_a_round_is_folded_and_saved(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.follower.state.hash() == store.snapshot.tip.state
    saved = SavedState(tmp_path / "peer/work", store.charter.spec.digest()).load()
    assert isinstance(saved, SavedWork)
    assert saved.tip == store.snapshot.tip
    assert saved.inner["steps"].tolist() == [3]
    assert peer.shelf.keeps(store.snapshot.tip.round) == 0


def test_the_inner_optimizer_is_saved_every_ten_minutes(store: RunStore, tmp_path: Path) -> None:
    written = []

    async def play(peer: Peer) -> None:
        before = files = set((peer.folder / "work").glob("inner*"))
        for seconds in (0.0, INNER_SECONDS - 1, INNER_SECONDS, INNER_SECONDS + 1):
            peer.now = Millis(parts.NOW + round(1000 * seconds))
            await peer.exchange.save()
            before, files = files, set((peer.folder / "work").glob("inner*"))
            written.append(files != before)

    played(store, tmp_path, play)
    assert written == [True, False, True, False]


def test_it_goes_on_beside_the_caller_one_thing_at_a_time(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        peer.swarm.gate.clear()
        peer.hear()
        assert not peer.exchange.busy
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        assert peer.exchange.busy
        await peer.swarm.asked.wait()
        peer.exchange.look()
        assert peer.exchange.busy
        assert peer.follower.tip.round == 0
        peer.swarm.gate.set()
        await peer.exchange.finish()
        assert not peer.exchange.busy
        peer.exchange.look()
        await peer.exchange.finish()

    assert played(store, tmp_path, play).follower.tip == store.snapshot.tip


def test_what_ours_closed_with_is_not_owed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.accepted(await peer.publish())
        train_round(store, parts.BEN)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.work.pending is None
    assert not peer.owes  # the codec is exact: nothing is left over


def test_what_missed_its_close_is_owed_and_no_longer_kept(store: RunStore, tmp_path: Path) -> None:
    sent: list[BlobHash] = []

    async def play(peer: Peer) -> None:
        sent.append(blob_name((await peer.publish()).value))
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)
        assert sent[0] in peer.work.blobs
        train_round(store, parts.BEN)
        await peer.catch_up()

    peer = played(store, tmp_path, play)
    assert peer.work.pending is None
    assert peer.owes
    assert sent[0] not in peer.work.blobs


def test_who_cannot_be_reached_is_asked_again(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(store, parts.BEN)
    missing = blob_name(train_round(store, parts.BEN).commits[0])

    async def play(peer: Peer) -> None:
        await peer.publish()
        del peer.swarm.held[missing]
        await peer.try_to_catch_up()
        assert not peer.exchange.busy
        assert peer.follower.tip.round == 1  # what could be folded is not thrown away
        assert f"nobody gave the blob {missing[:8]}; trying again" in caplog.text
        owed = parts.copied(peer.work.residual)
        await peer.catch_up()
        assert all((peer.work.residual[name] == owed[name]).all() for name in owed)

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.owes


def test_bytes_that_are_not_what_they_claim_are_told_and_tried_again(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(store, parts.BEN)
    junk = b"no close"

    async def play(peer: Peer) -> None:
        peer.swarm.held[blob_hash(junk)] = junk
        await peer.catch_up(head=peer.head.model_copy(update={"close": blob_hash(junk)}))
        assert peer.follower.tip.round == 0
        assert "trying again" in caplog.text
        await peer.catch_up()

    assert played(store, tmp_path, play).follower.tip == store.snapshot.tip


def test_what_ends_a_volunteer_s_work_is_raised_when_it_looks(store: RunStore, tmp_path: Path) -> None:
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        peer.swarm.broken.append(DiskFull("no room for blobs", fix="Make room."))
        peer.hear()
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        assert peer.exchange._task is not None
        await asyncio.wait([peer.exchange._task])
        with pytest.raises(DiskFull, match="no room"):
            peer.exchange.look()
        assert not peer.exchange.busy

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
    assert peer.work.pending is None
    assert peer.owes


def test_what_came_after_the_checkpoint_is_folded(store: RunStore, tmp_path: Path) -> None:
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
    assert peer.shelf.keeps(store.snapshot.tip.round) == 1


@pytest.mark.parametrize("behind", [0, 1])
def test_a_state_that_is_not_the_run_s_is_replaced_by_the_checkpoint(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, behind: int
) -> None:
    """Found out by the head (0), or as the next close does not fit it (1)."""
    train_round(store, parts.BEN)

    async def play(peer: Peer) -> None:
        wrong = parts.state(seed=77)
        tip = store.snapshot.tip if behind == 0 else peer.follower.tip
        peer.follower.state = wrong
        peer.follower.tip = Tip(tip.round, tip.previous, wrong.hash())
        await peer.catch_up(from_checkpoint=behind == 0)

    peer = played(store, tmp_path, play)
    assert peer.follower.tip == store.snapshot.tip
    assert peer.follower.state.hash() == store.snapshot.tip.state
    assert ("taking the newest checkpoint" in caplog.text) is (behind == 1)


def test_a_checkpoint_that_is_no_better_is_a_state_error(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_round(store, parts.BEN)

    async def never(self: LogFollower, head: Head) -> None:
        raise StateError("the checkpoint's state is not its hash", fix="Wait for the next one.")

    monkeypatch.setattr(LogFollower, "take_checkpoint", never)

    async def play(peer: Peer) -> None:
        with pytest.raises(StateError, match="is not its hash"):
            await peer.catch_up(from_checkpoint=True)

    played(store, tmp_path, play)


# Sending


def test_a_contribution_is_announced_and_timed_until_somebody_has_it(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.now = Millis(parts.NOW + 60_000)
        commit = await peer.publish()
        assert peer.swarm.published == [commit.value]
        assert peer.pace.send_seconds == 0.0
        peer.now = Millis(parts.NOW + 67_500)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert played(store, tmp_path, play).pace.send_seconds == 7.5


def test_a_sending_that_outlasts_its_round_is_timed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.publish()
        train_round(store, parts.BEN)
        await peer.catch_up()
        peer.pace.went_over(peer.now)
        peer.now = Millis(parts.NOW + 40_000)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert played(store, tmp_path, play).pace.send_seconds == 40.0


def test_what_nobody_fetched_is_not_timed(store: RunStore, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.swarm.nobody_came = True
        await peer.publish()
        peer.now = Millis(parts.NOW + 600_000)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert played(store, tmp_path, play).pace.send_seconds == 0.0


def test_what_stops_leaves_nothing_running(store: RunStore, tmp_path: Path) -> None:
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
