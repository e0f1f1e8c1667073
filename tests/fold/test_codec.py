"""The dense codecs: errors are within half a step, and malformed blobs are refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import CodecSpec, Dense, Raw, Sparse
from barnraise.contract.state import Array, Layout
from barnraise.core.errors import MalformedBlob, StateError
from barnraise.fold.codec import Decoder, blob_limit, blob_sizes, chunks, dense, encode_in_place, typical_blob
from barnraise.fold.codec.formats import MAX_MAGNITUDE
from tests.support.parts import CODECS, LAYOUT, codec_name, copied, tensors

HEADER_BYTES = 52
LINE = Layout((("x", (64,)),))
WHOLE = [codec for codec in CODECS if not isinstance(codec, Sparse)]
"""Codecs that send every value."""
codecs = st.sampled_from(CODECS)
every_codec = pytest.mark.parametrize("codec", CODECS, ids=codec_name)
values = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 1e-45]),
)
shapes = st.sampled_from([(), (1,), (7,), (8,), (9,), (3, 5), (2, 3, 16)])


def line(array: Array) -> tuple[dict[str, Array], Layout]:
    return {"x": array}, Layout.of({"x": array})


def roundtrip(codec: CodecSpec, update: dict[str, Array], layout: Layout) -> tuple[dict[str, Array], int]:
    """Decoded tensors and the blob's size. `update` becomes the residual."""
    blob = encode_in_place(codec, update, layout)
    decoder = Decoder(blob, codec, layout)
    return {name: decoder.tensor(name) for name, _ in layout}, len(blob)


@given(codecs, shapes, st.data())
def test_the_decoded_values_and_the_residual_add_up_to_the_update(
    codec: CodecSpec, shape: tuple[int, ...], data: st.DataObject
) -> None:
    count = int(np.prod(shape))
    given_values = data.draw(st.lists(values, min_size=count, max_size=count))
    update, layout = line(np.array(given_values, np.float32).reshape(shape))
    before = update["x"].astype(np.float64)
    decoded, size = roundtrip(codec, update, layout)
    assert size in blob_sizes(codec, layout)
    assert decoded["x"].shape == shape
    assert np.isfinite(decoded["x"]).all()
    assert (np.abs(decoded["x"]) <= MAX_MAGNITUDE).all()
    # The residual is one fp32 subtraction, so half a unit in the last place of the larger operand.
    error = np.abs(decoded["x"].astype(np.float64) + update["x"] - before)
    assert (error <= 2.0**-24 * np.maximum(np.abs(before), np.abs(decoded["x"])) + 2.0**-149).all()


@given(st.sampled_from([4, 8]), st.integers(0, 2**32), st.floats(1e-6, 1e3))
def test_no_value_is_off_by_more_than_half_a_step(bits: int, seed: int, scale: float) -> None:
    update = tensors(seed, LINE, scale)
    largest = float(np.abs(update["x"]).max())
    roundtrip(Dense(bits=4 if bits == 4 else 8, block=64), update, LINE)
    step = largest / (2 ** (bits - 1) - 1) * (1 + 2**-7)  # a bfloat16 scale is up to 2^-7 above
    assert np.abs(update["x"]).max() <= step / 2 * (1 + 1e-5)


def test_one_bit_loses_what_the_signs_of_a_gaussian_do_not_say() -> None:
    layout = Layout((("x", (1 << 16,)),))
    update = tensors(0, layout)
    roundtrip(Dense(bits=1, block=1 << 12), update, layout)
    assert np.mean(np.square(update["x"])) == pytest.approx(1 - 2 / np.pi, rel=0.03)  # Max 1960, table I


def test_two_bits_lose_what_a_four_level_quantizer_of_a_gaussian_loses() -> None:
    layout = Layout((("x", (1 << 16,)),))
    update = tensors(0, layout)
    roundtrip(Dense(bits=2, block=1 << 12), update, layout)
    assert np.mean(np.square(update["x"])) == pytest.approx(0.1188, rel=0.03)  # Max 1960, table I


