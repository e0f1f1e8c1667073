"""A volunteer's loop among fakes of what surrounds it, at round 3, 50 s into the round."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from barnraise.contract.divergence import LossTrend
from barnraise.contract.records import Activity, Commit, Head, Presence
from barnraise.contract.shards import Sample
from barnraise.contract.spec import DataSpec, RoundSpec, RunSpec
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import BarnraiseError, Unreachable
from barnraise.core.ids import BlobHash, Millis, Round
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.run_clock import RunClock
from peer.timing import Timing
from peer.training.trainer import Update
from peer.volunteer.actions import Exchanging, LocalWork, LogNews
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle
from peer.volunteer.display import StatusDisplay, VolunteerStatus
from peer.volunteer.durations import Advice, RoundTimer
from peer.volunteer.exchange import Exchange, NewState
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_copy import LogCopy
from peer.volunteer.loop import Volunteer
from peer.volunteer.policy import plan
from peer.volunteer.reasons import (
    ActionReason,
    Notice,
)
from peer.volunteer.samples import Samples
from tests.support import parts
from tests.support.programs import DEADLINE

SPEC = RunSpec(name=parts.RUN, data=DataSpec(source="x"), round=RoundSpec(seconds=100.0, grace=20.0))
STATE = parts.state()
UPDATE = Update(parts.tensors(1), tokens=64, samples=4, loss=2.5)


@dataclass
class FakeSwarm:
    """Publishes into a list."""

    published: list[Presence | Commit] = field(default_factory=list)
    present: list[Presence] = field(default_factory=list)
    traffic: Any = field(default_factory=lambda: type("Traffic", (), {"up": 0, "down": 0}))

    async def publish(self, record: Presence | Commit) -> None:
        self.published.append(record)

    async def peers(self) -> list[Presence]:
        return self.present

    @property
    def activities(self) -> list[Activity]:
        return [record.doing for record in self.published if isinstance(record, Presence)]


@dataclass
class FakeTraining:
    """Steps end when the test says so; the contribution's state is the real one."""

    lifecycle: ContributionLifecycle = field(default_factory=ContributionLifecycle)
    tip: Tip = field(default_factory=lambda: Tip(Position(Round(3), BlobHash(parts.HASH_A)), STATE.hash()))
    tokens: int = 0
    samples: int = 0
    loss: float = 0.0
    has_work: bool = False
    rebased: list[Tip] = field(default_factory=list)
    may_end: threading.Event = field(default_factory=threading.Event)
    """Steps end once it is set."""

    def __post_init__(self) -> None:
        self.may_end.set()

    @property
    def round(self) -> Round:
        return self.tip.round

    @property
    def counts_in(self) -> Round:
        return Round(self.tip.round + self.lifecycle.taken)

    def step(self, _: Sequence[Sample]) -> int:
        assert self.may_end.wait(DEADLINE)
        self.tokens += 64
        return 64

    def work(self) -> LocalWork:
        return LocalWork(self.tip.round, self.lifecycle.state, self.tokens, 0)

    def take(self, limit: int | None = None) -> Update:
        self.lifecycle.advance(ContributionEvent.TAKE)
        return UPDATE

    def rest(self) -> Update:
        return UPDATE

    def rebase(self, tip: Tip, *_: object) -> None:
        self.rebased.append(tip)


