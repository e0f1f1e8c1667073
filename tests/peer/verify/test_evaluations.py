"""Where a proved checkpoint's held-out loss comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.evaluation_quorum import NoQuorum, Quorum, QuorumPending
from barnraise.contract.evaluations import EVALUATIONS, evaluations_json
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.records import Evaluation
from barnraise.core.identity import Identity
from barnraise.core.signed import Signed, sign
from coordinator.store.run_store import RunStore
from peer.verify.evaluations import (
    EvaluationsDiffer,
    LossByCoordinator,
    LossByEvaluators,
    NoHeldOutLoss,
    OtherEvaluation,
    UnreadableEvaluations,
    by_evaluations,
    without_evaluations,
)
from tests.support import parts
from tests.support.coordinators import archive, opened_store, train_round, until_published
from tests.support.golden_log import genesis
from tests.support.parts import ADA, BEN, STRANGER
from tests.support.verifying import SPEC, options, outcome, proved
from tests.support.vouching import TOKENS, found, hold_out, publish_checkpoints, publisher, vouching

WHERE = f"checkpoints/round-000001/{EVALUATIONS}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run of one round whose coordinator cannot evaluate."""
    spec = vouching(SPEC)
    with opened_store(tmp_path / "run", spec, genesis(spec)) as made:
        hold_out(tmp_path / "run")
        train_round(made, ADA, BEN)
        publish_checkpoints(made)
        yield made


def agreed(store: RunStore) -> None:
    made = publisher(store)
    for owner in (ADA, BEN):
        made.record_evaluation(found(store, owner, 2.25))
    asyncio.run(until_published(made))


def manifest(store: RunStore, loss: float | None = 2.25) -> Manifest:
    held_out = None if loss is None else HeldOut(loss=loss, tokens=TOKENS)
    return store.snapshot.checkpoints[1].value.model_copy(update={"held_out": held_out})


def judged(
    store: RunStore, *evaluations: Signed[Evaluation], loss: float | None = 2.25
) -> LossByEvaluators | EvaluationsDiffer:
    return by_evaluations(evaluations_json(evaluations), WHERE, manifest(store, loss), store.charter)


def test_the_proof_has_the_loss_that_evaluators_agreed_on(store: RunStore) -> None:
    agreed(store)
    proof = proved(options(archive(store), revision="1"))
    assert proof.held_out == LossByEvaluators(2.25, by=2, of=3)


def test_without_evaluations_the_loss_is_the_coordinator_s_or_missing(store: RunStore) -> None:
    assert proved(options(archive(store), revision="1")).held_out == NoHeldOutLoss()
    assert without_evaluations(manifest(store)) == LossByCoordinator(2.25)


def test_evaluations_of_another_loss_differ(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator signs a loss that no evaluator found."""
    monkeypatch.setattr(
        "coordinator.checkpoints.publisher.evaluations_json",
        lambda _: evaluations_json([found(store, owner, 3.0) for owner in (ADA, BEN)]),
    )
    agreed(store)
    difference = outcome(options(archive(store), revision="1"))
    assert isinstance(difference, EvaluationsDiffer)
    assert (difference.where, difference.expected) == (WHERE, HeldOut(loss=2.25, tokens=TOKENS))
    assert isinstance(difference.found, Quorum)
    assert difference.found.held_out.loss == 3.0


@pytest.mark.parametrize(
    ("losses", "kind"),
    [
        ({ADA: 2.25}, QuorumPending),
        ({ADA: 2.25, BEN: 3.0, STRANGER: 4.0}, NoQuorum),
        ({ADA: 2.25, parts.AUTHORITY: 2.25}, QuorumPending),
    ],
    ids=["one evaluation", "all apart", "a key that is not an evaluator's"],
)
def test_evaluations_without_a_quorum_differ(
    store: RunStore, losses: dict[Identity, float], kind: type[QuorumPending | NoQuorum]
) -> None:
    difference = judged(store, *(found(store, owner, loss) for owner, loss in losses.items()))
    assert isinstance(difference, EvaluationsDiffer)
    assert isinstance(difference.found, kind)


def test_evaluations_of_another_checkpoint_differ(store: RunStore) -> None:
    good = found(store, ADA, 2.25)
    by_another_key = sign(BEN, good.value)
    for other in (
        found(store, BEN, 2.25, state=parts.HASH_A),
        found(store, BEN, 2.25, round=2),
        by_another_key,
    ):
        difference = judged(store, good, other)
        assert isinstance(difference, EvaluationsDiffer)
        assert isinstance(difference.found, OtherEvaluation)
    assert isinstance(judged(store, good, found(store, BEN, 2.25), loss=None), EvaluationsDiffer)
    assert judged(store, good, found(store, BEN, 2.25)) == LossByEvaluators(2.25, 2, 3)


@pytest.mark.parametrize("junk", [b"", b"{}", b'{"evaluations": [{"signed": "AAAA"}]}', b"\xff" * 100])
def test_unreadable_evaluations_differ(store: RunStore, junk: bytes) -> None:
    difference = by_evaluations(junk, WHERE, manifest(store), store.charter)
    assert isinstance(difference, EvaluationsDiffer)
    assert isinstance(difference.found, UnreadableEvaluations)
