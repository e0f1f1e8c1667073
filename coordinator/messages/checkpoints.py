"""Renders the reasons about checkpoints: their evaluations, and why one of them is `main`."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract import evaluation_quorum as quorum
from barnraise.core.errors import RefusedError
from barnraise.core.ids import short
from barnraise.core.units import format_rounds
from barnraise.evaluation.failures import failure_message
from coordinator.reasons import checkpoints as reasons


def evaluation_refusal(reason: quorum.EvaluationRefusal) -> RefusedError:
    """The answer to an evaluation that does not count."""
    match reason:
        case quorum.NotAnEvaluator(key, evaluators):
            return RefusedError(
                f"the key {key} is not among the run's {evaluators} evaluators",
                fix="They are fixed when a run starts: the maintainer can name you in the next one.",
            )
        case quorum.NoSuchCheckpoint(run, round, state):
            return RefusedError(
                f"{run} has no checkpoint of round {round} with the state {short(state)} here",
                fix="It may have been removed: evaluate a newer one.",
            )
        case quorum.OtherHeldOutSet(held_out_set, tokens, task):
            return RefusedError(
                f"it is about {tokens} tokens of {short(held_out_set)}; this run's task is {task.tokens}"
                f" tokens of {short(task.held_out_set)}",
                fix="Compare `peer --version` with the maintainer's, and evaluate again.",
            )
        case _:
            assert_never(reason)


def evaluation_message(reason: reasons.EvaluationProgress) -> str:
    """What a recorded evaluation changes, or what a checkpoint waits for."""
    match reason:
        case reasons.AlreadyEvaluated(round):
            return f"round {round} has its held-out loss already"
        case reasons.EvaluationStatus(round, outcome):
            return f"round {round} {_outcome(outcome)}"
        case _:
            assert_never(reason)


def pending_message(status: reasons.EvaluationStatus | None) -> str:
    """What the newest checkpoint without a held-out loss waits for; empty where none waits."""
    return "" if status is None else evaluation_message(status)


def not_evaluated_message(reason: reasons.NotEvaluatedReason) -> str:
    """Why a checkpoint has no held-out loss."""
    match reason:
        case reasons.Superseded(round):
            return f"the checkpoint of round {round} superseded it"
        case _:
            return failure_message(reason)


def _outcome(outcome: quorum.QuorumOutcome) -> str:
    match outcome:
        case quorum.Quorum(held_out, by, outliers, evaluators):
            others = f"; {', '.join(map(short, outliers))} found another loss" if outliers else ""
            return (
                f"has a held-out loss of {held_out.loss:.4f}, by {len(by)} of {evaluators} evaluators{others}"
            )
        case quorum.QuorumPending(missing, evaluators):
            return f"waits for {missing} more of {evaluators} evaluators"
        case quorum.NoQuorum(required, evaluators, losses):
            found = ", ".join(f"{loss:.4f} by {short(key)}" for key, loss in losses)
            return f"has no held-out loss that {required} of {evaluators} evaluators agree on: {found}"
        case _:
            assert_never(outcome)


def promotion_message(reason: reasons.NoneEvaluated | reasons.LossNearBest) -> str:
    """Why a checkpoint is `main`."""
    match reason:
        case reasons.NoneEvaluated(main, diverged=True):
            return f"round {main} is the newest from before training diverged; none could be evaluated"
        case reasons.NoneEvaluated(main):
            return f"round {main} is the newest; none could be evaluated"
        case reasons.LossNearBest(main, loss, best, best_loss, within, skipped, state_loss):
            text = f"round {main} predicts held-out text with a loss of {loss:.4f}"
            if state_loss is not None:
                text = f"the mean of states up to {text} ({state_loss:.4f} by its state alone)"
            if main != best:
                text += f", within {within:.1%} of the best, {best_loss:.4f} of round {best}"
            return text if skipped is None else f"{text}; {_skipped(skipped)}"
        case _:
            assert_never(reason)


def mean_message(reason: reasons.MeanOutcome) -> str:
    """What came of the mean of the newest states."""
    match reason:
        case reasons.MeanTried(rounds, loss, state_loss, kept):
            text = f"the mean of the states of {format_rounds(rounds)}: held-out loss {loss:.4f}"
            if loss >= state_loss:
                return f"{text}, not lower than that of round {rounds[-1]}: it is not kept"
            return text if kept else f"{text}, too far above the best one: it is not kept"
        case reasons.MeanFailed(rounds, failure):
            why = failure_message(failure)
            return f"the mean of the states of {format_rounds(rounds)} is not evaluated: {why}"
        case reasons.StateUnreadable(round, file):
            return (
                f"no mean of states is made: {file} of the checkpoint of round {round} is damaged or missing."
                " A restart looks for a copy"
            )
        case reasons.NoSpaceForMean(rounds):
            return (
                f"no mean of the states of {format_rounds(rounds)} is made: the disk is full, and it"
                " takes the space of a checkpoint. The run continues without it"
            )
        case _:
            assert_never(reason)


def _skipped(reason: reasons.HigherLoss | reasons.Unevaluated) -> str:
    match reason:
        case reasons.HigherLoss(round, loss):
            return f"round {round} has {loss:.4f} and was not promoted"
        case reasons.Unevaluated(round):
            return f"round {round} was not evaluated"
        case _:
            assert_never(reason)
