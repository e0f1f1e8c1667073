"""Whether vouched volunteers agree on a checkpoint's held-out loss: pure.

All who verify a checkpoint must come to the same answer from the same evaluations.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation
from barnraise.core.ids import BlobHash, PublicKey, Round, RunId, StateHash
from barnraise.core.reason import Reason

TOLERANCE = 0.005
"""Share by which the highest loss of a group may exceed its lowest: machines round differently."""


@dataclass(frozen=True)
class EvaluationTask:
    """What the volunteers evaluate, and on which samples."""

    run: RunId
    state: StateHash
    held_out_set: BlobHash
    """SHA-256 of the index of the held-out shards."""
    tokens: int


@dataclass(frozen=True)
class NotAnEvaluator(Reason):
    """The key is not among the evaluators that the spec names."""

    key: PublicKey
    evaluators: int


@dataclass(frozen=True)
class NoSuchCheckpoint(Reason):
    """The coordinator has no checkpoint with this state, or removed it."""

    run: RunId
    round: Round
    state: StateHash


@dataclass(frozen=True)
class OtherHeldOutSet(Reason):
    """The evaluation used other samples than the run's."""

    held_out_set: BlobHash
    tokens: int
    task: EvaluationTask


EvaluationRefusal = NotAnEvaluator | NoSuchCheckpoint | OtherHeldOutSet


def check_evaluation(
    evaluation: Evaluation, task: EvaluationTask | None, evaluators: Collection[str]
) -> EvaluationRefusal | None:
    """Why an evaluation does not count; None where it does.

    task: of the checkpoint of the evaluation's round; None where there is no such checkpoint.
    """
    if evaluation.owner not in evaluators:
        return NotAnEvaluator(PublicKey(evaluation.owner), len(evaluators))
    if task is None or (evaluation.run, evaluation.state) != (task.run, task.state):
        return NoSuchCheckpoint(RunId(evaluation.run), Round(evaluation.round), StateHash(evaluation.state))
    if (evaluation.panel, evaluation.tokens) != (task.held_out_set, task.tokens):
        return OtherHeldOutSet(BlobHash(evaluation.panel), evaluation.tokens, task)
    return None


@dataclass(frozen=True)
class Quorum(Reason):
    """Enough evaluators found about the same loss."""

    held_out: HeldOut
    by: tuple[PublicKey, ...]
    outliers: tuple[PublicKey, ...]
    """Evaluators who found another loss."""
    evaluators: int


@dataclass(frozen=True)
class QuorumPending(Reason):
    """More evaluations may still bring a quorum."""

    missing: int
    evaluators: int


@dataclass(frozen=True)
class NoQuorum(Reason):
    """The losses are too far apart for the evaluators who are left to bring a quorum."""

    required: int
    evaluators: int
    losses: tuple[tuple[PublicKey, float], ...]


QuorumOutcome = Quorum | QuorumPending | NoQuorum


def find_quorum(
    evaluations: Collection[Evaluation],
    evaluators: Collection[str],
    required: int,
    tolerance: float = TOLERANCE,
) -> QuorumOutcome:
    """The loss that `required` evaluators of one checkpoint agree on.

    evaluations: at most one of each owner, in any order; those of other keys than `evaluators` do not count.
    The largest group within `tolerance` counts unless a disjoint group is large enough as well. Its lower
    median is the loss, so that the result is close to the losses of the whole group.
    """
    counted = sorted(
        (each for each in evaluations if each.owner in evaluators),
        key=lambda each: (each.tokens, each.loss, each.owner),
    )
    groups = [_group(counted[start:], tolerance) for start in range(len(counted))]
    largest = max(groups, key=len, default=())
    left = len(evaluators) - len(counted)
    if len(largest) >= required and not _has_rival(groups, largest, required):
        return _quorum(largest, counted, len(evaluators))
    if len(largest) < required <= len(largest) + left:
        return QuorumPending(required - len(largest), len(evaluators))
    losses = tuple((PublicKey(each.owner), each.loss) for each in counted)
    return NoQuorum(required, len(evaluators), losses)


def _group(ordered: Sequence[Evaluation], tolerance: float) -> tuple[Evaluation, ...]:
    """The first evaluation, and those after it that are within `tolerance` of it."""
    first = ordered[0]
    limit = first.loss * (1 + tolerance)
    return tuple(each for each in ordered if each.tokens == first.tokens and each.loss <= limit)


def _has_rival(
    groups: Sequence[tuple[Evaluation, ...]], largest: tuple[Evaluation, ...], required: int
) -> bool:
    return any(len(group) >= required and not set(group) & set(largest) for group in groups)


def _quorum(group: tuple[Evaluation, ...], counted: Sequence[Evaluation], evaluators: int) -> Quorum:
    middle = group[(len(group) - 1) // 2]
    return Quorum(
        HeldOut(loss=middle.loss, tokens=middle.tokens),
        tuple(PublicKey(each.owner) for each in group),
        tuple(PublicKey(each.owner) for each in counted if each not in group),
        evaluators,
    )
