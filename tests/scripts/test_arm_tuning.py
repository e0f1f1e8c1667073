"""The search of an arm's settings: `scripts/benchmarks/arms/tuning.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks.arms.arms import Alone, Diloco, outer
from scripts.benchmarks.arms.tuning import (
    MOMENTA,
    OUTER_RATES,
    RATES,
    Best,
    Grid,
    Point,
    Try,
    climb,
    free,
    rates,
)


def search(grid: Grid, loss: Callable[[Point], float]) -> Best:
    """Try what the search asks for until it ends."""
    losses: dict[Point, float] = {}
    while isinstance(step := climb(grid, losses), Try):
        assert not set(step.points) & losses.keys()
        losses |= {point: loss(point) for point in step.points}
    return step


@given(st.tuples(*(st.integers(0, len(axis) - 1) for axis in (RATES, OUTER_RATES, MOMENTA))))
def test_the_bottom_of_a_valley_is_found(bottom: Point) -> None:
    best = search(free(1e-3), lambda point: sum((a - b) ** 2 for a, b in zip(point, bottom, strict=True)))
    assert best.point == bottom
    edges = [0 < index < len(axis) - 1 for index, axis in zip(bottom, (RATES, OUTER_RATES), strict=False)]
    edges.append(bottom[2] < len(MOMENTA) - 1)  # no momentum is an end that no grid could extend
    assert best.at_edge == tuple(place for place, interior in enumerate(edges) if not interior)


def test_a_search_tries_neighbours_alone() -> None:
    best = search(rates(1e-3), lambda point: abs(point[0] - RATES.index(2e-3)))
    assert best.tried == 4  # 1e-3, both neighbours, and the next one
    assert best.at_edge == ()


def test_equal_losses_end_a_search() -> None:
    assert search(rates(1e-3), lambda _: 1.0).point == rates(1e-3).first


def test_a_point_sets_rate_and_outer_step() -> None:
    arm = free(1e-3).arm(Diloco(steps=5), (RATES.index(5e-3), OUTER_RATES.index(0.7), MOMENTA.index(0.5)))
    assert isinstance(arm, Diloco)
    assert (arm.inner.lr, arm.outer, arm.steps) == (5e-3, outer(0.7, 0.5), 5)


def test_a_grid_of_rates_keeps_the_outer_step() -> None:
    arm = rates(1e-3).arm(Diloco(outer=outer(0.7, 0.9)), (0,))
    assert isinstance(arm, Diloco)
    assert (arm.inner.lr, arm.outer.momentum) == (RATES[0], 0.9)
    assert rates(1e-3).arm(Alone(), (1,)).inner.lr == RATES[1]


@pytest.mark.parametrize("momentum", MOMENTA)
def test_only_momentum_is_nesterovs(momentum: float) -> None:
    assert outer(1.0, momentum).nesterov == (momentum > 0)
