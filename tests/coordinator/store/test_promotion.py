"""Which checkpoint is `main`: the newest whose held-out loss is close to the best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert all(loss > limit for round, loss in known.items() if round > found.main)
