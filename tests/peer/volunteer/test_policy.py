"""What a volunteer does next: one row for each rule, in the order of their priority."""

from __future__ import annotations

import pytest

from barnraise.contract.records import Activity
from barnraise.core.ids import Round
from peer.volunteer import reasons
from peer.volunteer.actions import (
    Action,
    CatchUp,
    Hold,
    Leave,
    Publish,
    Train,
    View,
    activity,
)
from peer.volunteer.contribution_state import ContributionState
from peer.volunteer.policy import announce_step, plan, plan_during_step
from peer.volunteer.reasons import ContributionLost
from tests.support.policy_views import (
    AHEAD,
    ALWAYS,
    ALWAYS_STEPS,
    AWAY,
    BUSY,
    FOLDED,
    FOLDS,
    LOST,
    MERGE,
    NEVER,
    ON,
    OUT,
    PENDING,
    STEPS_LIMIT,
    STOP,
    TARGET,
    after,
    changed,
    folding,
    out_of_turn,
    published,
    seen,
)

LONG = reasons.AwayForLong(AWAY, 1)
FOLD_2 = CatchUp(reasons.RoundClosed(Round(2)), False)
OTHERS_TURN = Train(reasons.OutOfTurn(), sits_out=True)

HALTED = Hold(reasons.RunHalted(), sits_out=True)
OVER = Leave(reasons.RunOver(4))

OVERLAP: list[tuple[View, Action]] = [
    # Whether, by the spec and by how long the exchange takes.
    (published(), Hold(OUT(70.0, None))),
    (published(ALWAYS), Train(OUT(70.0, None, ON))),
    (published(exchange_took=10.1, train=100.0), Train(OUT(70.0, None, ON, 10.1))),
    (published(exchange_took=10.0, train=100.0), Hold(OUT(70.0, None))),
    (published(NEVER, exchange_took=99.0, train=100.0), Hold(OUT(70.0, None))),
    (published(ALWAYS, exchange=BUSY), Train(OUT(70.0, None, ON))),
    (published(NEVER, exchange=BUSY), Hold(OUT(70.0, None))),
    (folding(ALWAYS), Train(FOLDS(ON))),
    (folding(), Hold(FOLDS())),
    # How far: as many steps as a round has, or as much time.
    (published(ALWAYS, ahead=99.9), Train(OUT(70.0, None, ON))),
    (published(ALWAYS, ahead=100.0), Hold(OUT(70.0, None, AHEAD))),
    (folding(ALWAYS, ahead=100.0), Hold(FOLDS(AHEAD))),
    (published(ALWAYS_STEPS, steps=3), Train(OUT(70.0, None, ON))),
    (published(ALWAYS_STEPS, steps=4), Hold(OUT(70.0, None, AHEAD))),
    (folding(ALWAYS_STEPS, steps=4), Hold(FOLDS(AHEAD))),
    # Not from a state that is not the run's, nor for a round that ended long ago, nor without a contribution.
    (published(ALWAYS, differs=True, exchange=BUSY), Hold(OUT(70.0, None))),
    (folding(ALWAYS, round=Round(1)), Hold(FOLDS())),
    (folding(ALWAYS, contribution=ContributionState.TRAINING), Hold(FOLDS())),
    (seen(ALWAYS, exchange=BUSY), Hold(FOLDS())),
    (out_of_turn(exchange=BUSY, steps=1), Train(FOLDS(ON), sits_out=True)),
    # After a loss the volunteer trains ahead by any spec, and the round does not wait for it.
    (published(contribution=LOST), Train(ContributionLost(ON), sits_out=True)),
    (published(NEVER, contribution=LOST, exchange=BUSY), Train(ContributionLost(ON), sits_out=True)),
    (published(contribution=LOST, ahead=100.0), Hold(ContributionLost(AHEAD), sits_out=True)),
    (published(contribution=LOST, round=Round(2)), FOLD_2),
    # Rules of higher priority.
    (published(ALWAYS, round=Round(2)), FOLD_2),
    (published(ALWAYS, leaving=True), STOP),
    (folding(ALWAYS, leaving=True), STOP),
]

