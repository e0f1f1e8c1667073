"""Error feedback: every update is sent once, now or later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import CodecSpec, Dense, Sparse
from barnraise.contract.state import Array
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from tests.support.parts import CODECS, LAYOUT, codec_name, copied, tensors

every_codec = pytest.mark.parametrize("codec", CODECS, ids=codec_name)


def send(
    codec: CodecSpec, update: dict[str, Array], residual: dict[str, Array]
) -> tuple[bytearray, dict[str, Array]]:
    """The blob, and the residual after it."""
    blob = encode_with_feedback(codec, update, residual, LAYOUT)
    return blob, update


def add(total: dict[str, Array], codec: CodecSpec, blob: bytearray) -> None:
    decoder = Decoder(blob, codec, LAYOUT)
    for name in total:
        total[name] += decoder.tensor(name)


def zeros() -> dict[str, Array]:
    return {name: np.zeros(shape, np.float32) for name, shape in LAYOUT}


@given(st.sampled_from(CODECS), st.lists(st.integers(0, 2**32), min_size=1, max_size=8))
def test_over_rounds_every_update_is_sent_or_kept(codec: CodecSpec, seeds: list[int]) -> None:
    residual: dict[str, Array] = {}
    done, sent = zeros(), zeros()
    for seed in seeds:
        update = tensors(seed)
        for name in done:
            done[name] += update[name]
        blob, residual = send(codec, update, residual)
        add(sent, codec, blob)
    for name in done:
        np.testing.assert_allclose(sent[name] + residual[name], done[name], atol=1e-5 * len(seeds))


def test_a_constant_update_arrives_in_the_mean_even_at_two_bits() -> None:
    codec, rounds = Dense(bits=2, block=8), 64
    residual: dict[str, Array] = {}
    sent = zeros()
    for _ in range(rounds):
        blob, residual = send(codec, tensors(2), residual)
        add(sent, codec, blob)
    for name, once in tensors(2).items():
        np.testing.assert_allclose(sent[name] / rounds, once, atol=0.15)
        assert np.abs(residual[name]).max() < 8  # it stays bounded


def test_without_feedback_two_bits_lose_more() -> None:
    """The bound of the previous test needs feedback."""
    codec = Dense(bits=2, block=8)
    blob, _ = send(codec, tensors(2), {})
    once = zeros()
    add(once, codec, blob)
    assert max(np.abs(once[name] - tensors(2)[name]).max() for name in once) > 0.15


def test_the_old_residual_is_not_changed() -> None:
    _, residual = send(Dense(bits=4, block=8), tensors(3), {})
    before = copied(residual)
    send(Dense(bits=4, block=8), tensors(4), residual)
    for name in before:
        np.testing.assert_array_equal(residual[name], before[name])


def test_the_residual_decays_with_a_sparse_codec() -> None:
    codec = Sparse(density=0.25, bits=8, block=64, ef_decay=0.5)
    waiting = {name: np.full(shape, 8, np.float32) for name, shape in LAYOUT}
    update = zeros()
    update["c"].reshape(-1)[:16] = 1024  # a quarter of its 64 values, which is what the codec sends
    send(codec, update, waiting)
    np.testing.assert_array_equal(update["c"].reshape(-1)[16:], 4)
    assert (np.abs(update["c"].reshape(-1)[:16]) < 4).all(), "the others were sent with their residual"


def test_a_constant_update_arrives_in_the_mean_from_a_sparse_codec_that_does_not_decay() -> None:
    codec, rounds = Sparse(density=0.125, bits=2, block=64, ef_decay=1.0), 128
    residual: dict[str, Array] = {}
    sent = zeros()
    for _ in range(rounds):
        blob, residual = send(codec, tensors(2), residual)
        add(sent, codec, blob)
    for name, once in tensors(2).items():
        np.testing.assert_allclose(sent[name] / rounds, once, atol=0.2)
