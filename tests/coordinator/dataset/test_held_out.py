"""Which records are held out."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coordinator.dataset.held_out import HeldOutSplit, held_out_below

digests = st.integers(0, 2**256 - 1) | st.integers(0, 2).map(lambda n: n * 2**254)


@given(st.floats(0, 0.5), st.sets(digests, min_size=1, max_size=9))
def test_some_records_are_held_out_and_some_are_left(share: float, digests: set[int]) -> None:
    bound = held_out_below(share, min(digests), max(digests))
    held = sum(digest < bound for digest in digests)
    if share == 0 or len(digests) == 1:
        assert held == 0
    else:
        assert 1 <= held < len(digests)


@given(st.sampled_from([0.0, 1e-9, 0.05, 0.5]), st.lists(digests, max_size=9))
def test_one_pass_divides_as_the_bound_does(share: float, digests: list[int]) -> None:
    split: HeldOutSplit[int] = HeldOutSplit(share)
    routed = [found for digest in digests for found in split.add(digest, digest)]
    routed += split.finish()
    bound = held_out_below(share, min(digests, default=0), max(digests, default=0))
    assert Counter(routed) == Counter((digest, digest < bound) for digest in digests)


def test_nothing_waits_once_both_sides_have_records() -> None:
    split: HeldOutSplit[str] = HeldOutSplit(0.25)
    low, high = 1, 2**255
    assert list(split.add(high, "a")) == []
    assert list(split.add(low, "b")) == [("a", False), ("b", True)]
    assert list(split.add(high, "c")) == [("c", False)]
