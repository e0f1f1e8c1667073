"""When training diverges, by the losses of rounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.divergence import (
    Divergence,
    LossAtChance,
    LossJumped,
    LossRises,
    LossTrend,
    divergence_message,
    rise,
    round_loss,
)
from tests.support.parts import ADA, BEN, STRANGER, commit

CHANCE = math.log(49_152)


def trend(*losses: float) -> LossTrend:
    found = LossTrend()
    for round, loss in enumerate(losses):
        found = found.after(round, loss)
    return found


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ((), None),
        ((2.5,), None),
        ((2.5, 2.4, 2.45, 2.42), None),
        ((2.5, 2.4, 3.39), None),
        ((2.5, 2.4, 3.4), LossJumped(3.4, 2.4)),
        ((2.5, 2.4, 10.2), LossJumped(10.2, 2.4)),
        ((2.5, 2.4, 10.3), LossAtChance(10.3, CHANCE, 2.4)),
        ((2.5, 2.4, 10.3, 2.6), None),
        # A model that is trained from random weights starts there.
        ((10.8, 10.7, 10.75), None),
        # Each of four rounds is worse than the one before, and the last by a tenth than the best.
        ((2.0, 2.05, 2.1, 2.15, 2.2), LossRises(2.2, 4, 2.0)),
        ((2.0, 2.05, 2.1, 2.15, 2.19), None),
        ((2.0, 2.05, 2.1, 2.1, 2.2), None),
    ],
)
def test_divergence(losses: tuple[float, ...], found: Divergence | None) -> None:
    assert trend(*losses).divergence(CHANCE) == found


def test_without_the_vocabulary_a_loss_far_above_the_lowest_diverges() -> None:
    assert trend(2.4, 10.8).divergence() == LossJumped(10.8, 2.4)


def test_the_state_is_good_until_the_round_of_the_lowest_loss() -> None:
    assert trend(2.5, 2.4, 2.45, 9.0).good_until == 1
    assert trend(2.5, 2.4, 2.45).good_until is None


@given(st.lists(st.floats(0.1, 12.0), min_size=1))
def test_the_newest_loss_diverges_only_above_the_lowest(losses: list[float]) -> None:
    found = trend(*losses)
    assert found.lowest == min(losses)
    if found.divergence(CHANCE) is not None:
        assert losses[-1] > min(losses)


@pytest.mark.parametrize(
    ("losses", "count"), [([], 0), ([1.0], 0), ([2.0, 1.0, 2.0, 3.0], 2), ([1.0] * 3, 0), ([*range(9)], 4)]
)
def test_rises_are_counted_from_the_newest(losses: list[float], count: int) -> None:
    assert rise(losses) == count


def test_a_volunteer_that_lies_does_not_move_the_loss_of_a_round() -> None:
    true = [commit(ADA, loss=2.5, tokens=100), commit(BEN, loss=2.6, tokens=100)]
    assert round_loss([*true, commit(STRANGER, loss=100.0, tokens=150)], (100, 100, 150)) == 2.6
    assert round_loss([commit(ADA, loss=2.5, tokens=100)], (100,)) == 2.5


@pytest.mark.parametrize("reported", [0.0, 100.0])
def test_what_keys_without_weight_report_is_not_the_loss_of_a_round(reported: float) -> None:
    strangers = [commit(owner, loss=reported, tokens=10**9) for owner in (BEN, STRANGER)]
    assert round_loss([commit(ADA, loss=2.5, tokens=100), *strangers], (100, 0, 0)) == 2.5


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            LossAtChance(10.31, 10.8, 2.4),
            "the training loss is 10.31 and was 2.40; a model that knows nothing has 10.80",
        ),
        (LossJumped(3.4, 2.4), "the training loss is 3.40 and was 2.40"),
        (LossRises(2.2, 4, 2.0), "the training loss rose in 4 rounds, to 2.20; it was 2.00"),
    ],
)
def test_messages(reason: Divergence, message: str) -> None:
    assert divergence_message(reason) == message
