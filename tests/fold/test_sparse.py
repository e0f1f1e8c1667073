"""The sparse format, against a slow reader of what its documentation says, and against what lies."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnraise.contract.spec import Sparse
from barnraise.contract.spec_file import parse_spec
from barnraise.contract.state import Array, Layout
from barnraise.core.errors import MalformedBlob, SpecError
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
def test_a_blob_is_what_its_documentation_says(codec: Sparse, size: int, kind: str, seed: int) -> None:
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
def test_the_largest_of_each_block_are_sent_and_all_others_kept(
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
def test_the_indices_of_gaussians_take_what_was_reckoned_with(density: float, bits_an_index: float) -> None:
    layout = Layout((("x", (1 << 20,)),))
    codec = Sparse(density=density, bits=4)
    blob = encode_in_place(codec, tensors(3, layout), layout)
    sent, chunks, blocks = codec.kept * 256, 16, 256
    index_bits = 8 * (len(blob) - HEADER_BYTES - 3 * chunks - 4 * blocks) / sent - 4
    assert index_bits == pytest.approx(bits_an_index, abs=0.03)
    assert len(blob) == pytest.approx(typical_blob(codec, layout), rel=0.01)
    assert len(blob) < 0.75 * blob_limit(codec, layout)


def test_places_that_follow_each_other_take_a_bit_each() -> None:
    values = np.zeros(1 << 16, np.float32)
    blob, _, _ = encoded(Sparse(density=0.125, bits=2), values)
    assert len(blob) == min(blob_sizes(Sparse(density=0.125, bits=2), Layout((("x", (1 << 16,)),))))


def test_places_far_apart_take_gaps_of_full_width() -> None:
    codec = Sparse(density=1 / 64, bits=2, block=64)
    values = np.zeros(64, np.float32)
    values[-1] = 1
    blob, decoded, _ = encoded(codec, values)
    assert len(blob) == blob_limit(codec, Layout((("x", (64,)),)))
    assert decoded[-1] == 1


# What is refused. One tensor of four blocks of 64, of each of which 8 are sent, in 4 bits.

CODEC = Sparse(density=0.125, bits=4, block=64)
LINE = Layout((("x", (256,)),))
TABLE, SCALES = HEADER_BYTES, HEADER_BYTES + 3
STEPS, QUOTIENTS = SCALES + 8, SCALES + 16


def sample() -> bytearray:
    """Its gaps have quotients, and neither quotients nor remainders fill their last byte."""
    blob = encode_in_place(CODEC, tensors(4, LINE), LINE)
    rice, unary_bytes = struct.unpack_from("<BH", blob, TABLE)
    assert 0 < rice < 6
    assert blob[QUOTIENTS + unary_bytes - 1] < 0x80
    return blob


def put(place: int, *new: int) -> Callable[[bytearray], None]:
    return lambda blob: blob.__setitem__(slice(place, place + len(new)), bytes(new))


def last_quotient_byte(blob: bytearray) -> int:
    return QUOTIENTS + struct.unpack_from("<BH", blob, TABLE)[1] - 1


def one_more(blob: bytearray) -> None:
    blob[last_quotient_byte(blob)] |= 0x80


def one_less(blob: bytearray) -> None:
    place = next(i for i in range(QUOTIENTS, len(blob)) if blob[i])
    blob[place] &= blob[place] - 1


def longer_quotients(blob: bytearray) -> None:
    """A byte of zeros behind the last run, paid for by nothing: the indices stay below their limit."""
    end = last_quotient_byte(blob) + 1
    blob[end:end] = b"\0"
    blob[TABLE + 1] += 1


def further(blob: bytearray) -> None:
    """The first gap's quotient is larger by 8, and so all of its block is, and its end."""
    blob[QUOTIENTS:QUOTIENTS] = b"\0"
    blob[TABLE + 1] += 1


def full_width(gaps: int) -> Callable[[bytearray], None]:
    """Gaps of full width, all of them `gaps`."""

    def change(blob: bytearray) -> None:
        values = blob[-16:]
        blob[TABLE:SCALES] = bytes([6, 0, 0])
        blob[QUOTIENTS:] = (
            bytes(byte for place in range(6) for byte in [255 * (gaps >> place & 1)] * 4) + values
        )

    return change


