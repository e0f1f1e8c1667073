"""What a commit to a round has to be, by the round's base and the run's spec: pure.

The coordinator applies it to what is announced, and everybody to what a close lists.
"""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.records import Commit
from barnraise.contract.sample_ranges import are_ordered, cover
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class WrongRound(Reason):
    """The commit is for a round that is not open."""

    round: int
    open: int


@dataclass(frozen=True)
class WrongBaseState(Reason):
    """The commit was trained from another state than the round's base."""

    trained: str
    base: str


@dataclass(frozen=True)
class WrongBlobSize(Reason):
    """The blob has a size that the run's codec never produces."""

    size: int
    allowed: range


@dataclass(frozen=True)
class TooManyTokens(Reason):
    """The commit claims more tokens than its samples can have."""

    tokens: int
    samples: int
    sequence_length: int


@dataclass(frozen=True)
class WrongRanges(Reason):
    """Its ranges do not name the samples that it states, or are not in order."""

    named: int
    """Samples that the ranges name."""
    samples: int


CommitMisfit = WrongRound | WrongBaseState | WrongBlobSize | TooManyTokens | WrongRanges


def commit_misfit(
    commit: Commit, *, round: int, base: str, blob_sizes: range, sequence_length: int
) -> CommitMisfit | None:
    """Why a commit cannot be to the round whose state is `base`; None where it can.

    blob_sizes: bytes that a contribution to the run can have.
    """
    if commit.round != round:
        return WrongRound(commit.round, round)
    if commit.base_state != base:
        return WrongBaseState(commit.base_state, base)
    if commit.size not in blob_sizes:
        return WrongBlobSize(commit.size, blob_sizes)
    if commit.tokens > commit.samples * sequence_length:
        return TooManyTokens(commit.tokens, commit.samples, sequence_length)
    if not cover(commit.ranges, commit.samples) or not are_ordered(commit.ranges, commit.round):
        return WrongRanges(sum(each.count for each in commit.ranges), commit.samples)
    return None
