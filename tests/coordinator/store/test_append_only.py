"""The append-only sequence: it equals a tuple, also after longer ones were made from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.store.append_only import AppendOnly


@given(st.lists(st.tuples(st.integers(0, 20), st.integers()), max_size=20))
def test_each_sequence_stays_unchanged(steps: list[tuple[int, int]]) -> None:
    """Sequences are extended in any order, also one that was extended before."""
    made: list[tuple[AppendOnly[int], tuple[int, ...]]] = [(AppendOnly(), ())]
    for which, item in steps:
        sequence, items = made[which % len(made)]
        made.append((sequence.extended(item), (*items, item)))
    for sequence, items in made:
        assert sequence == items
        assert (tuple(sequence), len(sequence), bool(sequence)) == (items, len(items), bool(items))
        assert (sequence[1:], sequence[:-1], sequence[-1:]) == (items[1:], items[:-1], items[-1:])


def test_an_index_beyond_its_end_is_an_error_also_where_a_longer_one_shares_its_items() -> None:
    short = AppendOnly([1, 2])
    longer = short.extended(3)
    assert (short[-1], longer[-1]) == (2, 3)
    with pytest.raises(IndexError):
        short[2]
    assert short != longer
