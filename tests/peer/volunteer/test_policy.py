"""What a volunteer does next: one row for each rule, in the order of their priority."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.records import Activity
from barnraise.contract.rounds import Window
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round
from peer.volunteer.policy import (
    SILENT_SECONDS,
    Action,
    CatchUp,
    Hold,
    Leave,
    Merge,
    Publish,
    Train,
    View,
    doing,
    plan,
    tell_of_step,
)

OPENS = 1_000_000
SPEC = RoundSpec(seconds=100.0, grace=20.0)
WORKING = View(
    now=Millis(OPENS + 50_000),
    window=Window(Round(3), Millis(OPENS), SPEC),
    head_age=1.0,
    base=Round(3),
    differs=False,
    checkpoint=Round(0),
    turn=True,
    published=False,
    exchanging=False,
    folded=False,
    tokens=64,
    steps=4,
    step_seconds=2.0,
    swarm_tokens=200,
    leaving=False,
)
AWAY = SILENT_SECONDS + 1


def after(seconds: float) -> Millis:
    return Millis(OPENS + round(seconds * 1000))


def seen(spec: RoundSpec = SPEC, **change: object) -> View:
    view = replace(WORKING, window=Window(Round(3), Millis(OPENS), spec))
    return replace(view, **change)  # type: ignore[arg-type]


STEPS_LIMIT = RoundSpec(seconds=100.0, grace=20.0, steps=4)
TARGET = RoundSpec(seconds=100.0, grace=20.0, target_tokens=200)
ALWAYS = RoundSpec(seconds=100.0, grace=20.0, overlap="always")
ALWAYS_STEPS = RoundSpec(seconds=100.0, grace=20.0, overlap="always", steps=4)
NEVER = RoundSpec(seconds=100.0, grace=20.0, overlap="never")


def published(spec: RoundSpec = SPEC, **change: object) -> View:
    """Our contribution is out, and one step was trained since."""
    return seen(spec, **({"published": True, "steps": 1, "ahead_seconds": 10.0} | change))


def folding(spec: RoundSpec = SPEC, **change: object) -> View:
    """The round is closed, and is being folded."""
    return published(spec, **({"exchanging": True, "base": Round(2)} | change))


def out_of_turn(spec: RoundSpec = SPEC, **change: object) -> View:
    return seen(spec, **({"turn": False} | change))


MEANWHILE = "training goes on"
AHEAD = "a round's worth is trained ahead"

OVERLAP: list[tuple[View, type[Action], str]] = [
    # Whether, by the spec and by how long the exchange takes.
    (published(), Hold, "our contribution is out"),
    (published(ALWAYS), Train, f"the round closes in at most 70 s; {MEANWHILE}"),
    (published(exchange_seconds=10.1, train_seconds=100.0), Train, "exchanges take 10 s"),
    (published(exchange_seconds=10.0, train_seconds=100.0), Hold, "our contribution is out"),
    (published(NEVER, exchange_seconds=99.0, train_seconds=100.0), Hold, "our contribution is out"),
    (published(ALWAYS, exchanging=True), Train, MEANWHILE),
    (published(NEVER, exchanging=True), Hold, "our contribution is out"),
    (folding(ALWAYS), Train, f"the rounds since ours are being folded; {MEANWHILE}"),
    (folding(), Hold, "the rounds since ours are being folded"),
    (published(ALWAYS, head_age=AWAY), Train, "last heard of 21 s ago"),
    # How far: as many steps as a round has, or as much time.
    (published(ALWAYS, ahead_seconds=99.9), Train, MEANWHILE),
    (published(ALWAYS, ahead_seconds=100.0), Hold, AHEAD),
    (folding(ALWAYS, ahead_seconds=100.0), Hold, AHEAD),
    (published(ALWAYS_STEPS, steps=3), Train, MEANWHILE),
    (published(ALWAYS_STEPS, steps=4), Hold, AHEAD),
    (folding(ALWAYS_STEPS, steps=4), Hold, AHEAD),
    # Not from a state that is not the run's, nor for a round that is long over, nor without a contribution.
    (published(ALWAYS, differs=True, exchanging=True), Hold, "our contribution is out"),
    (folding(ALWAYS, base=Round(1)), Hold, "the rounds since ours are being folded"),
    (folding(ALWAYS, published=False), Hold, "the rounds since ours are being folded"),
    (seen(ALWAYS, exchanging=True), Hold, "the rounds since ours are being folded"),
    # What comes first.
    (published(ALWAYS, base=Round(2)), CatchUp, "folding round 2"),
    (published(ALWAYS, leaving=True), Leave, "you asked to stop"),
    (folding(ALWAYS, leaving=True), Leave, "you asked to stop"),
]

TAKE_UP: list[tuple[View, type[Action], str]] = [
    (seen(folded=True), Merge, "the newest state is there"),
    (published(folded=True), Merge, "the newest state is there"),
    (published(ALWAYS, folded=True, tokens=640, ahead_seconds=100.0), Merge, "the newest state is there"),
    (seen(folded=True, base=Round(2)), Merge, "the newest state is there"),
    (seen(folded=True, differs=True), Merge, "the newest state is there"),
    (out_of_turn(folded=True), Merge, "the newest state is there"),
    (seen(folded=True, leaving=True, base=Round(2)), Leave, "you asked to stop"),
    (seen(exchanging=True, differs=True), Hold, "are being folded"),
    (seen(exchanging=True, leaving=True), Leave, "you asked to stop"),
]

SLOW: list[tuple[View, type[Action], str]] = [
    # An uplink that needs 40 s and a quarter in reserve: it has to begin 50 s before the deadline.
    (seen(send_seconds=40.0), Train, "training for another 20 s"),
    (seen(now=after(68), send_seconds=40.0), Train, "training for another 2 s"),
    (seen(now=after(69), send_seconds=40.0), Publish, "sending takes 40 s: it has to begin now"),
    (seen(now=after(70), send_seconds=40.0), Publish, "sending takes 40 s: it has to begin now"),
    (seen(now=after(70), send_seconds=40.0, tokens=0), Train, "another 0 s"),
    (seen(now=after(99), send_seconds=10.0), Publish, "no time for another step of 2.0 s"),
    (seen(now=after(100), send_seconds=40.0), Publish, "the round's time is over"),
    # A step that does not fit what is left of the round.
    (seen(now=after(99), step_seconds=21.0, tokens=0), Train, "another 1 s"),
    (seen(now=after(99), step_seconds=21.1, tokens=0), Train, "it ends after this round's close"),
    (seen(now=after(10), step_seconds=300.0, tokens=0), Train, "a step takes 300 s"),
    (seen(now=after(10), step_seconds=300.0), Publish, "no time for another step of 300.0 s"),
]

TURNS: list[tuple[View, type[Action], str]] = [
    (out_of_turn(), Train, "the turn of others"),
    (out_of_turn(tokens=0, steps=0, step_seconds=0.0), Train, "the turn of others"),
    (out_of_turn(TARGET), Train, "the turn of others"),
    (out_of_turn(now=after(110)), Train, "the turn of others"),
    (out_of_turn(now=after(120)), Train, "the turn of others"),
    (out_of_turn(now=after(120), head_age=AWAY), Hold, "the round waits for its close; the coordinator was"),
    (out_of_turn(STEPS_LIMIT), Hold, "sending them is for a later one"),
    (out_of_turn(STEPS_LIMIT, steps=3), Train, "the turn of others"),
    (out_of_turn(base=Round(2)), CatchUp, "folding round 2"),
    (out_of_turn(leaving=True), Publish, "leaving"),
]

RULES: list[tuple[View, type[Action], str]] = [
    (seen(), Train, "training for another 50 s"),
    (seen(tokens=0, steps=0, step_seconds=0.0), Train, "training for another 50 s"),
    (seen(now=after(99), step_seconds=1.0), Train, "another 1 s"),
    (seen(now=after(99), step_seconds=1.1), Publish, "no time for another step of 1.1 s"),
    (seen(now=after(99), step_seconds=20.0, tokens=0), Train, "another 1 s"),
    (seen(STEPS_LIMIT), Publish, "4 steps are done"),
    (seen(STEPS_LIMIT, steps=3), Train, "training"),
    (seen(TARGET), Publish, "the swarm reached its tokens"),
    (seen(TARGET, swarm_tokens=199), Train, "training"),
    (seen(now=after(100)), Publish, "the round's time is over"),
    (seen(now=after(119.9)), Publish, "the round's time is over"),
    (seen(now=after(120)), Hold, "too late for this round"),
    (seen(now=after(120), head_age=AWAY), Publish, "the round's time is over"),
    (seen(now=after(100), tokens=0), Hold, "we train in the next one"),
    (seen(now=after(100), tokens=0, head_age=AWAY), Hold, "last heard of 21 s ago"),
    (seen(published=True, tokens=0), Hold, "our contribution is out; the round closes in at most 70 s"),
    (seen(published=True, tokens=0, now=after(200)), Hold, "at most 0 s"),
    (seen(published=True, head_age=AWAY), Hold, "last heard of 21 s ago"),
    (seen(base=Round(4)), Hold, "the coordinator is at round 3, we are at 4"),
    (seen(base=Round(2)), CatchUp, "folding round 2"),
    (seen(base=Round(2), published=True), CatchUp, "folding round 2"),
    (seen(base=Round(1), checkpoint=Round(2)), CatchUp, "folding round 1"),
    (seen(base=Round(0), checkpoint=Round(2)), CatchUp, "taking the checkpoint of round 2"),
    (seen(differs=True), CatchUp, "our state is not the run's"),
    (seen(differs=True, published=True), CatchUp, "our state is not the run's"),
    (seen(leaving=True), Publish, "leaving"),
    (seen(leaving=True, tokens=0), Leave, "you asked to stop"),
    (seen(leaving=True, published=True), Leave, "you asked to stop"),
    (seen(leaving=True, now=after(120)), Leave, "you asked to stop"),
    (seen(leaving=True, base=Round(2)), Leave, "you asked to stop"),
]
ALL = [*RULES, *OVERLAP, *TAKE_UP, *SLOW, *TURNS]


@pytest.mark.parametrize(("view", "action", "reason"), ALL, ids=[f"{i}: {r[2]}" for i, r in enumerate(ALL)])
def test_the_rules(view: View, action: type[Action], reason: str) -> None:
    found = plan(view)
    assert type(found) is action
    assert reason in found.reason


@pytest.mark.parametrize(
    ("base", "checkpoint", "expected"),
    [(0, 2, True), (1, 2, False), (2, 2, False), (2, 0, False)],
)
def test_a_checkpoint_is_taken_where_it_saves_a_fold(base: int, checkpoint: int, expected: bool) -> None:
    action = plan(seen(base=Round(base), checkpoint=Round(checkpoint)))
    assert isinstance(action, CatchUp)
    assert action.from_checkpoint is expected


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (seen(step_seconds=0.0, now=after(99.9)), None),
        (seen(step_seconds=0.0, now=after(100)), "sits out"),
        (seen(step_seconds=0.0, now=after(100), base=Round(2)), "sits out"),
        (seen(step_seconds=0.0, now=after(100), base=Round(4)), None),
    ],
)
def test_a_first_step_that_outlasts_the_round_is_not_waited_for(view: View, told: str | None) -> None:
    assert kind(tell_of_step(view, elapsed=50.0)) == told


STEPPING_AHEAD = seen(base=Round(2), published=True, now=after(10))
"""The step under way began when our contribution to round 2 was out. Round 3 has 90 s of training left, and
110 s to its deadline."""


@pytest.mark.parametrize(
    ("view", "elapsed", "told"),
    [
        (replace(STEPPING_AHEAD, step_seconds=120.0), 30.0, None),
        (replace(STEPPING_AHEAD, step_seconds=120.1), 30.0, "late"),
        (replace(STEPPING_AHEAD, step_seconds=95.0), 0.0, None),
        (replace(STEPPING_AHEAD, step_seconds=140.0), 30.0, "late"),
        (replace(STEPPING_AHEAD, step_seconds=140.1), 30.0, "sits out"),
        (replace(STEPPING_AHEAD, step_seconds=130.0, send_seconds=8.0), 30.0, "late"),
        (replace(STEPPING_AHEAD, step_seconds=130.1, send_seconds=8.0), 30.0, "sits out"),
        (replace(STEPPING_AHEAD, step_seconds=500.0, base=Round(3)), 30.0, None),
        (replace(STEPPING_AHEAD, step_seconds=500.0, published=False), 30.0, "sits out"),
        (replace(STEPPING_AHEAD, step_seconds=50.0), 200.0, None),
    ],
)
def test_what_is_told_of_a_long_step_once_its_round_is_open(
    view: View, elapsed: float, told: str | None
) -> None:
    assert kind(tell_of_step(view, elapsed)) == told


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (seen(tokens=0, step_seconds=100.1, now=after(0)), "late"),
        (seen(tokens=0, step_seconds=119.0, now=after(0)), "late"),
        (seen(tokens=0, step_seconds=121.0, now=after(0)), "sits out"),
        (seen(tokens=0, step_seconds=60.0, now=after(50)), "in time"),
    ],
)
def test_a_step_longer_than_a_round_is_late(view: View, told: str) -> None:
    """One of an ordinary volunteer, who came when the round had begun, is waited for."""
    action = plan(view)
    assert isinstance(action, Train)
    assert kind(action) == told


def test_who_is_late_stays_so_until_it_trains_anew() -> None:
    told: list[Activity] = []
    late, anew = Train("long", late=True), Train("short")
    for action in (late, Publish("out"), Hold("it closes"), CatchUp("folding", False), Merge("on"), anew):
        told.append(doing(action, told[-1] if told else "waiting"))
    assert told == ["late"] * 5 + ["training"]
    assert doing(Hold("nothing to give", sits_out=True), "late") == "waiting"
    assert doing(Publish("out"), "waiting") == "training"
    assert doing(Leave("you asked"), "late") == "leaving"


def kind(told: Train | None) -> str | None:
    if told is None:
        return None
    assert not (told.late and told.sits_out)
    return "late" if told.late else "sits out" if told.sits_out else "in time"


@pytest.mark.parametrize(
    ("view", "sits_out"),
    [
        (seen(), False),
        (seen(now=after(100)), False),
        (published(), False),
        (published(ALWAYS), False),
        (folding(ALWAYS), False),
        (published(ALWAYS, ahead_seconds=100.0), False),
        (seen(now=after(100), tokens=0), True),
        (seen(now=after(120)), True),
        (seen(base=Round(4)), True),
        (seen(now=after(10), step_seconds=300.0, tokens=0), True),
        (out_of_turn(), True),
        (out_of_turn(STEPS_LIMIT), True),
        (out_of_turn(now=after(120), head_age=AWAY), True),
    ],
)
def test_who_has_nothing_to_give_holds_nobody_up(view: View, sits_out: bool) -> None:
    action = plan(view)
    assert getattr(action, "sits_out", False) is sits_out


views = st.builds(
    View,
    now=st.integers(-10_000, 200_000).map(lambda ms: Millis(OPENS + ms)),
    window=st.builds(
        Window,
        st.integers(0, 4).map(Round),
        st.just(Millis(OPENS)),
        st.sampled_from([SPEC, STEPS_LIMIT, TARGET, ALWAYS, ALWAYS_STEPS, NEVER]),
    ),
    head_age=st.sampled_from([0.0, 5.0, AWAY, 1e6]),
    base=st.integers(0, 4).map(Round),
    differs=st.booleans(),
    checkpoint=st.integers(0, 4).map(Round),
    turn=st.booleans(),
    published=st.booleans(),
    exchanging=st.booleans(),
    folded=st.booleans(),
    tokens=st.sampled_from([0, 1, 500]),
    steps=st.integers(0, 6),
    step_seconds=st.floats(0, 300),
    swarm_tokens=st.integers(0, 400),
    leaving=st.booleans(),
    ahead_seconds=st.sampled_from([0.0, 50.0, 100.0]),
    train_seconds=st.sampled_from([0.0, 100.0]),
    exchange_seconds=st.sampled_from([0.0, 5.0, 50.0]),
    send_seconds=st.floats(0, 300),
)


@given(views)
def test_whatever_is_known_something_is_done_for_a_reason(view: View) -> None:
    action = plan(view)
    assert action == plan(view)
    assert action.reason.strip()
    spec, behind = view.window.spec, view.window.round - view.base
    match action:
        case Train() if view.published:
            assert spec.overlap != "never"
            assert behind in (0, 1)
            assert view.ahead_seconds < spec.seconds
            assert spec.steps is None or view.steps < spec.steps
            assert not view.differs
        case Train() if view.exchanging:
            assert not view.turn
            assert behind in (0, 1)
            assert not view.differs
        case Train():
            assert behind == 0
            assert not view.differs
        case Publish():
            assert behind == 0
            assert view.tokens
            assert not view.published
            assert not view.exchanging
            assert view.leaving or (view.turn and not view.folded)
        case CatchUp():
            assert behind > 0 or view.differs
            assert not view.exchanging
        case Merge():
            assert view.folded
        case Hold():
            assert not view.leaving
        case Leave():
            assert view.leaving
