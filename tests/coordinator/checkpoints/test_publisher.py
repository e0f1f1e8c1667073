"""Checkpoints are published one at a time while rounds continue; a crash between steps is recovered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, parse_index
from barnraise.contract.manifest import MANIFEST, HeldOut
from barnraise.core.errors import BarnraiseError, DiskFull, MachineError, SpecError
from barnraise.evaluation.failures import (
    EvaluationDisabled,
    EvaluationFailure,
    LossNotFinite,
    NotEnoughMemory,
    UnreadableReply,
)
from barnraise.evaluation.runner import Evaluated
from barnraise.runtime.child_failures import ChildDied, ChildTimedOut
from barnraise.runtime.files import UNFINISHED
from coordinator.checkpoints.archive_writer import ArchiveWriter
from coordinator.checkpoints.card_data import card_files
from coordinator.checkpoints.publisher import publisher_of
from coordinator.messages.checkpoints import not_evaluated_message, promotion_message
from coordinator.reasons.checkpoints import Superseded
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import (
    Waited,
    archive,
    checkpoint,
    fold_round,
    opened_store,
    reopened,
    session_of,
    until_published,
)
from tests.support.parts import ADA, BEN
from tests.support.scripted_evaluation import ScriptedEvaluation, loss, publisher

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def _info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run that keeps one checkpoint in addition to those that it needs."""
    spec = parts.run_spec()
    kept = spec.checkpoint.model_copy(update={"keep": 1})
    with opened_store(tmp_path, spec.model_copy(update={"checkpoint": kept})) as made:
        yield made


def names(store: RunStore) -> dict[int, tuple[str, ...]]:
    repo = parse_index((archive(store) / INDEX).read_bytes()).repo("trained")
    return {revision.round: revision.names for revision in repo.revisions} if repo else {}


def trained(store: RunStore) -> None:
    fold_round(store, ADA, BEN)
    store.write_checkpoint(parts.NOW)


