"""IEEE half precision by integer arithmetic.

numpy's own conversions give the same bits, but without hardware support they take up to 100 ns a value
for halves below 2^-14, and most values of an update are that small.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array

HALF_MAX = 65504.0
"""The largest finite half."""

_SIGN = np.uint32(0x8000)
_MAGNITUDE = np.uint32(0x7FFF_FFFF)
_SMALLEST_NORMAL = np.uint32(0x3880_0000)
"""2^-14 as fp32."""
_ONE_HALF = np.float32(0.5)
"""Its last bit has the value of a subnormal half's last bit, so that adding it rounds to a subnormal half."""
_ONE_HALF_BITS = np.uint32(0x3F00_0000)
_REBIAS_AND_ROUND = np.uint32((15 - 127) % 2**9 << 23 | 0xFFF)
"""Changes the exponent bias from fp32's to the half's, and adds nearly half of the last bit."""

with np.errstate(invalid="ignore"):  # ARM processors flag the NaNs among them
    _VALUES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def half_bits(values: Array) -> npt.NDArray[np.uint16]:
    """The nearest halves' bits, ties to even. values: [n], at most HALF_MAX in magnitude, no NaN."""
    bits = values.view(np.uint32)
    size = bits & _MAGNITUDE
    normal = (size >> 13) & np.uint32(1)  # a tie goes to the even neighbour
    normal += size
    normal += _REBIAS_AND_ROUND  # modulo 2^32
    normal >>= 13
    subnormal = (size.view(np.float32) + _ONE_HALF).view(np.uint32)
    subnormal -= _ONE_HALF_BITS
    np.copyto(normal, subnormal, where=size < _SMALLEST_NORMAL)
    normal |= (bits >> 16) & _SIGN
    return normal.astype(np.uint16)


def half_values(bits: npt.NDArray[np.uint16]) -> Array:
    """The halves with these bits [n] as fp32, exactly."""
    return _VALUES.take(bits)
