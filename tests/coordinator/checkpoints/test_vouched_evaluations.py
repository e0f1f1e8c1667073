"""A loss that two evaluators agree on is published, also after a crash; invalid evaluations are refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.archive import HELD_OUT_INDEX, held_out_path
from barnraise.contract.evaluation_quorum import (
    EvaluationRefusal,
    NoSuchCheckpoint,
    NotAnEvaluator,
    OtherHeldOutSet,
    Quorum,
    QuorumPending,
)
from barnraise.contract.evaluations import EVALUATIONS, read_evaluations
from barnraise.contract.manifest import HeldOut
from barnraise.contract.records import Evaluation
from barnraise.core.errors import RefusedError, SpecError
from barnraise.core.ids import BlobHash
from barnraise.core.signed import Signed, sign
from coordinator.checkpoints.evaluations import evaluation_refused
from coordinator.messages.checkpoints import evaluation_message, evaluation_refusal
from coordinator.reasons.checkpoints import AlreadyEvaluated, EvaluationStatus
from coordinator.run_folder import HELD_OUT
from coordinator.setup.check_forms import check_forms
from coordinator.status import render
from coordinator.store.events import RunChartered
from coordinator.store.run_store import RunStore
from coordinator.store.transitions import apply
from peer.coordinator_client import connect
from tests.support import parts
from tests.support.coordinators import (
    api_of,
    archive,
    checkpoint,
    fold_round,
    opened_store,
    reopened,
    served,
    session_of,
    until_published,
)
from tests.support.parts import ADA, AUTHORITY, BEN, STRANGER
from tests.support.tiny import make_tiny_model
from tests.support.vouching import (
    TOKENS,
    found,
    hold_out,
    names,
    publish_checkpoints,
    publisher,
    vouched_store,
    vouching,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with vouched_store(tmp_path) as made:
        yield made


def awaiting(missing: int) -> EvaluationStatus:
    """The status while `missing` of three evaluations are missing."""
    return EvaluationStatus(1, QuorumPending(missing, 3))


def test_the_archive_holds_the_held_out_set_and_no_other_held_out_text(store: RunStore) -> None:
    held_out_set = publisher(store).held_out_set
    assert held_out_set is not None
    assert held_out_set.tokens == TOKENS
    folder = archive(store) / "held-out"
    assert {path.name for path in folder.iterdir()} == {HELD_OUT_INDEX, *held_out_set.shards}
    assert len(held_out_set.shards) == 2, "the third shard is not needed"
    for name in (HELD_OUT_INDEX, *held_out_set.shards):
        kept = store.folder / HELD_OUT / (name if name == HELD_OUT_INDEX else f"{name[:2]}/{name}")
        assert (archive(store) / held_out_path(name)).read_bytes() == kept.read_bytes()


def test_without_evaluators_no_held_out_text_is_published(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        hold_out(tmp_path)
        publish_checkpoints(store)
        assert not (archive(store) / "held-out").exists()
        assert publisher(store).pending_evaluation() is None


def test_a_quorum_publishes_the_checkpoint_with_its_loss(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = publisher(store)
    assert made.pending_evaluation() == awaiting(2)
    assert made.record_evaluation(found(store, ADA, 2.25)) == awaiting(1)
    held_out = HeldOut(loss=2.25, tokens=TOKENS)
    agreed = EvaluationStatus(1, Quorum(held_out, (ADA.public, BEN.public), (), 3))
    assert made.record_evaluation(found(store, BEN, 2.2501)) == agreed
    asyncio.run(until_published(made))
    assert names(store)[1] == ("round-1", "main", "latest", "best")
    assert store.snapshot.checkpoints[1].value.held_out == held_out
    assert "2.2500 nats a token" in (checkpoint(store, 1) / "README.md").read_text("utf-8")
    assert evaluation_message(agreed) in caplog.text
    assert made.record_evaluation(found(store, STRANGER, 9.0)) == AlreadyEvaluated(1)
    kept = read_evaluations((checkpoint(store, 1) / EVALUATIONS).read_bytes())
    assert {each.signer: each.value.loss for each in kept} == {ADA.public: 2.25, BEN.public: 2.2501}


@pytest.mark.parametrize("restart", [False, True], ids=["served on", "restarted"])
def test_replaced_files_are_removed_with_the_next_checkpoint(store: RunStore, restart: bool) -> None:
    before = set(store.snapshot.checkpoints[1].value.files)
    made = publisher(store)
    for owner in (ADA, BEN):
        made.record_evaluation(found(store, owner, 2.25))
    asyncio.run(until_published(made))
    replaced = {BlobHash(entry.hash) for entry in before - set(store.snapshot.checkpoints[1].value.files)}
    assert replaced, "its first card"
    assert all(name in store.blobs for name in replaced), "a volunteer may be about to fetch it"
    with reopened(store) if restart else nullcontext(store) as again:
        fold_round(again, ADA)
        again.write_checkpoint(parts.NOW)
        publish_checkpoints(again)
        assert not any(name in again.blobs for name in replaced)
        assert all(BlobHash(entry.hash) in again.blobs for entry in again.snapshot.checkpoints[1].value.files)


def test_a_restart_loses_no_evaluation(store: RunStore) -> None:
    publisher(store).record_evaluation(found(store, ADA, 2.25))
    with reopened(store) as again:
        made = publisher(again)
        assert made.pending_evaluation() == awaiting(1)
        made.record_evaluation(found(again, BEN, 2.25))  # a crash follows, before the loss is published
        with reopened(again) as third:
            publish_checkpoints(third)
            assert names(third)[1] == ("round-1", "main", "latest", "best")


def test_the_newest_evaluation_of_an_evaluator_counts(store: RunStore) -> None:
    made = publisher(store)
    made.record_evaluation(found(store, ADA, 9.0))
    assert made.record_evaluation(found(store, ADA, 2.0, at=1)) == awaiting(1)
    made.record_evaluation(found(store, ADA, 9.0))  # a replay of the old one
    status = made.record_evaluation(found(store, BEN, 2.0))
    assert isinstance(status, EvaluationStatus)
    assert isinstance(status.outcome, Quorum)
    assert status.outcome.held_out.loss == 2.0
    assert set(status.outcome.by) == {ADA.public, BEN.public}


def test_evaluations_of_a_dropped_checkpoint_are_dropped(store: RunStore) -> None:
    publisher(store).record_evaluation(found(store, ADA, 2.0))
    once = store.charter.spec.checkpoint.model_copy(update={"keep": 1})
    spec = store.charter.spec.model_copy(update={"checkpoint": once})
    charter = sign(AUTHORITY, store.charter.model_copy(update={"spec": spec}))
    store.snapshot = apply(store.snapshot, RunChartered(parts.NOW, charter))
    fold_round(store, ADA)
    store.write_checkpoint(parts.NOW)
    publish_checkpoints(store)
    fold_round(store, ADA)
    store.write_checkpoint(parts.NOW)
    assert 1 not in store.snapshot.checkpoints
    assert store.snapshot.evaluations == {}


def asked(store: RunStore, evaluation: Signed[Evaluation]) -> str:
    """The reply of the real service."""
    session = session_of(store, publisher=publisher(store))

    async def ask() -> str:
        async with served(session) as invite, connect(invite) as api:
            answer = await api.evaluate(evaluation)
            assert answer in render(api_of(session).status())
            return answer

    return asyncio.run(ask())


def test_the_service_and_the_status_report_the_outcome(store: RunStore) -> None:
    assert asked(store, found(store, ADA, 2.0)) == "round 1 waits for 1 more of 3 evaluators"


def refusals(store: RunStore) -> list[tuple[Signed[Evaluation], type[EvaluationRefusal]]]:
    return [
        (found(store, AUTHORITY, 2.0), NotAnEvaluator),
        (found(store, ADA, 2.0, round=7), NoSuchCheckpoint),
        (found(store, ADA, 2.0, state=parts.HASH_A), NoSuchCheckpoint),
        (found(store, ADA, 2.0, run="shed"), NoSuchCheckpoint),
        (found(store, ADA, 2.0, panel=parts.HASH_A), OtherHeldOutSet),
        (found(store, ADA, 2.0, tokens=TOKENS + 1), OtherHeldOutSet),
    ]


@pytest.mark.parametrize("number", range(6))
def test_the_service_refuses_an_evaluation_with_the_reason(store: RunStore, number: int) -> None:
    evaluation, kind = refusals(store)[number]
    reason = evaluation_refused(store.snapshot, publisher(store).held_out_set, evaluation.value)
    assert isinstance(reason, kind)
    with pytest.raises(RefusedError) as refused:
        asked(store, evaluation)
    expected = evaluation_refusal(reason)
    assert expected.problem in refused.value.problem
    assert refused.value.fix == expected.fix
    assert store.snapshot.evaluations == {}


def test_an_evaluation_signed_by_another_key_is_refused(store: RunStore) -> None:
    with pytest.raises(RefusedError, match="another key"):
        asked(store, sign(BEN, found(store, ADA, 2.0).value))
    assert store.snapshot.evaluations == {}


def test_malformed_evaluations_are_refused(store: RunStore) -> None:
    good = found(store, ADA, 2.0)
    with pytest.raises(RefusedError, match="signature"):
        asked(store, replace(good, wire=good.wire[:-1] + b"x"))


def test_held_out_text_that_may_not_be_published_is_refused_before_work_starts(tmp_path: Path) -> None:
    spec = vouching(parts.run_spec())
    with pytest.raises(SpecError, match=r"checkpoint\.evaluators need the held-out text, but data\.licence"):
        check_forms(spec, tmp_path)
    data = spec.data.model_copy(update={"licence": "cc0-1.0"})
    check_forms(spec.model_copy(update={"data": data}), make_tiny_model(tmp_path / "base"))