def test_a_checkpoint_is_evaluated_and_published(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    trained(store)
    assert not checkpoint(store, 1).exists()
    made, evaluation = publisher(store, loss(2.25))
    asyncio.run(until_published(made))
    assert names(store)[1] == ("round-1", "main", "latest", "best")
    assert "2.2500 nats a token" in (checkpoint(store, 1) / "README.md").read_text(encoding="utf-8")
    assert (checkpoint(store, 1) / "held-out.svg").exists()
    assert MANIFEST in evaluation.seen[0]
    assert "checkpoint of round 1: held-out loss 2.2500" in caplog.text
    promotion = store.snapshot.promotion()
    assert promotion is not None
    assert f"main: {promotion_message(promotion.reason)}" in caplog.text


def test_a_failed_evaluation_is_logged_and_the_checkpoint_published(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    trained(store)
    failure = NotEnoughMemory(9 * 10**9, 10**9)
    made, _ = publisher(store, failure)
    asyncio.run(until_published(made))
    assert names(store)[1] == ("round-1", "main", "latest")
    assert store.snapshot.checkpoints[1].value.held_out is None
    assert f"round 1 is not evaluated: {not_evaluated_message(failure)}" in caplog.text


def test_a_worse_checkpoint_is_published_and_not_promoted(store: RunStore) -> None:
    async def act() -> None:
        for value in (2.0, 3.0):
            trained(store)
            made, _ = publisher(store, loss(value))
            await until_published(made)

    asyncio.run(act())
    assert (names(store)[1], names(store)[2]) == (("round-1", "main", "best"), ("round-2", "latest"))


def test_checkpoints_written_during_an_evaluation_are_published_after_it(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With evaluation slower than training, some checkpoints get no loss, and all are published."""
    outcomes = [loss(2.0), loss(1.5)]
    seen: list[int] = []

    async def act() -> None:
        started, go, new = asyncio.Event(), asyncio.Event(), Waited()

        async def evaluate(folder: Path) -> Evaluated | EvaluationFailure:
            seen.append(store.snapshot.evaluating if store.snapshot.evaluating is not None else -1)
            started.set()
            await go.wait()
            return outcomes.pop(0)

        made = replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluate, _new=new)
        run = asyncio.create_task(made.run())
        await asyncio.wait_for(new.waited.wait(), DEADLINE)
        fold_round(store, ADA, BEN)
        await made.write_checkpoint()
        await asyncio.wait_for(started.wait(), DEADLINE)
        for _ in range(3):
            fold_round(store, ADA, BEN)
            await made.write_checkpoint()
        assert 1 in store.snapshot.checkpoints, "it was dropped during its evaluation"
        assert 1 not in names(store), "it was published before its evaluation ended"
        new.waited.clear()
        go.set()
        await asyncio.wait_for(new.waited.wait(), DEADLINE)
        run.cancel()
        await asyncio.wait([run])

    asyncio.run(act())
    assert seen == [1, 4]
    assert store.snapshot.unpublished == []
    assert store.snapshot.evaluating is None
    assert names(store)[4] == ("round-4", "main", "latest", "best")
    assert set(store.snapshot.scores) == {1, 4}


def test_a_newer_checkpoint_supersedes_older_ones(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    store.start_evaluation(1)  # a crash during an evaluation leaves two unpublished ones
    trained(store)
    trained(store)
    made, evaluation = publisher(store, loss(2.0))
    asyncio.run(until_published(made))
    assert len(evaluation.seen) == 1
    assert f"round 1 is not evaluated: {not_evaluated_message(Superseded(2))}" in caplog.text
    assert names(store)[2] == ("round-2", "main", "latest", "best")


def test_a_superseded_checkpoint_is_dropped_when_an_older_one_is_published(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash during the evaluation of a mean leaves several that only it kept."""
    store.start_evaluation(2, (1, 2))
    for _ in range(3):
        trained(store)
    assert store.snapshot.unpublished == [1, 2, 3]
    made, _ = publisher(store, loss(2.0))
    asyncio.run(until_published(made))
    assert f"round 1 is not evaluated: {not_evaluated_message(Superseded(3))}" in caplog.text
    assert "round 2 is not evaluated" not in caplog.text
    assert store.snapshot.checkpoints.keys() == {0, 3}
    assert names(store)[3] == ("round-3", "main", "latest", "best")


def test_a_crash_between_journal_and_archive_is_recovered(store: RunStore) -> None:
    trained(store)
    held_out = HeldOut(loss=2.0, tokens=100)
    store.publish(1, held_out, card_files(store.snapshot, 1, held_out), parts.NOW)  # a crash follows
    assert 1 not in names(store)
    with reopened(store) as again:
        made, evaluation = publisher(again)
        asyncio.run(until_published(made))
        assert evaluation.seen == [], "it was evaluated twice"
        assert names(again)[1] == ("round-1", "main", "latest", "best")


def test_a_crash_during_evaluation_evaluates_again(store: RunStore) -> None:
    trained(store)
    with reopened(store) as again:
        made, evaluation = publisher(again, loss(2.0))
        asyncio.run(until_published(made))
        assert len(evaluation.seen) == 1
        assert names(again)[1] == ("round-1", "main", "latest", "best")


def test_a_failed_evaluation_leaves_no_scratch_folder(store: RunStore) -> None:
    trained(store)

    async def never(folder: Path) -> Evaluated | EvaluationFailure:
        raise DiskFull("no space left", fix="Free some.")

    made = replace(publisher_of(store, lambda: parts.NOW), evaluate=never)
    with pytest.raises(DiskFull):
        asyncio.run(until_published(made))
    assert not list(store.folder.glob(f"{UNFINISHED}*"))


def test_a_full_disk_ends_the_session_with_the_reason(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ArchiveWriter, content: object) -> None:
        raise DiskFull("no space left on the disk", fix="Free some space and start again.")

    monkeypatch.setattr(ArchiveWriter, "write", full)
    with pytest.raises(DiskFull, match="no space left on the disk"):
        asyncio.run(asyncio.wait_for(session_of(store).run(asyncio.Event()), DEADLINE))


def test_a_session_that_stops_ends_its_evaluation(store: RunStore) -> None:
    async def act() -> str:
        stop, started = asyncio.Event(), asyncio.Event()
        ended = "it is running"

        async def evaluate(folder: Path) -> Evaluated | EvaluationFailure:
            nonlocal ended
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended = "it ended"
            return EvaluationDisabled()

        trained(store)
        publisher = replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluate)
        session = session_of(store, publisher=publisher)
        run = asyncio.create_task(session.run(stop))
        await asyncio.wait_for(started.wait(), DEADLINE)
        stop.set()
        await asyncio.wait_for(run, DEADLINE)
        return ended

    assert asyncio.run(act()) == "it ended"


# The base model


@pytest.fixture
def new(tmp_path: Path) -> Iterator[RunStore]:
    """A run whose base model is not evaluated yet."""
    with opened_store(tmp_path, published=False) as made:
        yield made


def tried(new: RunStore, outcome: Evaluated | EvaluationFailure) -> list[dict[str, bytes]]:
    evaluation = ScriptedEvaluation([outcome])
    made = replace(publisher_of(new, lambda: parts.NOW), evaluate_briefly=evaluation)
    asyncio.run(made.try_base())
    return evaluation.seen


@pytest.mark.parametrize("outcome", [loss(2.0), NotEnoughMemory(9, 1), ChildDied("evaluate", -9, "")])
def test_a_base_model_that_works_or_does_not_fit_is_accepted(
    new: RunStore, outcome: Evaluated | EvaluationFailure
) -> None:
    (seen,) = tried(new, outcome)
    assert MANIFEST in seen
    assert 0 in new.snapshot.unpublished, "its whole evaluation comes later"


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (LossNotFinite("nan"), SpecError),
        (ChildDied("evaluate", 1, "KeyError"), MachineError),
        (ChildTimedOut(3600.0), MachineError),
        (UnreadableReply("?"), MachineError),
    ],
)
def test_a_base_model_whose_evaluation_fails_ends_the_run(
    new: RunStore, outcome: EvaluationFailure, error: type[BarnraiseError]
) -> None:
    with pytest.raises(error):
        tried(new, outcome)
    made, _ = publisher(new, outcome)
    with pytest.raises(error):
        asyncio.run(until_published(made))
    assert 0 in new.snapshot.unpublished, "a restart evaluates it again"


def test_a_resumed_run_does_not_try_its_base_model_again(new: RunStore) -> None:
    made, _ = publisher(new, loss(2.0))
    asyncio.run(until_published(made))
    assert tried(new, loss(2.0)) == []
