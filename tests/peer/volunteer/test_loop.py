"""The volunteer's loop: it carries out what the policy decides, and shows why."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from barnraise.contract.divergence import LossJumped, LossTrend
from barnraise.contract.records import Activity, Commit, Head, Presence
from barnraise.contract.shards import Sample
from barnraise.contract.spec import DataSpec, RoundSpec, RunSpec
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import BarnraiseError, KeyInUse, Unreachable
from barnraise.core.ids import BlobHash, Millis, Round
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.run_clock import RunClock
from peer.timing import Timing
from peer.training.trainer import Update
from peer.volunteer.actions import Exchanging, LocalWork, LogNews
from peer.volunteer.contribution_state import ContributionEvent, ContributionLifecycle
from peer.volunteer.display import StatusDisplay, VolunteerStatus
from peer.volunteer.durations import Advice, ExchangeShare, RoundTimer, StepCount, StepsPerRound
from peer.volunteer.exchange import Exchange, NewState
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_copy import LogCopy
from peer.volunteer.loop import Volunteer
from peer.volunteer.policy import plan
from peer.volunteer.reasons import (
    ActionReason,
    Notice,
    RoundClosed,
    StepOutlastsRound,
    TimeIsOver,
    TimeToTrain,
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
    trend: LossTrend = field(default_factory=LossTrend)
    busy: Exchanging = Exchanging.IDLE
    caught_up: threading.Event = field(default_factory=threading.Event)

    def progress(self, _: Tip) -> Exchanging:
        return self.busy

    def look(self) -> None: ...

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


def test_a_step_is_announced_and_taken() -> None:
    async def play(stage: Stage) -> None:
        await stage.act()

    stage = played(play)
    assert stage.display.reasons == [TimeToTrain(50.0)]
    assert stage.swarm.activities == ["training"]
    assert stage.samples.rounds == [3]
    assert stage.training.tokens == 64


def test_an_activity_is_published_when_it_changes() -> None:
    async def play(stage: Stage) -> None:
        await stage.act()
        await stage.act()
        stage.now = Millis(parts.NOW + 200_000)
        stage.heads.head = stage.head(3)
        await stage.act()

    assert played(play).swarm.activities == ["training", "waiting"]


def test_samples_that_cannot_be_fetched_are_requested_again() -> None:
    async def play(stage: Stage) -> None:
        stage.samples.failures = 1
        await stage.act()
        assert stage.training.tokens == 0
        await stage.act()

    assert played(play).training.tokens == 64


def test_a_contribution_is_taken_and_sent() -> None:
    async def play(stage: Stage) -> None:
        await stage.act()
        stage.now = Millis(parts.NOW + 110_000)
        stage.heads.head = stage.head(3)
        await stage.act()

    stage = played(play)
    assert stage.display.reasons[-1] == TimeIsOver()
    assert stage.exchange.calls == ["publish"]
    assert stage.training.lifecycle.taken
    assert stage.timer.measured(stage.now).train == 110.0


def test_rounds_are_folded_during_a_step() -> None:
    """Once: the exchange is busy from then on."""

    async def play(stage: Stage) -> None:
        stage.training.may_end.clear()
        step = asyncio.create_task(stage.act())
        await stage.display.wait_for(TimeToTrain(50.0))
        stage.heads.head = stage.head(4)
        assert await asyncio.to_thread(stage.exchange.caught_up.wait, DEADLINE)
        stage.training.may_end.set()
        await step

    assert played(play).exchange.calls == ["catch up to 4, checkpoint False"]


def test_a_first_step_that_outlasts_the_round_is_announced_during_it() -> None:
    async def play(stage: Stage) -> None:
        stage.training.may_end.clear()
        step = asyncio.create_task(stage.act())
        await stage.display.wait_for(TimeToTrain(50.0))
        stage.now = Millis(parts.NOW + 101_000)
        await stage.display.wait_for(StepOutlastsRound())
        stage.training.may_end.set()
        await step

    assert played(play).swarm.activities == ["training", "waiting"]


def test_a_closed_round_is_folded() -> None:
    async def play(stage: Stage) -> None:
        stage.heads.head = stage.head(4)
        await stage.act()

    stage = played(play)
    assert stage.display.reasons == [RoundClosed(Round(3))]
    assert stage.exchange.calls == ["catch up to 4, checkpoint False"]


def test_a_folded_state_is_taken_up_and_the_exchange_judged() -> None:
    async def play(stage: Stage) -> None:
        stage.timer.published(stage.now)
        stage.now = Millis(parts.NOW + 60_000)
        stage.timer.folded(stage.now)
        stage.exchange.busy = Exchanging.FOLDED
        await stage.act()

    stage = played(play)
    assert [tip.round for tip in stage.training.rebased] == [4]
    assert stage.display.advice == [ExchangeShare(10.0, 50.0, overlaps=True, by_run=False)]
    assert stage.timer.measured(stage.now).ahead == 0.0


def test_advice_is_shown_once_per_meaning() -> None:
    async def play(stage: Stage) -> None:
        for _ in range(4):
            stage.timer.stepped(64, 2.0)
        await stage.act()
        await stage.act()

    (advice,) = played(play).display.advice
    assert isinstance(advice, StepsPerRound)
    assert advice.count is StepCount.FIT


@pytest.mark.parametrize(("has_work", "calls"), [(True, ["finish", "put aside"]), (False, ["finish"])])
def test_a_volunteer_that_leaves_saves_its_work_and_announces_it(has_work: bool, calls: list[str]) -> None:
    async def play(stage: Stage) -> None:
        stage.training.has_work = has_work
        await stage.volunteer._leave()

    stage = played(play)
    assert stage.exchange.calls == calls
    assert stage.swarm.activities == ["leaving"]


def beats(stage: Stage, *present: Presence) -> None:
    stage.swarm.present = list(present)


async def heard(stage: Stage) -> None:
    """One heartbeat of the volunteer, and what it does about those of others."""
    keeping = asyncio.create_task(stage.volunteer._keep_present())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    keeping.cancel()


COPY = parts.presence(instance="0c" * 8)
IN_USE = KeyInUse("another program takes part with your key", fix="Stop it.")


@pytest.mark.parametrize(
    ("present", "answer", "claims", "leaves"),
    [
        ([parts.presence(), parts.presence(parts.BEN, instance="0c" * 8)], None, 0, False),
        ([COPY], None, 1, False),
        ([COPY], Unreachable("away", fix="Wait."), 1, False),
        ([COPY], IN_USE, 1, True),
    ],
)
def test_a_heartbeat_of_another_program_with_our_key_is_contested(
    present: list[Presence], answer: BarnraiseError | None, claims: int, leaves: bool
) -> None:
    async def play(stage: Stage) -> None:
        stage.in_use = answer
        beats(stage, *present)
        await heard(stage)

    stage = played(play)
    assert (stage.claims, stage.volunteer.leaving.is_set()) == (claims, leaves)


def test_a_displaced_volunteer_saves_its_work_and_sends_no_farewell() -> None:
    async def play(stage: Stage) -> None:
        stage.in_use, stage.training.has_work = IN_USE, True
        beats(stage, COPY)
        await heard(stage)
        await stage.volunteer._leave()

    stage = played(play)
    assert "put aside" in stage.exchange.calls
    assert "leaving" not in stage.swarm.activities


def test_a_divergence_of_the_run_is_shown_once() -> None:
    async def play(stage: Stage) -> None:
        good = LossTrend().after(1, 2.5)
        for trend in (good, good.after(2, 4.0), good.after(2, 4.0).after(3, 4.5)):
            stage.exchange.trend = trend
            await stage.volunteer._merge()

    assert played(play).display.notices == [LossJumped(4.0, 2.5)]
