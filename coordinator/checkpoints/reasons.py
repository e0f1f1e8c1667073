"""Reasons of the publisher: what it did with an evaluation, and why a checkpoint has no held-out loss."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.evaluation_quorum import QuorumOutcome
from barnraise.core.reason import Reason
from barnraise.evaluation.failures import EvaluationFailure


@dataclass(frozen=True)
class AlreadyEvaluated(Reason):
    """The checkpoint of this round has its held-out loss: the evaluation changes nothing."""

    round: int


@dataclass(frozen=True)
class EvaluationStatus(Reason):
    """What the evaluations of one round's checkpoint come to."""

    round: int
    outcome: QuorumOutcome


EvaluationProgress = AlreadyEvaluated | EvaluationStatus


@dataclass(frozen=True)
class Superseded(Reason):
    """The checkpoint of `round` was written before this one was evaluated."""

    round: int


NotEvaluatedReason = Superseded | EvaluationFailure
