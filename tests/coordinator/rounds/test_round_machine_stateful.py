"""Whole runs on a fake clock: volunteers join, leave, crash and slow down, and the coordinator restarts."""

from __future__ import annotations

from random import Random
from typing import get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Round
from coordinator.reasons.rounds import (
    CloseReason,
    MisfitReason,
    ReopenReason,
    RunHalted,
    RunOver,
    WaitReason,
    WrongRound,
)
from coordinator.rounds.closing import CloseNow, Reopen, Wait
from coordinator.rounds.commit_check import Misfit
from peer.volunteer import reasons
from peer.volunteer.actions import Action, CatchUp, Hold, Leave, Merge, Publish, Train
from tests.support.world import TICK, World
from tests.support.world_peers import Peer

SPECS = (
    RoundSpec(seconds=10.0, grace=4.0, min_contributions=1),
    RoundSpec(seconds=10.0, grace=4.0, min_contributions=2),
    RoundSpec(seconds=20.0, grace=3.0, min_contributions=2, steps=5),
    RoundSpec(seconds=20.0, grace=6.0, min_contributions=1, target_tokens=150),
    RoundSpec(seconds=10.0, grace=4.0, overlap="always", steps=12),
    RoundSpec(seconds=10.0, grace=6.0, overlap="never", max_contributions=2, steps=12),
)
STEPS = (250, 1_000, 4_000, 12_000, 30_000)
LAGS = (0, 250, 3_000, 9_000)
FOLDS = (0, 1_500, 8_000)
CHEATS: tuple[dict[str, object], ...] = (
    {"size": 99},
    {"samples": 1, "tokens": 999},
    {"base_state": "d" * 64},
    {"ranges": ()},
)
BOUND = 300
"""Seconds in which a round closes once enough volunteers stay: windows, slow steps, stale heartbeats."""


