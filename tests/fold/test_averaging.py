"""The mean of states is bit-exact, in the order of the states, and made one tensor at a time."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.state import Array, TrainState
from barnraise.fold.averaging import RunningMean, each_mean, mean_of
from tests.support import parts

GOLDEN = {
    2: "c876449bce02e34698f1bc53f348f4c3f74535e46e9923f08f345b33dd15daa5",
    3: "5c2d7000b99ee89fa1c4d9c2a3a850a983979030d95f7c6590f6e29964e100e8",
    7: "3cde497edd2865086db833141453590e2352c119117649b344c5969f9c178770",
}
"""Hashes of the mean of COUNT states of `params`, without buffers and of step 9."""


def params(number: int) -> dict[str, Array]:
    """Numbers that no mean of three has exactly."""
    return parts.integers(number, 7 + number, parts.LAYOUT)


def running(states: list[dict[str, Array]]) -> dict[str, Array]:
    mean = RunningMean()
    for state in states:
        mean.add(state)
    return mean.mean()


@pytest.mark.parametrize("count", sorted(GOLDEN))
def test_the_mean_of_some_states_is_pinned(count: int) -> None:
    found = running([params(number) for number in range(count)])
    assert TrainState(found, {}, 9).hash() == GOLDEN[count]


def test_every_operation_is_rounded_once_to_fp32() -> None:
    one, two, three = (np.array([value], np.float32) for value in (0.1, 0.2, 0.4))
    total = np.float32(np.float32(one[0] + two[0]) + three[0])
    assert mean_of([one, two, three])[0] == np.float32(total / np.float32(3))


def test_states_are_added_in_their_order() -> None:
    """1e8 + 1 is 1e8 in fp32: added last, the 1 is not lost."""
    large, small = np.array([1e8], np.float32), np.array([1], np.float32)
    assert mean_of([large, -large, small])[0] == np.float32(1 / 3)
    assert mean_of([large, small, -large])[0] == 0


@given(st.integers(1, 9))
def test_a_replay_and_the_files_give_the_same_mean(count: int) -> None:
    states = [params(number) for number in range(count)]
    reads = [partial(dict.__getitem__, state) for state in states]
    found = dict(each_mean(sorted(states[0]), reads))
    assert TrainState(found).hash() == TrainState(running(states)).hash()


def test_the_mean_of_equal_powers_of_two_is_the_state_itself() -> None:
    assert TrainState(running([params(3)] * 4)).hash() == TrainState(params(3)).hash()


def test_states_stay_as_they_are() -> None:
    states = [params(number) for number in range(3)]
    before = [TrainState(state).hash() for state in states]
    running(states)
    assert [TrainState(state).hash() for state in states] == before


def test_tensors_are_read_one_after_another() -> None:
    """All states' tensors of one name are read before the next name: memory has two tensors at a time."""
    read: list[tuple[int, str]] = []

    def reader(number: int, name: str) -> Array:
        read.append((number, name))
        return params(number)[name]

    names = sorted(params(0))
    for place, (name, _) in enumerate(each_mean(names, [partial(reader, number) for number in range(3)])):
        assert name == names[place]
        assert read == [(number, each) for each in names[: place + 1] for number in range(3)]
