"""The formats that send every value.

Per tensor, the block scales and then the packed values. A section's length follows from the number
of values alone.

| kind     | scale of a block         | value                                     |
|----------|--------------------------|-------------------------------------------|
| dense 1  | bfloat16, mean magnitude | (2c − 1) · scale,  c in 0..1              |
| dense 2  | bfloat16, 0.9957 · rms   | (c − 1.5) · scale, c in 0..3              |
| dense 4  | bfloat16, max / 7        | (c − 8) · scale,   c in 0..15             |
| dense 8  | bfloat16, max / 127      | c · scale,         c in −128..127         |
| dense 16 | –                        | IEEE half                                 |
| raw      | –                        | IEEE single                               |

The scale of 1 bit gives a sign the mean magnitude, which has the least squared error (Karimireddy et al.
2019, section 4). 0.9957 · rms is the step of the best uniform 4-level quantizer of a Gaussian (Max 1960,
table I).
Decoding is one fp32 multiplication per value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array
from barnraise.fold.codec.codes import LARGEST_UNIT, SQUARE_UNIT, pack, quantize, squares_by_byte, unpack
from barnraise.fold.codec.formats import (
    MAGNITUDE,
    MAX_MAGNITUDE,
    Bytes,
    Identifier,
    bfloat16_values,
    check_finite,
    malformed,
)
from barnraise.fold.codec.half import HALF_MAX, half_bits, half_values
from barnraise.fold.codec.squares import ordered_sum, sum_of_squares

CHUNK = 1 << 16
"""Values processed at once: small enough for the processor's cache. Not part of the format."""

_RAW, _DENSE = 0, 1


@dataclass(frozen=True)
class RawFormat:
    """Uncompressed fp32."""

    @property
    def identifier(self) -> Identifier:
        return Identifier(_RAW, 32, 0, 1)

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        return _ranges(size, CHUNK)

    def sizes(self, size: int) -> tuple[int, int]:
        return 4 * size, 4 * size

    def typical(self, size: int) -> int:
        return 4 * size

    def encode(self, name: str, flat: Array, blob: Bytes, offset: int) -> int:
        end = offset + 4 * flat.size
        values = blob[offset:end].view("<f4")
        for start, stop in self.chunks(flat.size):
            chunk = flat[start:stop]
            check_finite(np.isfinite(chunk).all(), name)
            sent = np.clip(chunk, -MAX_MAGNITUDE, MAX_MAGNITUDE)
            values[start:stop] = sent
            chunk -= sent
        return end

    def read(self, name: str, size: int, blob: Bytes, offset: int) -> tuple[_Singles, int]:
        end = offset + 4 * size
        section = _Singles(blob[offset:end].view("<f4"))
        for start, stop in self.chunks(size):
            if not bool(np.all(np.abs(section.values(start, stop)) <= MAX_MAGNITUDE)):
                raise malformed(f"{name} holds NaN, infinity or a value out of bounds")
        return section, end


@dataclass(frozen=True)
class _Singles:
    stored: npt.NDArray[np.float32]

    def values(self, start: int, stop: int) -> Array:
        return self.stored[start:stop].astype(np.float32)

    def squares(self) -> float:
        return sum_of_squares(self.values, self.stored.size)


@dataclass(frozen=True)
class HalfFormat:
    """IEEE halves. `block` only appears in the header."""

    block: int

    @property
    def identifier(self) -> Identifier:
        return Identifier(_DENSE, 16, 0, self.block)

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        return _ranges(size, CHUNK)

    def sizes(self, size: int) -> tuple[int, int]:
        return 2 * size, 2 * size

    def typical(self, size: int) -> int:
        return 2 * size

    def encode(self, name: str, flat: Array, blob: Bytes, offset: int) -> int:
        end = offset + 2 * flat.size
        values = blob[offset:end].view("<u2")
        for start, stop in self.chunks(flat.size):
            chunk = flat[start:stop]
            check_finite(np.isfinite(chunk).all(), name)
            halves = half_bits(np.clip(chunk, -HALF_MAX, HALF_MAX))
            values[start:stop] = halves
            chunk -= half_values(halves)
        return end

    def read(self, name: str, size: int, blob: Bytes, offset: int) -> tuple[_Halves, int]:
        end = offset + 2 * size
        section = _Halves(blob[offset:end].view("<u2"))
        for start, stop in self.chunks(size):
            if bool(np.any((section.stored[start:stop] & 0x7C00) == 0x7C00)):
                raise malformed(f"{name} holds NaN or infinity")
        return section, end


@dataclass(frozen=True)
class _Halves:
    stored: npt.NDArray[np.uint16]

    def values(self, start: int, stop: int) -> Array:
        return half_values(self.stored[start:stop])

    def squares(self) -> float:
        return sum_of_squares(self.values, self.stored.size)


