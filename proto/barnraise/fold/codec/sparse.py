"""The format that sends the largest values of each block (top-k) and leaves the rest to error feedback.

A tensor's values form blocks, and whole blocks form chunks of about CHUNK values. Of a block the `kept`
largest magnitudes are sent; of a last block that is not full, the same share, and at least one. That last
block is a separate chunk. A tensor's section is a table with one entry per chunk
(u8 Rice parameter r, u16 bytes of the unary part), and then chunk after chunk:

| part      | content                                                                                |
|-----------|----------------------------------------------------------------------------------------|
| lowest    | per block, bfloat16                                                                    |
| step      | per block, bfloat16                                                                    |
| quotients | per value sent, gap >> r in unary: that many zeros and a one                           |
| remainder | per value sent, the r low bits of its gap, as bit planes                               |
| code      | per value sent, `bits` bits as planes; the highest is the sign, the others a level     |

A gap is the number of values left out before one that is sent, counted from the start of its block. Where
gaps of full width (r = log2 of the block) are no longer than Rice codes (Rice & Plaunt 1971), there
are no quotients. A value is ±(lowest + level · step): one fp32 multiplication and one addition, each
rounded once. The parts are padded to whole bytes by zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array
from barnraise.fold.codec import levels
from barnraise.fold.codec.bits import (
    is_padded_by_zeros,
    pack_planes,
    pack_runs,
    plane_bytes,
    run_ends,
    unpack_planes,
)
from barnraise.fold.codec.formats import (
    MAGNITUDE,
    Bytes,
    Identifier,
    check_finite,
    malformed,
)
from barnraise.fold.codec.squares import Doubles, ordered_sum
from barnraise.fold.codec.topk import largest

CHUNK = 1 << 16
"""Values that share a Rice parameter: small enough for the processor's cache. Part of the format."""

_SPARSE = 2
_TABLE_ENTRY = 3
_SCALES = 4
"""Bytes of a block's lowest magnitude and step."""


@dataclass(frozen=True)
class Cut:
    """The shape of a chunk: `blocks` blocks of `length` values, of which `kept` each are sent."""

    blocks: int
    length: int
    kept: int

    @property
    def count(self) -> int:
        """Values sent."""
        return self.blocks * self.kept

    @property
    def width(self) -> int:
        """Bits of any gap."""
        return (self.length - 1).bit_length()

    @property
    def fixed_bytes(self) -> int:
        """Largest size of the indices: gaps of full width."""
        return plane_bytes(self.count, self.width)

    @property
    def least_bytes(self) -> int:
        """Smallest size of the indices: one bit each, or none where all values are sent."""
        return min(self.fixed_bytes, plane_bytes(self.count, 1))

    @property
    def typical_bytes(self) -> int:
        """Expected size of the indices where values are sent independently with equal probability: gaps
        are geometric, so floor(gap / m) has the mean q^m / (1 - q^m), with q = 1 - kept / length, m = 2^r."""
        stay = 1 - self.kept / self.length
        tails = (stay ** (1 << r) for r in range(self.width))
        rice = min((r + 1 + tail / (1 - tail) for r, tail in enumerate(tails)), default=0.0)
        return min(self.fixed_bytes, round(self.count * rice / 8))


