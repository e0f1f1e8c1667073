"""Whose word a proved checkpoint's held-out loss is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.evaluations import EVALUATIONS, evaluations_json
from barnraise.contract.manifest import HeldOut, Manifest
from barnraise.contract.records import Evaluation
from barnraise.core.identity import Identity
from barnraise.core.signed import Signed, sign
from barnraise.fold.replay import Cause, Difference
from coordinator.store.run_store import RunStore
from peer.verify.evaluations import (
    LossByCoordinator,
    LossByEvaluators,
    NoHeldOutLoss,
    by_evaluations,
    without_evaluations,
)
from tests.support import parts
from tests.support.coordinators import archive, opened_store, train_round, until_published
from tests.support.golden_log import genesis
from tests.support.parts import ADA, BEN, STRANGER
from tests.support.verifying import SPEC, differs, options, proved
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
) -> LossByEvaluators | Difference:
    return by_evaluations(evaluations_json(evaluations), WHERE, manifest(store, loss), store.charter)


def test_the_proof_has_the_loss_that_evaluators_agreed_on(store: RunStore) -> None:
    agreed(store)
    proof = proved(options(archive(store), revision="1"))
    assert proof.held_out == LossByEvaluators(2.25, by=2, of=3)


def test_without_evaluations_the_loss_is_the_coordinator_s_or_missing(store: RunStore) -> None:
    assert proved(options(archive(store), revision="1")).held_out == NoHeldOutLoss()
    assert without_evaluations(manifest(store)) == LossByCoordinator(2.25)


def test_evaluations_that_come_to_another_loss_differ(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator signs a loss that nobody found."""
    monkeypatch.setattr(
        "coordinator.checkpoints.publisher.evaluations_json",
        lambda _: evaluations_json([found(store, owner, 3.0) for owner in (ADA, BEN)]),
    )
    agreed(store)
    found_out = differs(options(archive(store), revision="1"))
    assert (found_out.what, found_out.where, found_out.cause) == ("evaluations", WHERE, Cause.COORDINATOR)
    assert "loss=3.0" in found_out.found


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({ADA: 2.25}, "1 more of 3 evaluators"),
        ({ADA: 2.25, BEN: 3.0, STRANGER: 4.0}, "no held-out loss that 2 of 3"),
        ({ADA: 2.25, parts.AUTHORITY: 2.25}, "1 more of 3 evaluators"),
    ],
    ids=["one alone", "all apart", "one who is not vouched for"],
)
def test_too_few_who_agree_differ(store: RunStore, losses: dict[Identity, float], said: str) -> None:
    outcome = judged(store, *(found(store, owner, loss) for owner, loss in losses.items()))
    assert isinstance(outcome, Difference)
    assert said in outcome.found


def test_evaluations_of_something_else_differ(store: RunStore) -> None:
    good = found(store, ADA, 2.25)
    in_her_name = sign(BEN, good.value)
    for other in (
        found(store, BEN, 2.25, state=parts.HASH_A),
        found(store, BEN, 2.25, round=2),
        in_her_name,
    ):
        assert isinstance(judged(store, good, other), Difference)
    assert isinstance(judged(store, good, found(store, BEN, 2.25), loss=None), Difference)
    assert judged(store, good, found(store, BEN, 2.25)) == LossByEvaluators(2.25, 2, 3)


@pytest.mark.parametrize("junk", [b"", b"{}", b'{"evaluations": [{"signed": "AAAA"}]}', b"\xff" * 100])
def test_what_is_no_list_of_evaluations_differs(store: RunStore, junk: bytes) -> None:
    outcome = by_evaluations(junk, WHERE, manifest(store), store.charter)
    assert isinstance(outcome, Difference)
    assert outcome.cause is Cause.COORDINATOR