@dataclass
class FakeExchange:
    """Records its calls."""

    calls: list[str] = field(default_factory=list)
    pending: Commit | None = None
    proof: BlobHash | None = None
    weight: None = None
    halted: bool = False
    ended_after: int | None = None
    trend: LossTrend = field(default_factory=LossTrend)
    busy: Exchanging = Exchanging.IDLE
    caught_up: threading.Event = field(default_factory=threading.Event)

    def announced(self, admission: str) -> Commit | None:
        return self.pending

    def progress(self, _: Tip) -> Exchanging:
        return self.busy

    def look(self) -> None: ...

    def try_again(self) -> None: ...

    def log_news(self, head: Head) -> LogNews:
        return LogNews.NONE

    def catch_up(self, head: Head, *, from_checkpoint: bool) -> None:
        self.calls.append(f"catch up to {head.round}, checkpoint {from_checkpoint}")
        self.busy = Exchanging.BUSY
        self.caught_up.set()

    def publish(self, update: Update, admission: str) -> None:
        assert (update, admission) == (UPDATE, "admission")
        self.calls.append("publish")

    def hand_over(self) -> NewState:
        return NewState(
            Tip(Position(Round(4), BlobHash(parts.HASH_B)), STATE.hash()), STATE, self.trend, None
        )

    def update_others(self, others: Sequence[Presence]) -> None: ...

    def keeps(self, open_round: Round) -> Round:
        return open_round

    async def finish(self) -> None:
        self.calls.append("finish")

    async def put_aside(self, update: Update) -> None:
        self.calls.append("put aside")

    async def last_was_served(self) -> bool:
        return True


@dataclass
class FakeSamples:
    """Fails `failures` times, then returns empty batches."""

    failures: int = 0
    chance: float = 10.8
    rounds: list[Round] = field(default_factory=list)

    async def batch(self, round: Round, start: int, count: int, *, away: bool = False) -> list[Sample]:
        self.rounds.append(round)
        if self.failures:
            self.failures -= 1
            raise Unreachable("a shard is gone", fix="Wait.")
        return []


@dataclass
class FakeDisplay:
    """Records what it shows."""

    reasons: list[ActionReason] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    _queue: asyncio.Queue[ActionReason] = field(default_factory=asyncio.Queue)

    def show(self, status: VolunteerStatus) -> None:
        self.reasons.append(status.doing)
        self._queue.put_nowait(status.doing)

    async def wait_for(self, reason: ActionReason) -> None:
        while await self._queue.get() != reason:
            pass

    def advise(self, advice: Advice) -> None:
        self.advice.append(advice)

    def notify(self, notice: Notice) -> None:
        self.notices.append(notice)


class Stage:
    """A volunteer at round 3, 50 s into the round, among fakes."""

    def __init__(self) -> None:
        self.now = Millis(parts.NOW + 50_000)
        self.swarm, self.training, self.exchange = FakeSwarm(), FakeTraining(), FakeExchange()
        self.samples, self.display = FakeSamples(), FakeDisplay()
        self.timer = RoundTimer(parts.NOW)
        now, swarm = lambda: self.now, cast(Swarm, self.swarm)
        self.heads = HeadFollower(
            self.head(3), swarm, RunClock(now, now), now, tuple, self.timer, lambda _: None
        )
        self.claims = 0
        self.in_use: BarnraiseError | None = None
        """What the coordinator answers to a claim."""
        nowhere = Path("nowhere")
        self.volunteer = Volunteer(
            log_copy=LogCopy(parts.charter(SPEC, STATE), swarm, BlobStore(nowhere), nowhere, tuple),
            spec=SPEC,
            identity=parts.ADA,
            name="ada",
            instance=parts.INSTANCE,
            claim=self.claim,
            admission=lambda: "admission",
            clock=now,
            awake=now,
            swarm=swarm,
            samples=cast(Samples, self.samples),
            training=cast(LocalTraining, self.training),
            exchange=cast(Exchange, self.exchange),
            timer=self.timer,
            display=cast(StatusDisplay, self.display),
            heads=self.heads,
            leaving=asyncio.Event(),
            timing=Timing(poll=0.0, retry=0.0),
        )

    async def claim(self) -> None:
        self.claims += 1
        if self.in_use is not None:
            raise self.in_use

    def head(self, round: int) -> Head:
        known = parts.head()
        changes = {"round": round, "opens": parts.NOW, "at": self.now, "state": None, "turns": 1}
        return known.model_copy(update=changes)

    async def act(self) -> None:
        """One turn of the loop."""
        action = plan(self.volunteer._view())
        await self.volunteer._announce(action)
        await self.volunteer._carry_out(action)


def played(play: Callable[[Stage], Awaitable[None]]) -> Stage:
    async def run() -> Stage:
        stage = Stage()
        await play(stage)
        return stage

    return asyncio.run(run())
