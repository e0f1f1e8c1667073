"""Which commits may be part of the open round."""

from __future__ import annotations

from typing import get_args

import pytest

from barnraise.contract.records import Commit
from barnraise.contract.rounds import Window
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.spec import RoundSpec
from barnraise.core.ids import Millis, Round, StateHash
from coordinator.reasons.rounds import (
    AfterDeadline,
    MisfitReason,
    TooManyTokens,
    WrongBaseState,
    WrongBlobSize,
    WrongRanges,
    WrongRound,
)
from coordinator.rounds.commit_check import Fits, Misfit, check_commit
from tests.support.parts import ADA, HASH_A, HASH_B, commit

OPENS = 1_000_000
WINDOW = Window(Round(3), Millis(OPENS), RoundSpec(seconds=100.0, grace=20.0))
STATE, SIZES = StateHash(HASH_A), range(100, 101)


def commit_like(**other: object) -> Commit:
    return commit(ADA, round=3).model_copy(update=other)


def checked(made: Commit, seconds: float) -> Fits | Misfit:
    return check_commit(made, WINDOW, Millis(OPENS + round(seconds * 1000)), STATE, SIZES, 16)


MISFITS: list[tuple[Commit, float, MisfitReason]] = [
    (commit_like(round=2), 5, WrongRound(2, 3)),
    (commit_like(round=4), 5, WrongRound(4, 3)),
    (commit_like(), 121, AfterDeadline(1)),
    (commit_like(base_state=HASH_B), 5, WrongBaseState(HASH_B, STATE)),
    (commit_like(size=99), 5, WrongBlobSize(99, SIZES)),
    (commit_like(tokens=65), 5, TooManyTokens(65, 4, 16)),
    (commit_like(ranges=()), 5, WrongRanges(0, 4)),
    (commit_like(samples=5), 5, WrongRanges(4, 5)),
    (commit_like(ranges=(SampleRange(round=4, start=0, count=4),)), 5, WrongRanges(4, 4)),
]


@pytest.mark.parametrize(("made", "seconds", "reason"), MISFITS, ids=[str(m[2]) for m in MISFITS])
def test_a_commit_that_does_not_fit_has_a_reason(made: Commit, seconds: float, reason: MisfitReason) -> None:
    assert checked(made, seconds) == Misfit(reason)


def test_the_examples_reach_every_reason() -> None:
    assert {type(reason) for _, _, reason in MISFITS} == set(get_args(MisfitReason))


@pytest.mark.parametrize("seconds", [0, 5, 105, 120])
def test_a_commit_fits_up_to_the_deadline(seconds: float) -> None:
    assert checked(commit_like(), seconds) == Fits()