@dataclass(frozen=True)
class SparseFormat:
    """The `kept` largest values of each block, by Rice-coded index, sign and level."""

    bits: int
    block: int
    kept: int

    @property
    def identifier(self) -> Identifier:
        return Identifier(_SPARSE, self.bits, self.kept, self.block)

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Never within a block; a block that is not full is a separate chunk."""
        start = 0
        for cut in self._cuts(size):
            yield start, start + cut.blocks * cut.length
            start += cut.blocks * cut.length

    def sizes(self, size: int) -> tuple[int, int]:
        """Exact bounds: only the indices vary in length."""
        shapes = self._shapes(size)
        others = sum(times * self._other_bytes(cut) for cut, times in shapes)
        least = sum(times * cut.least_bytes for cut, times in shapes)
        return others + least, others + sum(times * cut.fixed_bytes for cut, times in shapes)

    def typical(self, size: int) -> int:
        return sum(times * (self._other_bytes(cut) + cut.typical_bytes) for cut, times in self._shapes(size))

    def encode(self, name: str, flat: Array, blob: Bytes, offset: int) -> int:
        cuts = self._cuts(flat.size)
        entry, offset = offset, offset + _TABLE_ENTRY * len(cuts)
        start = 0
        for cut in cuts:
            stop = start + cut.blocks * cut.length
            rice, unary_bytes, parts = _encode(self.bits, cut, name, flat[start:stop])
            blob[entry : entry + _TABLE_ENTRY] = rice, unary_bytes & 0xFF, unary_bytes >> 8
            for part in parts:
                blob[offset : offset + part.size] = part
                offset += part.size
            start, entry = stop, entry + _TABLE_ENTRY
        return offset

    def read(self, name: str, size: int, blob: Bytes, offset: int) -> tuple[SparseSection, int]:
        cuts = self._cuts(size)
        first = offset + _TABLE_ENTRY * len(cuts)
        if first > blob.size:
            raise malformed(f"it ends within the table of {name}")
        table = blob[offset:first].reshape(-1, _TABLE_ENTRY).tolist()
        offset, chunks = first, []
        for cut, (rice, low, high) in zip(cuts, table, strict=True):
            chunk = _Chunk(self.bits, cut, rice, low | high << 8, offset)
            chunk.check_lengths(name, blob.size)
            chunk.check(name, blob)
            chunks.append(chunk)
            offset = chunk.end
        return SparseSection(self._step, blob, tuple(chunks)), offset

    @property
    def _step(self) -> int:
        """Values of a full chunk."""
        return max(CHUNK // self.block, 1) * self.block

    def _shapes(self, size: int) -> list[tuple[Cut, int]]:
        """The shapes of the chunks in order, each with its number of chunks."""
        blocks, rest = divmod(size, self.block)
        full, more = divmod(blocks, self._step // self.block)
        shapes = [
            (Cut(self._step // self.block, self.block, self.kept), full),
            (Cut(more, self.block, self.kept), int(more > 0)),
            (Cut(1, rest, max(1, -(-self.kept * rest // self.block))), int(rest > 0)),
        ]
        return [(cut, times) for cut, times in shapes if times]

    def _cuts(self, size: int) -> list[Cut]:
        return [cut for cut, times in self._shapes(size) for _ in range(times)]

    def _other_bytes(self, cut: Cut) -> int:
        """Bytes of a chunk without its indices."""
        return _TABLE_ENTRY + _SCALES * cut.blocks + plane_bytes(cut.count, self.bits)


@dataclass(frozen=True)
class SparseSection:
    """One tensor's chunks."""

    step: int
    """Values of a full chunk."""
    blob: Bytes
    chunks: tuple[_Chunk, ...]

    def values(self, start: int, stop: int) -> Array:
        return self.chunks[-(-start // self.step)].values(self.blob)

    def squares(self) -> float:
        return ordered_sum(np.concatenate([chunk.squares(self.blob) for chunk in self.chunks]))


@dataclass(frozen=True)
class _Chunk:
    """The positions of a chunk's parts in the blob."""

    bits: int
    cut: Cut
    rice: int
    """Low bits of a gap that are not in unary."""
    unary_bytes: int
    start: int

    @property
    def steps(self) -> int:
        return self.start + 2 * self.cut.blocks

    @property
    def quotients(self) -> int:
        return self.steps + 2 * self.cut.blocks

    @property
    def remainders(self) -> int:
        return self.quotients + self.unary_bytes

    @property
    def codes(self) -> int:
        return self.remainders + plane_bytes(self.cut.count, self.rice)

    @property
    def end(self) -> int:
        return self.codes + plane_bytes(self.cut.count, self.bits)

    def check_lengths(self, name: str, total: int) -> None:
        """Runs before the parts after the table are read, so that nothing large is allocated."""
        if self.rice > self.cut.width:
            raise malformed(f"{name} has gaps of {self.rice} bits in blocks of {self.cut.length}")
        if (self.unary_bytes == 0) != (self.rice == self.cut.width):
            raise malformed(f"{name} has {self.unary_bytes} bytes of quotients at {self.rice} low bits")
        if self.codes - self.quotients > self.cut.fixed_bytes:
            raise malformed(f"{name} has indices that are longer than any need be")
        if self.end > total:
            raise malformed(f"it ends within {name}")

    def check(self, name: str, blob: Bytes) -> None:
        """Raises MalformedBlob unless `values` returns values that the format allows."""
        if not levels.are_sound(self.bits, *self._scales(blob)):
            raise malformed(f"{name} has a scale that is negative, NaN or out of bounds")
        count, ends = self.cut.count, self._run_ends(blob)
        if ends.size != count:
            raise malformed(f"{name} has {ends.size} indices in a chunk that has {count}")
        if self.unary_bytes and int(ends[-1]) // 8 != self.unary_bytes - 1:
            raise malformed(f"{name} has quotients that are padded")
        if bool((np.diff(self._sums(blob, ends)[:, -1], prepend=0) > self.cut.length).any()):
            raise malformed(f"{name} has an index beyond its block")
        if not is_padded_by_zeros(blob[self.remainders : self.codes], count * self.rice):
            raise malformed(f"{name} has remainders that are not padded by zeros")
        if not is_padded_by_zeros(blob[self.codes : self.end], count * self.bits):
            raise malformed(f"{name} has values that are not padded by zeros")

    def values(self, blob: Bytes) -> Array:
        """[blocks · length] with zeros for values that were not sent."""
        cut = self.cut
        sums = self._sums(blob, self._run_ends(blob))
        before = np.arange(cut.blocks) * cut.length
        before[1:] -= sums[:-1, -1]
        sums += (before - 1)[:, None]
        out = np.zeros(cut.blocks * cut.length, np.float32)
        out[sums.reshape(-1)] = levels.values(self.bits, self._codes(blob), *self._scales(blob))
        return out

    def squares(self, blob: Bytes) -> Doubles:
        """[blocks]: of each block, the sum of its values' squares."""
        return levels.squares(self.bits, self._codes(blob), *self._scales(blob))

    def _codes(self, blob: Bytes) -> Bytes:
        packed = blob[self.codes : self.end]
        return unpack_planes(packed, self.cut.count, self.bits).astype(np.uint8, copy=False)

    def _scales(self, blob: Bytes) -> tuple[levels.Scales, levels.Scales]:
        """[blocks] each: the lowest magnitudes, and the steps."""
        return blob[self.start : self.steps].view("<u2"), blob[self.steps : self.quotients].view("<u2")

    def _run_ends(self, blob: Bytes) -> npt.NDArray[np.int64]:
        """[n]: entry i is the sum of quotients 0 to i, plus i."""
        if not self.unary_bytes:
            return np.arange(self.cut.count)
        return run_ends(blob[self.quotients : self.remainders])

    def _sums(self, blob: Bytes, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[blocks, kept]: the sum of gap + 1 from the chunk's first value on, across its blocks.

        At most 2^19 runs of unary, shifted by less than 16, and 2^15 remainders below 2^16: no overflow.
        """
        place = np.arange(self.cut.count)
        low = unpack_planes(blob[self.remainders : self.codes], self.cut.count, self.rice)
        sums = np.cumsum(low, dtype=np.int64)
        sums += (ends - place) << self.rice
        sums += place
        sums += 1
        return sums.reshape(self.cut.blocks, self.cut.kept)


def _encode(bits: int, cut: Cut, name: str, chunk: Array) -> tuple[int, int, list[Bytes]]:
    """Rice parameter, unary bytes, and the parts. Subtracts from `chunk` [blocks · length] what is sent."""
    places = largest(chunk.view(np.int32).reshape(cut.blocks, cut.length) & MAGNITUDE, cut.kept)
    sent = chunk.take(places)
    # NaN and infinity have the largest bits, so they are among the chosen values.
    check_finite(np.isfinite(sent).all(), name)
    codes, lowest, steps = levels.quantize(bits, sent, cut.blocks)
    sent -= levels.values(bits, codes, lowest, steps)
    chunk[places] = sent
    rice, quotients, remainders = _indices(cut, places)
    scales = np.concatenate([lowest, steps]).astype("<u2").view(np.uint8)
    return rice, quotients.size, [scales, quotients, remainders, pack_planes(codes, bits)]


def _indices(cut: Cut, places: npt.NDArray[np.int64]) -> tuple[int, Bytes, Bytes]:
    """Rice parameter, quotients and remainders of a chunk's places, in the shortest code."""
    gaps = places.astype(np.uint16)  # they and their differences are below 2^16
    gaps[1:] -= gaps[:-1].copy()
    gaps -= 1
    gaps[:: cut.kept] = places[:: cut.kept] - np.arange(cut.blocks) * cut.length
    rice = _rice(cut, gaps)
    quotients = pack_runs(gaps >> rice) if rice < cut.width else np.empty(0, np.uint8)
    return rice, quotients, pack_planes(gaps, rice)


def _rice(cut: Cut, gaps: npt.NDArray[np.uint16]) -> int:
    """The parameter of the shortest code; `cut.width` where gaps of full width are not longer.

    The best one is within one of log2(mean · ln 2) (Kiely 2004, "Selecting the Golomb parameter").
    """
    near = int(gaps.mean() * 0.69).bit_length()
    tried = range(max(near - 2, 0), min(near + 2, cut.width))
    lengths = {cut.width: cut.fixed_bytes} | {r: _rice_bytes(gaps, r) for r in tried}
    return min(lengths, key=lengths.__getitem__)  # of equal lengths the first


def _rice_bytes(gaps: npt.NDArray[np.uint16], rice: int) -> int:
    """Bytes of quotients and remainders."""
    unary = int((gaps >> rice).sum()) + gaps.size
    return plane_bytes(unary, 1) + plane_bytes(gaps.size, rice)
