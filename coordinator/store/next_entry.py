"""The entries that a run could continue its log by: pure."""

from __future__ import annotations

from barnraise.contract.log_entries import Close, Delegation, Resume
from barnraise.contract.records import Commit, fold_order
from barnraise.core.errors import StateError
from barnraise.core.ids import Millis, PublicKey
from coordinator.store.run_state import RunState


def close_of(run: RunState, reason: str, now: Millis, turns: int) -> tuple[Close, tuple[Commit, ...]]:
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
        turns=turns,
    )
    return close, tuple(commit.value for commit in ordered)


def delegation_of(
    run: RunState, closers: tuple[PublicKey, ...], order: str | None, now: Millis
) -> Delegation:
    """A delegation to `closers` from the next round on. order: as in `Delegation`."""
    position = run.position
    return Delegation(
        run=run.charter.run,
        epoch=position.epoch,
        height=position.height,
        round=position.round,
        previous=position.previous,
        certificate=run.certificate,
        closers=closers,
        at=now,
        order=order,
    )


def resume_of(run: RunState, now: Millis, after_epoch: int) -> Resume:
    """A resume after the epoch that is the latest one. Raises StateError while a round is being folded."""
    position = run.position
    if run.tip.position != position:
        raise StateError("a round is being folded", fix="Try again when it is.")
    return Resume(
        run=run.charter.run,
        epoch=max(position.epoch, after_epoch) + 1,
        height=position.height,
        round=position.round,
        previous=position.previous,
        certificate=run.certificate,
        at=now,
    )
