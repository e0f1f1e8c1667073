"""The codec: an update's tensors to a blob and back.

A blob is a fixed header and, per tensor in layout order, the block scales and then the packed
values. Its length follows from layout and codec alone, so a blob of any other length is refused
before anything is read from it.

| kind     | scale of a block         | value                                     |
|----------|--------------------------|-------------------------------------------|
| dense 2  | bfloat16, 0.9957 · rms   | (c − 1.5) · scale, c in 0..3              |
| dense 4  | bfloat16, max / 7        | (c − 8) · scale,   c in 0..15             |
| dense 8  | bfloat16, max / 127      | c · scale,         c in −128..127         |
| dense 16 | –                        | IEEE half                                 |
| raw      | –                        | IEEE single                               |

0.9957 · rms is the step of the best uniform 4-level quantizer of a Gaussian (Max 1960, table I).
Decoding is one fp32 multiplication per value, exact on every machine; all arithmetic is numpy's,
elementwise, because the fold must not depend on a machine's fused operations or thread count.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from barnraise.errors import MalformedBlob, StateError
from barnraise.half import HALF_MAX, half_bits, half_values
from barnraise.spec import CodecSpec, Dense, Raw
from barnraise.state import Array, Layout

CHUNK = 1 << 16
"""Values handled at once: small enough for the processor's cache."""

MAX_MAGNITUDE = 1e6
"""No honest update has a larger value; a blob that could decode to one is refused."""

_MAGIC = b"BRN1"
_HEADER = struct.Struct("<4sBBHIQ32s")
_RAW, _DENSE = 0, 1
_MAGNITUDE = np.int32(0x7FFF_FFFF)

_ZERO = {2: np.float32(1.5), 4: np.float32(8)}
"""The code, or the place between two codes, that stands for 0."""


def _units_of_bytes(bits: int) -> npt.NDArray[np.generic]:
    """[256]: the fp32 units of a byte's codes side by side, as one item, so that one look-up gets all."""
    codes = np.arange(256)[:, None] >> np.arange(0, 8, bits) & (2**bits - 1)
    units = codes.astype(np.float32) - _ZERO[bits]
    together: npt.NDArray[np.generic] = units.view({2: np.complex128, 4: np.complex64}[bits])
    return together.reshape(-1)


_UNITS = {bits: _units_of_bytes(bits) for bits in (2, 4)}


def blob_size(codec: CodecSpec, layout: Layout) -> int:
    """Bytes of every blob of this run."""
    return _HEADER.size + sum(_tensor_bytes(codec, math.prod(shape)) for _, shape in layout)


def encode_in_place(codec: CodecSpec, tensors: dict[str, Array], layout: Layout) -> bytearray:
    """Encode `tensors` and leave in them what the blob does not carry: error feedback.

    The caller adds its residual to `tensors` before, and keeps `tensors` as the residual after
    (Seide et al. 2014, "1-bit SGD"; Karimireddy et al. 2019, algorithm 1). Nothing of the size
    of the update is allocated besides the blob.

    Raises StateError when a value is not finite, with `tensors` partly consumed.
    """
    layout.check(tensors, "the update")
    blob = bytearray(blob_size(codec, layout))
    _HEADER.pack_into(blob, 0, *_header_fields(codec, layout))
    offset = _HEADER.size
    for name, shape in layout:
        size = math.prod(shape)
        flat = tensors[name].reshape(-1)
        if not np.shares_memory(flat, tensors[name]):
            raise StateError(f"the update's tensor {name} is not contiguous", fix="This is a bug: report it.")
        scales, values = _sections(codec, np.frombuffer(blob, np.uint8), offset, size)
        for start, stop in chunks(codec, size):
            _encode_chunk(codec, name, flat[start:stop], start, scales, values)
        offset += _tensor_bytes(codec, size)
    return blob


