"""The words of evaluations: each reason once."""

from __future__ import annotations

from typing import get_args

import pytest

from barnraise.contract import evaluation_quorum as quorum
from barnraise.contract.manifest import HeldOut
from barnraise.core.ids import BlobHash, Round, StateHash
from barnraise.core.reason import Reason
from barnraise.evaluation import failures
from barnraise.runtime.child_failures import ChildDied, ChildTimedOut, ChildTooLarge
from coordinator.messages.checkpoints import (
    evaluation_message,
    evaluation_refusal,
    not_evaluated_message,
    pending_message,
)
from coordinator.reasons import checkpoints as reasons
from tests.support import parts
from tests.support.parts import ADA, BEN, STRANGER

TASK = quorum.EvaluationTask(parts.RUN, StateHash(parts.HASH_A), BlobHash(parts.HASH_B), 100)
REFUSALS: list[tuple[quorum.EvaluationRefusal, str]] = [
    (
        quorum.NotAnEvaluator(ADA.public, 3),
        f"the key {ADA.public} is not among the run's 3 evaluators",
    ),
    (
        quorum.NoSuchCheckpoint(parts.RUN, Round(40), StateHash(parts.HASH_A)),
        "barn has no checkpoint of round 40 with the state abababab here",
    ),
    (
        quorum.OtherHeldOutSet(BlobHash(parts.HASH_A), 99, TASK),
        "it is about 99 tokens of abababab; this run's task is 100 tokens of cdcdcdcd",
    ),
]
HELD_OUT = HeldOut(loss=2.25, tokens=100)
OUTCOMES: list[tuple[quorum.QuorumOutcome, str]] = [
    (
        quorum.Quorum(HELD_OUT, (ADA.public, BEN.public), (), 3),
        "round 1 has a held-out loss of 2.2500, by 2 of 3 evaluators",
    ),
    (
        quorum.Quorum(HELD_OUT, (ADA.public, BEN.public), (STRANGER.public,), 3),
        "round 1 has a held-out loss of 2.2500, by 2 of 3 evaluators;"
        f" {STRANGER.public[:8]} found another loss",
    ),
    (quorum.QuorumPending(1, 3), "round 1 waits for 1 more of 3 evaluators"),
    (
        quorum.NoQuorum(2, 3, ((ADA.public, 2.0), (BEN.public, 3.0))),
        "round 1 has no held-out loss that 2 of 3 evaluators agree on:"
        f" 2.0000 by {ADA.public[:8]}, 3.0000 by {BEN.public[:8]}",
    ),
]
FAILURES: list[tuple[reasons.NotEvaluatedReason, str]] = [
    (reasons.Superseded(2), "the checkpoint of round 2 superseded it"),
    (failures.EvaluationDisabled(), "the run spec asks for no evaluation"),
    (failures.NoHeldOutText(), "the run holds no text out"),
    (failures.NotEnoughMemory(9 * 10**9, 10**9), "it takes 9 GB of memory, 1 GB are free"),
    (failures.LossNotFinite("nan"), "its held-out loss is nan"),
    (failures.UnreadableReply("Killed"), "barnraise.evaluation.program printed 'Killed'"),
    (ChildTimedOut(3600.0), "it took more than 60 minutes"),
    (ChildTooLarge(8_000_000_000), "it took more than 8 GB of memory"),
    (ChildDied("m", -9, "no such tensor"), "m ended with status -9: no such tensor"),
]


@pytest.mark.parametrize(("reason", "words"), REFUSALS)
def test_a_refusal(reason: quorum.EvaluationRefusal, words: str) -> None:
    refusal = evaluation_refusal(reason)
    assert refusal.problem == words
    assert refusal.fix


@pytest.mark.parametrize(("outcome", "words"), OUTCOMES)
def test_the_result_of_evaluations(outcome: quorum.QuorumOutcome, words: str) -> None:
    status = reasons.EvaluationStatus(1, outcome)
    assert evaluation_message(status) == pending_message(status) == words


def test_an_evaluation_that_changes_nothing() -> None:
    assert evaluation_message(reasons.AlreadyEvaluated(1)) == "round 1 has its held-out loss already"


def test_nothing_is_pending() -> None:
    assert pending_message(None) == ""


@pytest.mark.parametrize(("reason", "words"), FAILURES)
def test_why_a_checkpoint_is_not_evaluated(reason: reasons.NotEvaluatedReason, words: str) -> None:
    assert not_evaluated_message(reason) == words


@pytest.mark.parametrize(
    ("family", "rendered"),
    [
        (quorum.EvaluationRefusal, REFUSALS),
        (quorum.QuorumOutcome, OUTCOMES),
        (reasons.NotEvaluatedReason, FAILURES),
    ],
    ids=["refusal", "outcome", "failure"],
)
def test_every_reason_has_an_example(family: object, rendered: list[tuple[Reason, str]]) -> None:
    assert {type(reason) for reason, _ in rendered} == set(get_args(family))
