"""Conversions to and from half precision, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from barnraise.contract.state import Array
from barnraise.fold.codec.half import HALF_MAX, half_bits, half_values


def finite_halves() -> Array:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return halves[np.isfinite(halves)].astype(np.float32)


def expected(values: Array) -> bytes:
    return values.astype(np.float16).tobytes()


def test_every_half_is_read_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    assert half_values(bits).tobytes() == bits.view(np.float16).astype(np.float32).tobytes()


def test_every_half_round_trips() -> None:
    assert half_bits(finite_halves()).tobytes() == expected(finite_halves())


@pytest.mark.parametrize("aside", [-1, 0, 1], ids=["below", "tie", "above"])
def test_values_between_two_halves_round_to_the_nearest_even(aside: int) -> None:
    sorted_halves = np.unique(finite_halves())
    middles = (sorted_halves[:-1] + sorted_halves[1:]) / np.float32(2)
    near = (middles.view(np.int32) + np.int32(aside)).view(np.float32)
    assert half_bits(near).tobytes() == expected(near)


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 3e-8, 1e-5, 6e-5, 1.0, 1e4])
def test_random_values_round_as_numpy_rounds_them(scale: float) -> None:
    drawn = np.random.default_rng(3).standard_normal(50_000).astype(np.float32) * np.float32(scale)
    values = np.clip(drawn, -HALF_MAX, HALF_MAX)
    assert half_bits(values).tobytes() == expected(values)
