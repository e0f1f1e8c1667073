"""Which checkpoint is `main`: the newest whose held-out loss is close to the best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.divergence import RISES, rise
from coordinator.reasons.checkpoints import HigherLoss, LossNearBest, NoneEvaluated, Unevaluated
from coordinator.store.promotion import Promotion, promote

WITHIN = 0.01


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({0: None}, Promotion(0, None, 0, NoneEvaluated(0))),
        ({0: None, 5: None}, Promotion(5, None, 5, NoneEvaluated(5))),
        ({0: 3.0, 5: 2.5}, Promotion(5, 5, 5, LossNearBest(5, 2.5, 5, 2.5, WITHIN, None))),
        ({0: 3.0, 5: 2.5, 10: 2.51}, Promotion(10, 5, 10, LossNearBest(10, 2.51, 5, 2.5, WITHIN, None))),
        (
            {0: 3.0, 5: 2.5, 10: 2.6},
            Promotion(5, 5, 10, LossNearBest(5, 2.5, 5, 2.5, WITHIN, HigherLoss(10, 2.6))),
        ),
        (
            {0: 3.0, 5: 2.5, 10: None},
            Promotion(5, 5, 10, LossNearBest(5, 2.5, 5, 2.5, WITHIN, Unevaluated(10))),
        ),
        (
            {0: 2.5, 5: 2.6, 10: 2.7, 15: None},
            Promotion(0, 0, 15, LossNearBest(0, 2.5, 0, 2.5, WITHIN, HigherLoss(10, 2.7))),
        ),
        ({0: 3.0, 5: 3.0}, Promotion(5, 5, 5, LossNearBest(5, 3.0, 5, 3.0, WITHIN, None))),
    ],
)
def test_main_is_the_newest_close_to_the_best(losses: dict[int, float | None], expected: Promotion) -> None:
    assert promote(losses, WITHIN) == expected


@pytest.mark.parametrize(
    ("losses", "main"),
    [
        ({0: 3.0, 5: 2.500, 10: 2.504, 15: 2.508, 20: 2.512}, 20),
        ({0: 3.0, 5: 2.500, 10: 2.504, 15: 2.508, 20: 2.512, 25: 2.516}, 5),
        ({0: 3.0, 5: 2.500, 10: 2.504, 15: 2.508, 20: 2.512, 25: 2.516, 30: 2.510}, 30),
    ],
)
def test_while_the_held_out_loss_rises_the_best_is_main(losses: dict[int, float | None], main: int) -> None:
    assert promote(losses, WITHIN).main == main


@pytest.mark.parametrize(
    ("good_until", "main", "diverged"), [(None, 15, False), (15, 15, False), (12, 10, True), (0, 0, True)]
)
def test_without_evaluations_main_is_from_before_training_diverged(
    good_until: int | None, main: int, diverged: bool
) -> None:
    found = promote({0: None, 5: None, 10: None, 15: None}, WITHIN, good_until)
    assert found == Promotion(main, None, 15, NoneEvaluated(main, diverged))


evaluated = st.dictionaries(st.integers(0, 50), st.none() | st.floats(0.1, 9.0), min_size=1, max_size=8)


@given(evaluated, st.floats(0, 0.5))
def test_no_newer_checkpoint_qualifies(losses: dict[int, float | None], within: float) -> None:
    found = promote(losses, within)
    known = {round: loss for round, loss in losses.items() if loss is not None}
    assert found.latest == max(losses)
    if found.best is None:
        assert not known
        return
    assert known[found.best] == min(known.values())
    limit = known[found.best] * (1 + within)
    assert known[found.main] <= limit
    rising = rise([known[round] for round in sorted(known)]) == RISES
    assert rising or all(loss > limit for round, loss in known.items() if round > found.main)