TAKE_UP: list[tuple[View, Action]] = [
    (seen(exchange=FOLDED), MERGE),
    (published(exchange=FOLDED), MERGE),
    (published(ALWAYS, exchange=FOLDED, tokens=640, ahead=100.0), MERGE),
    (seen(exchange=FOLDED, round=Round(2)), MERGE),
    (seen(exchange=FOLDED, differs=True), MERGE),
    (out_of_turn(exchange=FOLDED), MERGE),
    (seen(exchange=FOLDED, leaving=True, round=Round(2)), STOP),
    (seen(exchange=BUSY, differs=True), Hold(FOLDS())),
    (seen(exchange=BUSY, leaving=True), STOP),
    (seen(exchange=FOLDED, leaving=True), STOP),
]

HALT: list[tuple[View, Action]] = [
    (seen(halted=True), HALTED),
    (published(ALWAYS, halted=True), HALTED),
    (out_of_turn(halted=True, away=AWAY), HALTED),
    (seen(halted=True, leaving=True), Publish(reasons.LeavingWithWork())),
    (seen(halted=True, exchange=FOLDED), MERGE),
    (seen(halted=True, round=Round(2)), FOLD_2),
]

END: list[tuple[View, Action]] = [
    (seen(ended_after=4), OVER),
    (seen(ended_after=4, halted=True), OVER),
    (published(ALWAYS, ended_after=4), OVER),
    (out_of_turn(ended_after=4, away=AWAY), OVER),
    (seen(ended_after=4, exchange=FOLDED), MERGE),
    (seen(ended_after=4, round=Round(2)), FOLD_2),
    (seen(ended_after=4, leaving=True, tokens=0), STOP),
]

SLOW: list[tuple[View, Action]] = [
    # An uplink that needs 40 s and a quarter in reserve: it has to start 50 s before the deadline.
    (seen(send=40.0), Train(reasons.TimeToTrain(20.0))),
    (seen(now=after(68), send=40.0), Train(reasons.TimeToTrain(2.0))),
    (seen(now=after(69), send=40.0), Publish(reasons.SendingStartsNow(40.0))),
    (seen(now=after(70), send=40.0), Publish(reasons.SendingStartsNow(40.0))),
    (seen(now=after(70), send=40.0, tokens=0), Train(reasons.TimeToTrain(0.0))),
    (seen(now=after(99), send=10.0), Publish(reasons.NoTimeForStep(2.0))),
    (seen(now=after(100), send=40.0), Publish(reasons.TimeIsOver())),
    # A step that does not fit what is left of the round.
    (seen(now=after(99), step=21.0, tokens=0), Train(reasons.TimeToTrain(1.0))),
    (seen(now=after(99), step=21.1, tokens=0), Train(reasons.StepEndsAfterClose(21.1), sits_out=True)),
    (seen(now=after(10), step=300.0, tokens=0), Train(reasons.StepEndsAfterClose(300.0), sits_out=True)),
    (seen(now=after(10), step=300.0), Publish(reasons.NoTimeForStep(300.0))),
    # A step longer than a round is late; one of an ordinary volunteer that joined mid-round is waited for.
    (seen(now=after(0), step=100.1, tokens=0), Train(reasons.StepIsLate(100.1), late=True)),
    (seen(now=after(0), step=119.0, tokens=0), Train(reasons.StepIsLate(119.0), late=True)),
    (seen(now=after(0), step=121.0, tokens=0), Train(reasons.StepEndsAfterClose(121.0), sits_out=True)),
    (seen(now=after(50), step=60.0, tokens=0), Train(reasons.TimeToTrain(50.0))),
]

