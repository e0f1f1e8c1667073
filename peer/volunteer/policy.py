"""What a volunteer does next, and why: one pure decision from what it knows.

plan(view)  The first rule that answers wins. The caller carries out the action and asks again.
"""

from __future__ import annotations

from collections.abc import Callable

from barnraise.contract.rounds import Phase, seconds_between
from peer.volunteer import reasons
from peer.volunteer.actions import (
    Action,
    CatchUp,
    Exchanging,
    Hold,
    Leave,
    LogNews,
    Merge,
    Publish,
    Train,
    View,
)
from peer.volunteer.contribution_state import ContributionState
from peer.volunteer.durations import overlaps
from peer.volunteer.reasons import Meanwhile

Rule = Callable[[View], Action | None]


def plan(view: View) -> Action:
    """The next action."""
    return (
        _first(LEAVING, view)
        or _first(TAKING_UP, view)
        or _no_round_closes(view)
        or _coordinator_is_behind(view)
        or (_in_exchange(view) and _first(DURING_EXCHANGE, view))
        or (not view.head.turn and _first(OUT_OF_TURN, view))
        or _first(TRAINING, view)
        or _time_is_over(view)
    )


def plan_during_step(view: View, elapsed: float) -> CatchUp | Train | None:
    """What can be done during a step that began `elapsed` seconds ago; None: nothing new.

    CatchUp does not touch the training; Train only announces that the step is late or outlasts the round.
    """
    action = plan(view)
    return action if isinstance(action, CatchUp) else announce_step(view, elapsed)


def announce_step(view: View, elapsed: float) -> Train | None:
    """What to announce about a step that began `elapsed` seconds ago; None: nothing new.

    The round does not wait for a step that ends too late to be sent, nor, after its time, for a first step,
    whose length is unknown. The step still counts where the round is open when it ends.
    """
    if view.window.round < view.work.round + view.work.contribution.taken:  # the step's round is not open yet
        return None
    if view.head.away is not None and _phase(view) is Phase.CLOSE:  # the round cannot close meanwhile
        return None
    sits_out = Train(reasons.StepOutlastsRound(), sits_out=True)
    if view.durations.step == 0:
        return sits_out if view.until_end <= 0 else None
    rest = max(0.0, view.durations.step - elapsed)
    if rest > view.until_sending:
        return sits_out
    return _late_step(rest) if _ends_after_round(view, rest) else None


def _first(rules: tuple[Rule, ...], view: View) -> Action | None:
    return next((action for rule in rules if (action := rule(view)) is not None), None)


# Leaving


def _send_before_leaving(view: View) -> Action | None:
    unsent = view.work.tokens and _idle(view) and not view.work.contribution.taken
    in_time = view.work.round == view.window.round and view.now < view.window.deadline
    return Publish(reasons.LeavingWithWork()) if view.leaving and unsent and in_time else None


def _leave(view: View) -> Action | None:
    return Leave(reasons.AskedToStop()) if view.leaving else None


LEAVING: tuple[Rule, ...] = (_send_before_leaving, _leave)


# Taking up the run's newest state


def _await_head_after_pause(view: View) -> Action | None:
    return Hold(reasons.JustResumed(), sits_out=True) if view.head.outdated else None


def _merge(view: View) -> Action | None:
    return Merge(reasons.NewerState()) if view.exchange is Exchanging.FOLDED else None


def _replace_state(view: View) -> Action | None:
    return CatchUp(reasons.StateDiffers(), True) if _idle(view) and view.head.differs else None


def _take_checkpoint(view: View) -> Action | None:
    behind = _behind(view) > 0 and view.head.checkpoint > view.work.round + 1
    reason = reasons.FarBehind(_behind(view), view.head.checkpoint)
    return CatchUp(reason, True) if _idle(view) and behind else None


def _fold(view: View) -> Action | None:
    reason = reasons.RoundClosed(view.work.round)
    return CatchUp(reason, False) if _idle(view) and _behind(view) > 0 else None


