"""The codec: an update's tensors to a blob and back.

A blob is a fixed header and, per tensor in layout order, a section in the run's format: `dense.py`
for those that send every value, `sparse.py` for those that send the largest. The possible sizes of
a run's blobs follow from layout and codec, so a larger one is refused before it is fetched.

Decoding is exact on every machine: all arithmetic is numpy's, elementwise fp32 with one rounding an
operation, because the fold must not depend on fused operations or the thread count of a machine.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
from typing_extensions import assert_never

from barnraise.contract.spec import CodecSpec, Dense, Raw, Sparse
from barnraise.contract.state import Array, Layout
from barnraise.core.errors import StateError
from barnraise.fold.codec.dense import BlockFormat, HalfFormat, RawFormat
from barnraise.fold.codec.formats import Format, Section, malformed
from barnraise.fold.codec.sparse import SparseFormat

_MAGIC = b"BRN1"
_HEADER = struct.Struct("<4sBBHIQ32s")


def blob_sizes(codec: CodecSpec, layout: Layout) -> range:
    """The possible sizes of a run's blobs in bytes; a single one unless the codec is sparse."""
    form = _format(codec)
    bounds = [form.sizes(math.prod(shape)) for _, shape in layout]
    least, most = (_HEADER.size + sum(bound[end] for bound in bounds) for end in (0, 1))
    return range(least, most + 1)


def blob_limit(codec: CodecSpec, layout: Layout) -> int:
    """The largest blob of a run, in bytes."""
    return blob_sizes(codec, layout)[-1]


def typical_blob(codec: CodecSpec, layout: Layout) -> int:
    """Expected bytes of a blob: exact unless the codec is sparse, whose indices vary in length."""
    form = _format(codec)
    return _HEADER.size + sum(form.typical(math.prod(shape)) for _, shape in layout)


def encode_in_place(codec: CodecSpec, tensors: dict[str, Array], layout: Layout) -> bytearray:
    """Encode `tensors` and leave in them what the blob does not contain (error feedback).

    The caller adds its residual to `tensors` before, and keeps `tensors` as the residual after
    (Seide et al. 2014, "1-bit SGD"; Karimireddy et al. 2019, algorithm 1). The blob is the
    only allocation of the size of the update.

    Raises StateError when a value is not finite, with `tensors` partly consumed.
    """
    layout.check(tensors, "the update")
    form = _format(codec)
    blob = bytearray(blob_limit(codec, layout))
    _HEADER.pack_into(blob, 0, *_header_fields(codec, layout))
    section, offset = np.frombuffer(blob, np.uint8), _HEADER.size
    for name, _ in layout:
        flat = tensors[name].reshape(-1)
        if not np.shares_memory(flat, tensors[name]):
            raise StateError(f"the update's tensor {name} is not contiguous", fix="This is a bug: report it.")
        offset = form.encode(name, flat, section, offset)
    del section  # a bytearray with an exported buffer cannot be resized
    del blob[offset:]
    return blob


class Decoder:
    """A checked blob that decodes values on demand.

    Raises MalformedBlob from the constructor unless header and lengths are this run's and every value
    in it will decode to a finite one of at most MAX_MAGNITUDE. After that, decoding cannot fail.
    """

    def __init__(self, blob: bytes | bytearray | memoryview, codec: CodecSpec, layout: Layout) -> None:
        lengths = blob_sizes(codec, layout)
        if len(blob) not in lengths:
            raise malformed(f"{len(blob)} bytes where this run's blobs have {format_sizes(lengths)}")
        if _HEADER.unpack_from(blob) != _header_fields(codec, layout):
            raise malformed("its header names another codec or other tensors than this run's")
        form = _format(codec)
        self._codec = codec
        self._shapes = dict(layout.shapes)
        self._norm: float | None = None
        self._sections: dict[str, Section] = {}
        stored, offset = np.frombuffer(blob, np.uint8), _HEADER.size
        for name, shape in layout:
            self._sections[name], offset = form.read(name, math.prod(shape), stored, offset)
        if offset != len(blob):
            raise malformed(f"its tensors end after {offset} bytes, and it has {len(blob)}")

    def values(self, name: str, start: int, stop: int) -> Array:
        """Values [start, stop) of the flattened tensor: one of the ranges of `chunks`."""
        return self._sections[name].values(start, stop)

    def norm(self) -> float:
        """The Euclidean norm of all values together: the same bits on every machine."""
        if self._norm is None:
            self._norm = math.sqrt(math.fsum(section.squares() for section in self._sections.values()))
        return self._norm

    def tensor(self, name: str) -> Array:
        shape = self._shapes[name]
        size = math.prod(shape)
        out = np.empty(size, np.float32)
        for start, stop in chunks(self._codec, size):
            out[start:stop] = self.values(name, start, stop)
        return out.reshape(shape)


def chunks(codec: CodecSpec, size: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover `size` values and can be decoded separately."""
    return _format(codec).chunks(size)


def format_sizes(lengths: range) -> str:
    """For an error message."""
    return f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"


def _format(codec: CodecSpec) -> Format:
    match codec:
        case Raw():
            return RawFormat()
        case Dense(bits=16, block=block):
            return HalfFormat(block)
        case Dense(bits=bits, block=block):
            return BlockFormat(bits, block)
        case Sparse(bits=bits, block=block):
            return SparseFormat(bits, block, codec.kept)
        case _:
            assert_never(codec)


def _header_fields(codec: CodecSpec, layout: Layout) -> tuple[bytes, int, int, int, int, int, bytes]:
    form = _format(codec).identifier
    digest = bytes.fromhex(layout.digest())
    return (_MAGIC, form.kind, form.bits, form.kept, form.block, layout.parameters, digest)
