"""Damaged blobs of every kind: refused as malformed, or decoded within bounds, and never anything else."""

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
    *(Dense.model_validate({"bits": bits, "block": 16}) for bits in (2, 4, 8, 16)),
    *(
        Sparse.model_validate({"density": density, "bits": bits, "block": 64})
        for density in (1 / 64, 0.125, 0.5)
        for bits in (2, 4, 8)
    ),
]
VALID = [bytes(encode_in_place(codec, tensors(1, LAYOUT), LAYOUT)) for codec in CODECS]
HEADER_BYTES = 52
MEMORY = 200_000
"""Bytes that decoding takes at most: some 30 times what the largest blob of LAYOUT has."""

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
    """`blob` with one change behind its first `behind` bytes."""
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
        case _:  # a part of the blob comes a second time
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


def test_what_is_damaged_here_is_sound_before() -> None:
    assert all(is_refused_or_sound(blob, codec) for blob, codec in zip(VALID, CODECS, strict=True))
    assert 10 * max(blob_limit(codec, LAYOUT) for codec in CODECS) < MEMORY


@settings(max_examples=600)
@given(st.integers(0, len(CODECS) - 1), st.lists(changes, min_size=1, max_size=4), st.booleans())
def test_damage_is_refused_or_harmless(kind: int, damage: list[tuple[str, float, Any]], header: bool) -> None:
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
def test_the_head_of_one_blob_on_the_body_of_another_is_refused_or_harmless(
    first: int, second: int, end: float, start: float
) -> None:
    head, tail = VALID[first], VALID[second]
    spliced = head[: int(end * len(head))] + tail[int(start * len(tail)) :]
    is_refused_or_sound(spliced, CODECS[first])


@settings(max_examples=300)
@given(st.integers(0, len(CODECS) - 1), st.binary(max_size=900))
def test_noise_behind_a_true_header_is_refused_or_harmless(kind: int, noise: bytes) -> None:
    is_refused_or_sound(VALID[kind][:HEADER_BYTES] + noise, CODECS[kind])


@pytest.mark.parametrize("kind", range(len(CODECS)))
def test_every_blob_is_read_with_its_own_codec_only(kind: int) -> None:
    readable = [is_refused_or_sound(VALID[kind], codec) for codec in CODECS]
    assert readable == [other == kind for other in range(len(CODECS))]


@pytest.mark.parametrize("codec", [Sparse(density=0.5, bits=2, block=65_536), Sparse(density=1 / 64)])
def test_the_worst_streams_take_memory_by_the_size_of_a_chunk(codec: Sparse) -> None:
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
