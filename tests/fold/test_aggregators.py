"""The clipped mean: what one contribution can do is bounded by the norms of the round's others."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import CodecSpec, Dense, Raw, Sparse
from barnraise.contract.state import Array, Layout
from barnraise.fold.aggregators import CLIP, Aggregate, Contribution, factors
from barnraise.fold.codec import Decoder, encode_in_place
from barnraise.fold.codec import dense as dense_format
from barnraise.fold.codec.squares import ordered_sum
from barnraise.fold.fold import fold
from tests.support.parts import CODECS, LAYOUT, codec_name, copied, run_spec, state, tensors

AGGREGATES: tuple[Aggregate, ...] = ("mean", "clipped_mean")
every_codec = pytest.mark.parametrize("codec", CODECS, ids=codec_name)


def decoder(update: dict[str, Array], codec: CodecSpec, layout: Layout = LAYOUT) -> Decoder:
    return Decoder(encode_in_place(codec, copied(update), layout), codec, layout)


def update(norm: float, tokens: int, weight: int = 100, *, trusted: bool = True) -> Contribution:
    """A contribution of this norm, all of it in one value."""
    values = {name: np.zeros(shape, np.float32) for name, shape in LAYOUT}
    values["b"][0] = norm
    return Contribution(decoder(values, Raw()), weight, tokens, trusted)


def clips(*contributions: Contribution) -> list[float]:
    """The shares of the contributions that are taken."""
    total = sum(each.weight for each in contributions)
    found = factors("clipped_mean", contributions)
    return [float(factor) * total / each.weight for factor, each in zip(found, contributions, strict=True)]


@every_codec
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_a_norm_is_that_of_the_decoded_values(codec: CodecSpec, scale: float) -> None:
    found = decoder(tensors(3, scale=scale), codec)
    values = [found.tensor(name).astype(np.float64).ravel() for name, _ in LAYOUT]
    assert found.norm() == pytest.approx(float(np.linalg.norm(np.concatenate(values))), rel=1e-7)
    assert found.norm() > 0


@given(
    st.sampled_from([Dense(bits=2, block=8), Dense(bits=4, block=16), Raw(), Sparse(bits=2, block=64)]),
    st.integers(1, 300),
    st.integers(0, 2**32),
)
def test_a_norm_counts_no_padding(codec: CodecSpec, size: int, seed: int) -> None:
    layout = Layout((("a", (size,)),))
    found = decoder(tensors(seed, layout), codec, layout)
    expected = float(np.linalg.norm(found.tensor("a").astype(np.float64)))
    assert found.norm() == pytest.approx(expected, rel=1e-7)


@every_codec
def test_the_chunk_size_does_not_change_a_norm(codec: CodecSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout((("a", (3, 70_001)),))
    sent = tensors(5, layout)
    whole = decoder(sent, codec, layout).norm()
    for chunk in (64, 1000, 1 << 20):
        monkeypatch.setattr(dense_format, "CHUNK", chunk)
        assert decoder(sent, codec, layout).norm() == whole


@given(st.lists(st.floats(-1e6, 1e6), max_size=40))
def test_an_ordered_sum_is_the_sum(values: list[float]) -> None:
    assert ordered_sum(np.array(values, np.float64)) == pytest.approx(math.fsum(values), abs=1e-6)


def test_a_sum_adds_halves() -> None:
    """Pinned, since another order has other bits."""
    small, large = 2.0**-53, 1.0
    assert ordered_sum(np.array([large, small, small])) == large  # (large + small) + small
    assert ordered_sum(np.array([small, large, small])) > large  # (small + small) + large


def test_honest_contributions_are_not_clipped() -> None:
    equal = [update(1.0, 100) for _ in range(4)]
    assert factors("clipped_mean", equal) == factors("mean", equal)


def test_a_large_norm_counts_as_clip_references() -> None:
    assert clips(update(1.0, 100), update(1.0, 100), update(1000.0, 100)) == pytest.approx(
        [1, 1, CLIP / 1000]
    )


def test_a_fast_machine_may_send_a_larger_norm() -> None:
    """Of 100 times the tokens it has ten times the norm, and nothing of it is clipped."""
    assert clips(update(1.0, 100), update(1.0, 100), update(10.0, 10_000)) == pytest.approx([1, 1, 1])
    assert clips(update(1.0, 100), update(1.0, 100), update(40.0, 10_000)) == pytest.approx([1, 1, CLIP / 4])


def test_new_keys_do_not_change_the_reference() -> None:
    honest = update(1.0, 100)
    sybils = [update(500.0, 100, weight=1, trusted=False) for _ in range(50)]
    assert clips(honest, *sybils) == pytest.approx([1.0] + [CLIP / 500] * 50)
    zeros = [update(0.0, 100, weight=1, trusted=False) for _ in range(50)]
    assert clips(honest, *zeros)[0] == pytest.approx(1)


def test_where_nobody_is_trusted_all_are_the_reference() -> None:
    found = clips(*[update(norm, 100, trusted=False) for norm in (1.0, 1.0, 9.0)])
    assert found == pytest.approx([1, 1, CLIP / 9])


def test_a_contribution_without_weight_does_not_change_the_reference() -> None:
    honest, suspended = update(8.0, 100), update(1.0, 1, weight=0, trusted=True)
    assert factors("clipped_mean", [honest, suspended, suspended]) == [1, 0, 0]


def test_large_claims_do_not_move_the_reference() -> None:
    """Three of eight, each with a hundred times the weight: a median of weights would be theirs."""
    found = clips(*[update(1.0, 100)] * 5, *[update(50.0, 100, weight=10_000)] * 3)
    assert found == pytest.approx([1] * 5 + [CLIP / 50] * 3)


def test_a_round_of_nothing_changes_nothing() -> None:
    for last in (0.0, 1.0):
        sent = [update(norm, 100) for norm in (0.0, 0.0, last)]
        folded = fold(state(), sent, run_spec(aggregate="clipped_mean"))
        assert all((folded.params[name] == array).all() for name, array in state().params.items())


@every_codec
def test_a_clipped_contribution_moves_the_state_by_its_limit(codec: CodecSpec) -> None:
    honest = tensors(1, scale=1e-3)
    attack = {name: array * np.float32(-100) for name, array in honest.items()}
    sent = [Contribution.unlimited(decoder(each, codec), 100) for each in (honest, honest, attack)]
    before = state()
    mean = {"mean": 0.0, "clipped_mean": 0.0}
    for aggregate in AGGREGATES:
        after = fold(before, sent, run_spec(codec, aggregate=aggregate))
        moved = [(before.params[n] - after.params[n]).astype(np.float64).ravel() for n, _ in LAYOUT]
        mean[aggregate] = float(np.linalg.norm(np.concatenate(moved))) / sent[0].decoder.norm()
    assert mean["mean"] > 20
    assert mean["clipped_mean"] < (2 + CLIP) / 3


@every_codec
def test_a_contribution_without_weight_is_as_good_as_absent(codec: CodecSpec) -> None:
    sent = [Contribution.unlimited(decoder(tensors(n), codec), 100) for n in (1, 2)]
    nothing = replace(Contribution.unlimited(decoder(tensors(3), codec), 100), weight=0)
    for aggregate in AGGREGATES:
        spec = run_spec(codec, aggregate=aggregate)
        assert fold(state(), [*sent, nothing], spec).hash() == fold(state(), sent, spec).hash()