TURNS: list[tuple[View, Action]] = [
    (out_of_turn(), OTHERS_TURN),
    (out_of_turn(tokens=0, steps=0, step=0.0), OTHERS_TURN),
    (out_of_turn(TARGET), OTHERS_TURN),
    (out_of_turn(now=after(110)), OTHERS_TURN),
    (out_of_turn(now=after(120)), OTHERS_TURN),
    (out_of_turn(now=after(119), away=AWAY), OTHERS_TURN),
    (out_of_turn(now=after(120), away=AWAY), Train(reasons.CoordinatorAway(AWAY, 0.08, 1))),
    (out_of_turn(STEPS_LIMIT, now=after(120), away=AWAY), Hold(LONG, sits_out=True)),
    (out_of_turn(STEPS_LIMIT), Hold(reasons.StepsDoneOutOfTurn(), sits_out=True)),
    (out_of_turn(STEPS_LIMIT, steps=3), OTHERS_TURN),
    (out_of_turn(round=Round(2)), FOLD_2),
    (out_of_turn(leaving=True), Publish(reasons.LeavingWithWork())),
]

ABSENCE: list[tuple[View, Action]] = [
    # Our contribution is out: a round's worth by default, with every `overlap`, and more where it helps.
    (published(away=AWAY), Train(reasons.CoordinatorAway(AWAY, 0.02, 1))),
    (published(NEVER, away=AWAY, steps=49, absence=30), Train(reasons.CoordinatorAway(AWAY, 0.98, 30))),
    (published(NEVER, away=AWAY, steps=1499, absence=30), Train(reasons.CoordinatorAway(AWAY, 29.98, 30))),
    (published(NEVER, away=AWAY, steps=1500, absence=30), Hold(reasons.AwayForLong(AWAY, 30))),
    (
        published(STEPS_LIMIT, away=AWAY, steps=119, absence=30),
        Train(reasons.CoordinatorAway(AWAY, 29.75, 30)),
    ),
    (published(STEPS_LIMIT, away=AWAY, steps=120, absence=30), Hold(reasons.AwayForLong(AWAY, 30))),
    (published(away=AWAY, absence=0), Hold(OUT(70.0, AWAY))),
    (out_of_turn(now=after(120), away=AWAY, absence=0), Hold(reasons.AwayForLong(AWAY, 0), sits_out=True)),
    (published(ALWAYS, away=AWAY, absence=0), Train(OUT(70.0, AWAY, ON))),
    (
        seen(now=after(120), away=AWAY, tokens=0, steps=0, absence=0),
        Hold(reasons.NothingTrained(Round(3), AWAY), sits_out=True),
    ),
    # Its close is known and cannot be fetched.
    (folding(away=AWAY), Train(reasons.CoordinatorAway(AWAY, 0.02, 1))),
    (
        folding(away=AWAY, contribution=ContributionState.TRAINING),
        Train(reasons.CoordinatorAway(AWAY, 0.02, 1)),
    ),
    (published(contribution=LOST, away=AWAY), Train(reasons.CoordinatorAway(AWAY, 0.02, 1))),
    # Not from a state that is not the run's, nor for a round that ended long ago.
    (published(away=AWAY, differs=True, exchange=BUSY), Hold(OUT(70.0, AWAY))),
    (folding(away=AWAY, round=Round(1)), Hold(FOLDS())),
    # The open round, which cannot close, is filled and published; then training goes on ahead.
    (seen(now=after(99), away=AWAY), Publish(reasons.NoTimeForStep(2.0))),
    (seen(now=after(119), away=AWAY), Publish(reasons.TimeIsOver())),
    (seen(now=after(120), away=AWAY, tokens=0, steps=0), Train(reasons.CoordinatorAway(AWAY, 0.0, 1))),
    (seen(now=after(120), away=AWAY, steps=49), Train(reasons.CoordinatorAway(AWAY, 0.98, 1))),
    (seen(now=after(120), away=AWAY, steps=50), Publish(reasons.TimeIsOver())),
    # The coordinator is back.
    (published(steps=1499, absence=30), Hold(OUT(70.0, None))),
    (published(ALWAYS, steps=1499, absence=30, ahead=3e3), Hold(OUT(70.0, None, AHEAD))),
    (published(away=AWAY, leaving=True), STOP),
]

