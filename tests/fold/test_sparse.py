"""The sparse format, against a slow reader written from its documentation."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnraise.contract.spec import Sparse
from barnraise.contract.state import Array, Layout
from barnraise.fold.codec import Decoder, blob_limit, blob_sizes, encode_in_place, typical_blob
from barnraise.fold.codec.formats import MAX_MAGNITUDE
from tests.support.parts import copied, tensors

HEADER_BYTES = 52
densities = st.sampled_from([1e-6, 1 / 64, 1 / 16, 0.125, 0.3, 0.5])
sparse_codecs = st.builds(
    Sparse, density=densities, bits=st.sampled_from([2, 4, 8]), block=st.sampled_from([64, 128, 1024])
)
sizes = st.one_of(st.integers(1, 200), st.sampled_from([1024, 1025, 65_536, 65_600, 70_001]))
KINDS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "gaussian": lambda r, n: r.standard_normal(n).astype(np.float32) * np.float32(1e-5),
    "integers": lambda r, n: r.integers(-3, 4, n).astype(np.float32),
    "zeros": lambda r, n: np.zeros(n, np.float32),
    "some": lambda r, n: np.where(r.random(n) < 0.01, r.standard_normal(n), 0).astype(np.float32),
    "constant": lambda r, n: np.full(n, -0.1, np.float32),
    "at the end": lambda r, n: (np.arange(n) >= n - 9).astype(np.float32),
    "subnormal": lambda r, n: r.standard_normal(n).astype(np.float32) * np.float32(1e-41),
    "huge": lambda r, n: r.standard_normal(n).astype(np.float32) * np.float32(1e30),
}


def encoded(codec: Sparse, values: Array) -> tuple[bytearray, Array, Array]:
    """The blob, what it decodes to, and the residual."""
    update, layout = {"x": values.copy()}, Layout.of({"x": values})
    blob = encode_in_place(codec, update, layout)
    return blob, Decoder(blob, codec, layout).tensor("x"), update["x"]


class Bits:
    """Reads bits, the lowest of a byte first."""

    def __init__(self, stored: bytes) -> None:
        self.bits = [byte >> place & 1 for byte in stored for place in range(8)]
        self.at = 0

    def run(self) -> int:
        start = self.at
        while not self.bits[self.at]:
            self.at += 1
        self.at += 1
        return self.at - 1 - start

    def plane(self, count: int) -> list[int]:
        self.at += count
        return self.bits[self.at - count : self.at]


def planes(stored: bytes, count: int, width: int) -> list[int]:
    bits = Bits(stored)
    read = [bits.plane(count) for _ in range(width)]
    return [sum(plane[i] << place for place, plane in enumerate(read)) for i in range(count)]


def bfloat16s(stored: bytes) -> list[np.float32]:
    return [np.uint32(bits << 16).view(np.float32) for (bits,) in struct.iter_unpack("<H", stored)]


def shapes_of_chunks(codec: Sparse, size: int) -> list[tuple[int, int, int]]:
    """(blocks, length, kept) of each chunk."""
    whole, rest = divmod(size, codec.block)
    at_once = 65_536 // codec.block
    shapes = [(min(at_once, whole - i), codec.block, codec.kept) for i in range(0, whole, at_once)]
    return shapes + ([(1, rest, max(1, -(-codec.kept * rest // codec.block)))] if rest else [])


def slowly(codec: Sparse, blob: bytearray, size: int) -> tuple[list[float], list[tuple[int, list[int]]]]:
    """A blob of one tensor, read value by value: its values, and each chunk's Rice parameter and gaps."""
    shapes = shapes_of_chunks(codec, size)
    values, found = [], []
    at = HEADER_BYTES + 3 * len(shapes)

    def taken(count: int) -> bytes:
        nonlocal at
        at += count
        return bytes(blob[at - count : at])

    for number, (blocks, length, kept) in enumerate(shapes):
        rice, unary_bytes = struct.unpack_from("<BH", blob, HEADER_BYTES + 3 * number)
        lowest, steps = (bfloat16s(taken(2 * blocks)) for _ in range(2))
        count = blocks * kept
        unary = Bits(taken(unary_bytes))
        quotients = [unary.run() if unary_bytes else 0 for _ in range(count)]
        remainders = planes(taken(-(-count * rice // 8)), count, rice)
        codes = planes(taken(-(-count * codec.bits // 8)), count, codec.bits)
        gaps = [q << rice | low for q, low in zip(quotients, remainders, strict=True)]
        found.append((rice, gaps))
        for block in range(blocks):
            row, place = [0.0] * length, -1
            for i in range(block * kept, (block + 1) * kept):
                place += gaps[i] + 1
                level = codes[i] & (1 << codec.bits - 1) - 1
                value = lowest[block] + np.float32(level) * steps[block]
                row[place] = float(-value if codes[i] >> codec.bits - 1 else value)
            values += row
    assert at == len(blob)
    return values, found


@settings(max_examples=60)
@given(sparse_codecs, sizes, st.sampled_from(sorted(KINDS)), st.integers(0, 2**32))
def test_a_blob_is_as_documented(codec: Sparse, size: int, kind: str, seed: int) -> None:
    blob, decoded, _ = encoded(codec, KINDS[kind](np.random.default_rng(seed), size))
    expected, chunks = slowly(codec, blob, size)
    np.testing.assert_array_equal(decoded, np.array(expected, np.float32))
    for (rice, gaps), (_, length, _) in zip(chunks, shapes_of_chunks(codec, size), strict=True):
        width = (length - 1).bit_length()
        shortest = min(index_bytes(gaps, r, width) for r in range(width + 1))
        assert index_bytes(gaps, rice, width) <= 1.02 * shortest + 1


def index_bytes(gaps: list[int], rice: int, width: int) -> int:
    unary = -(-(sum(gap >> rice for gap in gaps) + len(gaps)) // 8) if rice < width else 0
    return unary + -(-len(gaps) * rice // 8)


@given(sparse_codecs, sizes, st.sampled_from(sorted(KINDS)), st.integers(0, 2**32))
def test_the_largest_of_each_block_are_sent_and_the_others_kept(
    codec: Sparse, size: int, kind: str, seed: int
) -> None:
    values = KINDS[kind](np.random.default_rng(seed), size)
    blob, decoded, residual = encoded(codec, values)
    assert len(blob) in blob_sizes(codec, Layout((("x", (size,)),)))
    places = np.array(expected_places(codec, values))
    others = np.ones(size, bool)
    others[places] = False
    np.testing.assert_array_equal(residual[others], values[others])
    assert not decoded[others].any()
    assert np.abs(decoded).max() <= MAX_MAGNITUDE
    # One fp32 subtraction: half a unit in the last place of the largest of the three.
    whole = decoded.astype(np.float64) + residual
    largest = np.maximum.reduce([np.abs(values), np.abs(decoded), np.abs(residual)])
    assert (np.abs(whole - values) <= 2.0**-24 * largest + 2.0**-149).all()


def expected_places(codec: Sparse, values: Array) -> list[int]:
    start, places = 0, []
    for blocks, length, kept in shapes_of_chunks(codec, values.size):
        for _ in range(blocks):
            block = np.abs(values[start : start + length])
            places += [start + int(i) for i in np.argsort(-block, kind="stable")[:kept]]
            start += length
    return places


@pytest.mark.parametrize("bits", [4, 8])
def test_a_value_that_is_sent_is_off_by_at_most_half_a_step(bits: int) -> None:
    codec = Sparse.model_validate({"density": 0.25, "bits": bits, "block": 64})
    values = tensors(1, Layout((("x", (64,)),)))["x"]
    _, decoded, residual = encoded(codec, values)
    sent = np.sort(np.abs(values))[-16:]
    # bfloat16: the lowest is up to 2^-7 below, and the step 2^-7 above what would do.
    step = (sent[-1] - sent[0] * (1 - 2**-7)) / (2 ** (bits - 1) - 1) * (1 + 2**-7)
    assert np.abs(residual[decoded != 0]).max() <= step / 2 * (1 + 1e-5)


def test_two_bits_lose_little_of_what_is_sent() -> None:
    values = tensors(2, Layout((("x", (1 << 18,)),)))["x"]
    _, decoded, residual = encoded(Sparse(density=1 / 16, bits=2), values)
    sent = decoded != 0
    assert np.square(residual[sent]).sum() < 0.02 * np.square(values[sent]).sum()


@pytest.mark.parametrize(("density", "bits_an_index"), [(1 / 64, 7.5), (1 / 16, 5.47), (0.125, 4.41)])
def test_the_indices_of_gaussian_values_take_the_expected_bits(density: float, bits_an_index: float) -> None:
    layout = Layout((("x", (1 << 20,)),))
    codec = Sparse(density=density, bits=4)
    blob = encode_in_place(codec, tensors(3, layout), layout)
    sent, chunks, blocks = codec.kept * 256, 16, 256
    index_bits = 8 * (len(blob) - HEADER_BYTES - 3 * chunks - 4 * blocks) / sent - 4
    assert index_bits == pytest.approx(bits_an_index, abs=0.03)
    assert len(blob) == pytest.approx(typical_blob(codec, layout), rel=0.01)
    assert len(blob) < 0.75 * blob_limit(codec, layout)


def test_consecutive_indices_take_a_bit_each() -> None:
    values = np.zeros(1 << 16, np.float32)
    blob, _, _ = encoded(Sparse(density=0.125, bits=2), values)
    assert len(blob) == min(blob_sizes(Sparse(density=0.125, bits=2), Layout((("x", (1 << 16,)),))))


def test_distant_indices_take_gaps_of_full_width() -> None:
    codec = Sparse(density=1 / 64, bits=2, block=64)
    values = np.zeros(64, np.float32)
    values[-1] = 1
    blob, decoded, _ = encoded(codec, values)
    assert len(blob) == blob_limit(codec, Layout((("x", (64,)),)))
    assert decoded[-1] == 1


def drawn(size: int) -> Array:
    return np.random.default_rng(7).standard_normal(size).astype(np.float32)


def test_the_update_of_a_chunk_does_not_depend_on_the_others() -> None:
    codec = Sparse(density=1 / 16, bits=4)
    update = {"x": drawn(3 << 16)}
    parts = [update["x"][i << 16 : i + 1 << 16].copy() for i in range(3)]
    _, whole, _ = encoded(codec, copied(update)["x"])
    np.testing.assert_array_equal(whole, np.concatenate([encoded(codec, part)[1] for part in parts]))