@every_codec
def test_the_size_of_a_blob_follows_from_the_layout(codec: CodecSpec) -> None:
    blob = encode_in_place(codec, tensors(1), LAYOUT)
    assert len(blob) in blob_sizes(codec, LAYOUT)
    assert blob_limit(codec, LAYOUT) == max(blob_sizes(codec, LAYOUT))
    if not isinstance(codec, Sparse):
        assert [len(blob)] == list(blob_sizes(codec, LAYOUT)) == [typical_blob(codec, LAYOUT)]
    match codec:
        case Raw():
            assert len(blob) == HEADER_BYTES + 4 * LAYOUT.parameters
        case Dense(bits=16):
            assert len(blob) == HEADER_BYTES + 2 * LAYOUT.parameters
        case Dense(bits=bits, block=block):
            blocks = sum(-(-size // block) for size in (35, 3, 64))
            assert len(blob) == HEADER_BYTES + blocks * (2 + block * bits // 8)


def test_raw_sends_every_value_exactly() -> None:
    update = tensors(2)
    before = copied(update)
    decoded, _ = roundtrip(Raw(), update, LAYOUT)
    for name in before:
        np.testing.assert_array_equal(decoded[name], before[name])
        assert not update[name].any()


@pytest.mark.parametrize("codec", WHOLE, ids=codec_name)
def test_the_chunk_size_changes_nothing(codec: CodecSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode_in_place(codec, tensors(3), LAYOUT)
    monkeypatch.setattr(dense, "CHUNK", 16)
    parts = encode_in_place(codec, tensors(3), LAYOUT)
    assert whole == parts


@given(st.sampled_from([1, 8, 100, 1 << 18]), st.integers(1, 10_000), codecs)
def test_chunks_cover_every_value_once_and_split_no_block(chunk: int, size: int, codec: CodecSpec) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "CHUNK", chunk)
        cut = list(chunks(codec, size))
    assert cut[0][0] == 0
    assert cut[-1][1] == size
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(cut))
    block = 1 if isinstance(codec, Raw) or codec.bits == 16 else codec.block
    assert all(start % block == 0 for start, _ in cut)


@every_codec
@pytest.mark.parametrize("huge", [2e6, 3e38])
def test_too_large_values_are_clipped_and_the_rest_is_kept(codec: CodecSpec, huge: float) -> None:
    update, layout = line(np.full(8, huge, np.float32))
    decoded, _ = roundtrip(codec, update, layout)
    sent = decoded["x"] != 0
    assert sent.sum() == (8 * codec.density if isinstance(codec, Sparse) else 8)
    assert (decoded["x"][sent] > 1e4).all()
    np.testing.assert_allclose(decoded["x"] + update["x"], huge, rtol=1e-6)


@every_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_not_sent(codec: CodecSpec, bad: float) -> None:
    update = tensors(4)
    update["c"][1, 1, 3] = bad
    with pytest.raises(StateError, match="update of c is not finite"):
        encode_in_place(codec, update, LAYOUT)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("b"),
        lambda t: t.update(d=np.zeros(3, np.float32)),
        lambda t: t.update(b=np.zeros(4, np.float32)),
        lambda t: t.update(b=np.zeros(3, np.float64)),
        lambda t: t.update(a=np.zeros((7, 5), np.float32).T),
    ],
    ids=["missing", "more", "shape", "dtype", "not contiguous"],
)
def test_an_update_of_another_layout_is_a_state_error(change: object) -> None:
    update = tensors(5)
    assert callable(change)
    change(update)
    with pytest.raises(StateError):
        encode_in_place(Raw(), update, LAYOUT)


