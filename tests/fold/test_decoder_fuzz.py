"""Damaged blobs of every codec are refused as malformed, or decoded within bounds."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnraise.contract.spec import CodecSpec, Dense, Raw, Sparse
from barnraise.contract.state import Layout
from barnraise.core.errors import MalformedBlob
from barnraise.fold.codec import Decoder, blob_limit, encode_in_place
from barnraise.fold.codec.formats import MAX_MAGNITUDE
from tests.support.parts import tensors

LAYOUT = Layout((("a", (5, 7)), ("b", (1,)), ("c", (200,)), ("d", (3, 64))))
CODECS: list[CodecSpec] = [
    Raw(),
    *(Dense.model_validate({"bits": bits, "block": 16}) for bits in (1, 2, 4, 8, 16)),
    *(
        Sparse.model_validate({"density": density, "bits": bits, "block": 64})
        for density in (1 / 64, 0.125, 0.5)
        for bits in (2, 4, 8)
    ),
]
VALID = [bytes(encode_in_place(codec, tensors(1, LAYOUT), LAYOUT)) for codec in CODECS]
HEADER_BYTES = 52
MEMORY = 200_000
"""Limit on the memory of decoding, in bytes: about 30 times the largest blob of LAYOUT."""

places = st.floats(0, 1, exclude_max=True)
changes = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(1, 255)),
    st.tuples(st.just("byte"), places, st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])),
    st.tuples(st.just("cut"), places, st.just(0)),
    st.tuples(st.just("remove"), places, st.integers(1, 40)),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("append"), st.just(0.0), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("repeat"), places, places),
)


def changed(blob: bytes, how: tuple[str, float, Any], behind: int) -> bytes:
    """`blob` with one change after its first `behind` bytes."""
    kind, where, what = how
    place = min(behind + int(where * max(len(blob) - behind, 0)), len(blob))
    head, tail = blob[:place], blob[place:]
    match kind:
        case "flip":
            return head + bytes(byte ^ what for byte in tail[:1]) + tail[1:]
        case "byte":
            return head + bytes([what])[: len(tail)] + tail[1:]
        case "cut":
            return head
        case "remove":
            return head + tail[what:]
        case "insert":
            return head + what + tail
        case "append":
            return blob + what
        case _:  # repeats a part of the blob
            source = behind + int(what * max(len(blob) - behind, 0))
            return head + blob[source : source + 32] + tail[32:]


def is_refused_or_sound(blob: bytes, codec: CodecSpec) -> bool:
    """Whether it was decoded. Raises all errors but MalformedBlob, and AssertionError out of bounds."""
    try:
        decoder = Decoder(blob, codec, LAYOUT)
    except MalformedBlob:
        return False
    for name, shape in LAYOUT:
        decoded = decoder.tensor(name)
        assert decoded.shape == shape
        assert (np.abs(decoded) <= MAX_MAGNITUDE).all()
        if isinstance(codec, Sparse):
            rows = -(-decoded.size // codec.block)
            assert np.count_nonzero(decoded) <= rows * codec.kept
    return True


def test_the_examples_are_valid_before_they_are_damaged() -> None:
    assert all(is_refused_or_sound(blob, codec) for blob, codec in zip(VALID, CODECS, strict=True))
    assert 10 * max(blob_limit(codec, LAYOUT) for codec in CODECS) < MEMORY


@settings(max_examples=600)
@given(st.integers(0, len(CODECS) - 1), st.lists(changes, min_size=1, max_size=4), st.booleans())
def test_damaged_blobs_are_refused_or_bounded(
    kind: int, damage: list[tuple[str, float, Any]], header: bool
) -> None:
    blob = VALID[kind]
    for how in damage:
        blob = changed(blob, how, 0 if header else HEADER_BYTES)
    tracemalloc.start()
    try:
        is_refused_or_sound(blob, CODECS[kind])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@settings(max_examples=300)
@given(st.integers(0, len(CODECS) - 1), st.integers(0, len(CODECS) - 1), places, places)
def test_the_header_of_one_blob_before_the_body_of_another_is_refused_or_bounded(
    first: int, second: int, end: float, start: float
) -> None:
    head, tail = VALID[first], VALID[second]
    spliced = head[: int(end * len(head))] + tail[int(start * len(tail)) :]
    is_refused_or_sound(spliced, CODECS[first])


@settings(max_examples=300)
@given(st.integers(0, len(CODECS) - 1), st.binary(max_size=900))
def test_noise_after_a_valid_header_is_refused_or_bounded(kind: int, noise: bytes) -> None:
    is_refused_or_sound(VALID[kind][:HEADER_BYTES] + noise, CODECS[kind])


@pytest.mark.parametrize("kind", range(len(CODECS)))
def test_a_blob_is_decoded_only_by_its_own_codec(kind: int) -> None:
    readable = [is_refused_or_sound(VALID[kind], codec) for codec in CODECS]
    assert readable == [other == kind for other in range(len(CODECS))]


@pytest.mark.parametrize("codec", [Sparse(density=0.5, bits=2, block=65_536), Sparse(density=1 / 64)])
def test_memory_for_hostile_streams_is_bounded_by_a_chunk(codec: Sparse) -> None:
    layout = Layout((("x", (1 << 20,)),))
    blob = encode_in_place(codec, tensors(2, layout), layout)
    blob[HEADER_BYTES + 48 :] = b"\xff" * (len(blob) - HEADER_BYTES - 48)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedBlob):
            Decoder(blob, codec, layout)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * (1 << 20)
