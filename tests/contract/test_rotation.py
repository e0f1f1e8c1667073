"""Rotation: all keys contribute equally often, and a round gets few more contributions than it folds."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.rotation import TARGET_FILL, has_turn, turns_for
from barnraise.core.ids import PublicKey, Round

owners = st.binary(max_size=8).map(lambda seed: PublicKey(hashlib.sha256(seed).hexdigest()))
seeds = st.integers(0, 2**63 - 1)


def keys(count: int) -> list[PublicKey]:
    return [PublicKey(hashlib.sha256(str(number).encode()).hexdigest()) for number in range(count)]


@given(seeds, owners, st.integers(1, 50), st.integers(0, 10**6))
def test_every_key_has_one_turn_in_each_rotation(seed: int, owner: PublicKey, turns: int, start: int) -> None:
    rounds = [Round(round) for round in range(start, start + turns)]
    assert sum(has_turn(seed, round, owner, turns) for round in rounds) == 1


@given(seeds, owners, st.integers(0, 10**6))
def test_every_key_has_every_turn_below_the_limit(seed: int, owner: PublicKey, round: int) -> None:
    assert has_turn(seed, Round(round), owner, 1)


@pytest.mark.parametrize(("volunteers", "limit"), [(40, 32), (100, 32), (1_000, 32), (1_000, 8)])
def test_a_round_gets_about_its_target_of_contributions(volunteers: int, limit: int) -> None:
    turns = turns_for(volunteers, limit)
    counts = [
        sum(has_turn(7, Round(round), owner, turns) for owner in keys(volunteers)) for round in range(turns)
    ]
    assert sum(counts) == volunteers
    mean = volunteers / turns
    assert mean <= TARGET_FILL * limit
    # The number in a round is binomial: five standard deviations.
    assert max(abs(count - mean) for count in counts) <= 5 * mean**0.5


def test_the_turns_of_a_key_depend_on_the_seed() -> None:
    drawn = {tuple(has_turn(seed, Round(0), owner, 4) for owner in keys(32)) for seed in range(8)}
    assert len(drawn) == 8


@given(st.integers(1, 100_000), st.integers(1, 1024))
def test_the_number_of_turns_is_the_smallest_that_the_limit_allows(volunteers: int, limit: int) -> None:
    turns = turns_for(volunteers, limit)
    if volunteers <= limit:
        assert turns == 1
    else:
        assert volunteers / turns <= TARGET_FILL * limit < volunteers / (turns - 1)


@pytest.mark.parametrize(("volunteers", "turns"), [(0, 1), (32, 1), (33, 2), (48, 2), (49, 3)])
def test_examples_of_turns(volunteers: int, turns: int) -> None:
    assert turns_for(volunteers, 32) == turns


def test_the_draw_of_turns_is_pinned() -> None:
    """Programs of different versions must agree on it."""
    drawn = [[round for round in range(4) if has_turn(7, Round(round), owner, 4)] for owner in keys(6)]
    assert drawn == [[2], [2], [2], [1], [3], [3]]
