"""Every view of a volunteer has an action, one that this view allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.rounds import Window
from barnraise.core.ids import Millis, Round
from peer.volunteer import reasons
from peer.volunteer.actions import (
    CatchUp,
    Exchanging,
    HeadFacts,
    Hold,
    Leave,
    LocalWork,
    Merge,
    Publish,
    Train,
    View,
)
from peer.volunteer.contribution_state import ContributionState
from peer.volunteer.durations import Durations
from peer.volunteer.policy import plan
from peer.volunteer.reasons import ActionReason
from tests.support.policy_views import ALWAYS, ALWAYS_STEPS, AWAY, NEVER, OPENS, SPEC, STEPS_LIMIT, TARGET

views = st.builds(
    View,
    now=st.integers(-10_000, 200_000).map(lambda ms: Millis(OPENS + ms)),
    window=st.builds(
        Window,
        st.integers(0, 4).map(Round),
        st.just(Millis(OPENS)),
        st.sampled_from([SPEC, STEPS_LIMIT, TARGET, ALWAYS, ALWAYS_STEPS, NEVER]),
    ),
    head=st.builds(
        HeadFacts,
        away=st.sampled_from([None, AWAY, 1e6]),
        differs=st.booleans(),
        checkpoint=st.integers(0, 4).map(Round),
        turn=st.booleans(),
        swarm_tokens=st.integers(0, 400),
        outdated=st.booleans(),
        halted=st.booleans(),
        ended_after=st.sampled_from([None, 4]),
    ),
    work=st.builds(
        LocalWork,
        round=st.integers(0, 4).map(Round),
        contribution=st.sampled_from(ContributionState),
        tokens=st.sampled_from([0, 1, 500]),
        steps=st.integers(0, 6),
    ),
    exchange=st.sampled_from(Exchanging),
    durations=st.builds(
        Durations,
        step=st.floats(0, 300),
        train=st.sampled_from([0.0, 100.0]),
        exchange=st.sampled_from([0.0, 5.0, 50.0]),
        send=st.floats(0, 300),
        ahead=st.sampled_from([0.0, 50.0, 100.0]),
        mean_step=st.floats(0, 300),
    ),
    leaving=st.booleans(),
    absence=st.sampled_from([1, 30]),
)


@given(views)
def test_every_view_has_an_action_that_it_allows(view: View) -> None:
    action = plan(view)
    assert action == plan(view)
    assert isinstance(action.reason, ActionReason)
    spec, work, behind = view.window.spec, view.work, view.window.round - view.work.round
    idle, taken = view.exchange is not Exchanging.BUSY, work.contribution.taken
    match action:
        case Train(reason=reasons.CoordinatorAway(_, rounds, limit)):
            assert view.head.away is not None
            assert rounds < limit == view.absence
            assert not view.head.differs
            assert behind in (0, 1)
        case Train(reason=reasons.ContributionLost()):
            assert work.contribution is ContributionState.LOST
            assert view.durations.ahead < spec.seconds
            assert spec.steps is None or work.steps < spec.steps
            assert not view.head.differs
        case Train() if taken:
            assert spec.overlap != "never"
            assert behind in (0, 1)
            assert view.durations.ahead < spec.seconds
            assert spec.steps is None or work.steps < spec.steps
            assert not view.head.differs
        case Train() if not idle:
            assert not view.head.turn
            assert behind in (0, 1)
            assert not view.head.differs
        case Train():
            assert not view.head.halted
            assert behind == 0
            assert not view.head.differs
        case Publish():
            assert behind == 0
            assert work.tokens
            assert not taken
            assert idle
            assert view.leaving or (view.head.turn and view.exchange is Exchanging.IDLE)
        case CatchUp():
            assert behind > 0 or view.head.differs
            assert idle
        case Merge():
            assert view.exchange is Exchanging.FOLDED
        case Hold():
            assert not view.leaving
        case Leave(reason=reasons.RunOver(rounds)):
            assert rounds == view.head.ended_after
            assert not view.leaving
            assert idle
        case Leave():
            assert view.leaving
