"""The fold: a token-weighted mean and a step, with the same bits under any load and thread count."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import AdamW, CodecSpec, Dense, Raw, RunSpec, Sgd
from barnraise.contract.state import TrainState
from barnraise.core.ids import StateHash
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import dense
from barnraise.fold.fold import fold
from tests.support.parts import CODECS, codec_name, contribution, run_spec, state, tensors

OUTERS: dict[str, Sgd | AdamW] = {
    "sgd": Sgd(),
    "nesterov": Sgd(lr=0.7, momentum=0.9, nesterov=True),
    "adamw": AdamW(lr=1e-2, weight_decay=0.1),
}
every_codec = pytest.mark.parametrize("codec", CODECS, ids=codec_name)
every_outer = pytest.mark.parametrize("outer", OUTERS.values(), ids=OUTERS.keys())


def contributions(seeds: list[int], codec: CodecSpec) -> list[Contribution]:
    return [contribution(tensors(seed, scale=0.1), 100 + 7 * seed, codec) for seed in seeds]


def after_rounds(spec: RunSpec, rounds: int = 3) -> TrainState:
    current = state(0)
    for number in range(rounds):
        seeds = [3 * number + 1, 3 * number + 2, 3 * number + 3]
        current = fold(current, contributions(seeds, spec.codec), spec)
    return current


def hash_after(spec: RunSpec) -> StateHash:
    return after_rounds(spec).hash()


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), st.integers(0, 2**32))
def test_a_fold_is_the_mean_weighted_by_tokens(tokens: list[int], seed: int) -> None:
    updates = [tensors(seed + number) for number in range(len(tokens))]
    folded = fold(
        state(7), [contribution(u, t, Raw()) for u, t in zip(updates, tokens, strict=True)], run_spec()
    )
    for name, before in state(7).params.items():
        mean = np.average([u[name].astype(np.float64) for u in updates], axis=0, weights=tokens)
        np.testing.assert_allclose(folded.params[name], before - mean, rtol=0, atol=5e-6)


@every_outer
def test_a_fold_does_not_change_the_state_before(outer: Sgd | AdamW) -> None:
    spec = run_spec(outer=outer)
    before = after_rounds(spec, 1)
    name = before.hash()
    after = fold(before, contributions([5], spec.codec), spec)
    assert before.hash() == name != after.hash()
    assert (before.step, after.step) == (1, 2)
    for kind, arrays in after.buffers.items():
        assert all(not np.shares_memory(arrays[t], before.buffers[kind][t]) for t in arrays)


@every_codec
@every_outer
def test_the_chunk_size_changes_nothing(
    codec: CodecSpec, outer: Sgd | AdamW, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_spec(codec, outer)
    whole = hash_after(spec)
    for chunk in (1, 16, 40):
        monkeypatch.setattr(dense, "CHUNK", chunk)
        assert hash_after(spec) == whole


@every_outer
def test_concurrent_folds_do_not_affect_each_other(outer: Sgd | AdamW) -> None:
    spec = run_spec(Dense(bits=4, block=16), outer)
    alone = hash_after(spec)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(hash_after, [spec] * 8)) == {alone}


def test_folding_the_same_contributions_again_gives_the_same_bits() -> None:
    parts = contributions([1, 2, 3], Dense(bits=8, block=32))
    spec = run_spec(Dense(bits=8, block=32))
    assert fold(state(), parts, spec).hash() == fold(state(), parts, spec).hash()


def test_the_order_of_the_close_is_part_of_the_result() -> None:
    """fp32 sums depend on it, which is why a close is a list."""
    parts = [contribution(tensors(seed, scale=10.0**seed), 1, Raw()) for seed in range(6)]
    assert fold(state(), parts, run_spec()).hash() != fold(state(), parts[::-1], run_spec()).hash()


@every_outer
def test_buffers_are_created_by_the_first_fold_and_kept(outer: Sgd | AdamW) -> None:
    spec = run_spec(outer=outer)
    first, second = after_rounds(spec, 1), after_rounds(spec, 2)
    assert first.buffers.keys() == second.buffers.keys()
    for kind in first.buffers:
        assert any((first.buffers[kind][t] != second.buffers[kind][t]).any() for t in first.params)


@pytest.mark.parametrize(
    "other",
    [
        TrainState(state().params, {}, 1),
        TrainState(state(1).params, {}, 0),
        TrainState(state().params, {"momentum": state().params}, 0),
        TrainState({**state().params, "d": np.zeros(1, np.float32)}, {}, 0),
        TrainState({name: array.reshape(-1) for name, array in state().params.items()}, {}, 0),
    ],
    ids=["step", "values", "buffers", "more tensors", "shapes"],
)
def test_a_state_hash_depends_on_step_values_buffers_and_shapes(other: TrainState) -> None:
    assert other.hash() != state().hash()


def test_a_state_hash_does_not_depend_on_memory_order() -> None:
    turned = {name: np.asfortranarray(array) for name, array in state().params.items()}
    shuffled = dict(reversed(turned.items()))
    assert TrainState(shuffled, {}, 0).hash() == state().hash()
