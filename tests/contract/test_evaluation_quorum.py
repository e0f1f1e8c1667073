"""The quorum of evaluators, and the effect of one false evaluation."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.evaluation_quorum import (
    TOLERANCE,
    EvaluationRefusal,
    EvaluationTask,
    NoQuorum,
    NoSuchCheckpoint,
    NotAnEvaluator,
    OtherHeldOutSet,
    Quorum,
    QuorumOutcome,
    QuorumPending,
    check_evaluation,
    find_quorum,
)
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation
from barnraise.contract.spec import CheckpointSpec
from barnraise.contract.spec_file import parse_spec
from barnraise.core.errors import SpecError
from barnraise.core.ids import BlobHash, Round, RunId, StateHash
from tests.support import parts

THREE = tuple(key.public for key in (parts.ADA, parts.BEN, parts.STRANGER))
TASK = EvaluationTask(parts.RUN, StateHash(parts.HASH_A), BlobHash(parts.HASH_B), 100)


def evaluation(loss: float, owner: str = THREE[0], /, **other: object) -> Evaluation:
    fields: dict[str, object] = {
        "run": parts.RUN, "round": 40, "state": parts.HASH_A, "panel": parts.HASH_B, "owner": owner,
        "loss": loss, "tokens": 100, "at": parts.NOW,
    }  # fmt: skip
    return Evaluation.model_validate(fields | other)


def outcome(*losses: float, agree: int = 2) -> QuorumOutcome:
    """Of the first evaluators of three."""
    return find_quorum(
        [evaluation(loss, owner) for loss, owner in zip(losses, THREE, strict=False)], THREE, agree
    )


@pytest.mark.parametrize(
    ("losses", "agree", "missing"), [((), 2, 2), ((2.0,), 2, 1), ((2.0, 3.0), 2, 1), ((2.0, 2.0), 3, 1)]
)
def test_a_quorum_is_pending_while_it_is_possible(
    losses: tuple[float, ...], agree: int, missing: int
) -> None:
    assert outcome(*losses, agree=agree) == QuorumPending(missing, 3)


def test_two_of_three_are_a_quorum() -> None:
    found = outcome(2.001, 2.0)
    assert isinstance(found, Quorum)
    assert found.held_out == HeldOut(loss=2.0, tokens=100)
    assert (set(found.by), found.outliers) == ({*THREE[:2]}, ())
    assert found.evaluators == 3


def test_outliers_are_listed() -> None:
    found = outcome(2.0, 9.0, 2.001)
    assert isinstance(found, Quorum)
    assert found.outliers == (THREE[1],)


@pytest.mark.parametrize(("losses", "agree"), [((2.0, 3.0, 4.0), 2), ((2.0, 3.0), 3)])
def test_there_is_no_quorum_when_the_rest_cannot_make_one(losses: tuple[float, ...], agree: int) -> None:
    found = outcome(*losses, agree=agree)
    assert isinstance(found, NoQuorum)
    assert (found.required, found.evaluators, found.losses[0]) == (agree, 3, (THREE[0], 2.0))


def test_two_groups_are_no_quorum() -> None:
    four = (*THREE, parts.AUTHORITY.public)
    found = [evaluation(loss, owner) for loss, owner in zip((2.0, 2.0, 3.0, 3.0), four, strict=True)]
    assert isinstance(find_quorum(found, four, 2), NoQuorum)


def test_evaluations_on_other_tokens_do_not_agree() -> None:
    assert isinstance(
        find_quorum([evaluation(2.0), evaluation(2.0, THREE[1], tokens=99)], THREE, 2), QuorumPending
    )


def test_keys_that_are_not_evaluators_do_not_count() -> None:
    found = [evaluation(2.0), evaluation(2.0, parts.AUTHORITY.public)]
    assert find_quorum(found, THREE, 2) == QuorumPending(1, 3)


@given(
    honest=st.floats(0.01, 20),
    noise=st.lists(st.floats(0, TOLERANCE / 2), min_size=2, max_size=2),
    lie=st.floats(0, 100),
)
def test_one_false_loss_of_three_moves_the_result_within_the_tolerance(
    honest: float, noise: list[float], lie: float
) -> None:
    truth = [honest * (1 + each) for each in noise]
    losses = [lie, *truth]
    low, high = min(truth) / (1 + TOLERANCE), max(truth) * (1 + TOLERANCE)
    for known in (losses[:2], [lie, truth[1]], losses):
        found = outcome(*known)
        assert isinstance(found, Quorum) or len(known) == 2
        if isinstance(found, Quorum):
            assert low * (1 - 1e-9) <= found.held_out.loss <= high * (1 + 1e-9)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=3), st.integers(1, 3))
def test_the_order_of_evaluations_does_not_matter(losses: list[float], agree: int) -> None:
    given_ = [evaluation(loss, owner) for loss, owner in zip(losses, THREE, strict=True)]
    assert len({find_quorum(order, THREE, agree) for order in permutations(given_)}) == 1


def test_an_evaluation_of_the_task_counts() -> None:
    assert check_evaluation(evaluation(2.0), TASK, THREE) is None


@pytest.mark.parametrize(
    ("other", "task", "reason"),
    [
        ({"owner": parts.AUTHORITY.public}, TASK, NotAnEvaluator(parts.AUTHORITY.public, 3)),
        ({}, None, NoSuchCheckpoint(parts.RUN, Round(40), StateHash(parts.HASH_A))),
        ({"run": "shed"}, TASK, NoSuchCheckpoint(RunId("shed"), Round(40), StateHash(parts.HASH_A))),
        ({"state": parts.HASH_B}, TASK, NoSuchCheckpoint(parts.RUN, Round(40), StateHash(parts.HASH_B))),
        ({"panel": parts.HASH_A}, TASK, OtherHeldOutSet(BlobHash(parts.HASH_A), 100, TASK)),
        ({"tokens": 99}, TASK, OtherHeldOutSet(BlobHash(parts.HASH_B), 99, TASK)),
    ],
)
def test_an_evaluation_of_another_task_is_refused(
    other: dict[str, object], task: EvaluationTask | None, reason: EvaluationRefusal
) -> None:
    assert check_evaluation(evaluation(2.0, THREE[0], **other), task, THREE) == reason


@pytest.mark.parametrize("loss", [-0.1, 100.5, float("nan"), float("inf")])
def test_an_impossible_loss_is_invalid(loss: float) -> None:
    with pytest.raises(ValueError, match="loss"):
        evaluation(loss)


@pytest.mark.parametrize(
    ("evaluators", "more", "word"),
    [
        (THREE[:1], "", "agree is 2, with 1 in evaluators: set agree to at most that"),
        ((THREE[0],) * 2, "", "names a key twice"),
        (("ab",), "agree = 1", "evaluators"),
        (THREE, "held_out_tokens = 0", "held_out_tokens is 0"),
    ],
)
def test_a_spec_without_a_possible_quorum_is_refused(
    evaluators: tuple[str, ...], more: str, word: str
) -> None:
    text = f'name = "barn"\n[data]\nsource = "x"\n[checkpoint]\nevaluators = {list(evaluators)}\n{more}\n'
    with pytest.raises(SpecError, match=word):
        parse_spec(text)


def test_evaluators_without_held_out_data_are_refused() -> None:
    text = f'name = "b"\n[data]\nsource = "x"\nheld_out = 0.0\n[checkpoint]\nevaluators = {list(THREE)}\n'
    with pytest.raises(SpecError, match=r"data\.held_out is 0"):
        parse_spec(text)


def test_there_are_no_evaluators_by_default() -> None:
    assert CheckpointSpec().evaluators == ()
