"""The coordinator's main loop on a real run store and a fake swarm, by single ticks or until it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from barnraise.contract.pieces import Wanted
from barnraise.contract.records import Commit, Head, Presence
from barnraise.core.errors import HashMismatch
from barnraise.core.ids import Millis, PublicKey, Round, blob_hash
from barnraise.core.signed import Signed
from barnraise.runtime.pauses import Paused
from coordinator.reasons.rounds import (
    AwaitingHeartbeats,
    NoVolunteers,
    StillTraining,
    TooFewInTime,
)
from coordinator.rounds.intake import Refused, State, Unfetched
from coordinator.rounds.session import Session
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING
from tests.support import parts
from tests.support.coordinators import FakeSwarm, announce, contribution, opened_store, session_of, until_idle

AT_ONCE = replace(TIMING, tick=0.0, retry=0.0)


@dataclass
class CountedSwarm(FakeSwarm):
    """Sets `stop` at a given tick."""

    ticks: int = 1
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def commits(self, round: Round) -> list[Signed[Commit]]:
        self.ticks -= 1
        if not self.ticks:
            self.stop.set()
        return await super().commits(round)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def run(store: RunStore, now: Millis = parts.NOW) -> tuple[Session, CountedSwarm]:
    """A session that ran for two ticks at `now`."""

    async def act() -> tuple[Session, CountedSwarm]:
        swarm = CountedSwarm(store.blobs, ticks=2)
        session = session_of(store, swarm, now, timing=AT_ONCE)
        await session.run(swarm.stop)
        return session, swarm

    return asyncio.run(act())


def training(store: RunStore, name: str = "Ada") -> Presence:
    found = parts.presence(parts.ADA)
    return found.model_copy(update={"name": name, "round": store.snapshot.round, "doing": "training"})


def test_a_start_waits_for_heartbeats_and_announces_the_head(store: RunStore) -> None:
    session, swarm = run(store)
    assert session.progress == AwaitingHeartbeats()
    (head,) = swarm.published
    assert isinstance(head, Head)
    assert head.round == 0


def test_a_start_after_the_round_s_time_reopens_it(store: RunStore) -> None:
    late = Millis(store.snapshot.window.train_ends + 1)
    run(store, late)
    assert store.snapshot.opens == late


def test_a_start_within_the_round_s_time_leaves_it_open(store: RunStore) -> None:
    opens = store.snapshot.opens
    run(store, Millis(store.snapshot.window.train_ends))
    assert store.snapshot.opens == opens


def resumed(store: RunStore, now: Millis, seconds: float = 60.0) -> Session:
    """A session that decides for the first time after a pause of `seconds` up to `now`."""
    pauses = [Paused(seconds, asleep=False)]

    def unseen() -> list[Paused]:
        return [pauses.pop()] if pauses else []

    session = session_of(store, now=now)
    session.pauses = unseen
    asyncio.run(session.tick())
    return session


def test_after_a_pause_heartbeats_are_awaited(store: RunStore) -> None:
    opens = store.snapshot.opens
    session = resumed(store, Millis(store.snapshot.window.train_ends))
    assert session.progress == AwaitingHeartbeats()
    assert store.snapshot.opens == opens


def test_after_a_short_pause_the_round_goes_on(store: RunStore) -> None:
    """An overloaded machine would else never close a round."""
    assert resumed(store, parts.NOW, 15.0).progress == NoVolunteers()


def test_a_round_that_ended_during_a_pause_reopens(store: RunStore) -> None:
    """Else it would refuse what volunteers sent in time."""
    late = Millis(store.snapshot.window.deadline + 1)
    assert resumed(store, late).progress == AwaitingHeartbeats()
    assert store.snapshot.opens == late


def test_only_news_is_logged(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    swarm = FakeSwarm(store.blobs)
    session = session_of(store, swarm)

    async def act() -> None:
        await session.tick()
        assert session.progress == NoVolunteers()
        swarm.present = [training(store)]
        for _ in range(3):
            await session.tick()
        assert isinstance(session.progress, StillTraining)

    asyncio.run(act())
    assert len(caplog.records) == 2


def test_a_reopened_round_forgets_its_refusals_and_announces_its_head(store: RunStore) -> None:
    late = Millis(store.snapshot.window.deadline + 1)
    commit, _ = contribution(store, parts.BEN)
    swarm = FakeSwarm(store.blobs, announced=[commit], present=[training(store)])
    session = session_of(store, swarm, late)
    asyncio.run(session.tick())
    assert isinstance(session.progress, TooFewInTime)
    assert session.contributions.intake.state(commit) is None, "it was too late and is in time again"
    assert store.snapshot.opens == late
    assert [record.opens for record in swarm.published if isinstance(record, Head)] == [late]


def test_a_full_round_fetches_no_more(tmp_path: Path) -> None:
    spec = parts.run_spec()
    one = spec.model_copy(update={"round": spec.round.model_copy(update={"max_contributions": 1})})
    with opened_store(tmp_path, one) as store:
        commit, blob = contribution(store, parts.ADA)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
        other, _ = contribution(store, parts.BEN, seed=2)
        swarm = FakeSwarm(store.blobs, announced=[commit, other])

        async def act() -> None:
            session = session_of(store, swarm)
            session.contributions.consider(swarm.announced, session.members, parts.NOW)
            await until_idle(session)

        asyncio.run(act())
        assert swarm.fetched == []
        assert store.snapshot.accepted.keys() == {parts.ADA.public}


def test_a_close_forgets_when_commits_were_seen(store: RunStore) -> None:
    commit, blob = contribution(store, parts.ADA)
    swarm = FakeSwarm(store.blobs, held={blob_hash(blob): blob}, announced=[commit])
    session = session_of(store, swarm)
    assert session.auditing is None, "as of a follower"

    async def act() -> None:
        await session.tick()
        await until_idle(session)
        await session.tick()

    asyncio.run(act())
    assert store.snapshot.round == 1
    assert not session.contributions.first_seen()


@dataclass
class LyingSwarm(FakeSwarm):
    """Rejects a commit by Ben that copies the blob hash of Ada's and describes its pieces wrongly."""

    proceed: Callable[[], bool] = lambda: True
    """Whether to check the pieces now."""

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        if wanted.owner == parts.ADA.public:
            return await super().fetch_pieces(wanted, holders)
        while not self.proceed():  # noqa: ASYNC110
            await asyncio.sleep(0)
        raise HashMismatch("the commit describes other pieces", fix="It is refused.")


