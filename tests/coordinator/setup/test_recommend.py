"""What is advised: the first rung of the ladder whose exchange is short, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import (
    AdamW,
    CodecSpec,
    DataSpec,
    Dense,
    Full,
    InnerSpec,
    Raw,
    RoundSpec,
    RunSpec,
    Sgd,
    Sparse,
    TrainSpec,
)
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob
from coordinator.setup.recommend import (
    LARGEST_SHARE,
    LOWEST_DENSITY,
    codec_setting,
    exchange_seconds,
    find_warnings,
    muon_share,
    recommend,
)

MILLION = 1_000_000
sizes = st.integers(1000, 20_000 * MILLION)
uplinks = st.floats(0.5, 1000)
crowds = st.integers(1, 2000)


def layout(parameters: int) -> Layout:
    return Layout((("x", (parameters,)),))


def spec_of(codec: CodecSpec | None = None, **settings: Any) -> RunSpec:
    fields: dict[str, Any] = {"name": "barn", "data": DataSpec(source="x"), "codec": codec or Dense()}
    return RunSpec.model_validate(fields | settings)


GRADIENT: dict[str, Any] = {"train": TrainSpec(method="gradient"), "outer": AdamW()}


@pytest.mark.parametrize(
    ("parameters", "peers", "uplink", "codec"),
    [
        (42 * MILLION, 1, 10, Dense(bits=4)),  # an adapter of an 8B model
        (5 * MILLION, 8, 10, Dense(bits=4)),
        (135 * MILLION, 8, 200, Dense(bits=4)),
        (135 * MILLION, 8, 100, Dense(bits=2)),
        (135 * MILLION, 4, 20, Sparse(density=1 / 8, bits=2)),
        (135 * MILLION, 8, 20, Sparse(density=1 / 16, bits=2)),
        (135 * MILLION, 8, 10, Sparse(density=1 / 32, bits=2)),
        (135 * MILLION, 16, 10, Sparse(density=1 / 64, bits=2)),
        (8000 * MILLION, 8, 10, Sparse(density=1 / 64, bits=2)),
    ],
)
def test_the_codec_is_the_first_whose_exchange_is_short(
    parameters: int, peers: int, uplink: float, codec: CodecSpec
) -> None:
    assert recommend(spec_of(), layout(parameters), peers, uplink).codec == codec


def muon(batch: int) -> RunSpec:
    return spec_of(train=TrainSpec(target=Full(), batch=batch, inner=InnerSpec(optimizer="muon")))


def test_muon_wants_batches_that_are_worth_its_work() -> None:
    square = Layout((("embed_tokens", (50_000, 100)), ("layers.0.q_proj", (100, 100))))
    assert muon_share(square, 1000) == 5 * 6 * 100**3 / (6 * 5_010_000 * 1000)
    block = Layout((("layers.0.down_proj", (576, 1536)),))
    few, enough = (find_warnings(muon(batch), block, 4, 1000) for batch in (4, 18))
    assert ["train.batch to 18 or more" in line for line in few] == [True]
    assert enough == []


def test_a_large_model_on_a_thin_line_gets_long_rounds_that_it_is_told_of() -> None:
    advice = recommend(spec_of(), layout(8000 * MILLION), 8, 10)
    assert advice.seconds >= 10 * advice.exchange > 3000
    assert advice.grace > advice.exchange
    assert "make the rounds longer" in advice.because
    assert "plan 256 rounds or more" in advice.because


def test_a_small_one_gets_five_minutes() -> None:
    advice = recommend(spec_of(), layout(MILLION), 4, 10)
    assert (advice.seconds, advice.grace) == (300, 30)
    assert advice.because == "a round's exchange takes 1.7 s, 0.6% of 300 s"


def test_a_spec_with_long_rounds_may_stay_dense() -> None:
    long = spec_of(round=RoundSpec(seconds=3000))
    assert recommend(long, layout(135 * MILLION), 4, 10).codec == Dense(bits=4)


def test_gradients_for_adamw_are_never_sparse() -> None:
    advice = recommend(spec_of(**GRADIENT), layout(8000 * MILLION), 8, 10)
    assert advice.codec == Dense(bits=2)
    assert 'train.method = "diloco"' in advice.because


@given(sizes, crowds, uplinks, st.sampled_from([{}, GRADIENT, {"outer": Sgd(lr=1.3)}]))
def test_what_is_advised_needs_no_objection(
    parameters: int, peers: int, uplink: float, settings: dict[str, Any]
) -> None:
    tensors, spec = layout(parameters), spec_of(**settings)
    advice = recommend(spec, tensors, peers, uplink)
    better = spec.model_copy(
        update={
            "codec": advice.codec,
            "round": RoundSpec(seconds=advice.seconds, grace=advice.grace),
        }
    )
    lines = find_warnings(better, tensors, peers, uplink)
    assert not [line for line in lines if "exchange takes" in line]


@given(sizes, crowds, uplinks)
def test_a_faster_line_never_gets_a_smaller_blob(parameters: int, peers: int, uplink: float) -> None:
    tensors = layout(parameters)
    slow, fast = (recommend(spec_of(), tensors, peers, speed) for speed in (uplink, 2 * uplink))
    assert typical_blob(fast.codec, tensors) >= typical_blob(slow.codec, tensors)
    assert fast.seconds <= max(slow.seconds, 300)


@given(sizes, uplinks)
def test_beyond_a_full_round_more_volunteers_change_nothing(parameters: int, uplink: float) -> None:
    spec = spec_of(round=RoundSpec(max_contributions=16))
    assert recommend(spec, layout(parameters), 16, uplink) == recommend(
        spec, layout(parameters), 1000, uplink
    )


# Objections


def test_nothing_is_said_against_a_blob_that_is_small_for_the_round() -> None:
    assert find_warnings(spec_of(), layout(MILLION), 4, 10) == []


def test_a_round_that_is_short_for_its_exchange_is_told_a_length_that_helps() -> None:
    spec = spec_of(Raw(), round=RoundSpec(seconds=30, grace=30))
    (line,) = find_warnings(spec, layout(MILLION), 4, 10)
    assert "takes 43% of it" in line
    assert "goes on beside it" in line
    assert "round.seconds to 129 or more" in line
    assert 'codec to kind = "dense", bits = 4' in line
    helped = spec_of(Raw(), round=RoundSpec(seconds=129, grace=30))
    assert find_warnings(helped, layout(MILLION), 4, 10) == []


def test_without_overlap_it_is_said_that_training_stands_still() -> None:
    spec = spec_of(Raw(), round=RoundSpec(seconds=30, overlap="never"))
    (line,) = find_warnings(spec, layout(MILLION), 4, 10)
    assert "stands still" in line


def test_a_grace_that_is_short_for_its_exchange_is_told_too() -> None:
    (line,) = find_warnings(spec_of(Raw(), round=RoundSpec(seconds=1000, grace=10)), layout(MILLION), 4, 10)
    assert "round.grace to 20 or more" in line


def test_only_a_codec_that_sends_less_is_named_as_a_remedy() -> None:
    spec = spec_of(Dense(bits=2), round=RoundSpec(seconds=1))
    (line,) = find_warnings(spec, layout(MILLION), 4, 10)
    assert "codec" not in line


def test_a_sparse_codec_is_objected_to_where_a_dense_one_is_short_enough() -> None:
    (line,) = find_warnings(spec_of(Sparse()), layout(MILLION), 4, 10)
    assert 'Set codec to kind = "dense", bits = 4: a round' in line


def test_too_low_a_density_is_objected_to() -> None:
    (line,) = find_warnings(spec_of(Sparse(density=0.005)), layout(800 * MILLION), 8, 100)
    assert f"Set it to {LOWEST_DENSITY:g} or more" in line


def test_a_sparse_gradient_for_adamw_is_objected_to() -> None:
    lines = find_warnings(spec_of(Sparse(), **GRADIENT), layout(8000 * MILLION), 1, 1000)
    assert any("gradients of zero" in line for line in lines)


def test_codecs_are_told_as_a_run_spec_has_them() -> None:
    assert codec_setting(Raw()) == 'kind = "raw"'
    assert codec_setting(Dense(bits=2)) == 'kind = "dense", bits = 2'
    assert codec_setting(Sparse(density=0.125, bits=4)) == 'kind = "sparse", density = 0.125, bits = 4'


def test_the_exchange_is_every_blob_over_every_uplink() -> None:
    assert exchange_seconds(10 * MILLION, 4, 8) == pytest.approx(40)
    assert LARGEST_SHARE == 0.1
