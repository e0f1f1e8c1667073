"""Checkpoints become public one at a time, beside the rounds, and a crash between two steps is made good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX, parse_index
from barnraise.contract.manifest import MANIFEST, HeldOut
from barnraise.core.errors import DiskFull
from barnraise.evaluation.failures import EvaluationDisabled, EvaluationFailure, NotEnoughMemory
from barnraise.evaluation.runner import Evaluated
from barnraise.runtime.files import SCRATCH
from coordinator.checkpoints.archive_writer import ArchiveWriter
from coordinator.checkpoints.card_data import card_files
from coordinator.checkpoints.publisher import Publisher, publisher_of
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import (
    Waited,
    archive,
    checkpoint,
    files_in,
    fold_round,
    opened_store,
    reopened,
    session_of,
    until_published,
)
from tests.support.parts import ADA, BEN

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run that keeps one checkpoint beside those that it needs."""
    spec = parts.run_spec()
    kept = spec.checkpoint.model_copy(update={"keep": 1})
    with opened_store(tmp_path, spec.model_copy(update={"checkpoint": kept})) as made:
        yield made


@dataclass
class Judge:
    """Evaluates as told, and remembers what it saw; `test_evaluation` shows the real one do so."""

    outcomes: list[Evaluated | EvaluationFailure]
    seen: list[dict[str, bytes]] = field(default_factory=list)

    async def __call__(self, folder: Path) -> Evaluated | EvaluationFailure:
        self.seen.append(files_in(folder))
        return self.outcomes.pop(0)


def loss(value: float) -> Evaluated:
    return Evaluated(HeldOut(loss=value, tokens=100))


def publisher(store: RunStore, *outcomes: Evaluated | EvaluationFailure) -> tuple[Publisher, Judge]:
    judge = Judge(list(outcomes))
    return replace(publisher_of(store, lambda: parts.NOW), evaluate=judge), judge


def names(store: RunStore) -> dict[int, tuple[str, ...]]:
    repo = parse_index((archive(store) / INDEX).read_bytes()).repo("trained")
    return {revision.round: revision.names for revision in repo.revisions} if repo else {}


def trained(store: RunStore) -> None:
    fold_round(store, ADA, BEN)
    store.write_checkpoint(parts.NOW)