class Decoder:
    """A blob that was checked, and its values on demand.

    Raises MalformedBlob from the constructor unless header and length are this run's and every
    scale or float in it is finite and at most MAX_MAGNITUDE when decoded.
    """

    def __init__(self, blob: bytes | bytearray | memoryview, codec: CodecSpec, layout: Layout) -> None:
        if len(blob) != blob_size(codec, layout):
            raise _malformed(f"{len(blob)} bytes where this run's blobs have {blob_size(codec, layout)}")
        if _HEADER.unpack_from(blob) != _header_fields(codec, layout):
            raise _malformed("its header names another codec or other tensors than this run's")
        self._codec = codec
        self._bytes = np.frombuffer(blob, np.uint8)
        self._sections: dict[str, tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]] = {}
        self._shapes = dict(layout.shapes)
        offset = _HEADER.size
        for name, shape in layout:
            size = math.prod(shape)
            self._sections[name] = _sections(codec, self._bytes, offset, size)
            self._check(name, size)
            offset += _tensor_bytes(codec, size)

    def values(self, name: str, start: int, stop: int) -> Array:
        """Values [start, stop) of the flattened tensor, as `chunks` cuts it."""
        scales, values = self._sections[name]
        return _decode_chunk(self._codec, scales, values, start, stop)

    def tensor(self, name: str) -> Array:
        shape = self._shapes[name]
        size = math.prod(shape)
        out = np.empty(size, np.float32)
        for start, stop in chunks(self._codec, size):
            out[start:stop] = self.values(name, start, stop)
        return out.reshape(shape)

    def _check(self, name: str, size: int) -> None:
        scales, values = self._sections[name]
        match self._codec:
            case Dense(bits=16):
                for start, stop in chunks(self._codec, size):
                    halves = values.view("<u2")[start:stop]
                    if bool(np.any((halves & 0x7C00) == 0x7C00)):
                        raise _malformed(f"{name} holds NaN or infinity")
            case Dense(bits=bits):
                decoded = _scale_values(scales)
                largest = {2: 1.5, 4: 8.0, 8: 128.0}[bits]
                if not bool(np.all((decoded >= 0) & (decoded <= MAX_MAGNITUDE / largest))):
                    raise _malformed(f"{name} has a scale that is negative, NaN or out of bounds")
            case Raw():
                for start, stop in chunks(self._codec, size):
                    chunk = self.values(name, start, stop)
                    if not bool(np.all(np.abs(chunk) <= MAX_MAGNITUDE)):
                        raise _malformed(f"{name} holds NaN, infinity or a value out of bounds")