def _follow_log(view: View) -> Action | None:
    news = view.head.log
    if news is LogNews.DOUBLE_SIGNED:
        return Hold(reasons.TwoHistories(), sits_out=True)
    return CatchUp(reasons.LogChanged(), False) if _idle(view) and news is not LogNews.NONE else None


TAKING_UP: tuple[Rule, ...] = (
    _await_head_after_pause,
    _merge,
    _follow_log,
    _replace_state,
    _take_checkpoint,
    _fold,
)


def _no_round_closes(view: View) -> Action | None:
    if view.head.ended_after is not None and _idle(view):
        return Leave(reasons.RunOver(view.head.ended_after))
    return Hold(reasons.RunHalted(), sits_out=True) if view.head.halted else None


def _coordinator_is_behind(view: View) -> Action | None:
    if _behind(view) >= 0:
        return None
    reason = reasons.CoordinatorBehind(view.window.round, view.work.round, view.head.away)
    return Hold(reason, sits_out=True)


# During the exchange: there is nothing more to contribute to our round


def _go_on_after_loss(view: View) -> Action | None:
    """Our contribution was given up: the round does not wait for it."""
    if view.work.contribution is not ContributionState.LOST:
        return None
    if _trained_ahead(view):
        return Hold(reasons.ContributionLost(Meanwhile.TRAINED_AHEAD), sits_out=True)
    return Train(reasons.ContributionLost(Meanwhile.TRAIN), sits_out=True)


def _hold_on_old_state(view: View) -> Action | None:
    """The state is not the run's, or its round closed long ago."""
    return Hold(_exchange(view)) if view.head.differs or _behind(view) > 1 else None


def _train_through_absence(view: View) -> Action | None:
    """While the coordinator is away the state cannot change. The work counts in the rounds after that."""
    away, trained = view.head.away, view.rounds_trained
    if away is None or not view.absence:
        return None
    if trained >= view.absence:
        return Hold(reasons.AwayForLong(away, view.absence), sits_out=not view.work.contribution.taken)
    return Train(reasons.CoordinatorAway(away, trained, view.absence))


def _train_without_turn(view: View) -> Action | None:
    goes_on = not view.head.turn and not view.work.contribution.taken and view.work.tokens
    return (
        Train(_exchange(view, Meanwhile.TRAIN), sits_out=True) if goes_on and not _steps_done(view) else None
    )


def _hold_without_overlap(view: View) -> Action | None:
    goes_on = view.work.contribution.taken and overlaps(view.window.spec, view.durations)
    return None if goes_on else Hold(_exchange(view))


def _hold_trained_ahead(view: View) -> Action | None:
    return Hold(_exchange(view, Meanwhile.TRAINED_AHEAD)) if _trained_ahead(view) else None


def _trained_ahead(view: View) -> bool:
    """A round's worth is trained for the next round."""
    return _steps_done(view) or view.durations.ahead >= view.window.spec.seconds


def _train_ahead(view: View) -> Action | None:
    by_run = view.window.spec.overlap == "always"
    return Train(_exchange(view, Meanwhile.TRAIN, None if by_run else view.durations.exchange))


DURING_EXCHANGE: tuple[Rule, ...] = (
    _hold_on_old_state,
    _train_through_absence,
    _go_on_after_loss,
    _train_without_turn,
    _hold_without_overlap,
    _hold_trained_ahead,
    _train_ahead,
)


# Without a turn to contribute


def _hold_steps_done(view: View) -> Action | None:
    return Hold(reasons.StepsDoneOutOfTurn(), sits_out=True) if _steps_done(view) else None


def _wait_through_absence(view: View) -> Action | None:
    if view.head.away is None or _phase(view) is not Phase.CLOSE:
        return None
    return _train_through_absence(view) or Hold(reasons.AwayForLong(view.head.away, 0), sits_out=True)


def _train_out_of_turn(view: View) -> Action | None:
    return Train(reasons.OutOfTurn(), sits_out=True)


OUT_OF_TURN: tuple[Rule, ...] = (_wait_through_absence, _hold_steps_done, _train_out_of_turn)


# With a turn: train, then publish in time


