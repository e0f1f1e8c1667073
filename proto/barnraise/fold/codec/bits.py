"""Small integers as bits: planes of equal width, and unary runs, both in little-endian bit order.

The layouts let numpy read and write many values at a time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from barnraise.fold.codec.formats import Bytes


def plane_bytes(count: int, width: int) -> int:
    """Bytes of `count` integers of `width` bits."""
    return -(-count * width // 8)


def pack_planes(values: npt.NDArray[np.uint8 | np.uint16], width: int) -> Bytes:
    """values: [n], each below 2^width. First every value's bit 0, then every value's bit 1, and so on."""
    planes = np.empty((width, values.size), np.uint8)
    for place in range(width):
        planes[place] = (values >> place) & 1
    return np.packbits(planes, bitorder="little")


def unpack_planes(packed: Bytes, count: int, width: int) -> npt.NDArray[np.uint8 | np.uint16]:
    """The `count` values [n] that `pack_planes` packed; width: at most 16."""
    dtype = np.uint8 if width <= 8 else np.uint16
    planes = np.unpackbits(packed, count=width * count, bitorder="little").reshape(width, count)
    values: npt.NDArray[np.uint8 | np.uint16] = np.zeros(count, dtype)
    for plane in planes[::-1]:
        values <<= 1
        values |= plane
    return values


def is_padded_by_zeros(packed: Bytes, used: int) -> bool:
    """Whether the bits of the last byte after the first `used` bits are zero."""
    return used % 8 == 0 or int(packed[-1]) >> used % 8 == 0


def pack_runs(runs: npt.NDArray[np.integer]) -> Bytes:
    """runs: [n], n ≥ 1, each at least 0. Each in unary: that many zeros, then a one."""
    ends = np.cumsum(runs + np.uint16(1), dtype=np.int64)
    ends -= 1
    ones = np.zeros(int(ends[-1]) + 1, np.uint8)
    ones[ends] = 1
    return np.packbits(ones, bitorder="little")


def run_ends(packed: Bytes) -> npt.NDArray[np.int64]:
    """The positions [n] of all ones; after `pack_runs`, entry i is the sum of runs 0 to i, plus i."""
    return np.flatnonzero(np.unpackbits(packed, bitorder="little").view(np.bool_))