@pytest.mark.parametrize("after", ["stored", "accepted"])
def test_a_copied_blob_hash_removes_no_valid_blob(store: RunStore, after: str) -> None:
    good, blob = contribution(store, parts.ADA)
    name = blob_hash(blob)
    bad = announce(store, parts.BEN, blob)
    swarm = LyingSwarm(store.blobs, held={name: blob}, announced=[bad, good])
    swarm.proceed = lambda: bool(store.snapshot.accepted) if after == "accepted" else name in store.blobs

    async def act() -> State | None:
        session = session_of(store, swarm)
        await session.tick()
        await until_idle(session)
        return session.contributions.intake.state(bad)

    assert isinstance(asyncio.run(act()), Refused)
    assert store.snapshot.accepted.keys() == {parts.ADA.public}
    assert name in store.blobs


@dataclass
class SlowSwarm(FakeSwarm):
    """The round closes during a fetch."""

    close: Callable[[], object] = lambda: None

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        path = await super().fetch_pieces(wanted, holders)
        self.close()
        return path


def test_a_contribution_that_arrives_after_the_close_leaves_no_blob(store: RunStore) -> None:
    good, held = contribution(store, parts.ADA)
    store.blobs.put(held)
    store.accept(good, parts.NOW)
    commit, blob = contribution(store, parts.BEN, seed=2)
    swarm = SlowSwarm(store.blobs, held={blob_hash(blob): blob}, announced=[commit])
    swarm.close = lambda: store.close("the deadline passed", parts.NOW)

    async def act() -> None:
        session = session_of(store, swarm)
        session.contributions.consider(swarm.announced, session.members, parts.NOW)
        await until_idle(session)

    asyncio.run(act())
    assert swarm.fetched == [blob_hash(blob)]
    assert blob_hash(blob) not in store.blobs
    assert store.snapshot.round == 1


@pytest.mark.parametrize("certified", [True, False])
def test_a_late_contribution_that_a_close_of_others_lists_stays(store: RunStore, certified: bool) -> None:
    """certified: whether closers have agreed on that close, or still may."""
    good, held = contribution(store, parts.ADA)
    store.blobs.put(held)
    store.accept(good, parts.NOW)
    commit, blob = contribution(store, parts.BEN, seed=2)
    swarm = SlowSwarm(store.blobs, held={blob_hash(blob): blob}, announced=[commit])

    def close() -> None:
        if certified:
            store.accept(commit, parts.NOW)
        store.close("by the votes of others", parts.NOW)

    swarm.close = close

    async def act() -> None:
        session = session_of(store, swarm)
        if not certified:
            session.contributions.keep_where(lambda name: name == blob_hash(blob))
        session.contributions.consider(swarm.announced, session.members, parts.NOW)
        await until_idle(session)

    asyncio.run(act())
    assert store.snapshot.round == 1
    assert blob_hash(blob) in store.blobs


@dataclass
class DroppingSwarm(FakeSwarm):
    """Returns paths of blobs that the store has dropped."""

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        return self.blobs.path(wanted.blob)


def test_a_blob_that_is_dropped_during_its_fetch_is_fetched_again(store: RunStore) -> None:
    commit, _ = contribution(store, parts.ADA)
    session = session_of(store, DroppingSwarm(store.blobs, announced=[commit]), timing=AT_ONCE)

    async def act() -> None:
        await session.tick()
        await until_idle(session)
        session.contributions.raise_failures()

    asyncio.run(act())
    assert session.contributions.intake.state(commit) == Unfetched(1)


def test_an_unexpected_error_of_a_fetch_ends_the_run(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, blob = contribution(store, parts.ADA)
    swarm = FakeSwarm(store.blobs, held={blob_hash(blob): blob}, announced=[commit])
    session = session_of(store, swarm)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(store, "accept", full)

    async def act() -> None:
        await session.tick()
        await until_idle(session)
        await session.tick()

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(act())
