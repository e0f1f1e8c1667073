"""The figures of `scripts/bench uplink`."""

from __future__ import annotations

import pytest

from scripts.benchmarks.round import Line
from scripts.benchmarks.uplink.figures import (
    Delivery,
    crossing_time,
    distribution_bound,
    distribution_seconds,
    idle_share,
    of_rounds,
)

LINES = [
    Line(0.0, 1, "training for another 9 s", 0, 0),
    Line(10.0, 2, "training for another 9 s", 0, 0),
    Line(19.0, 2, "no time for another step of 1.0 s", 0, 0),
    Line(
        20.0, 2, "our contribution is out; the round closes in at most 9 s; training goes on meanwhile", 0, 0
    ),
    Line(25.0, 2, "the newest state is there: going on from it", 0, 0),
    Line(26.0, 3, "a step takes 30 s: it ends after this round's close and counts in the next one", 0, 0),
    Line(30.0, 4, "training for another 9 s", 0, 0),
]


def test_all_time_without_training_is_idle() -> None:
    measured = of_rounds(LINES, 2, 4)
    assert (measured[0].at, measured[-1].at) == (10.0, 30.0)
    assert idle_share(measured) == pytest.approx(2 / 20)
    assert idle_share(LINES) == pytest.approx(2 / 30)


def test_the_bound_is_the_narrowest_of_owner_uplinks_and_receiver() -> None:
    """Three nodes at 10 bytes a second."""
    one = Delivery("a", 100, 5.0, {"b": 16.0, "c": 17.0})
    assert distribution_seconds([one]) == 12.0
    assert distribution_bound([one], 10.0, 3) == 10.0
    both = [one, Delivery("b", 100, 5.0, {"a": 30.0, "c": 29.0})]
    assert distribution_seconds(both) == 25.0
    assert distribution_bound(both, 10.0, 3) == 20.0, "c takes in both"
    assert distribution_bound(both, 10.0, 1) == 40.0, "one uplink for four deliveries"
    late = [one, Delivery("b", 100, 25.0, {"a": 36.0, "c": 37.0})]
    assert distribution_bound(late, 10.0, 3) == 30.0, "the second one was not ready before"


def test_a_loss_is_crossed_between_two_checkpoints() -> None:
    points = [(0.0, 3.0), (10.0, 2.0), (30.0, 1.5), (40.0, 1.6)]
    assert crossing_time(points, 2.5) == 5.0
    assert crossing_time(points, 2.0) == 10.0
    assert crossing_time(points, 1.75) == 20.0
    with pytest.raises(ValueError, match="no point"):
        crossing_time(points, 1.0)
