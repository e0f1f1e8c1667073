"""What goes on beside the training, on a real log and a pretended swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

import peer.ahead as fetching_ahead
import peer.exchange as exchanging
from barnraise.edge.transfer.blobstore import BlobStore
from barnraise.errors import BarnraiseError, DiskFull, HashMismatch, StateError
from barnraise.ids import BlobHash, Millis, PublicKey, blob_hash
from barnraise.log import Tip, genesis_tip
from barnraise.records import Commit, Head, blob_name
from barnraise.signed import Signed, sign
from coordinator.book import Book
from peer.ahead import Ahead
from peer.exchange import INNER_SECONDS, Exchange
from peer.follower import Follower
from peer.pace import Pace
from peer.shelf import Shelf
from peer.store import Saved, Store
from peer.trainer import Trainer, Update
from peer.work import Work
from tests import parts
from tests.desk import PretendedSwarm, announce, contribution, opened_book, train_round


@dataclass
class Swarm(PretendedSwarm):
    """Also lets a test say when a fetch goes on, how it fails, and when a blob of ours was served."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Fetches wait for it."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Something was asked for."""
    served: asyncio.Event = field(default_factory=asyncio.Event)
    nobody_came: bool = False
    broken: list[BarnraiseError] = field(default_factory=list)
    """What the next fetches raise."""

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        self.asked.set()
        await self.gate.wait()
        if self.broken:
            raise self.broken.pop()
        return await super().fetch(name, limit, holders)

    async def wait_served(self, name: BlobHash, timeout: float) -> bool:
        await self.served.wait()
        return not self.nobody_came


class Inner:
    """A trainer of which only its inner optimizer is asked for."""

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        return {"steps": np.array([3], np.int64)}


@dataclass
class Peer:
    """One volunteer beside a coordinator's book, at the begin of the run."""

    book: Book
    folder: Path
    now: Millis = parts.NOW

    def __post_init__(self) -> None:
        charter, blobs = self.book.charter, BlobStore(self.folder / "blobs")
        self.store = Store(self.folder / "work", charter.spec.digest())
        self.swarm = Swarm(blobs)
        self.swarm.gate.set()
        self.work = Work(charter, parts.ADA, self.store, blobs)
        self.follower = Follower(charter, self.swarm.as_swarm, blobs, genesis_tip(charter), parts.state())
        self.shelf, self.pace = Shelf(blobs), Pace(self.now)
        trainer = cast(Trainer, Inner())
        swarm = self.swarm.as_swarm
        ahead = Ahead(self.follower, self.shelf)
        self.exchange = Exchange(
            self.follower, self.work, trainer, swarm, self.shelf, ahead, self.pace, lambda: self.now
        )
        self.work.save(self.follower.tip, self.follower.state, {})
        self.hear()

    def hear(self) -> None:
        """The coordinator holds all that is in its book."""
        files = (self.book.folder / "blobs").glob("??/*")
        self.swarm.held |= {BlobHash(path.name): path.read_bytes() for path in files}

    @property
    def head(self) -> Head:
        return self.book.head(parts.NOW, (), turns=1, volunteers=1, tokens=0)

    async def publish(self, seed: int = 1) -> Signed[Commit]:
        update = Update(parts.tensors(seed, scale=0.01), tokens=64, samples=4, loss=2.5)
        self.exchange.publish(update, parts.admission(parts.ADA))
        await self.exchange.finish()
        assert self.work.pending is not None
        return self.work.pending

    async def catch_up(self, *, from_checkpoint: bool = False, head: Head | None = None) -> None:
        self.hear()
        await self.try_to_catch_up(from_checkpoint=from_checkpoint, head=head)

    async def try_to_catch_up(self, *, from_checkpoint: bool = False, head: Head | None = None) -> None:
        self.exchange.catch_up(head or self.head, from_checkpoint=from_checkpoint)
        await self.exchange.finish()

    async def look_ahead(self) -> None:
        """Until all that is announced is here or was refused."""
        await self.exchange.ahead.look()
        await self.exchange.ahead.finish()
        await self.exchange.ahead.look()

    def accepted(self, commit: Signed[Commit]) -> None:
        """The coordinator fetched ours."""
        self.book.blobs.put(self.work.blobs.get(blob_name(commit.value)))
        self.book.accept(commit, parts.NOW)

    @property
    def owes(self) -> bool:
        return self.work.missed is not None or any(array.any() for array in self.work.residual.values())


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with opened_book(tmp_path / "coordinator") as book:
        yield book


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (exchanging, fetching_ahead):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


