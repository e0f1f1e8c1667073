"""Whether vouched volunteers agree on a checkpoint's held-out loss: pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation
from barnraise.core.ids import BlobHash, PublicKey, RunId, StateHash, short

TOLERANCE = 0.005
"""Share by which the highest loss of those who agree may be above their lowest: machines round apart."""


@dataclass(frozen=True)
class EvaluationTask:
    """What the volunteers are asked to evaluate, and on what."""

    run: RunId
    state: StateHash
    held_out_set: BlobHash
    tokens: int


@dataclass(frozen=True)
class Counts:
    """An answer to the task, of somebody who was asked."""


@dataclass(frozen=True)
class Void:
    reason: str
    fix: str


@dataclass(frozen=True)
class Quorum:
    held_out: HeldOut
    by: tuple[PublicKey, ...]
    outliers: tuple[PublicKey, ...]
    """Those who found something else."""
    reason: str


@dataclass(frozen=True)
class QuorumPending:
    reason: str


@dataclass(frozen=True)
class NoQuorum:
    reason: str


def check_evaluation(
    evaluation: Evaluation, task: EvaluationTask | None, evaluators: Collection[str]
) -> Counts | Void:
    """task: about the checkpoint of the evaluation's round; None where there is none."""
    if evaluation.owner not in evaluators:
        return Void(
            f"the key {evaluation.owner} is not among the run's {len(evaluators)} evaluators",
            fix="They are fixed as a run begins: the maintainer has to name you in the next one.",
        )
    if task is None or (evaluation.run, evaluation.state) != (task.run, task.state):
        return Void(
            f"{evaluation.run} has no checkpoint of round {evaluation.round} with the state"
            f" {short(evaluation.state)} here",
            fix="It may be dropped meanwhile: take a newer one.",
        )
    if (evaluation.panel, evaluation.tokens) != (task.held_out_set, task.tokens):
        return Void(
            f"it is about {evaluation.tokens} tokens of {short(evaluation.panel)}, asked were"
            f" {task.tokens} of {short(task.held_out_set)}",
            fix="Compare `peer --version` with the maintainer's, and evaluate again.",
        )
    return Counts()


def find_quorum(
    evaluations: Collection[Evaluation],
    evaluators: Collection[str],
    agree: int,
    tolerance: float = TOLERANCE,
) -> Quorum | QuorumPending | NoQuorum:
    """What the evaluations of one checkpoint come to: one of each owner, in any order.

    The largest group within `tolerance` counts, and its lower median is the loss, so that no value stands
    which is not close to all of theirs. Who is not among `evaluators` does not count.
    """
    counted = sorted(
        (each for each in evaluations if each.owner in evaluators),
        key=lambda each: (each.tokens, each.loss, each.owner),
    )
    groups = [_near(counted[start:], tolerance) for start in range(len(counted))]
    best = max(groups, key=len, default=())
    apart = [group for group in groups if len(group) >= agree and not set(group) & set(best)]
    left = len(evaluators) - len(counted)
    if len(best) >= agree and not apart:
        middle = best[(len(best) - 1) // 2]
        by = tuple(PublicKey(each.owner) for each in best)
        outliers = tuple(PublicKey(each.owner) for each in counted if each not in best)
        return Quorum(
            HeldOut(loss=middle.loss, tokens=middle.tokens), by, outliers,
            f"has a held-out loss of {middle.loss:.4f}, by {len(by)} of {len(evaluators)} evaluators"
            + (f"; {', '.join(map(short, outliers))} found something else" if outliers else ""),
        )  # fmt: skip
    if len(best) < agree <= len(best) + left:
        return QuorumPending(f"waits for {agree - len(best)} more of {len(evaluators)} evaluators")
    losses = ", ".join(f"{each.loss:.4f} by {short(each.owner)}" for each in counted)
    return NoQuorum(f"has no held-out loss that {agree} of {len(evaluators)} evaluators agree on: {losses}")


def _near(ordered: Sequence[Evaluation], tolerance: float) -> tuple[Evaluation, ...]:
    """The first one, and those after it that are close to it."""
    first = ordered[0]
    limit = first.loss * (1 + tolerance)
    return tuple(each for each in ordered if each.tokens == first.tokens and each.loss <= limit)
