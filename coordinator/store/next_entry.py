"""The entries that a run could continue its log by: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barnraise.contract.close_rules import fold_order
from barnraise.contract.entry_order import OrderedEntry, with_order
from barnraise.contract.log_entries import (
    Change,
    Close,
    Decay,
    Delegation,
    Resume,
    Rollback,
    StandingChange,
    Succession,
)
from barnraise.contract.records import Commit
from barnraise.contract.run_keys import NamedSuccessor, first_epoch, generation_of
from barnraise.contract.tip import check_succession
from barnraise.contract.weights import planned_tokens, weigh_commits
from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, StateHash, short
from coordinator.store.run_state import RunState


def close_of(run: RunState, reason: str, now: Millis, turns: int) -> tuple[Close, tuple[Commit, ...]]:
    """The close of the open round with all that is accepted, and its commits in its order."""
    seed, round, standings = run.spec.seed, run.round, run.position.standings
    ordered = sorted(run.accepted.values(), key=lambda commit: fold_order(seed, round, commit.signer))
    commits = tuple(commit.value for commit in ordered)
    close = Close(
        base_state=run.tip.state,
        commits=tuple(commit.text for commit in ordered),
        weights=tuple(each.weight for each in weigh_commits(commits, standings, run.spec.trust)),
        standings=standings.name,
        void=run.position.void,
        progress=run.position.progress.after(planned_tokens(commits, standings, run.spec.trust)),
        reason=reason,
        turns=turns,
        **_common_fields(run, now),
    )
    return close, commits


def delegation_of(run: RunState, closers: tuple[PublicKey, ...], now: Millis) -> Delegation:
    """A delegation to `closers` from the next round on, without the order."""
    return Delegation(closers=closers, **_common_fields(run, now))


def standing_change_of(
    run: RunState,
    changes: Sequence[Change],
    revoked: Sequence[str],
    now: Millis,
    *,
    halted: bool | None = None,
) -> StandingChange:
    """The entry that changes standings, without the order. halted: as in the entry."""
    ordered = tuple(sorted(changes, key=lambda change: change.key))
    fields = _common_fields(run, now)
    return StandingChange(changes=ordered, revoked=tuple(revoked), halted=halted, **fields)


def rollback_of(
    run: RunState,
    to: int,
    state: StateHash,
    changes: Sequence[Change],
    note: str,
    now: Millis,
    *,
    tokens: int | None = None,
) -> Rollback:
    """A rollback to the state of round `to`, whose hash is `state`, without the order. tokens: as in it."""
    ordered = tuple(sorted(changes, key=lambda change: change.key))
    fields = _common_fields(run, now)
    return Rollback(to=to, state=state, tokens=tokens, changes=ordered, note=note, **fields)


def decay_of(run: RunState, rounds: int, now: Millis) -> Decay:
    """A decay over `rounds` after the open one, without the order."""
    return Decay(rounds=rounds, **_common_fields(run, now))


def succession_of(run: RunState, named: NamedSuccessor, now: Millis) -> Succession:
    """The entry that names a successor. Raises BadSignature where the run key in force did not name it."""
    entry = Succession(named=named, **_common_fields(run, now))
    check_succession(run.position, entry, run.charter.authority_key)
    return entry


def resume_of(run: RunState, now: Millis, after_epoch: int, own: PublicKey) -> Resume:
    """A resume by the key `own`, after the epoch that is the latest one.

    Where `own` is the successor of the run key, it takes its place. Raises StateError while a round is being
    folded, or where the log does not name `own`.
    """
    position = run.position
    epoch = _epoch_after(max(position.epoch, after_epoch), run, own)
    if run.tip.position != position:
        raise StateError("a round is being folded", fix="Try again when it is.")
    fields = _common_fields(run, now) | {"epoch": epoch}
    return Resume(standings=position.standings.name, void=position.void, progress=position.progress, **fields)


def ordered(entry: OrderedEntry, run: RunState, run_key: Identity) -> OrderedEntry:
    """The entry with the order that closers ask for, where there are closers."""
    return with_order(entry, run_key) if run.position.closers else entry


def _common_fields(run: RunState, now: Millis) -> dict[str, Any]:
    """The fields that every entry has, of one that follows the newest."""
    position = run.position
    return {
        "run": run.charter.run,
        "epoch": position.epoch,
        "height": position.height,
        "round": position.round,
        "previous": position.previous,
        "certificate": run.certificate,
        "at": now,
    }


def _epoch_after(epoch: int, run: RunState, own: PublicKey) -> int:
    keys = run.signers.run_keys
    generation = keys.index(own) if own in keys else -1
    found = max(epoch + 1, first_epoch(generation))
    if generation_of(found) != generation:
        raise StateError(
            f"the key {short(own)} cannot resume the run after epoch {epoch}: the log does not name it",
            fix="Use the newest run key, or its successor: docs/RUN_KEY.md.",
        )
    return found
