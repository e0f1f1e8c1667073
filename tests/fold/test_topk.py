"""The largest values of each row: exactly `kept`, the first of equal ones, by every algorithm."""

from __future__ import annotations

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

from barnraise.fold.codec.topk import largest

lengths = st.sampled_from([1, 7, 64, 256, 3000, 4096])
spreads = st.sampled_from([1, 3, 50, 2**31 - 1])
"""How many values there are to draw from: few give ties, one gives nothing else."""


@given(
    st.integers(1, 5), lengths, st.floats(0, 1), spreads, st.sets(st.integers(0, 4)), st.integers(0, 2**32)
)
def test_the_result_is_that_of_a_stable_sort(
    rows: int, length: int, share: float, spread: int, blank: set[int], seed: int
) -> None:
    magnitudes = np.random.default_rng(seed).integers(0, spread, (rows, length)).astype(np.int32)
    magnitudes[[row for row in blank if row < rows]] = 0
    kept = max(1, round(share * length))
    event("narrowed" if 2 * kept < length and length % 64 == 0 else "whole rows")
    order = np.argsort(-magnitudes.astype(np.int64), axis=1, kind="stable")[:, :kept]
    expected = np.sort(order + np.arange(rows)[:, None] * length, axis=1)
    assert (largest(magnitudes, kept) == expected.reshape(-1)).all()
