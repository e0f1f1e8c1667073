"""The recommendation: the first codec whose exchange is short, and why; warnings about other specs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import (
    LONGEST,
    AdamW,
    CodecSpec,
    DataSpec,
    Dense,
    Full,
    InnerSpec,
    Lora,
    Raw,
    RoundSpec,
    RunSpec,
    Sgd,
    Sparse,
    TrainSpec,
)
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob
from coordinator.reasons.setup import (
    LARGEST_SHARE,
    CodecChoice,
    DensityTooLow,
    ExchangeTooLong,
    GraceTooShort,
    MuonOverhead,
    OuterStrays,
    RateStrays,
    SparseNotNeeded,
    SparseWithAdamW,
    TurnsWithMomentum,
)
from coordinator.setup.practice import ADAPTER, MEAN, measured, outer_step, usual_rate
from coordinator.setup.recommend import exchange_seconds, find_warnings, muon_share, recommend

MILLION = 1_000_000
sizes = st.integers(1000, 20_000 * MILLION)
uplinks = st.floats(0.5, 1000)
crowds = st.integers(1, 2000)


def layout(parameters: int) -> Layout:
    return Layout((("x", (parameters,)),))


WIDTH = 16_000
"""Of a model whose usual rate is the default one."""
NESTEROV = Sgd(lr=0.7, momentum=0.5, nesterov=True)


def spec_of(codec: CodecSpec | None = None, **settings: Any) -> RunSpec:
    """With settings that learn best, unless they are given."""
    fields: dict[str, Any] = {"name": "barn", "data": DataSpec(source="x"), "codec": codec or Dense()}
    fields["outer"] = NESTEROV
    return RunSpec.model_validate(fields | settings)


GRADIENT: dict[str, Any] = {"train": TrainSpec(method="gradient"), "outer": AdamW()}


@pytest.mark.parametrize(
    ("parameters", "peers", "uplink", "codec"),
    [
        (42 * MILLION, 1, 10, Dense(bits=4)),  # an adapter of an 8B model
        (5 * MILLION, 8, 10, Dense(bits=4)),
        (135 * MILLION, 8, 200, Dense(bits=4)),
        (135 * MILLION, 8, 100, Dense(bits=2)),
        (135 * MILLION, 3, 20, Dense(bits=1)),
        (135 * MILLION, 4, 20, Sparse(density=1 / 8, bits=2)),
        (135 * MILLION, 8, 20, Sparse(density=1 / 16, bits=2)),
        (135 * MILLION, 8, 10, Sparse(density=1 / 32, bits=2)),
        (135 * MILLION, 16, 10, Sparse(density=1 / 64, bits=2)),
        (8000 * MILLION, 8, 10, Sparse(density=1 / 64, bits=2)),
    ],
)
def test_recommends_the_first_codec_whose_exchange_is_short(
    parameters: int, peers: int, uplink: float, codec: CodecSpec
) -> None:
    assert recommend(spec_of(), layout(parameters), peers, uplink).codec == codec


def muon(batch: int) -> RunSpec:
    return spec_of(train=TrainSpec(target=Full(), batch=batch, inner=InnerSpec(optimizer="muon")))


def test_muon_needs_batches_large_enough_for_its_overhead() -> None:
    square = Layout((("embed_tokens", (50_000, 100)), ("layers.0.q_proj", (100, 100))))
    assert muon_share(square, 1000) == 4 * 100**2 * 200 / (6 * 5_010_000 * 1000)
    block = Layout((("layers.0.down_proj", (576, 1536)),))
    few, enough = (find_warnings(muon(batch), block, WIDTH, 4, 1000) for batch in (4, 5))
    (warning,) = few
    assert isinstance(warning, MuonOverhead)
    assert (warning.batch, warning.enough) == (4, 5)
    assert warning.share > 0.25
    assert enough == []
    large = Layout(tuple((f"layers.{i}.down_proj", (576, 1536)) for i in range(100)))
    assert muon_share(large, 1000) == pytest.approx(muon_share(block, 1000) / 3), "a third of them in a step"


def test_a_large_model_on_a_slow_uplink_gets_long_rounds() -> None:
    advice = recommend(spec_of(), layout(8000 * MILLION), 8, 10)
    assert advice.seconds >= 10 * advice.exchange > 3000
    assert advice.grace > advice.exchange
    assert (advice.because.too_long, advice.because.rounds) == (True, 256)
    assert advice.because.larger is not None
    assert advice.because.larger.codec == Sparse(density=1 / 32, bits=2)


def test_a_small_model_gets_five_minutes() -> None:
    advice = recommend(spec_of(), layout(MILLION), 4, 10)
    assert (advice.seconds, advice.grace) == (300, 30)
    assert advice.because == CodecChoice(
        exchange=advice.exchange,
        round_seconds=300,
        larger=None,
        rounds=None,
        too_long=False,
        sparse_by_diloco=False,
    )
    assert advice.exchange == pytest.approx(1.7, abs=0.05)


def test_a_spec_with_long_rounds_may_stay_dense() -> None:
    long = spec_of(round=RoundSpec(seconds=3000))
    assert recommend(long, layout(135 * MILLION), 4, 10).codec == Dense(bits=4)


def test_gradients_for_adamw_are_never_sparse() -> None:
    advice = recommend(spec_of(**GRADIENT), layout(8000 * MILLION), 8, 10)
    assert advice.codec == Dense(bits=2)
    assert (advice.because.too_long, advice.because.sparse_by_diloco) == (True, True)


@given(sizes, crowds, uplinks, st.sampled_from([{}, GRADIENT, {"outer": Sgd(lr=1.3)}]))
def test_a_recommended_spec_gets_no_exchange_warning(
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
    found = find_warnings(better, tensors, WIDTH, peers, uplink)
    warned = [warning for warning in found if isinstance(warning, ExchangeTooLong | GraceTooShort)]
    assert all(warning.enough is None and warning.smaller is None for warning in warned)
    assert bool(warned) == (advice.exchange / LARGEST_SHARE > LONGEST)


def test_an_exchange_that_no_permitted_round_is_long_enough_for() -> None:
    advice = recommend(spec_of(), layout(20_000 * MILLION), 2000, 0.01)
    assert (advice.seconds, advice.grace) == (LONGEST, LONGEST)
    better = spec_of(advice.codec, round=RoundSpec(seconds=advice.seconds, grace=advice.grace), outer=MEAN)
    long, grace = find_warnings(better, layout(20_000 * MILLION), WIDTH, 2000, 0.01)
    assert isinstance(long, ExchangeTooLong)
    assert isinstance(grace, GraceTooShort)
    assert long.enough is grace.enough is None


@given(sizes, crowds, uplinks)
def test_a_faster_uplink_never_gets_a_smaller_blob(parameters: int, peers: int, uplink: float) -> None:
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


# Warnings


def test_a_small_blob_gets_no_warning() -> None:
    assert find_warnings(spec_of(), layout(MILLION), WIDTH, 4, 10) == []


def test_a_warning_about_a_short_round_has_a_length_that_is_enough() -> None:
    spec = spec_of(Raw(), round=RoundSpec(seconds=30, grace=30))
    (warning,) = find_warnings(spec, layout(MILLION), WIDTH, 4, 10)
    assert isinstance(warning, ExchangeTooLong)
    assert warning.share == pytest.approx(0.43, abs=0.005)
    assert (warning.overlaps, warning.enough, warning.smaller) == (True, 129, Dense(bits=4))
    helped = spec_of(Raw(), round=RoundSpec(seconds=129, grace=30))
    assert find_warnings(helped, layout(MILLION), WIDTH, 4, 10) == []


def test_the_warning_states_whether_training_overlaps() -> None:
    spec = spec_of(Raw(), round=RoundSpec(seconds=30, overlap="never"))
    (warning,) = find_warnings(spec, layout(MILLION), WIDTH, 4, 10)
    assert isinstance(warning, ExchangeTooLong)
    assert not warning.overlaps


def test_a_grace_too_short_for_its_exchange_gets_a_warning() -> None:
    spec = spec_of(Raw(), round=RoundSpec(seconds=1000, grace=10))
    assert find_warnings(spec, layout(MILLION), WIDTH, 4, 10) == [GraceTooShort(10, 20, Dense(bits=4))]


def test_only_a_codec_that_sends_less_is_named_as_a_remedy() -> None:
    spec = spec_of(Dense(bits=2), round=RoundSpec(seconds=1))
    (warning,) = find_warnings(spec, layout(MILLION), WIDTH, 4, 10)
    assert isinstance(warning, ExchangeTooLong)
    assert warning.smaller is None


def test_a_sparse_codec_gets_a_warning_where_a_dense_one_is_enough() -> None:
    because = recommend(spec_of(), layout(MILLION), 4, 10).because
    found = find_warnings(spec_of(Sparse()), layout(MILLION), WIDTH, 4, 10)
    assert found == [SparseNotNeeded(Dense(bits=4), because)]


def test_too_low_a_density_gets_a_warning() -> None:
    found = find_warnings(spec_of(Sparse(density=0.005)), layout(800 * MILLION), WIDTH, 8, 100)
    assert found == [DensityTooLow(0.005)]


def test_a_sparse_gradient_for_adamw_gets_a_warning() -> None:
    found = find_warnings(spec_of(Sparse(), **GRADIENT), layout(8000 * MILLION), WIDTH, 1, 1000)
    assert SparseWithAdamW(Dense(bits=2)) in found


def test_the_exchange_is_every_blob_over_every_uplink() -> None:
    assert exchange_seconds(10 * MILLION, 4, 8) == pytest.approx(40)
    assert LARGEST_SHARE == 0.1


@pytest.mark.parametrize(
    ("volunteers", "target", "found"),
    [
        (3, Lora(), None),
        (4, Lora(), 4),
        (7, Full(), 4),
        (8, Full(), 8),
        (30, Lora(), max(row.volunteers for row in ADAPTER)),
        (33, Lora(), None),
    ],
)
def test_the_mean_of_many_volunteers_is_warned_about_with_what_it_costs(
    volunteers: int, target: Lora | Full, found: int | None
) -> None:
    spec = spec_of(train=TrainSpec(target=target), outer=Sgd())
    width = WIDTH if isinstance(target, Lora) else 800
    warnings = find_warnings(spec, layout(MILLION), width, volunteers, 1000)
    assert [each.volunteers for each in warnings if isinstance(each, OuterStrays)] == (
        [] if found is None else [found]
    )
    row = measured(target, volunteers)
    fixed = spec.model_copy(update={"outer": Sgd() if row is None else row.step})
    assert find_warnings(fixed, layout(MILLION), width, volunteers, 1000) == []


@pytest.mark.parametrize(
    ("multiple", "warned"),
    [(0.2, True), (0.5, False), (1, False), (2, False), (4, True), (6, False), (0.01, False)],
)
def test_a_rate_is_warned_about_between_the_usual_and_the_objectionable(
    multiple: float, warned: bool
) -> None:
    rate, usual = multiple * usual_rate(Lora(), WIDTH), usual_rate(Lora(), WIDTH)
    spec = spec_of(train=TrainSpec(inner=InnerSpec(lr=rate)))
    found = find_warnings(spec, layout(MILLION), WIDTH, 4, 10)
    assert found == ([RateStrays(rate, usual)] if warned else [])
    muon = spec_of(train=TrainSpec(inner=InnerSpec(lr=rate, optimizer="muon"), batch=4096))
    assert find_warnings(muon, layout(MILLION), WIDTH, 4, 10) == []


@pytest.mark.parametrize(("peers", "places", "warned"), [(8, 8, False), (9, 8, True), (33, 32, True)])
def test_momentum_is_warned_about_where_volunteers_take_turns(peers: int, places: int, warned: bool) -> None:
    step = outer_step(Lora(), places)
    assert step.momentum
    spec = spec_of(outer=step, round=RoundSpec(seconds=600, grace=60, max_contributions=places))
    found = find_warnings(spec, layout(MILLION), WIDTH, peers, 1000)
    assert found == ([TurnsWithMomentum(peers, places)] if warned else [])
    assert outer_step(Lora(), peers, places) == (MEAN if warned else step)


def test_outer_steps_follow_the_volunteers() -> None:
    for target in (Lora(), Full()):
        steps = [outer_step(target, volunteers) for volunteers in (1, 2, 4, 8, 32)]
        assert steps[0] == steps[1] == Sgd()
        gains = [step.lr / (1 - step.momentum) for step in steps]
        assert gains == sorted(gains)
