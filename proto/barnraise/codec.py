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
from barnraise.spec import CodecSpec, Dense, Raw
from barnraise.state import Array, Layout

CHUNK = 1 << 18
"""Values handled at once: small enough for the processor's cache."""

MAX_MAGNITUDE = 1e6
"""No honest update has a larger value; a blob that could decode to one is refused."""

_MAGIC = b"BRN1"
_HEADER = struct.Struct("<4sBBHIQ32s")
_RAW, _DENSE = 0, 1
_HALF_MAX = 65504.0

_NIBBLES = np.stack([np.arange(256) % 16, np.arange(256) // 16], axis=1).astype(np.float32) - np.float32(8)
_CRUMBS = (np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3).astype(np.float32) - np.float32(1.5)


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
                halves = values.view("<u2")
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
    if not bool(np.all(np.isfinite(chunk))):
        raise StateError(
            f"the update of {name} is not finite",
            fix="Lower the learning rate, or set `train.inner.clip_norm`; this round is not sent.",
        )
    stop = start + chunk.size
    match codec:
        case Raw():
            values.view("<f4")[start:stop] = chunk
        case Dense(bits=16):
            values.view("<f2")[start:stop] = np.clip(chunk, -_HALF_MAX, _HALF_MAX)
        case Dense(bits=bits, block=block):
            blocks = _in_blocks(chunk, block)
            rows = slice(start // block, start // block + len(blocks))
            scales[rows] = _block_scales(bits, blocks)
            steps = _scale_values(scales[rows])[:, None]
            units = np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps > 0)
            codes = _codes(bits, units).reshape(-1)
            first = start * bits // 8
            packed = _pack(bits, codes)
            values[first : first + packed.size] = packed
    chunk -= _decode_chunk(codec, scales, values, start, stop)


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
            return values.view("<f2")[start:stop].astype(np.float32)
        case Dense(bits=bits, block=block):
            count = -(-(stop - start) // block)
            first = start * bits // 8
            units = _unpack(bits, values[first : first + count * block * bits // 8]).reshape(count, block)
            steps = _scale_values(scales[start // block : start // block + count])
            decoded: Array = units * steps[:, None]
            return decoded.reshape(-1)[: stop - start]


def _in_blocks(chunk: Array, block: int) -> Array:
    """[n, block] with the last block padded by zeros."""
    missing = -chunk.size % block
    return (np.concatenate([chunk, np.zeros(missing, np.float32)]) if missing else chunk).reshape(-1, block)


def _block_scales(bits: int, blocks: Array) -> npt.NDArray[np.uint16]:
    """bfloat16 bits of each block's scale, rounded up so that the largest value is in range."""
    if bits == 2:
        mean_square = np.square(blocks, dtype=np.float64).mean(axis=1)
        scale = (0.9957 * np.sqrt(mean_square)).astype(np.float32)
    else:
        scale = np.abs(blocks).max(axis=1) / np.float32(2 ** (bits - 1) - 1)
    limit = np.float32(MAX_MAGNITUDE / 2**bits)
    raised = np.minimum(scale, limit).view(np.uint32) + np.uint32(0xFFFF)
    return (raised >> 16).astype(np.uint16)


def _scale_values(bits: npt.NDArray[np.uint16]) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _codes(bits: int, units: Array) -> npt.NDArray[np.uint8]:
    if bits == 2:
        return np.clip(np.floor(units) + 2, 0, 3).astype(np.uint8)
    if bits == 4:
        return (np.clip(np.rint(units), -7, 7) + 8).astype(np.uint8)
    return np.clip(np.rint(units), -127, 127).astype(np.int8).view(np.uint8)


def _pack(bits: int, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if bits == 8:
        return codes
    per_byte = 8 // bits
    packed = codes[0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= codes[place::per_byte] << (bits * place)
    return packed


def _unpack(bits: int, packed: npt.NDArray[np.uint8]) -> Array:
    """The units that the packed codes stand for, fp32."""
    match bits:
        case 2:
            return _CRUMBS[packed].reshape(-1)
        case 4:
            return _NIBBLES[packed].reshape(-1)
        case _:
            return packed.view(np.int8).astype(np.float32)


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
