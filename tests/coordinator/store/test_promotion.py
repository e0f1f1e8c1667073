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


@pytest.mark.parametrize(
    ("averages", "expected"),
    [
        ({10: 2.4}, Promotion(10, 10, 10, LossNearBest(10, 2.4, 10, 2.4, WITHIN, None, 2.5), True, True)),
        ({10: 2.5}, Promotion(10, 10, 10, LossNearBest(10, 2.5, 10, 2.5, WITHIN, None))),
        ({10: 2.6}, Promotion(10, 10, 10, LossNearBest(10, 2.5, 10, 2.5, WITHIN, None))),
        ({5: 2.49}, Promotion(10, 5, 10, LossNearBest(10, 2.5, 5, 2.49, WITHIN, None), False, True)),
        (
            {5: 2.4},
            Promotion(5, 5, 10, LossNearBest(5, 2.4, 5, 2.4, WITHIN, HigherLoss(10, 2.5), 2.6), True, True),
        ),
        (
            {5: 2.49, 10: 2.495},
            Promotion(10, 5, 10, LossNearBest(10, 2.495, 5, 2.49, WITHIN, None, 2.5), True, True),
        ),
        ({7: 1.0}, Promotion(10, 10, 10, LossNearBest(10, 2.5, 10, 2.5, WITHIN, None))),
    ],
)
def test_a_mean_stands_for_its_round_where_it_is_better(
    averages: dict[int, float], expected: Promotion
) -> None:
    found = promote({0: 3.0, 5: 2.6, 10: 2.5}, WITHIN, averages=averages)
    assert found == expected
    names = {round for round in (0, 5, 7, 10) if found.names_average(round)}
    assert names == {*([found.main] * found.main_averaged), *([found.best] * found.best_averaged)}


def test_a_mean_of_a_state_that_was_not_evaluated_is_nothing() -> None:
    assert promote({0: 3.0, 5: None}, WITHIN, averages={5: 1.0}).main == 0
    assert promote({0: None, 5: None}, WITHIN, averages={5: 1.0}).best is None


def test_means_do_not_hide_that_the_loss_of_states_rises() -> None:
    losses = {0: 3.0, 5: 2.500, 10: 2.504, 15: 2.508, 20: 2.512, 25: 2.516}
    assert promote(losses, WITHIN, averages={25: 2.510}).main == 5


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