def chunks(codec: CodecSpec, size: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover `size` values and never cut a block."""
    block = codec.block if isinstance(codec, Dense) else 1
    step = max(CHUNK // block, 1) * block
    return ((start, min(start + step, size)) for start in range(0, size, step))


def _encode_chunk(
    codec: CodecSpec,
    name: str,
    chunk: Array,
    start: int,
    scales: npt.NDArray[np.uint16],
    values: npt.NDArray[np.uint8],
) -> None:
    """Write `chunk` into the blob's sections and subtract from it what was written."""
    stop = start + chunk.size
    match codec:
        case Raw():
            _check_finite(np.isfinite(chunk), name)
            sent = np.clip(chunk, -MAX_MAGNITUDE, MAX_MAGNITUDE)
            values.view("<f4")[start:stop] = sent
            chunk -= sent
        case Dense(bits=16):
            _check_finite(np.isfinite(chunk), name)
            halves = half_bits(np.clip(chunk, -HALF_MAX, HALF_MAX))
            values.view("<u2")[start:stop] = halves
            chunk -= half_values(halves)
        case Dense(bits=bits, block=block):
            blocks = _in_blocks(chunk, block)
            rows = slice(start // block, start // block + len(blocks))
            scale = _block_scales(bits, blocks)
            _check_finite(np.isfinite(scale), name)
            scales[rows] = _scale_bits(bits, scale)
            steps = _scale_values(scales[rows])[:, None]
            units = np.divide(blocks, np.where(steps > 0, steps, np.float32(np.inf)))
            packed = _pack(bits, _quantize(bits, units).reshape(-1))
            first = start * bits // 8
            values[first : first + packed.size] = packed
            units *= steps
            chunk -= units.reshape(-1)[: chunk.size]


def _check_finite(finite: npt.NDArray[np.bool_], name: str) -> None:
    if not bool(finite.all()):
        raise StateError(
            f"the update of {name} is not finite",
            fix="Lower the learning rate, or set `train.inner.clip_norm`; this round is not sent.",
        )


def _decode_chunk(
    codec: CodecSpec,
    scales: npt.NDArray[np.uint16],
    values: npt.NDArray[np.uint8],
    start: int,
    stop: int,
) -> Array:
    match codec:
        case Raw():
            return values.view("<f4")[start:stop].astype(np.float32)
        case Dense(bits=16):
            return half_values(values.view("<u2")[start:stop])
        case Dense(bits=bits, block=block):
            count = -(-(stop - start) // block)
            first = start * bits // 8
            units = _unpack(bits, values[first : first + count * block * bits // 8])
            blocks = units.reshape(count, block)
            blocks *= _scale_values(scales[start // block : start // block + count])[:, None]
            return units[: stop - start]


def _in_blocks(chunk: Array, block: int) -> Array:
    """[n, block] with the last block padded by zeros."""
    missing = -chunk.size % block
    return (np.concatenate([chunk, np.zeros(missing, np.float32)]) if missing else chunk).reshape(-1, block)


def _block_scales(bits: int, blocks: Array) -> Array:
    """[n]: each block's scale in fp32; not finite where a value of the block is not."""
    if bits == 2:
        squares = blocks.astype(np.float64)
        np.square(squares, out=squares)
        root: Array = (0.9957 * np.sqrt(squares.mean(axis=1))).astype(np.float32)
        return root
    # Magnitudes are ordered as their bits are, and numpy is three times as fast on integers.
    largest: Array = (blocks.view(np.int32) & _MAGNITUDE).max(axis=1).view(np.float32)
    largest /= np.float32(2 ** (bits - 1) - 1)
    return largest


def _scale_bits(bits: int, scale: Array) -> npt.NDArray[np.uint16]:
    """As bfloat16, rounded up so that the block's largest value is in range."""
    limit = np.float32(MAX_MAGNITUDE / 2**bits)
    raised = np.minimum(scale, limit).view(np.uint32) + np.uint32(0xFFFF)
    return (raised >> 16).astype(np.uint16)


def _scale_values(bits: npt.NDArray[np.uint16]) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _quantize(bits: int, units: Array) -> npt.NDArray[np.uint8]:
    """The codes of values in units of their scale. Leaves in `units` what the codes stand for."""
    if bits == 8:
        signed = np.clip(np.rint(units, out=units), -127, 127, out=units).astype(np.int8)
        np.copyto(units, signed)
        return signed.view(np.uint8)
    if bits == 2:
        np.floor(units, out=units)
        units += np.float32(2)
        np.clip(units, 0, 3, out=units)
    else:
        np.clip(np.rint(units, out=units), -7, 7, out=units)
        units += np.float32(8)
    codes = units.astype(np.uint8)
    units -= _ZERO[bits]
    return codes


def _pack(bits: int, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Several codes to a byte, the first one lowest: all codes of a word at once, by shifts."""
    match bits:
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


def _unpack(bits: int, packed: npt.NDArray[np.uint8]) -> Array:
    """The units that the packed codes stand for, fp32."""
    if bits == 8:
        return packed.view(np.int8).astype(np.float32)
    return _UNITS[bits].take(packed).view(np.float32)


def _sections(
    codec: CodecSpec, blob: npt.NDArray[np.uint8], offset: int, size: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Views of one tensor's scales and packed values."""
    scale_bytes, value_bytes = _section_bytes(codec, size)
    middle = offset + scale_bytes
    return blob[offset:middle].view("<u2"), blob[middle : middle + value_bytes]


def _section_bytes(codec: CodecSpec, size: int) -> tuple[int, int]:
    match codec:
        case Raw():
            return 0, 4 * size
        case Dense(bits=16):
            return 0, 2 * size
        case Dense(bits=bits, block=block):
            blocks = -(-size // block)
            return 2 * blocks, blocks * block * bits // 8


def _tensor_bytes(codec: CodecSpec, size: int) -> int:
    return sum(_section_bytes(codec, size))


def _header_fields(codec: CodecSpec, layout: Layout) -> tuple[bytes, int, int, int, int, int, bytes]:
    kind, bits, block = (_DENSE, codec.bits, codec.block) if isinstance(codec, Dense) else (_RAW, 32, 1)
    digest = bytes.fromhex(layout.digest())
    return (_MAGIC, kind, bits, 0, block, layout.parameters, digest)


def _malformed(what: str) -> MalformedBlob:
    return MalformedBlob(
        f"a contribution's blob is not one: {what}",
        fix="It is refused and the round goes on without it. Its sender may run another version.",
    )
