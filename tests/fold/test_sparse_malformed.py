"""Malformed blobs of the sparse format, and settings of it that are invalid."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from barnraise.contract.spec import Sparse
from barnraise.contract.spec_file import parse_spec
from barnraise.contract.state import Layout
from barnraise.core.errors import MalformedBlob, SpecError
from barnraise.fold.codec import Decoder, blob_sizes, encode_in_place
from barnraise.fold.codec.formats import MAX_MAGNITUDE
from tests.support.parts import tensors

HEADER_BYTES = 52

CODEC = Sparse(density=0.125, bits=4, block=64)
LINE = Layout((("x", (256,)),))
"""One tensor of four blocks of 64 values, 8 of which are sent."""
TABLE, SCALES = HEADER_BYTES, HEADER_BYTES + 3
STEPS, QUOTIENTS = SCALES + 8, SCALES + 16


def sample() -> bytearray:
    """A blob whose gaps have quotients, and whose quotients and remainders end within a byte."""
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
    """A byte of zeros after the last run; the indices stay below their limit."""
    end = last_quotient_byte(blob) + 1
    blob[end:end] = b"\0"
    blob[TABLE + 1] += 1


def further(blob: bytearray) -> None:
    """The first gap's quotient is larger by 8, which moves the rest of its block."""
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


DAMAGES: dict[str, tuple[Callable[[bytearray], Any], str]] = {
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


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_error_names_what_is_malformed(damage: str) -> None:
    change, message = DAMAGES[damage]
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
    put(STEPS + 6, 0x00, 0x48)(blob)  # 131072; the largest value is seven times that and the lowest
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
    blob = encode_in_place(codec, {"x": tensors(7, layout)["x"], "y": np.ones(1, np.float32)}, layout)[
        :-missing
    ]
    assert len(blob) in blob_sizes(codec, layout), "its length alone is valid"
    with pytest.raises(MalformedBlob, match=message):
        Decoder(blob, codec, layout)


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
def test_an_invalid_setting_is_refused(setting: str, message: str) -> None:
    text = f'name = "barn"\n[data]\nsource = "x"\n[codec]\nkind = "sparse"\n{setting}\n'
    with pytest.raises(SpecError, match=message):
        parse_spec(text)


def test_a_sparse_codec_is_read_from_a_spec() -> None:
    spec = parse_spec('name = "barn"\n[data]\nsource = "x"\n[codec]\nkind = "sparse"\ndensity = 0.015625\n')
    assert spec.codec == Sparse(density=1 / 64)
    assert isinstance(spec.codec, Sparse)
    assert spec.codec.kept == 64
