"""The evaluation task of vouched volunteers, and the result of their evaluations. Pure."""

from __future__ import annotations

from barnraise.contract.evaluation_quorum import (
    EvaluationRefusal,
    EvaluationTask,
    Quorum,
    QuorumOutcome,
    check_evaluation,
    find_quorum,
)
from barnraise.contract.records import Evaluation
from barnraise.core.ids import StateHash
from coordinator.checkpoints.held_out_set import HeldOutSet
from coordinator.reasons.checkpoints import EvaluationStatus
from coordinator.store.run_state import RunState


def evaluation_task(run: RunState, held_out_set: HeldOutSet | None, round: int) -> EvaluationTask | None:
    """The task for the checkpoint of `round`; None unless it is published and the run has evaluators."""
    if held_out_set is None or round not in run.published:
        return None
    charter, state = run.charter, StateHash(run.checkpoints[round].value.state)
    return EvaluationTask(charter.run, state, held_out_set.hash, held_out_set.tokens)


def evaluation_refused(
    run: RunState, held_out_set: HeldOutSet | None, evaluation: Evaluation
) -> EvaluationRefusal | None:
    """Why an evaluation does not count; None where it does."""
    task = evaluation_task(run, held_out_set, evaluation.round)
    return check_evaluation(evaluation, task, run.spec.checkpoint.evaluators)


def evaluation_status(run: RunState, round: int) -> EvaluationStatus:
    """The result of the evaluations of the checkpoint of `round`."""
    return EvaluationStatus(round, _outcome(run, round))


def pending_evaluation(run: RunState, held_out_set: HeldOutSet | None) -> EvaluationStatus | None:
    """The status of the newest checkpoint that waits for evaluators; None where none does."""
    waiting = run.unevaluated if held_out_set is not None else []
    return evaluation_status(run, waiting[-1]) if waiting else None


def newest_quorum(run: RunState) -> tuple[int, Quorum] | None:
    """The newest round with a quorum, and the quorum."""
    for round in sorted(run.evaluations, reverse=True):
        if isinstance(outcome := _outcome(run, round), Quorum):
            return round, outcome
    return None


def _outcome(run: RunState, round: int) -> QuorumOutcome:
    spec = run.spec.checkpoint
    found = [evaluation.value for evaluation in run.evaluations.get(round, {}).values()]
    return find_quorum(found, spec.evaluators, spec.agree)