Play = Callable[[Peer], Awaitable[None]]


def played(book: Book, folder: Path, play: Play) -> Peer:
    """`play` in a loop of its own, with nothing left running in it."""

    async def run() -> Peer:
        peer = Peer(book, folder / "peer")
        try:
            await play(peer)
        finally:
            peer.exchange.stop()
        return peer

    return asyncio.run(run())


# Following the log


def test_a_round_is_folded_and_saved(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.BEN)

    async def play(peer: Peer) -> None:
        await peer.catch_up()

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert peer.follower.state.hash() == book.tip.state
    saved = Store(tmp_path / "peer/work", book.charter.spec.digest()).load()
    assert isinstance(saved, Saved)
    assert saved.tip == book.tip
    assert saved.inner["steps"].tolist() == [3]
    assert peer.shelf.keeps(book.tip.round) == 0


def test_the_inner_optimizer_is_saved_every_ten_minutes(book: Book, tmp_path: Path) -> None:
    written = []

    async def play(peer: Peer) -> None:
        before = files = set((peer.folder / "work").glob("inner*"))
        for seconds in (0.0, INNER_SECONDS - 1, INNER_SECONDS, INNER_SECONDS + 1):
            peer.now = Millis(parts.NOW + round(1000 * seconds))
            await peer.exchange.save()
            before, files = files, set((peer.folder / "work").glob("inner*"))
            written.append(files != before)

    played(book, tmp_path, play)
    assert written == [True, False, True, False]


def test_it_goes_on_beside_the_caller_one_thing_at_a_time(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.BEN)

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

    assert played(book, tmp_path, play).follower.tip == book.tip


def test_what_ours_closed_with_is_not_owed(book: Book, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.accepted(await peer.publish())
        train_round(book, parts.BEN)
        await peer.catch_up()

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert peer.work.pending is None
    assert not peer.owes  # the codec is exact: nothing is left over


def test_what_missed_its_close_is_owed_and_no_longer_kept(book: Book, tmp_path: Path) -> None:
    sent: list[BlobHash] = []

    async def play(peer: Peer) -> None:
        sent.append(blob_name((await peer.publish()).value))
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)
        assert sent[0] in peer.work.blobs
        train_round(book, parts.BEN)
        await peer.catch_up()

    peer = played(book, tmp_path, play)
    assert peer.work.pending is None
    assert peer.owes
    assert sent[0] not in peer.work.blobs


