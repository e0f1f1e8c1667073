"""Which checkpoint a stranger gets: the newest that is about as good as the best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.store.promotion import standing


@pytest.mark.parametrize(
    ("losses", "main", "best", "why"),
    [
        ({0: None}, 0, None, "none could be evaluated"),
        ({0: None, 5: None}, 5, None, "none could be evaluated"),
        ({0: 3.0, 5: 2.5}, 5, 5, "2.5000"),
        ({0: 3.0, 5: 2.5, 10: 2.51}, 10, 5, "within 1.0% of the best, 2.5000 of round 5"),
        ({0: 3.0, 5: 2.5, 10: 2.6}, 5, 5, "round 10 has 2.6000 and was not promoted"),
        ({0: 3.0, 5: 2.5, 10: None}, 5, 5, "round 10 was not evaluated"),
        ({0: 3.0, 5: 3.0}, 5, 5, "3.0000"),
    ],
)
def test_the_newest_that_is_as_good_as_the_best(
    losses: dict[int, float | None], main: int, best: int | None, why: str
) -> None:
    found = standing(losses, 0.01)
    assert (found.main, found.best, found.latest) == (main, best, max(losses))
    assert why in found.reason


evaluated = st.dictionaries(st.integers(0, 50), st.none() | st.floats(0.1, 9.0), min_size=1, max_size=8)


@given(evaluated, st.floats(0, 0.5))
def test_nothing_newer_would_do_as_well(losses: dict[int, float | None], within: float) -> None:
    found = standing(losses, within)
    known = {round: loss for round, loss in losses.items() if loss is not None}
    assert found.latest == max(losses)
    if found.best is None:
        assert not known
        return
    assert known[found.best] == min(known.values())
    limit = known[found.best] * (1 + within)
    assert known[found.main] <= limit
    assert all(loss > limit for round, loss in known.items() if round > found.main)
