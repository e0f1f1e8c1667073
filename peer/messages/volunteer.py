"""Messages about what a volunteer does, and what its measurements mean."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.divergence import LossAtChance, LossJumped, LossRises, divergence_message
from barnraise.core.units import format_count
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.pauses import Paused
from peer.messages.own_standing import WHAT_TO_CHECK, own_standing_message
from peer.messages.own_weight import own_weight_message
from peer.volunteer import reasons as volunteer
from peer.volunteer.durations import LONG_EXCHANGE, Advice, ExchangeShare, StepCount, StepsPerRound
from peer.volunteer.own_losses import OwnLossNotLowered
from peer.volunteer.own_standing import OwnStanding
from peer.volunteer.own_weight import OwnWeight


def volunteer_message(reason: volunteer.ActionReason | Advice | volunteer.Notice | OwnWeight) -> str:
    """Why a volunteer does what it does, what its measurements mean, or what happened to it."""
    if isinstance(reason, OwnWeight):
        return own_weight_message(reason)
    if isinstance(reason, Advice):
        return _advice(reason)
    if isinstance(reason, volunteer.Notice):
        return _notice(reason)
    if isinstance(reason, volunteer.StepReason):
        return _step(reason)
    if isinstance(reason, volunteer.PublishReason):
        return _publish(reason)
    if isinstance(reason, volunteer.WaitReason):
        return _wait(reason)
    if isinstance(reason, volunteer.ExchangeReason):
        return _exchange(reason)
    return _change_of_state(reason)


def _step(reason: volunteer.StepReason) -> str:
    match reason:
        case volunteer.TimeToTrain(left):
            return f"training for another {left:.0f} s"
        case volunteer.StepEndsAfterClose(seconds):
            return (
                f"a step takes {seconds:.0f} s: it ends after this round's close and counts in the next one"
            )
        case volunteer.StepOutlastsRound():
            return "this step outlasts the round, which does not wait for it"
        case volunteer.StepIsLate(rest):
            return (
                f"this step takes {rest:.0f} s: it counts in this round if no volunteer is faster,"
                " else in the next one"
            )
        case volunteer.OutOfTurn():
            return "training; other volunteers contribute to this round"
        case volunteer.CoordinatorAway(away, rounds, limit):
            return (
                f"the coordinator is away (its last head is {_long(away)} old): training goes on for up to"
                f" {_rounds(limit)} worth, {rounds:.1f} so far, and is sent after its return"
            )
        case _:
            assert_never(reason)


def _publish(reason: volunteer.PublishReason) -> str:
    match reason:
        case volunteer.LeavingWithWork():
            return "leaving: sending what was trained first"
        case volunteer.StepsDone(steps):
            return f"{steps} steps are done"
        case volunteer.SendingStartsNow(seconds):
            return f"sending takes {seconds:.0f} s: it has to start now"
        case volunteer.NoTimeForStep(seconds):
            return f"no time for another step of {seconds:.1f} s"
        case volunteer.TokenTargetReached():
            return "the swarm reached its tokens"
        case volunteer.TimeIsOver():
            return "the round's time is over"
        case _:
            assert_never(reason)


def _wait(reason: volunteer.WaitReason) -> str:
    match reason:
        case volunteer.JustResumed():
            return "finding out where the run is after a pause"
        case volunteer.CoordinatorBehind(open_round, base, away):
            return (
                f"the coordinator is at round {open_round}, we are at {base}: it is catching up{_away(away)}"
            )
        case volunteer.TwoHistories():
            return "the run's key signed two histories: following neither until its maintainer resumes one"
        case volunteer.RunHalted():
            return (
                "the run is halted: audits banned keys soon after a rollback, and the losses rose again. Our"
                " work is kept, and goes on by itself once the maintainer has the run go back or continue"
            )
        case volunteer.NothingTrained(round, away):
            return f"round {round} is closing; we train in the next one{_away(away)}"
        case volunteer.TooLate():
            return "too late for this round: what we trained waits for the next one"
        case volunteer.StepsDoneOutOfTurn():
            return "the steps of this round are done, and a later round sends them"
        case volunteer.AwayForLong(away, limit):
            return _away_for_long(away, limit)
        case _:
            assert_never(reason)


def _away_for_long(away: float, limit: int) -> str:
    if limit == 0:
        return (
            f"the coordinator is away (its last head is {_long(away)} old): more samples in one gradient"
            " would not help"
        )
    return (
        f"the coordinator is away (its last head is {_long(away)} old), and {_rounds(limit)} worth is"
        " trained: more would not help. It is sent after the coordinator's return; Ctrl-C saves it"
    )


def _exchange(reason: volunteer.ExchangeReason) -> str:
    match reason:
        case volunteer.ContributionOut(closes_in, away):
            doing = f"our contribution is out; the round closes in at most {closes_in:.0f} s{_away(away)}"
        case volunteer.FoldingRounds():
            doing = "folding the rounds since ours"
        case volunteer.ContributionLost():
            doing = "our contribution was damaged on this disk and is given up"
        case _:
            assert_never(reason)
    match reason.meanwhile:
        case volunteer.Meanwhile.HOLD:
            return doing
        case volunteer.Meanwhile.TRAINED_AHEAD:
            return f"{doing}; a round's worth is trained ahead"
        case volunteer.Meanwhile.TRAIN:
            seconds = reason.exchange_seconds
            return f"{doing}; training goes on" + (
                "" if seconds is None else f": exchanges take {seconds:.0f} s"
            )
        case _:
            assert_never(reason.meanwhile)


def _change_of_state(
    reason: volunteer.Starting | volunteer.CatchUpReason | volunteer.NewerState | volunteer.LeaveReason,
) -> str:
    match reason:
        case volunteer.Starting():
            return "starting"
        case volunteer.StateDiffers():
            return "our state is not the run's: starting again from the newest checkpoint"
        case volunteer.FarBehind(rounds, checkpoint):
            return f"{rounds} rounds behind: taking the checkpoint of round {checkpoint}"
        case volunteer.RoundClosed(round):
            return f"folding round {round}"
        case volunteer.LogChanged():
            return "following a change of the log"
        case volunteer.NewerState():
            return "the newest state is here: rebasing onto it"
        case volunteer.AskedToStop():
            return "you asked to stop"
        case volunteer.RunOver(rounds):
            return f"the run is over after {format_count(rounds, 'round')}"
        case _:
            assert_never(reason)


def parting_message(reason: volunteer.LeaveReason) -> str:
    """What the user of a volunteer that ends can do next."""
    match reason:
        case volunteer.AskedToStop():
            return "Come back with the same command."
        case volunteer.RunOver(rounds):
            over = f"The run is over after {format_count(rounds, 'round')}"
            return f"{over}. Get what it trained by `peer download`, with the same invite."
        case _:
            assert_never(reason)


def _advice(advice: Advice) -> str:
    match advice:
        case StepsPerRound():
            return _steps(advice)
        case ExchangeShare(seconds, train_seconds, overlaps, by_run):
            share = seconds / max(train_seconds, 1e-9)
            took = f"the exchange of a round took {seconds:.1f} s, {share:.0%} of its training"
            then = "training goes on meanwhile" if overlaps else "training waits for it"
            if by_run:
                return f"{took}; {then}, as the run spec says"
            return f"{took}, more than {LONG_EXCHANGE:.0%}: {then}" if overlaps else f"{took}: {then}"
        case _:
            assert_never(advice)


def _notice(notice: volunteer.Notice) -> str:
    match notice:
        case volunteer.StepSkipped():
            return _skipped(notice)
        case OwnLossNotLowered(failed, of):
            return (
                f"{failed} of your last {of} contributions did not lower the loss of your own samples:"
                f" {WHAT_TO_CHECK}"
            )
        case OwnStanding():
            return own_standing_message(notice)
        case Paused(seconds, asleep):
            return f"this {'machine slept' if asleep else 'program was stopped'} for {seconds:.0f} s"
        case ClockSet(seconds):
            way = "forward" if seconds > 0 else "back"
            return f"this machine's clock was set {way} by {abs(seconds):.0f} s; the run's stays as it is"
        case LossAtChance() | LossJumped() | LossRises():
            what = divergence_message(notice)
            return f"the run's training diverges: {what}. No checkpoint is promoted: write to the maintainer"
        case _:
            assert_never(notice)


def _skipped(reason: volunteer.StepSkipped) -> str:
    times = "step" if reason.skipped == 1 else f"step, {reason.skipped} so far"
    text = f"{reason.problem}: skipped that {times}"
    if reason.resets == 0:
        return text
    if reason.good is not None:
        return (
            f"{text}; the run's state is to blame, not this machine or the learning rate: training goes on"
            f" from the last good one, of round {reason.good}"
        )
    again = "" if reason.resets == 1 else f", {reason.resets} times in a row: check this machine's memory"
    return f"{text}; training starts again from the run's state{again}"


def _steps(advice: StepsPerRound) -> str:
    pace = f"a step of {advice.batch} samples takes {advice.step_seconds:.1f} s here"
    fit = f"{pace}: about {advice.steps:.0f} in a round of {advice.round_seconds:g} s"
    match advice.count:
        case StepCount.NONE:
            round = f"a round of {advice.round_seconds:g} s"
            return f"{pace}, longer than {round}: it counts a round later, and no volunteer waits for it"
        case StepCount.FEW:
            return f"{fit}. That is few, and each step counts"
        case StepCount.MANY:
            return f"{fit}. That is many: shorter rounds keep the replicas closer together"
        case StepCount.FIT:
            return fit
        case _:
            assert_never(advice.count)


def _rounds(count: int) -> str:
    return "a round's" if count == 1 else f"{count} rounds'"


def _long(seconds: float) -> str:
    """A time of seconds to days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _away(seconds: float | None) -> str:
    return "" if seconds is None else f"; the last head of the coordinator is {seconds:.0f} s old"