@every_codec
@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES, -1, +1])
def test_a_blob_of_another_length_is_refused(codec: CodecSpec, length: int) -> None:
    blob = bytes(encode_in_place(codec, tensors(6), LAYOUT))
    wrong = {-1: blob[:-1], 1: blob + b"\0"}.get(length, blob[:length])
    with pytest.raises(MalformedBlob, match=r"bytes where|it ends within|tensors end after"):
        Decoder(wrong, codec, LAYOUT)


@every_codec
def test_any_change_of_the_header_is_refused(codec: CodecSpec) -> None:
    blob = encode_in_place(codec, tensors(7), LAYOUT)
    for place in range(HEADER_BYTES):
        broken = bytearray(blob)
        broken[place] ^= 0x10
        with pytest.raises(MalformedBlob, match="header"):
            Decoder(broken, codec, LAYOUT)


def test_a_blob_of_tensors_with_other_names_is_refused() -> None:
    other = Layout((("y", (64,)),))
    blob = encode_in_place(Raw(), tensors(8, other), other)
    with pytest.raises(MalformedBlob, match="header"):
        Decoder(blob, Raw(), LINE)


SCALES = {"NaN": 0x7FC0, "infinity": 0x7F80, "negative": 0xBF80, "−infinity": 0xFF80, "huge": 0x4E00}


@pytest.mark.parametrize("codec", CODECS[:3], ids=codec_name)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_a_scale_that_no_encoder_writes_is_refused(codec: CodecSpec, scale: int) -> None:
    blob = encode_in_place(codec, tensors(9), LAYOUT)
    blob[HEADER_BYTES : HEADER_BYTES + 2] = scale.to_bytes(2, "little")
    with pytest.raises(MalformedBlob, match="a has a scale"):
        Decoder(blob, codec, LAYOUT)


@pytest.mark.parametrize("half", [np.nan, np.inf, -np.inf])
def test_halves_that_are_not_finite_are_refused(half: float) -> None:
    blob = encode_in_place(Dense(bits=16), tensors(10), LAYOUT)
    blob[-2:] = np.array(half, "<f2").tobytes()
    with pytest.raises(MalformedBlob, match="c holds"):
        Decoder(blob, Dense(bits=16), LAYOUT)


@pytest.mark.parametrize("single", [np.nan, np.inf, -np.inf, 1.1e6, -3e38])
def test_singles_that_are_not_finite_or_too_large_are_refused(single: float) -> None:
    blob = encode_in_place(Raw(), tensors(11), LAYOUT)
    blob[-4:] = np.array(single, "<f4").tobytes()
    with pytest.raises(MalformedBlob, match="c holds"):
        Decoder(blob, Raw(), LAYOUT)


@given(codecs, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=9))
def test_damage_is_refused_or_decodes_to_bounded_values(
    codec: CodecSpec, flips: list[tuple[float, int]]
) -> None:
    blob = encode_in_place(codec, tensors(12), LAYOUT)
    for where, bits in flips:
        blob[int(where * len(blob))] ^= bits
    try:
        decoder = Decoder(blob, codec, LAYOUT)
    except MalformedBlob:
        assert flips
        return
    for name, _ in LAYOUT:
        assert (np.abs(decoder.tensor(name)) <= MAX_MAGNITUDE).all()


@given(codecs, st.binary(max_size=600))
def test_random_bytes_raise_malformed_blob(codec: CodecSpec, noise: bytes) -> None:
    with pytest.raises(MalformedBlob):
        Decoder(noise, codec, LAYOUT)


@given(st.sampled_from(CODECS), st.integers(0, 2**32))
def test_any_body_after_a_valid_header_is_refused_or_bounded(codec: CodecSpec, seed: int) -> None:
    blob = encode_in_place(codec, tensors(13), LAYOUT)
    blob[HEADER_BYTES:] = np.random.default_rng(seed).bytes(len(blob) - HEADER_BYTES)
    try:
        decoder = Decoder(blob, codec, LAYOUT)
    except MalformedBlob:
        return
    assert all((np.abs(decoder.tensor(name)) <= MAX_MAGNITUDE).all() for name, _ in LAYOUT)
