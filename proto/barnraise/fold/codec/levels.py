"""Values as a sign and a level above the lowest magnitude of their block.

A value of `bits` bits is ±(lowest + level · step), its sign the highest bit and its level the others;
lowest and step are bfloat16 numbers, at least 0, of its block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array
from barnraise.fold.codec.formats import MAX_MAGNITUDE, bfloat16_values
from barnraise.fold.codec.squares import Doubles

Scales = npt.NDArray[np.uint16]

_INFINITY = 0x7F80
"""In bfloat16 bits; NaNs and negative numbers are above."""
_LARGEST = np.float32(0.99 * MAX_MAGNITUDE)
"""Larger values are clipped, so that rounding a step up to bfloat16 cannot exceed MAX_MAGNITUDE."""


def quantize(bits: int, sent: Array, blocks: int) -> tuple[npt.NDArray[np.uint8], Scales, Scales]:
    """Codes [n] of `sent` [n], finite values of `blocks` blocks, and each block's lowest and step."""
    magnitudes = np.abs(sent).reshape(blocks, -1)
    np.minimum(magnitudes, _LARGEST, out=magnitudes)
    lowest, steps = _two_means(magnitudes) if bits == 2 else _range(bits, magnitudes)
    magnitudes -= bfloat16_values(lowest)[:, None]
    units = bfloat16_values(steps)
    magnitudes /= np.where(units > 0, units, np.float32(np.inf))[:, None]
    np.rint(magnitudes, out=magnitudes)
    levels = np.clip(magnitudes, 0, _top(bits), out=magnitudes).astype(np.uint8).reshape(-1)
    levels |= np.signbit(sent).view(np.uint8) << np.uint8(bits - 1)
    return levels, lowest, steps


def values(bits: int, codes: npt.NDArray[np.uint8], lowest: Scales, steps: Scales) -> Array:
    """Decode the codes [n] of blocks of equal length: one fp32 multiplication and one addition."""
    levels = (codes & np.uint8(_top(bits))).reshape(lowest.size, -1)
    magnitudes = levels * bfloat16_values(steps)[:, None]
    magnitudes += bfloat16_values(lowest)[:, None]
    signs = (codes >> np.uint8(bits - 1)).astype(np.uint32) << 31
    signed: Array = (magnitudes.reshape(-1).view(np.uint32) | signs).view(np.float32)
    return signed


def squares(bits: int, codes: npt.NDArray[np.uint8], lowest: Scales, steps: Scales) -> Doubles:
    """[blocks]: the sum of each block's squares, by the exact sums of its levels and of their squares.

    Values are rounded to fp32 and this is not, which changes a norm by less than 1e-7 of it.
    """
    levels = (codes & np.uint8(_top(bits))).reshape(lowest.size, -1).astype(np.uint16)
    low, step = (bfloat16_values(scales).astype(np.float64) for scales in (lowest, steps))
    cross = low * step * levels.sum(axis=1, dtype=np.uint32)
    cross *= 2
    total = low * low * levels.shape[1]
    total += cross
    total += step * step * np.multiply(levels, levels, out=levels).sum(axis=1, dtype=np.uint32)
    return total


def are_sound(bits: int, lowest: Scales, steps: Scales) -> bool:
    """Whether every code decodes to a finite value of at most MAX_MAGNITUDE."""
    if int(max(lowest.max(), steps.max())) >= _INFINITY:
        return False
    # Both are finite; an infinite product is above the bound too.
    with np.errstate(over="ignore"):
        top = bfloat16_values(steps) * np.float32(_top(bits))
        top += bfloat16_values(lowest)
    return bool(top.max() <= MAX_MAGNITUDE)


def _top(bits: int) -> int:
    """The highest level."""
    return (1 << bits - 1) - 1


def _range(bits: int, magnitudes: Array) -> tuple[Scales, Scales]:
    """Levels from each block's smallest magnitude to its largest."""
    return _scales(bits, magnitudes.min(axis=1), magnitudes.max(axis=1))


def _two_means(magnitudes: Array) -> tuple[Scales, Scales]:
    """Two levels: the means of what is above a block's mean and of what is not (one step of Lloyd 1957)."""
    upper = (magnitudes > magnitudes.mean(axis=1, keepdims=True)).astype(np.float32)
    highs = upper.sum(axis=1)
    part = np.multiply(magnitudes, upper)
    high_sum = part.sum(axis=1)
    # All may be above a mean that was rounded down.
    lows = magnitudes.shape[1] - highs
    low = np.subtract(magnitudes, part, out=part).sum(axis=1) / np.maximum(lows, 1)
    high = np.where(highs > 0, high_sum / np.maximum(highs, 1), low)
    return _scales(2, np.where(lows > 0, low, high), high)


def _scales(bits: int, low: Array, high: Array) -> tuple[Scales, Scales]:
    """As bfloat16: `low` rounded down, and the step to `high` up, so that every value is in range."""
    lowest = (np.maximum(low, 0).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    distance = np.maximum(high.astype(np.float32) - bfloat16_values(lowest), np.float32(0))
    step = distance / np.float32(_top(bits))
    return lowest, ((step.view(np.uint32) + np.uint32(0xFFFF)) >> 16).astype(np.uint16)
