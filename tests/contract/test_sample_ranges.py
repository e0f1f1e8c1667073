"""The ranges of samples in a commit: what is drawn is named once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.sample_ranges import MAX_RANGES, SampleRange, are_ordered, cover, extended, split


def drawn(round: int, start: int, count: int) -> SampleRange:
    return SampleRange(round=round, start=start, count=count)


BATCHES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=12)


@given(BATCHES, st.integers(0, 70))
def test_batches_are_named_once_and_in_order(batches: list[tuple[int, int]], taken: int) -> None:
    ranges: tuple[SampleRange, ...] = ()
    round = start = total = 0
    for skipped, count in batches:
        round, start = (round + skipped, 0) if skipped else (round, start)
        ranges = extended(ranges, drawn(round, start, count))
        start, total = start + count, total + count
    first, others = split(ranges, taken)
    assert sum(each.count for each in first) == min(taken, total)
    assert sum(each.count for each in others) == max(0, total - taken)
    assert are_ordered(ranges, round)
    assert are_ordered((*first, *others), round)
    assert cover(ranges, total)
    assert not cover(ranges, total + 1)


def test_a_batch_continues_the_range_before() -> None:
    assert extended((drawn(3, 0, 4),), drawn(3, 4, 4)) == (drawn(3, 0, 8),)
    assert len(extended((drawn(3, 0, 4),), drawn(4, 4, 4))) == 2


def test_ranges_that_overlap_or_run_ahead_are_refused() -> None:
    assert not are_ordered((drawn(3, 0, 4), drawn(3, 3, 4)), 3)
    assert not are_ordered((drawn(3, 0, 4), drawn(2, 0, 4)), 3)
    assert not are_ordered((drawn(4, 0, 4),), 3)


def test_only_a_full_list_may_name_fewer_samples() -> None:
    full = tuple(drawn(round, 0, 1) for round in range(MAX_RANGES))
    assert cover(full, MAX_RANGES + 5)
    assert not cover(full[1:], MAX_RANGES + 5)
    assert not cover(full, MAX_RANGES - 1)
