"""Directions in comparison with those of trusted contributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.audit_figures import MILLION
from barnraise.evaluation.alignment import ALIGNMENT_VALUES, alignments
from barnraise.evaluation.similarity import Sketch, positions


def crowd(count: int, seed: int, share: float = 0.4) -> list[Sketch]:
    """Directions whose cosines are about `share`."""
    random = np.random.default_rng(seed)
    common = random.standard_normal(4096)
    made = (share**0.5 * common + (1 - share) ** 0.5 * random.standard_normal(4096) for _ in range(count))
    return [each.astype(np.float32) for each in made]


@given(st.integers(0, 2**32 - 1))
def test_fewer_than_half_do_not_make_honest_ones_point_elsewhere(seed: int) -> None:
    honest = crowd(9, seed)
    turned = -np.mean(honest, axis=0)
    found = alignments([*honest, *[turned] * 7], [True] * 16)
    assert min(found[:9]) > 0.3 * MILLION
    assert max(found[9:]) < -0.5 * MILLION


def test_what_is_independent_has_none() -> None:
    honest = crowd(5, seed=1)
    noise = np.random.default_rng(2).standard_normal(4096).astype(np.float32)
    found = alignments([*honest, 1000 * noise], [True] * 5 + [False])
    assert abs(found[-1]) < 0.05 * MILLION
    assert found[:-1] == alignments(honest, [True] * 5), "it is not trusted"


def test_zeros_and_what_is_alone_have_none() -> None:
    honest = crowd(2, seed=1)
    assert alignments([honest[0], np.zeros_like(honest[0])], [True, False]) == [0, 0]
    huge = np.full(4096, 1e30, np.float32)
    assert alignments([honest[0], huge, huge], [False, True, True])[1:] == [MILLION, MILLION]


@pytest.mark.parametrize("sizes", [{"a": 3, "b": 40_000}, {"a": 10**6, "b": 10**5}])
def test_all_values_are_compared_where_they_are_few(sizes: dict[str, int]) -> None:
    found = positions(sizes, 1, ALIGNMENT_VALUES)
    few = sum(sizes.values()) <= ALIGNMENT_VALUES
    assert all((len(places) == sizes[name]) == few for name, places in found.items())
    assert ALIGNMENT_VALUES <= sum(map(len, found.values())) <= ALIGNMENT_VALUES + len(sizes) or few