def _first_step_ends_after_close(view: View) -> Action | None:
    too_long = view.durations.step > max(view.until_end, view.until_sending)
    reason = reasons.StepEndsAfterClose(view.durations.step)
    return Train(reason, sits_out=True) if _may_train(view) and not view.work.tokens and too_long else None


def _first_step_is_late(view: View) -> Action | None:
    late = _ends_after_round(view, view.durations.step)
    return _late_step(view.durations.step) if _may_train(view) and not view.work.tokens and late else None


def _train(view: View) -> Action | None:
    left = min(view.until_end, view.until_sending)
    fits = not view.work.tokens or view.durations.step <= left
    return Train(reasons.TimeToTrain(max(0.0, left))) if _may_train(view) and fits else None


def _fill_round_in_absence(view: View) -> Action | None:
    """After the deadline of a round that cannot close, it still takes a round's worth."""
    overdue = _phase(view) is Phase.CLOSE and view.rounds_trained < 1
    return _train_through_absence(view) if overdue else None


def _nothing_to_publish(view: View) -> Action | None:
    reason = reasons.NothingTrained(view.window.round, view.head.away)
    return Hold(reason, sits_out=True) if not view.work.tokens else None


def _too_late_to_publish(view: View) -> Action | None:
    too_late = _phase(view) is Phase.CLOSE and view.head.away is None
    return Hold(reasons.TooLate(), sits_out=True) if too_late else None


def _steps_are_done(view: View) -> Action | None:
    return Publish(reasons.StepsDone(view.window.spec.steps or 0)) if _steps_done(view) else None


def _sending_starts_now(view: View) -> Action | None:
    due = _phase(view) is Phase.TRAIN and view.until_sending < view.until_end
    return Publish(reasons.SendingStartsNow(view.durations.send)) if due else None


def _no_time_for_step(view: View) -> Action | None:
    return Publish(reasons.NoTimeForStep(view.durations.step)) if _phase(view) is Phase.TRAIN else None


def _token_target_reached(view: View) -> Action | None:
    return Publish(reasons.TokenTargetReached()) if view.until_end > 0 else None


TRAINING: tuple[Rule, ...] = (
    _first_step_ends_after_close,
    _first_step_is_late,
    _train,
    _fill_round_in_absence,
    _nothing_to_publish,
    _too_late_to_publish,
    _steps_are_done,
    _sending_starts_now,
    _no_time_for_step,
    _token_target_reached,
)


def _time_is_over(view: View) -> Action:
    return Publish(reasons.TimeIsOver())


# Facts that the rules use


def _idle(view: View) -> bool:
    return view.exchange is Exchanging.IDLE


def _in_exchange(view: View) -> bool:
    """Our contribution is taken, or something is being sent or folded."""
    return view.work.contribution.taken or view.exchange is Exchanging.BUSY


def _behind(view: View) -> int:
    """Rounds from ours to the open one."""
    return view.window.round - view.work.round


def _phase(view: View) -> Phase:
    return view.window.phase(view.now, view.head.swarm_tokens)


def _may_train(view: View) -> bool:
    return _phase(view) is Phase.TRAIN and not _steps_done(view)


def _steps_done(view: View) -> bool:
    return (limit := view.window.spec.steps) is not None and view.work.steps >= limit


def _ends_after_round(view: View, rest: float) -> bool:
    """Whether a step longer than a round, with `rest` seconds to go, ends after the round's time."""
    return view.durations.step > view.window.spec.seconds and rest > view.until_end


def _late_step(rest: float) -> Train:
    return Train(reasons.StepIsLate(rest), late=True)


def _exchange(
    view: View, meanwhile: Meanwhile = Meanwhile.HOLD, exchange_seconds: float | None = None
) -> reasons.ExchangeReason:
    if _behind(view) > 0 or not view.work.contribution.taken:
        return reasons.FoldingRounds(meanwhile, exchange_seconds)
    closes_in = max(0.0, seconds_between(view.now, view.window.deadline))
    return reasons.ContributionOut(closes_in, view.head.away, meanwhile, exchange_seconds)
