"""Copies and replays are found; contributions that are near each other by nature are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from barnraise.evaluation.similarity import SKETCH_VALUES, Candidate, Sketch, findings, positions

RANDOM = np.random.default_rng(0)
COMMON = RANDOM.standard_normal(SKETCH_VALUES)


def honest(share: float) -> Sketch:
    """share: of the common direction."""
    own = RANDOM.standard_normal(SKETCH_VALUES)
    return (share * COMMON + (1 - share) * own).astype(np.float32)


def candidate(sketch: npt.NDArray[np.float32], seen: int | None = 0, *, trusted: bool = True) -> Candidate:
    return Candidate(sketch, float(np.linalg.norm(sketch)), seen, trusted)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_honest_contributions_are_none_of_each_other(share: float) -> None:
    round = [candidate(honest(share), seen) for seen in range(8)]
    assert findings(round, [honest(share) for _ in range(8)]) == ["tried"] * 8


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_later_of_two_is_the_copy_also_scaled_and_with_noise(share: float, noise: float) -> None:
    round = [candidate(honest(share), 5) for _ in range(7)]
    mixed = round[2].sketch + noise * (1 - share) * RANDOM.standard_normal(SKETCH_VALUES)
    copy = (3 * mixed).astype(np.float32)
    assert findings([*round, candidate(copy, 6)], []) == ["tried"] * 7 + ["copy"]
    assert findings([candidate(copy, 6), *round], []) == ["copy"] + ["tried"] * 7
    assert findings([*round, candidate(copy, 5)], []) == ["tried"] * 8, "nobody is blamed at one time"
    assert findings([*round, candidate(copy, None)], []) == ["tried"] * 8


def test_a_replay_repeats_an_earlier_contribution_of_anybody() -> None:
    earlier = [honest(0.3) for _ in range(20)]
    round = [candidate(honest(0.3)) for _ in range(4)]
    assert findings([*round, candidate(earlier[7])], earlier) == ["tried"] * 4 + ["replay"]


def test_attackers_do_not_make_honest_contributions_alike() -> None:
    """What they send is far from all others: a median of the whole round would count all of it as usual."""
    away = [candidate((-honest(0.9)).astype(np.float32), 9, trusted=False) for _ in range(24)]
    round = [candidate(honest(0.9), seen) for seen in range(8)]
    assert findings([*round, *away], [honest(0.9) for _ in range(8)])[:8] == ["tried"] * 8
    turned = [candidate((-honest(0.9)).astype(np.float32), 9) for _ in range(3)]
    assert findings([*round[:5], *turned], [honest(0.9) for _ in range(8)])[:5] == ["tried"] * 5


def test_two_alone_are_compared_exactly() -> None:
    one = honest(0.999999)
    assert findings([candidate(one, 1), candidate(honest(0.9), 2)], []) == ["tried", "tried"]
    assert findings([candidate(one, 1), candidate(one, 2)], []) == ["tried", "copy"]


def test_zeros_are_empty_and_few_values_say_nothing() -> None:
    zeros = np.zeros(SKETCH_VALUES, np.float32)
    few = zeros.copy()
    few[:3] = 1
    round = [candidate(zeros), candidate(few, 1), candidate(few, 2)]
    assert findings(round, [few]) == ["empty", "tried", "tried"]


def test_a_sketch_takes_values_of_each_tensor_by_its_size() -> None:
    found = positions({"small": 10, "large": 10_000}, seed=3)
    assert {name: len(places) for name, places in found.items()} == {"small": 5, "large": 4092}
    assert found["large"].max() < 10_000
    other = positions({"small": 10, "large": 10_000}, seed=4)
    assert not np.array_equal(found["large"], other["large"])
