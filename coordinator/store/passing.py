"""The coordinator's state after one step of the log."""

from __future__ import annotations

from barnraise.contract.charter import Charter
from barnraise.contract.records import blob_name
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import FileDamaged, MalformedBlob
from barnraise.fold.log import Link, Step, advance, amended, skipped
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_state import RunState


def fold_link(
    tip: Tip, state: TrainState, link: Link, blobs: BlobStore, charter: Charter
) -> tuple[Tip, TrainState]:
    """Fold one close. Slow. Raises StateError; FileDamaged where a contribution was damaged since."""
    names = [blob_name(commit) for commit in link.commits]
    try:
        return advance(tip, state, link, [blobs.view(name) for name in names], charter)
    except (MalformedBlob, OSError, ValueError) as error:  # an empty file cannot be mapped
        for name in names:
            blobs.check(name)
        raise FileDamaged(
            f"a contribution to round {link.close.round} was damaged after it was accepted: {error}",
            fix="Check the disk, and start `coordinator serve` again: it fetches another copy.",
        ) from None


def mean_loss(link: Link) -> float:
    """The training loss of a round, by the weights of its contributions."""
    weights = link.close.weights
    losses = zip(link.commits, weights, strict=True)
    return sum(commit.loss * weight for commit, weight in losses) / sum(weights)


def pass_over(tip: Tip, step: Step, run: RunState) -> Tip:
    """The tip after a step that folds nothing. run: at the end of the log. Raises StateError."""
    if isinstance(step, Link) or not run.position.has_effect(step.entry):
        return skipped(tip, step, run.charter)
    return amended(tip, step, run.charter)