LIES: dict[str, tuple[Callable[[bytearray], Any], str]] = {
    "another density": (put(6, 7, 0), "header"),
    "a Rice parameter beyond the block": (put(TABLE, 7), "gaps of 7 bits"),
    "no quotients": (put(TABLE + 1, 0, 0), "0 bytes of quotients"),
    "quotients and gaps of full width": (put(TABLE, 6), "bytes of quotients at 6 low bits"),
    "quotients without end": (put(TABLE + 1, 255, 255), "longer than any need be"),
    "an index too many": (one_more, "33 indices in a chunk that has 32"),
    "an index too few": (one_less, "31 indices in a chunk that has 32"),
    "padded quotients": (longer_quotients, "quotients that are padded"),
    "an index beyond its block, by its quotient": (further, "an index beyond its block"),
    "an index beyond its block, by its remainders": (full_width(63), "an index beyond its block"),
    "lowest is NaN": (put(SCALES, 0xC0, 0x7F), "a scale"),
    "lowest is infinite": (put(SCALES, 0x80, 0x7F), "a scale"),
    "lowest is negative": (put(SCALES, 0x80, 0xBF), "a scale"),
    "lowest is huge": (put(SCALES, 0x75, 0x49), "a scale"),
    "step is NaN": (put(STEPS + 6, 0xC0, 0x7F), "a scale"),
    "step is negative": (put(STEPS + 6, 0x80, 0xBF), "a scale"),
    "step times level is huge": (put(STEPS + 6, 0x80, 0x48), "a scale"),
    "step times level is infinite": (put(STEPS + 6, 0x7F, 0x7F), "a scale"),
    "more at the end": (lambda blob: blob.append(0), "its tensors end after"),
    "less at the end": (lambda blob: blob.pop(), "it ends within x"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_told_as_what_it_is(lie: str) -> None:
    change, message = LIES[lie]
    blob = sample()
    Decoder(blob, CODEC, LINE)
    change(blob)
    with pytest.raises(MalformedBlob, match=message):
        Decoder(blob, CODEC, LINE)


def test_gaps_of_full_width_are_read_too() -> None:
    blob = sample()
    full_width(7)(blob)
    decoded = Decoder(blob, CODEC, LINE).tensor("x")
    assert np.flatnonzero(decoded[:64]).tolist() == [7, 15, 23, 31, 39, 47, 55, 63]


def test_a_step_up_to_the_largest_magnitude_is_read() -> None:
    blob = sample()
    put(STEPS + 6, 0x00, 0x48)(blob)  # 131072, and seven times that with what is lowest
    assert 9e5 < np.abs(Decoder(blob, CODEC, LINE).tensor("x")).max() <= MAX_MAGNITUDE


ODD = Layout((("x", (63,)),))
"""A block that is not full."""


@pytest.mark.parametrize(
    ("kept", "message"), [(7, "values that are not padded"), (3, "values that are not padded")]
)
def test_padding_that_is_not_zero_is_refused(kept: int, message: str) -> None:
    codec = Sparse(density=kept / 64, bits=2, block=64)
    blob = encode_in_place(codec, tensors(5, ODD), ODD)
    blob[-1] |= 0x80
    with pytest.raises(MalformedBlob, match=message):
        Decoder(blob, codec, ODD)


def test_padding_of_the_remainders_that_is_not_zero_is_refused() -> None:
    codec = Sparse(density=3 / 64, bits=8, block=64)
    blob = encode_in_place(codec, tensors(6, ODD), ODD)
    rice, _ = struct.unpack_from("<BH", blob, TABLE)
    assert rice * 3 % 8
    blob[-4] |= 0x80
    with pytest.raises(MalformedBlob, match="remainders that are not padded"):
        Decoder(blob, codec, ODD)


@pytest.mark.parametrize(
    ("missing", "message"), [(7, "it ends within the table of y"), (3, "it ends within y")]
)
def test_a_blob_that_ends_early_says_where(missing: int, message: str) -> None:
    layout = Layout((("x", (1 << 16,)), ("y", (1,))))
    codec = Sparse(density=1 / 16, bits=2)
    blob = encode_in_place(codec, {"x": drawn(1 << 16), "y": np.ones(1, np.float32)}, layout)[:-missing]
    assert len(blob) in blob_sizes(codec, layout), "its length alone is valid"
    with pytest.raises(MalformedBlob, match=message):
        Decoder(blob, codec, layout)


def drawn(size: int) -> Array:
    return np.random.default_rng(7).standard_normal(size).astype(np.float32)


def test_the_update_of_a_chunk_does_not_depend_on_the_others() -> None:
    codec = Sparse(density=1 / 16, bits=4)
    update = {"x": drawn(3 << 16)}
    parts = [update["x"][i << 16 : i + 1 << 16].copy() for i in range(3)]
    _, whole, _ = encoded(codec, copied(update)["x"])
    np.testing.assert_array_equal(whole, np.concatenate([encoded(codec, part)[1] for part in parts]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("block = 96", "power of two, as 64 is"),
        ("block = 32", "64"),
        ("density = 0", "density"),
        ("density = 0.6", "density"),
        ("bits = 3", "bits"),
        ("ef_decay = 1.5", "ef_decay"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(setting: str, message: str) -> None:
    text = f'name = "barn"\n[data]\nsource = "x"\n[codec]\nkind = "sparse"\n{setting}\n'
    with pytest.raises(SpecError, match=message):
        parse_spec(text)


def test_a_sparse_codec_is_read_from_a_spec() -> None:
    spec = parse_spec('name = "barn"\n[data]\nsource = "x"\n[codec]\nkind = "sparse"\ndensity = 0.015625\n')
    assert spec.codec == Sparse(density=1 / 64)
    assert isinstance(spec.codec, Sparse)
    assert spec.codec.kept == 64