RULES: list[tuple[View, Action]] = [
    (seen(), Train(reasons.TimeToTrain(50.0))),
    (seen(tokens=0, steps=0, step=0.0), Train(reasons.TimeToTrain(50.0))),
    (seen(contribution=ContributionState.CARRYING), Train(reasons.TimeToTrain(50.0))),
    (seen(now=after(99), step=1.0), Train(reasons.TimeToTrain(1.0))),
    (seen(now=after(99), step=1.1), Publish(reasons.NoTimeForStep(1.1))),
    (seen(now=after(99), step=20.0, tokens=0), Train(reasons.TimeToTrain(1.0))),
    (seen(STEPS_LIMIT), Publish(reasons.StepsDone(4))),
    (seen(STEPS_LIMIT, steps=3), Train(reasons.TimeToTrain(50.0))),
    (seen(TARGET), Publish(reasons.TokenTargetReached())),
    (seen(TARGET, swarm_tokens=199), Train(reasons.TimeToTrain(50.0))),
    (seen(now=after(100)), Publish(reasons.TimeIsOver())),
    (seen(now=after(119.9)), Publish(reasons.TimeIsOver())),
    (seen(now=after(120)), Hold(reasons.TooLate(), sits_out=True)),
    (seen(now=after(100), tokens=0), Hold(reasons.NothingTrained(Round(3), None), sits_out=True)),
    (seen(now=after(100), tokens=0, away=AWAY), Hold(reasons.NothingTrained(Round(3), AWAY), sits_out=True)),
    (seen(contribution=PENDING, tokens=0), Hold(OUT(70.0, None))),
    (seen(contribution=PENDING, tokens=0, now=after(200)), Hold(OUT(0.0, None))),
    (seen(round=Round(4)), Hold(reasons.CoordinatorBehind(Round(3), Round(4), None), sits_out=True)),
    (seen(round=Round(2)), FOLD_2),
    (seen(round=Round(2), contribution=PENDING), FOLD_2),
    (seen(round=Round(1), checkpoint=Round(2)), CatchUp(reasons.RoundClosed(Round(1)), False)),
    (seen(round=Round(0), checkpoint=Round(2)), CatchUp(reasons.FarBehind(3, Round(2)), True)),
    (seen(round=Round(2), checkpoint=Round(2)), FOLD_2),
    (seen(outdated=True, round=Round(2)), Hold(reasons.JustResumed(), sits_out=True)),
    (seen(differs=True), CatchUp(reasons.StateDiffers(), True)),
    (seen(differs=True, contribution=PENDING), CatchUp(reasons.StateDiffers(), True)),
    (seen(leaving=True), Publish(reasons.LeavingWithWork())),
    (seen(leaving=True, tokens=0), STOP),
    (seen(leaving=True, contribution=PENDING), STOP),
    (seen(leaving=True, now=after(120)), STOP),
    (seen(leaving=True, round=Round(2)), STOP),
]
ALL = [*RULES, *ABSENCE, *OVERLAP, *TAKE_UP, *SLOW, *TURNS, *HALT, *END]


@pytest.mark.parametrize(("view", "action"), ALL, ids=[type(action.reason).__name__ for _, action in ALL])
def test_the_rules(view: View, action: Action) -> None:
    assert plan(view) == action


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        (seen(step=0.0, now=after(99.9)), None),
        (seen(step=0.0, now=after(100)), "sits out"),
        (seen(step=0.0, now=after(100), round=Round(2)), "sits out"),
        (seen(step=0.0, now=after(100), round=Round(4)), None),
    ],
)
def test_a_first_step_that_outlasts_the_round_is_not_waited_for(view: View, kind: str | None) -> None:
    assert kind_of(announce_step(view, elapsed=50.0)) == kind


