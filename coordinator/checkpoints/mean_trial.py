"""The mean of the newest checkpoints' states: evaluated after the newest one, and kept where it is better."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.manifest import HeldOut
from barnraise.core.errors import DiskFull
from barnraise.core.ids import Millis
from barnraise.evaluation.failures import EvaluationFailure
from barnraise.evaluation.runner import Evaluated
from barnraise.runtime.blob_store import BlobStore
from coordinator.checkpoints.card_data import card_files
from coordinator.checkpoints.mean_files import LinkedState, Mean, keep_mean, link_states, write_mean
from coordinator.reasons.checkpoints import MeanFailed, MeanTried, NoSpaceForMean, StateUnreadable
from coordinator.store.run_state import RunState
from coordinator.store.run_store import RunStore

Evaluate = Callable[[Path], Awaitable[Evaluated | EvaluationFailure]]
"""Evaluates the checkpoint whose files are in a folder."""

LinkedStates = Sequence[LinkedState] | NoSpaceForMean
"""The states of a mean, none where none is to be tried; or why they could not be linked."""


@dataclass(frozen=True)
class EvaluatedMean:
    """A mean that has a held-out loss."""

    mean: Mean
    held_out: HeldOut
    newest: HeldOut
    """Of the newest of its states."""


def linked_states(run: RunState, rounds: Sequence[int], blobs: BlobStore, work: Path) -> LinkedStates:
    """As `link_states`. A run goes on without a mean where the disk is full: some disks have no links."""
    try:
        return link_states(run, rounds, blobs, work)
    except DiskFull:
        return NoSpaceForMean(tuple(rounds))


async def try_mean(
    states: LinkedStates, newest: HeldOut, blobs: BlobStore, folder: Path, evaluate: Evaluate
) -> EvaluatedMean | MeanFailed | StateUnreadable | NoSpaceForMean:
    """Make and evaluate the mean of `states` in a new folder. newest: of the newest of them."""
    if isinstance(states, NoSpaceForMean):
        return states
    mean = await asyncio.to_thread(_written, states, blobs, folder)
    if not isinstance(mean, Mean):
        return mean
    outcome = await evaluate(mean.folder)
    if isinstance(outcome, Evaluated):
        return EvaluatedMean(mean, outcome.held_out, newest)
    return MeanFailed(mean.rounds, outcome)


def _written(
    states: Sequence[LinkedState], blobs: BlobStore, folder: Path
) -> Mean | StateUnreadable | NoSpaceForMean:
    """As `write_mean`. A run goes on without a mean where the disk has no space for one."""
    try:
        return write_mean(states, blobs, folder)
    except DiskFull:
        shutil.rmtree(folder, ignore_errors=True)  # the state may need the space
        return NoSpaceForMean(tuple(state.manifest.round for state in states))


def publish_mean(store: RunStore, tried: EvaluatedMean, now: Millis) -> MeanTried:
    """Publish a mean where it becomes `main` or `best`. The state of its round is published.

    Slow. Raises DiskFull.
    """
    run, mean, held_out = store.snapshot, tried.mean, tried.held_out
    round = mean.manifest.round
    promotion = run.promotion({round: held_out})
    kept = promotion is not None and promotion.names_average(round)
    if kept:
        shown = card_files(run, round, held_out, mean.manifest)
        signed = keep_mean(mean, held_out, shown, run.position.successors, store.authority, store.blobs)
        store.adopt_checkpoint(signed, now, shown=True)
    return MeanTried(mean.rounds, held_out.loss, tried.newest.loss, kept)
