"""Runs whose newest states are averaged, without a program that evaluates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barnraise.contract.manifest import HeldOut
from barnraise.contract.spec import RunSpec
from barnraise.contract.state import TrainState
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.evaluation.runner import Evaluated
from barnraise.fold.averaging import RunningMean
from barnraise.runtime.files import scratch_folder
from coordinator.checkpoints.archive_writer import ArchiveContent, ArchiveWriter
from coordinator.checkpoints.mean_files import averaged_rounds, link_states, write_mean
from coordinator.checkpoints.mean_trial import EvaluatedMean, publish_mean
from coordinator.reasons.checkpoints import StateUnreadable
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, fold_round, until_published
from tests.support.parts import ADA, BEN
from tests.support.scripted_evaluation import publisher


def with_checkpoints(spec: RunSpec, **checkpoint: object) -> RunSpec:
    """The spec with these settings of its checkpoints."""
    return spec.model_copy(update={"checkpoint": spec.checkpoint.model_copy(update=checkpoint)})


def checkpointed(store: RunStore, *outcomes: Evaluated | EvaluationFailure) -> TrainState:
    """Fold a round, and have its checkpoint published by these evaluations, all of which take place."""
    fold_round(store, ADA, BEN)
    store.write_checkpoint(parts.NOW)
    made, evaluation = publisher(store, *outcomes)
    asyncio.run(until_published(made))
    assert evaluation.outcomes == []
    return store.state


def mean_state(*states: TrainState) -> TrainState:
    """The mean of states, as the fold's arithmetic gives it."""
    running = RunningMean()
    for state in states:
        running.add(state.params)
    return TrainState(running.mean(), {}, states[-1].step)


def average_newest(store: RunStore, value: float) -> None:
    """Publish the mean of the newest checkpoints with that held-out loss, if it becomes `main` or `best`."""
    rounds = averaged_rounds(store.snapshot, max(store.snapshot.checkpoints))
    with scratch_folder(store.folder) as work:
        states = link_states(store.snapshot, rounds, store.blobs, work)
        mean = write_mean(states, store.blobs, work / "mean")
        held_out = HeldOut(loss=value, tokens=100)
        assert not isinstance(mean, StateUnreadable)
        publish_mean(store, EvaluatedMean(mean, held_out, held_out), parts.NOW)
    ArchiveWriter(store.charter, archive(store), store.blobs).write(ArchiveContent.of(store.snapshot, ()))


@contextmanager
def unread(path: Path, *, missing: bool) -> Iterator[None]:
    """A file that is missing or damaged meanwhile."""
    data = path.read_bytes()
    path.unlink()
    if not missing:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        yield
    finally:
        path.write_bytes(data)