def test_who_cannot_be_reached_is_asked_again(
    book: Book, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(book, parts.BEN)
    missing = blob_name(train_round(book, parts.BEN).commits[0])

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

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert peer.owes


def test_bytes_that_are_not_what_they_claim_are_told_and_tried_again(
    book: Book, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_round(book, parts.BEN)
    junk = b"no close"

    async def play(peer: Peer) -> None:
        peer.swarm.held[blob_hash(junk)] = junk
        await peer.catch_up(head=peer.head.model_copy(update={"close": blob_hash(junk)}))
        assert peer.follower.tip.round == 0
        assert "trying again" in caplog.text
        await peer.catch_up()

    assert played(book, tmp_path, play).follower.tip == book.tip


def test_what_ends_a_volunteer_s_work_is_raised_when_it_looks(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.BEN)

    async def play(peer: Peer) -> None:
        peer.swarm.broken.append(DiskFull("no room for blobs", fix="Make room."))
        peer.hear()
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        assert peer.exchange._task is not None
        await asyncio.wait([peer.exchange._task])
        with pytest.raises(DiskFull, match="no room"):
            peer.exchange.look()
        assert not peer.exchange.busy

    played(book, tmp_path, play)


# Checkpoints


def test_a_checkpoint_saves_the_rounds_before_it(book: Book, tmp_path: Path) -> None:
    skipped = [blob_name(train_round(book, parts.BEN).commits[0]) for _ in range(2)]

    async def play(peer: Peer) -> None:
        await peer.publish()
        await peer.catch_up(from_checkpoint=True)

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert peer.follower.state.hash() == book.tip.state
    assert not set(skipped) & set(peer.swarm.fetched)
    assert peer.work.pending is None
    assert peer.owes


def test_what_came_after_the_checkpoint_is_folded(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.BEN)
    commit, blob = contribution(book, parts.BEN, seed=99)
    book.blobs.put(blob)
    book.accept(commit, parts.NOW)
    book.fold(book.close("all contributed", parts.NOW))
    assert book.newest_checkpoint().value.round == 1

    async def play(peer: Peer) -> None:
        await peer.catch_up(from_checkpoint=True)

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert peer.shelf.keeps(book.tip.round) == 1


@pytest.mark.parametrize("behind", [0, 1])
def test_a_state_that_is_not_the_run_s_is_replaced_by_the_checkpoint(
    book: Book, tmp_path: Path, caplog: pytest.LogCaptureFixture, behind: int
) -> None:
    """Found out by the head (0), or as the next close does not fit it (1)."""
    train_round(book, parts.BEN)

    async def play(peer: Peer) -> None:
        wrong = parts.state(seed=77)
        tip = book.tip if behind == 0 else peer.follower.tip
        peer.follower.state = wrong
        peer.follower.tip = Tip(tip.round, tip.previous, wrong.hash())
        await peer.catch_up(from_checkpoint=behind == 0)

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert peer.follower.state.hash() == book.tip.state
    assert ("taking the newest checkpoint" in caplog.text) is (behind == 1)


def test_a_checkpoint_that_is_no_better_is_a_state_error(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_round(book, parts.BEN)

    async def never(self: Follower, head: Head) -> None:
        raise StateError("the checkpoint's state is not its hash", fix="Wait for the next one.")

    monkeypatch.setattr(Follower, "take_checkpoint", never)

    async def play(peer: Peer) -> None:
        with pytest.raises(StateError, match="is not its hash"):
            await peer.catch_up(from_checkpoint=True)

    played(book, tmp_path, play)


# Sending


def test_a_contribution_is_announced_and_timed_until_somebody_has_it(book: Book, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.now = Millis(parts.NOW + 60_000)
        commit = await peer.publish()
        assert peer.swarm.published == [commit.value]
        assert peer.pace.send_seconds == 0.0
        peer.now = Millis(parts.NOW + 67_500)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert played(book, tmp_path, play).pace.send_seconds == 7.5


def test_a_sending_that_outlasts_its_round_is_timed(book: Book, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        await peer.publish()
        train_round(book, parts.BEN)
        await peer.catch_up()
        peer.pace.went_over(peer.now)
        peer.now = Millis(parts.NOW + 40_000)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert played(book, tmp_path, play).pace.send_seconds == 40.0


def test_what_nobody_fetched_is_not_timed(book: Book, tmp_path: Path) -> None:
    async def play(peer: Peer) -> None:
        peer.swarm.nobody_came = True
        await peer.publish()
        peer.now = Millis(parts.NOW + 600_000)
        peer.swarm.served.set()
        await asyncio.gather(*peer.exchange._watching)

    assert played(book, tmp_path, play).pace.send_seconds == 0.0


def test_what_stops_leaves_nothing_running(book: Book, tmp_path: Path) -> None:
    train_round(book, parts.BEN)

    async def play(peer: Peer) -> None:
        await peer.publish()
        peer.swarm.gate.clear()
        peer.exchange.catch_up(peer.head, from_checkpoint=False)
        await peer.swarm.asked.wait()
        tasks = [peer.exchange._task, *peer.exchange._watching]
        peer.exchange.stop()
        ended = await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        assert [type(end) for end in ended] == [asyncio.CancelledError] * 2

    played(book, tmp_path, play)


# Fetching ahead of the close


def test_of_what_is_announced_what_fits_is_fetched_ahead(book: Book, tmp_path: Path) -> None:
    good, blob = contribution(book, parts.BEN, seed=5)
    stranger = parts.STRANGER
    too_large, too_small = announce(book, stranger, blob + b"x"), announce(book, stranger, blob[:-1])
    elsewhere = sign(stranger, parts.commit(stranger, base=parts.HASH_B, blob=parts.HASH_A, size=len(blob)))
    nowhere = announce(book, stranger, blob[::-1])

    async def play(peer: Peer) -> None:
        ours = await peer.publish()
        peer.swarm.announced += [ours, good, too_large, too_small, elsewhere, nowhere]
        peer.swarm.held |= {blob_hash(made): made for made in (blob, blob + b"x", blob[:-1])}
        await peer.look_ahead()

    peer = played(book, tmp_path, play)
    assert set(peer.swarm.fetched) == {blob_name(good.value), blob_name(nowhere.value)}
    assert blob_name(good.value) in peer.work.blobs


def test_a_commit_that_cannot_be_true_is_left_alone_and_the_others_are_fetched(
    book: Book, tmp_path: Path
) -> None:
    lie, good = contribution(book, parts.STRANGER, 1), contribution(book, parts.BEN, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.announced.append(lie[0])
        peer.swarm.held[blob_name(good[0].value)] = good[1]
        peer.swarm.broken.append(HashMismatch("its pieces are not its blob", fix="It is left out."))
        await peer.look_ahead()
        assert not peer.swarm.broken
        peer.swarm.announced.append(good[0])
        await peer.look_ahead()

    peer = played(book, tmp_path, play)
    assert peer.swarm.fetched == [blob_name(good[0].value)]


def test_one_that_is_slow_to_come_holds_up_no_other(book: Book, tmp_path: Path) -> None:
    (slow, one), (late, other) = contribution(book, parts.BEN, 1), contribution(book, parts.STRANGER, 2)

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

    assert len(played(book, tmp_path, play).swarm.fetched) == 2


def test_what_was_fetched_ahead_stays_only_if_the_close_lists_it(book: Book, tmp_path: Path) -> None:
    (good, blob), (late, other) = contribution(book, parts.BEN, 1), contribution(book, parts.STRANGER, 2)

    async def play(peer: Peer) -> None:
        peer.swarm.announced += [good, late]
        peer.swarm.held |= {blob_name(good.value): blob, blob_name(late.value): other}
        await peer.look_ahead()
        assert blob_name(late.value) in peer.work.blobs
        book.blobs.put(blob)
        book.accept(good, parts.NOW)
        book.fold(book.close("the deadline passed", parts.NOW))
        peer.swarm.fetched.clear()
        await peer.catch_up()
        assert blob_name(good.value) not in peer.swarm.fetched

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert blob_name(good.value) in peer.work.blobs
    assert blob_name(late.value) not in peer.work.blobs


def test_what_was_here_before_stays_whatever_is_announced(book: Book, tmp_path: Path) -> None:
    """A commit can name a shard of the data, or our own contribution."""
    shard = contribution(book, parts.BEN, seed=6)[1]

    async def play(peer: Peer) -> None:
        peer.work.blobs.put(shard)
        peer.swarm.announced.append(announce(book, parts.STRANGER, shard))
        await peer.look_ahead()
        train_round(book, parts.BEN)
        await peer.catch_up()

    peer = played(book, tmp_path, play)
    assert peer.follower.tip == book.tip
    assert blob_hash(shard) in peer.work.blobs
