"""Assignment of samples: the order that every program recomputes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.assign import Assignment
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import PublicKey, Round

ADA, BEN = PublicKey("ab" * 32), PublicKey("cd" * 32)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def walk(owner: PublicKey, shard_sizes: list[int], seed: int = 7, round: int = 3) -> Assignment:
    return Assignment(seed, Round(round), owner, tuple(shard_sizes))


def test_the_order_of_samples_is_pinned() -> None:
    assert walk(ADA, [4, 2, 3]).take(0, 9) == (
        *((1, 1), (1, 0)),
        *((0, 2), (0, 0), (0, 1), (0, 3)),
        *((2, 1), (2, 2), (2, 0)),
    )


@given(sizes, st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_every_sample_is_used_once_before_any_is_repeated(
    shard_sizes: list[int], seed: int, round: int
) -> None:
    assignment = walk(ADA, shard_sizes, seed, round)
    total = sum(shard_sizes)
    once = assignment.take(0, total)
    assert sorted(once) == [(s, row) for s, size in enumerate(shard_sizes) for row in range(size)]
    assert assignment.take(total, total) == once


@given(sizes)
def test_a_shard_is_finished_before_the_next_is_started(shard_sizes: list[int]) -> None:
    shards = [shard for shard, _ in walk(ADA, shard_sizes).take(0, sum(shard_sizes))]
    changes = sum(a != b for a, b in pairwise(shards))
    assert changes == len(shard_sizes) - 1


@given(sizes, st.integers(0, 50), st.integers(0, 50))
def test_samples_do_not_depend_on_how_many_are_taken_at_once(
    shard_sizes: list[int], first: int, second: int
) -> None:
    assignment = walk(BEN, shard_sizes)
    assert assignment.take(0, first) + assignment.take(first, second) == assignment.take(0, first + second)


@pytest.mark.parametrize(
    "other", [walk(BEN, [40] * 9), walk(ADA, [40] * 9, seed=8), walk(ADA, [40] * 9, round=4)]
)
def test_another_owner_seed_or_round_gives_another_order(other: Assignment) -> None:
    assert other.take(0, 40) != walk(ADA, [40] * 9).take(0, 40)


def test_the_first_shard_is_drawn_in_proportion_to_its_size() -> None:
    begun = Counter(walk(ADA, [1, 2, 7], round=r).at(0)[0] for r in range(2000))
    # 4.5 standard deviations; the walks are fixed, so this passes always or never.
    assert abs(begun[0] - 200) < 60
    assert abs(begun[1] - 400) < 80
    assert abs(begun[2] - 1400) < 92


@pytest.mark.parametrize("shard_sizes", [[], [3, 0]])
def test_an_index_without_samples_is_refused(shard_sizes: list[int]) -> None:
    with pytest.raises(MalformedBlob):
        walk(ADA, shard_sizes)


def test_a_negative_position_is_refused() -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        walk(ADA, [3]).at(-1)
