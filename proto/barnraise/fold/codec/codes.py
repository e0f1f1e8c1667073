"""Values in units of their block's scale, as codes of 1, 2, 4 or 8 bits, several to a byte.

The first code is in a byte's lowest bits. `dense.py` has the table of what codes stand for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array
from barnraise.fold.codec.formats import Bytes

_ZERO = {2: np.float32(1.5), 4: np.float32(8)}
"""The code, or the midpoint of two codes, that represents 0."""
LARGEST_UNIT = {1: 1.0, 2: 1.5, 4: 8.0, 8: 128.0}
"""The largest magnitude of a code, in units of its scale."""
SQUARE_UNIT = {1: 1.0, 2: 0.25, 4: 1.0, 8: 1.0}
"""Squares of units are multiples of it."""


def _units_of_bytes(bits: int) -> Array:
    """[256, 8 / bits]: the units of a byte's codes."""
    codes = np.arange(256)[:, None] >> np.arange(0, 8, bits) & (2**bits - 1)
    units: Array = codes.astype(np.float32)
    if bits == 1:
        units *= 2
        units -= 1
    else:
        units -= _ZERO[bits]
    return units


_UNITS = {bits: _units_of_bytes(bits) for bits in (1, 2, 4)}
_SQUARES = {
    bits: (np.square(units) / SQUARE_UNIT[bits]).sum(axis=1).astype(np.uint8)
    for bits, units in _UNITS.items()
}
"""[256] each: of a byte's codes."""


def quantize(bits: int, units: Array) -> Bytes:
    """The codes of values in units of their scale. Leaves the decoded units in `units`."""
    match bits:
        case 1:
            signs = (units >= 0).astype(np.uint8)
            np.multiply(signs, 2, out=units)
            units -= np.float32(1)
            return signs
        case 2:
            np.floor(units, out=units)
            units += np.float32(2)
            np.clip(units, 0, 3, out=units)
        case 4:
            np.clip(np.rint(units, out=units), -7, 7, out=units)
            units += np.float32(8)
        case _:
            signed = np.clip(np.rint(units, out=units), -127, 127, out=units).astype(np.int8)
            np.copyto(units, signed)
            return signed.view(np.uint8)
    codes = units.astype(np.uint8)
    units -= _ZERO[bits]
    return codes


def pack(bits: int, codes: Bytes) -> Bytes:
    """codes: [n], n a multiple of 8. All codes of a word at once, by shifts."""
    match bits:
        case 1:
            return np.packbits(codes, bitorder="little")
        case 2:
            quads: npt.NDArray[np.uint32] = codes.view("<u4")
            halves = quads | quads >> 6
            halves |= halves >> 12
            return halves.astype(np.uint8)
        case 4:
            pairs: npt.NDArray[np.uint16] = codes.view("<u2")
            return (pairs | pairs >> 4).astype(np.uint8)
        case _:
            return codes


def unpack(bits: int, packed: Bytes) -> Array:
    """Packed codes in units, fp32."""
    if bits == 8:
        return packed.view(np.int8).astype(np.float32)
    return _UNITS[bits].take(packed, axis=0).reshape(-1)


def squares_by_byte(bits: int, packed: Bytes) -> npt.NDArray[np.uint8 | np.int16]:
    """[n]: of each byte, the sum of its codes' squares in units of SQUARE_UNIT."""
    if bits == 8:
        return np.square(packed.view(np.int8), dtype=np.int16)
    found: Bytes = _SQUARES[bits].take(packed)
    return found