STEPPING_AHEAD = seen(round=Round(2), contribution=PENDING, now=after(10))
"""The step in progress began when our contribution to round 2 was pending. Round 3 has 90 s of training left,
and 110 s to its deadline."""


@pytest.mark.parametrize(
    ("change", "elapsed", "kind"),
    [
        ({"step": 120.0}, 30.0, None),
        ({"step": 120.1}, 30.0, "late"),
        ({"step": 95.0}, 0.0, None),
        ({"step": 140.0}, 30.0, "late"),
        ({"step": 140.1}, 30.0, "sits out"),
        ({"step": 130.0, "send": 8.0}, 30.0, "late"),
        ({"step": 130.1, "send": 8.0}, 30.0, "sits out"),
        ({"step": 500.0, "round": Round(3)}, 30.0, None),
        ({"step": 500.0, "contribution": ContributionState.TRAINING}, 30.0, "sits out"),
        ({"step": 50.0}, 200.0, None),
    ],
)
def test_a_long_step_is_announced_once_its_round_is_open(
    change: dict[str, object], elapsed: float, kind: str | None
) -> None:
    assert kind_of(announce_step(changed(STEPPING_AHEAD, **change), elapsed)) == kind


def test_an_announced_step_has_its_reason() -> None:
    late = announce_step(changed(STEPPING_AHEAD, step=130.0), 30.0)
    assert late == Train(reasons.StepIsLate(100.0), late=True)
    outlasts = announce_step(changed(STEPPING_AHEAD, step=200.0), 30.0)
    assert outlasts == Train(reasons.StepOutlastsRound(), sits_out=True)


def test_during_a_step_rounds_are_folded_and_nothing_else_starts() -> None:
    view = changed(STEPPING_AHEAD, step=500.0)
    assert plan_during_step(view, 30.0) == FOLD_2
    busy = changed(view, exchange=BUSY)
    assert plan_during_step(busy, 30.0) == announce_step(busy, 30.0)
    assert plan_during_step(seen(now=after(100)), 1.0) is None


def test_a_late_volunteer_stays_late_until_it_trains_again() -> None:
    late, again = Train(reasons.StepIsLate(9.0), late=True), Train(reasons.TimeToTrain(9.0))
    out, closing = Publish(reasons.TimeIsOver()), Hold(OUT(9.0, None))
    found: list[Activity] = []
    for action in (late, out, closing, FOLD_2, MERGE, again):
        found.append(activity(action, found[-1] if found else "waiting"))
    assert found == ["late"] * 5 + ["training"]
    assert activity(Hold(reasons.TooLate(), sits_out=True), "late") == "waiting"
    assert activity(out, "waiting") == "training"
    assert activity(STOP, "late") == "leaving"


def kind_of(train: Train | None) -> str | None:
    if train is None:
        return None
    assert not (train.late and train.sits_out)
    return "late" if train.late else "sits out" if train.sits_out else "in time"


@pytest.mark.parametrize(
    ("view", "sits_out"),
    [
        (seen(), False),
        (seen(now=after(100)), False),
        (published(), False),
        (published(ALWAYS), False),
        (folding(ALWAYS), False),
        (published(ALWAYS, ahead=100.0), False),
        (seen(now=after(100), tokens=0), True),
        (seen(now=after(120)), True),
        (seen(round=Round(4)), True),
        (seen(now=after(10), step=300.0, tokens=0), True),
        (out_of_turn(), True),
        (out_of_turn(STEPS_LIMIT), True),
        (out_of_turn(now=after(120), away=AWAY), False),
        (out_of_turn(STEPS_LIMIT, now=after(120), away=AWAY), True),
        (published(away=AWAY), False),
        (published(away=AWAY, steps=50), False),
    ],
)
def test_a_volunteer_that_contributes_nothing_sits_out(view: View, sits_out: bool) -> None:
    action = plan(view)
    assert getattr(action, "sits_out", False) is sits_out
