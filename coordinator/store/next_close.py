"""The close that would end the open round now: pure."""

from __future__ import annotations

from barnraise.contract.log_entries import Close
from barnraise.contract.records import Commit, fold_order
from barnraise.core.ids import Millis
from coordinator.store.run_state import RunState


def close_of(run: RunState, reason: str, now: Millis) -> tuple[Close, tuple[Commit, ...]]:
    """The close of the open round with all that is accepted, and its commits in its order."""
    seed, round, position = run.spec.seed, run.round, run.position
    ordered = sorted(run.accepted.values(), key=lambda commit: fold_order(seed, round, commit.signer))
    close = Close(
        run=run.charter.run,
        epoch=position.epoch,
        height=position.height,
        round=round,
        previous=position.previous,
        certificate=run.certificate,
        base_state=run.tip.state,
        commits=tuple(commit.text for commit in ordered),
        at=now,
        reason=reason,
    )
    return close, tuple(commit.value for commit in ordered)