@dataclass(frozen=True)
class BlockFormat:
    """Codes of 1, 2, 4 or 8 bits, in blocks that share a scale."""

    bits: int
    block: int

    @property
    def identifier(self) -> Identifier:
        return Identifier(_DENSE, self.bits, 0, self.block)

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Never within a block."""
        return _ranges(size, max(CHUNK // self.block, 1) * self.block)

    def sizes(self, size: int) -> tuple[int, int]:
        total = sum(self._parts(size))
        return total, total

    def typical(self, size: int) -> int:
        return sum(self._parts(size))

    def encode(self, name: str, flat: Array, blob: Bytes, offset: int) -> int:
        section, end = self._section(flat.size, blob, offset)
        for start, stop in self.chunks(flat.size):
            chunk = flat[start:stop]
            blocks = _in_blocks(chunk, self.block)
            rows = slice(start // self.block, start // self.block + len(blocks))
            scale = _block_scales(self.bits, blocks)
            check_finite(np.isfinite(scale).all(), name)
            section.scales[rows] = _scale_bits(self.bits, scale)
            steps = bfloat16_values(section.scales[rows])[:, None]
            units = np.divide(blocks, np.where(steps > 0, steps, np.float32(np.inf)))
            packed = pack(self.bits, quantize(self.bits, units).reshape(-1))
            first = start * self.bits // 8
            section.packed[first : first + packed.size] = packed
            units *= steps
            chunk -= units.reshape(-1)[: chunk.size]
        return end

    def read(self, name: str, size: int, blob: Bytes, offset: int) -> tuple[_Blocks, int]:
        section, end = self._section(size, blob, offset)
        scales = bfloat16_values(section.scales)
        if not bool(np.all((scales >= 0) & (scales <= MAX_MAGNITUDE / LARGEST_UNIT[self.bits]))):
            raise malformed(f"{name} has a scale that is negative, NaN or out of bounds")
        return section, end

    def _section(self, size: int, blob: Bytes, offset: int) -> tuple[_Blocks, int]:
        scale_bytes, value_bytes = self._parts(size)
        middle = offset + scale_bytes
        end = middle + value_bytes
        scales, packed = blob[offset:middle].view("<u2"), blob[middle:end]
        return _Blocks(self.bits, self.block, size, scales, packed), end

    def _parts(self, size: int) -> tuple[int, int]:
        """Bytes of the scales and of the values."""
        blocks = -(-size // self.block)
        return 2 * blocks, blocks * self.block * self.bits // 8


@dataclass(frozen=True)
class _Blocks:
    bits: int
    block: int
    size: int
    """Values; those that pad the last block do not count."""
    scales: npt.NDArray[np.uint16]
    packed: Bytes

    def values(self, start: int, stop: int) -> Array:
        count = -(-(stop - start) // self.block)
        first = start * self.bits // 8
        units = unpack(self.bits, self.packed[first : first + count * self.block * self.bits // 8])
        blocks = units.reshape(count, self.block)
        row = start // self.block
        blocks *= bfloat16_values(self.scales[row : row + count])[:, None]
        return units[: stop - start]

    def squares(self) -> float:
        """Of whole blocks by their codes, whose squares are integers."""
        whole = self.size // self.block
        sums = bfloat16_values(self.scales[:whole]).astype(np.float64)
        np.square(sums, out=sums)
        sums *= SQUARE_UNIT[self.bits]
        step = max(CHUNK // self.block, 1)
        for first in range(0, whole, step):
            rows = slice(first, min(first + step, whole))
            sums[rows] *= self._squares_of(rows)
        return ordered_sum(sums) + self._rest_squares(whole * self.block)

    def _rest_squares(self, start: int) -> float:
        """Of a last block that is not full."""
        if start == self.size:
            return 0.0
        rest = self.values(start, self.size)
        return sum_of_squares(lambda first, end: rest[first:end], rest.size)

    def _squares_of(self, rows: slice) -> npt.NDArray[np.uint32]:
        """[n]: of each block, the sum of its codes' squares in units of SQUARE_UNIT."""
        width = self.block * self.bits // 8
        packed = self.packed[rows.start * width : rows.stop * width]
        squares = squares_by_byte(self.bits, packed).reshape(-1, width)
        sums: npt.NDArray[np.uint32] = squares.sum(axis=1, dtype=np.uint32)
        return sums


def _ranges(size: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, size)) for start in range(0, size, step))


def _in_blocks(chunk: Array, block: int) -> Array:
    """[n, block] with the last block padded by zeros."""
    missing = -chunk.size % block
    return (np.concatenate([chunk, np.zeros(missing, np.float32)]) if missing else chunk).reshape(-1, block)


def _block_scales(bits: int, blocks: Array) -> Array:
    """[n]: each block's scale in fp32; not finite where a value of the block is not."""
    match bits:
        case 1:
            mean: Array = np.abs(blocks).mean(axis=1, dtype=np.float64).astype(np.float32)
            return mean
        case 2:
            squares = blocks.astype(np.float64)
            np.square(squares, out=squares)
            root: Array = (0.9957 * np.sqrt(squares.mean(axis=1))).astype(np.float32)
            return root
        case _:
            largest: Array = (blocks.view(np.int32) & MAGNITUDE).max(axis=1).view(np.float32)
            largest /= np.float32(2 ** (bits - 1) - 1)
            return largest


def _scale_bits(bits: int, scale: Array) -> npt.NDArray[np.uint16]:
    """As bfloat16, rounded up: a largest value that a scale is derived from stays in range."""
    limit = np.float32(MAX_MAGNITUDE / 2**bits)
    raised = np.minimum(scale, limit).view(np.uint32) + np.uint32(0xFFFF)
    return (raised >> 16).astype(np.uint16)
