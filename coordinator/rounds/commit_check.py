"""Whether a commit may be part of the open round: pure, decided before its blob is fetched."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.records import Commit
from barnraise.contract.rounds import Window, seconds_between
from barnraise.contract.sample_ranges import are_ordered, cover
from barnraise.core.ids import Millis, StateHash
from coordinator.reasons.rounds import (
    AfterDeadline,
    MisfitReason,
    TooManyTokens,
    WrongBaseState,
    WrongBlobSize,
    WrongRanges,
    WrongRound,
)


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
    if commit.round != window.round:
        return Misfit(WrongRound(commit.round, window.round))
    if now > window.deadline:
        return Misfit(AfterDeadline(seconds_between(window.deadline, now)))
    if commit.base_state != state:
        return Misfit(WrongBaseState(commit.base_state, state))
    if commit.size not in blob_sizes:
        return Misfit(WrongBlobSize(commit.size, blob_sizes))
    if commit.tokens > commit.samples * sequence_length:
        return Misfit(TooManyTokens(commit.tokens, commit.samples, sequence_length))
    if not cover(commit.ranges, commit.samples) or not are_ordered(commit.ranges, commit.round):
        return Misfit(WrongRanges(sum(each.count for each in commit.ranges), commit.samples))
    return Fits()