def close_one_round(world: World) -> None:
    """From any state of the world, the open round closes once enough volunteers stay."""
    world.up = True
    while len([peer for peer in world.live if not peer.leaving]) < world.spec.min_contributions:
        world.join()
    before = world.round
    for _ in range(BOUND * 1000 // TICK):
        world.tick()
        world.check()
        if world.round > before:
            return
    stuck = {peer.name or peer.key[-2:]: peer.action for peer in world.live}
    raise AssertionError(f"round {before} is still open: {world.decision}; {stuck}")


class Rounds(RuleBasedStateMachine):
    """Any order of events; `World.check` holds after each."""

    world: World

    @initialize(spec=st.sampled_from(SPECS), peers=st.integers(0, 3))
    def begin(self, spec: RoundSpec, peers: int) -> None:
        self.world = World(spec)
        for _ in range(peers):
            self.world.join()

    def one_of(self, data: st.DataObject, *, alive: bool) -> Peer:
        return data.draw(st.sampled_from([p for p in self.world.peers.values() if p.alive is alive]))

    def some_live(self) -> bool:
        return bool(self.world.live)

    def some_away(self) -> bool:
        return len(self.world.live) < len(self.world.peers)

    @rule(ticks=st.sampled_from([1, 4, 20, 60, 160]))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.world.tick()
            self.world.check()

    @precondition(lambda self: len(self.world.peers) < 6)
    @rule(step=st.sampled_from(STEPS), lag=st.sampled_from(LAGS), fold=st.sampled_from(FOLDS))
    def joins(self, step: int, lag: int, fold: int) -> None:
        peer = self.world.join()
        peer.step, peer.lag, peer.fold = step, lag, fold

    @precondition(some_live)
    @rule(data=st.data())
    def crashes(self, data: st.DataObject) -> None:
        self.world.crash(self.one_of(data, alive=True))

    @precondition(some_away)
    @rule(data=st.data(), stale=st.booleans())
    def restarts(self, data: st.DataObject, stale: bool) -> None:
        self.world.restart(self.one_of(data, alive=False), stale=stale)

    @precondition(some_live)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        self.one_of(data, alive=True).leaving = True

    @precondition(some_live)
    @rule(data=st.data(), step=st.sampled_from(STEPS))
    def changes_pace(self, data: st.DataObject, step: int) -> None:
        self.one_of(data, alive=True).step = step

    @precondition(some_live)
    @rule(data=st.data())
    def computes_a_wrong_fold(self, data: st.DataObject) -> None:
        self.one_of(data, alive=True).faulty = True

    @rule(cheat=st.sampled_from(CHEATS))
    def an_invalid_commit_is_announced(self, cheat: dict[str, object]) -> None:
        self.world.cheat(**cheat)

    @rule(up=st.booleans())
    def the_coordinator_stops_or_starts(self, up: bool) -> None:
        if up:
            self.world.up = True
        else:
            self.world.crash_coordinator()

    @invariant()
    def no_work_is_lost(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            close_one_round(self.world)


Rounds.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRounds = Rounds.TestCase


def walk(spec: RoundSpec, seed: int, steps: int = 100) -> World:
    """The world after a seeded walk through the same events, and one more closed round."""
    random, world = Random(seed), World(spec)
    for _ in range(steps):
        live = world.live
        away = [peer for peer in world.peers.values() if not peer.alive]
        match random.randrange(16):
            case 0 if len(world.peers) < 5:
                peer = world.join()
                peer.step, peer.lag = random.choice(STEPS), random.choice(LAGS)
                peer.fold = random.choice(FOLDS)
            case 1 if live:
                world.crash(random.choice(live))
            case 2 | 3 if away:
                world.restart(random.choice(away), stale=random.random() < 0.3)
            case 4 if live:
                random.choice(live).leaving = True
            case 5 if live:
                random.choice(live).step = random.choice(STEPS)
            case 6 if live:
                random.choice(live).faulty = True
            case 7:
                world.cheat(**random.choice(CHEATS))
            case 8:
                world.crash_coordinator()
            case 9 | 10:
                world.up = True
            case _:
                for _ in range(random.choice([1, 8, 40, 120])):
                    world.tick()
                    world.check()
    close_one_round(world)
    return world


SEEDS = range(7, 13)
HOLD, TRAIN, AHEAD = reasons.Meanwhile
ACTIONS: set[tuple[type[Action], reasons.ActionReason]] = {
    (CatchUp, reasons.FarBehind(0, Round(0))),
    (CatchUp, reasons.RoundClosed(Round(0))),
    (CatchUp, reasons.StateDiffers()),
    (Hold, reasons.AwayForLong(0, 0)),
    (Hold, reasons.ContributionOut(0, None, HOLD)),
    (Hold, reasons.ContributionOut(0, 0, HOLD)),
    (Hold, reasons.ContributionOut(0, None, AHEAD)),
    (Hold, reasons.CoordinatorBehind(Round(0), Round(0), 0)),
    (Hold, reasons.FoldingRounds(HOLD)),
    (Hold, reasons.FoldingRounds(AHEAD)),
    (Hold, reasons.NothingTrained(Round(0), None)),
    (Hold, reasons.StepsDoneOutOfTurn()),
    (Hold, reasons.TooLate()),
    (Leave, reasons.AskedToStop()),
    (Merge, reasons.NewerState()),
    (Publish, reasons.LeavingWithWork()),
    (Publish, reasons.NoTimeForStep(0)),
    (Publish, reasons.SendingStartsNow(0)),
    (Publish, reasons.StepsDone(0)),
    (Publish, reasons.TimeIsOver()),
    (Publish, reasons.TokenTargetReached()),
    (Train, reasons.ContributionOut(0, None, TRAIN)),
    (Train, reasons.ContributionOut(0, None, TRAIN, 0)),
    (Train, reasons.FoldingRounds(TRAIN)),
    (Train, reasons.FoldingRounds(TRAIN, 0)),
    (Train, reasons.CoordinatorAway(0, 0, 0)),
    (Train, reasons.OutOfTurn()),
    (Train, reasons.StepEndsAfterClose(0)),
    (Train, reasons.StepIsLate(0)),
    (Train, reasons.TimeToTrain(0)),
}
"""Every action and reason of a volunteer, with 0 for each number. Left out is one that takes a token target,
reached by others while the coordinator is away."""
ANSWERS = {
    *((CloseNow, reason) for reason in get_args(CloseReason)),
    *((Reopen, reason) for reason in get_args(ReopenReason)),
    *((Wait, reason) for reason in get_args(WaitReason) if reason not in (RunHalted, RunOver)),
    *((Misfit, reason) for reason in get_args(MisfitReason) if reason is not WrongRound),
}
"""Every decision and reason of the coordinator. It checks no commit for another round, and no
run is halted, or ends."""


def test_every_decision_and_every_reason_occurs() -> None:
    """Also asserts what `World` checks in each walk, and that one more round closes at its end."""
    worlds = [walk(spec, seed) for spec in SPECS for seed in SEEDS]
    assert {met for world in worlds for met in world.actions} == ACTIONS
    assert {action for action, _ in ACTIONS} == set(get_args(Action))
    assert {answer for world in worlds for answer in world.answers} == ANSWERS
