"""What a volunteer does next: one row for each rule, in the order of their priority."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.ids import Millis, Round
from barnraise.rounds import Window
from barnraise.spec import RoundSpec
from peer.machine import SILENT_SECONDS, Action, CatchUp, Hold, Leave, Publish, Train, View, plan

OPENS = 1_000_000
SPEC = RoundSpec(seconds=100.0, grace=20.0)
WORKING = View(
    now=Millis(OPENS + 50_000),
    window=Window(Round(3), Millis(OPENS), SPEC),
    head_age=1.0,
    base=Round(3),
    differs=False,
    checkpoint=Round(0),
    published=False,
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

RULES: list[tuple[View, type[Action], str]] = [
    (seen(), Train, "training for another 50 s"),
    (seen(tokens=0, steps=0, step_seconds=0.0), Train, "training for another 50 s"),
    (seen(now=after(99), step_seconds=1.0), Train, "another 1 s"),
    (seen(now=after(99), step_seconds=1.1), Publish, "no time for another step of 1.1 s"),
    (seen(now=after(99), step_seconds=60.0, tokens=0), Train, "another 1 s"),
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


@pytest.mark.parametrize(
    ("view", "action", "reason"), RULES, ids=[f"{i}: {r[2]}" for i, r in enumerate(RULES)]
)
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


views = st.builds(
    View,
    now=st.integers(-10_000, 200_000).map(lambda ms: Millis(OPENS + ms)),
    window=st.builds(
        Window,
        st.integers(0, 4).map(Round),
        st.just(Millis(OPENS)),
        st.sampled_from([SPEC, STEPS_LIMIT, TARGET]),
    ),
    head_age=st.sampled_from([0.0, 5.0, AWAY, 1e6]),
    base=st.integers(0, 4).map(Round),
    differs=st.booleans(),
    checkpoint=st.integers(0, 4).map(Round),
    published=st.booleans(),
    tokens=st.sampled_from([0, 1, 500]),
    steps=st.integers(0, 6),
    step_seconds=st.floats(0, 300),
    swarm_tokens=st.integers(0, 400),
    leaving=st.booleans(),
)


@given(views)
def test_whatever_is_known_something_is_done_for_a_reason(view: View) -> None:
    action = plan(view)
    assert action == plan(view)
    assert action.reason.strip()
    match action:
        case Train() | Publish():
            assert view.base == view.window.round
            assert not view.published
        case CatchUp():
            assert view.base < view.window.round or view.differs
        case Hold():
            assert not view.leaving
        case Leave():
            assert view.leaving
