"""The volunteer's loop: it carries out what the policy decides, and shows why."""

from __future__ import annotations

import asyncio

import pytest

from barnraise.contract.divergence import LossJumped, LossTrend
from barnraise.contract.records import Presence
from barnraise.core.errors import BarnraiseError, KeyInUse, Unreachable
from barnraise.core.ids import Millis, Round
from peer.volunteer.actions import Exchanging, Leave
from peer.volunteer.durations import ExchangeShare, StepCount, StepsPerRound
from peer.volunteer.policy import plan
from peer.volunteer.reasons import (
    RoundClosed,
    RunOver,
    StepOutlastsRound,
    TimeIsOver,
    TimeToTrain,
)
from tests.support import parts
from tests.support.loop_stage import Stage, played
from tests.support.programs import DEADLINE


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


def test_a_volunteer_leaves_by_itself_where_the_run_has_ended() -> None:
    async def play(stage: Stage) -> None:
        stage.exchange.ended_after = 4
        view = stage.volunteer._view()
        assert plan(view) == Leave(RunOver(4))

    assert played(play).training.tokens == 0


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
