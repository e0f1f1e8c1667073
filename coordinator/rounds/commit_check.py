"""Whether a commit may be part of the open round: pure, decided before its blob is fetched."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.commit_rules import commit_misfit
from barnraise.contract.records import Commit
from barnraise.contract.rounds import Window, seconds_between
from barnraise.core.ids import Millis, StateHash
from coordinator.reasons.rounds import AfterDeadline, MisfitReason


@dataclass(frozen=True)
class Fits:
    """The commit may be part of the open round, if its blob is what it names."""


@dataclass(frozen=True)
class Misfit:
    """The commit cannot be part of the open round."""

    reason: MisfitReason


def check_commit(
    commit: Commit, window: Window, now: Millis, state: StateHash, blob_sizes: range, sequence_length: int
) -> Fits | Misfit:
    """state: the open round's base. blob_sizes: bytes that a contribution to the run can have."""
    if commit.round == window.round and now > window.deadline:
        return Misfit(AfterDeadline(seconds_between(window.deadline, now)))
    found = commit_misfit(
        commit, round=window.round, base=state, blob_sizes=blob_sizes, sequence_length=sequence_length
    )
    return Fits() if found is None else Misfit(found)