def test_a_checkpoint_is_evaluated_and_shown(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    trained(store)
    assert not checkpoint(store, 1).exists()
    made, judge = publisher(store, loss(2.25))
    asyncio.run(until_published(made))
    assert names(store)[1] == ("round-1", "main", "latest", "best")
    assert "2.2500 nats a token" in (checkpoint(store, 1) / "README.md").read_text(encoding="utf-8")
    assert (checkpoint(store, 1) / "held-out.svg").exists()
    assert MANIFEST in judge.seen[0]
    assert "checkpoint of round 1: held-out loss 2.2500" in caplog.text
    assert "main: round 1 predicts held-out text with a loss of 2.2500" in caplog.text


def test_one_that_cannot_be_evaluated_is_shown_with_the_reason_told(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    trained(store)
    made, _ = publisher(store, NotEnoughMemory(9 * 10**9, 10**9))
    asyncio.run(until_published(made))
    assert names(store)[1] == ("round-1", "main", "latest")
    assert store.snapshot.checkpoints[1].value.held_out is None
    assert "round 1 is not evaluated: it takes 9 GB of memory, 1 GB are free" in caplog.text


def test_one_that_is_worse_is_shown_and_not_promoted(store: RunStore) -> None:
    async def act() -> None:
        for value in (2.0, 3.0):
            trained(store)
            made, _ = publisher(store, loss(value))
            await until_published(made)

    asyncio.run(act())
    assert (names(store)[1], names(store)[2]) == (("round-1", "main", "best"), ("round-2", "latest"))


def test_what_comes_while_one_is_evaluated_is_settled_after_it(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With evaluation slower than training, every other one goes without, and none is lost on the way."""
    outcomes = [loss(2.0), loss(1.5)]
    seen: list[int] = []

    async def act() -> None:
        begun, go, new = asyncio.Event(), asyncio.Event(), Waited()

        async def evaluate(folder: Path) -> Evaluated | EvaluationFailure:
            seen.append(store.snapshot.evaluating if store.snapshot.evaluating is not None else -1)
            begun.set()
            await go.wait()
            return outcomes.pop(0)

        made = replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluate, _new=new)
        run = asyncio.create_task(made.run())
        await asyncio.wait_for(new.waited.wait(), DEADLINE)
        trained(store)
        made.notify()
        await asyncio.wait_for(begun.wait(), DEADLINE)
        for _ in range(3):
            async with made.writing:
                trained(store)
            made.notify()
        assert 1 in store.snapshot.checkpoints, "it was dropped while it was evaluated"
        assert 1 not in names(store), "nobody sees it before that is done"
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


def test_older_ones_go_without_where_a_newer_one_waits(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.start_evaluation(1)  # as if the coordinator had died over it: so two are there that nobody settled
    trained(store)
    trained(store)
    made, judge = publisher(store, loss(2.0))
    asyncio.run(until_published(made))
    assert len(judge.seen) == 1
    assert "round 1 is not evaluated: that of round 2 came before its turn" in caplog.text
    assert names(store)[2] == ("round-2", "main", "latest", "best")


def test_a_crash_between_journal_and_archive_is_made_good(store: RunStore) -> None:
    trained(store)
    held_out = HeldOut(loss=2.0, tokens=100)
    store.publish(1, held_out, card_files(store.snapshot, 1, held_out), parts.NOW)  # and here it died
    assert 1 not in names(store)
    with reopened(store) as again:
        made, judge = publisher(again)
        asyncio.run(until_published(made))
        assert judge.seen == [], "it was evaluated twice"
        assert names(again)[1] == ("round-1", "main", "latest", "best")


def test_a_crash_during_evaluation_evaluates_again(store: RunStore) -> None:
    trained(store)
    with reopened(store) as again:
        made, judge = publisher(again, loss(2.0))
        asyncio.run(until_published(made))
        assert len(judge.seen) == 1
        assert names(again)[1] == ("round-1", "main", "latest", "best")


def test_nothing_of_an_evaluation_is_left(store: RunStore) -> None:
    trained(store)

    async def never(folder: Path) -> Evaluated | EvaluationFailure:
        raise DiskFull("no room left", fix="Free some.")

    made = replace(publisher_of(store, lambda: parts.NOW), evaluate=never)
    with pytest.raises(DiskFull):
        asyncio.run(until_published(made))
    assert not list(store.folder.glob(f"{SCRATCH}*"))


def test_a_disk_that_is_full_ends_the_session_with_the_reason(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ArchiveWriter, content: object) -> None:
        raise DiskFull("no room left on the disk", fix="Free some space and start again.")

    monkeypatch.setattr(ArchiveWriter, "write", full)
    with pytest.raises(DiskFull, match="no room left on the disk"):
        asyncio.run(asyncio.wait_for(session_of(store).run(asyncio.Event()), DEADLINE))


def test_a_session_that_stops_ends_what_it_began(store: RunStore) -> None:
    async def act() -> str:
        stop, begun = asyncio.Event(), asyncio.Event()
        ended = "it goes on"

        async def evaluate(folder: Path) -> Evaluated | EvaluationFailure:
            nonlocal ended
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended = "it ended"
            return EvaluationDisabled()

        trained(store)
        publisher = replace(publisher_of(store, lambda: parts.NOW), evaluate=evaluate)
        session = session_of(store, publisher=publisher)
        run = asyncio.create_task(session.run(stop))
        await asyncio.wait_for(begun.wait(), DEADLINE)
        stop.set()
        await asyncio.wait_for(run, DEADLINE)
        return ended

    assert asyncio.run(act()) == "it ended"
