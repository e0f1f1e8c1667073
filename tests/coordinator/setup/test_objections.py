"""Objections to runs that would learn little, and refusals of those that cannot learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from barnraise.contract.spec import DataSpec, Lora, RunSpec
from barnraise.contract.state import Layout
from coordinator.reasons.estimates import Pace
from coordinator.reasons.objections import (
    AdapterScale,
    BatchAboveData,
    LittleHeldOut,
    LittleText,
    MostlyPadding,
    NobodyVouched,
    NotEvaluated,
    Objection,
    OneDocument,
    OneRecord,
    OuterGain,
    RankAboveLayer,
    RateDiverges,
    RateDoesNothing,
    RateHigh,
    RateLow,
    RepeatsOften,
    RoundAboveData,
    WarmupTooLong,
)
from coordinator.setup.objections import RunFacts, find_objections, find_refusal
from coordinator.setup.practice import usual_rate
from tests.support.shapes import built_dataset, index_of, shape_of

SMALL, LARGE = shape_of(135_000_000, width=576), shape_of(8_000_000_000, width=4096)
FULL = {"target": {"kind": "full"}}
GRADIENT = {"method": "gradient"}


def spec_of(**settings: Any) -> RunSpec:
    return RunSpec.model_validate({"name": "barn", "data": DataSpec(source="x")} | settings)


def objections(
    *,
    samples: int = 100_000,
    tokens: int = 50_000_000,
    records: int = 200_000,
    held_out: int = 1000,
    longest: int = 4000,
    epochs_a_day: float = 1.0,
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = (("x", (1000, 1000)),),
    **settings: Any,
) -> list[Objection]:
    """To a sound run, with some of it changed. held_out: samples."""
    spec = spec_of(**settings)
    dataset = built_dataset(
        index_of(samples, tokens, spec.data.sequence_length),
        index_of(held_out, held_out * 500),
        records=records,
        held_out_records=held_out,
    )
    dataset = replace(dataset, longest_document=longest)
    steps = samples / (spec.train.batch * 4)
    laptops = Pace("laptop", 4.0, steps, 100, 86_400 / epochs_a_day, 0.01, 1e6)
    return find_objections(RunFacts(spec, LARGE, Layout(tensors), dataset, 4, laptops))


def test_a_sound_run_gets_no_objection() -> None:
    assert objections() == []


# Learning rates


@pytest.mark.parametrize(
    ("train", "small", "large"), [({}, 1.3e-3, 2.9e-4), (FULL, 1.3e-4, 2.9e-5)], ids=["adapter", "full"]
)
def test_the_usual_rate_falls_with_the_width(train: Any, small: float, large: float) -> None:
    spec = spec_of(train=train)
    assert usual_rate(spec.train.target, SMALL.width) == pytest.approx(small, rel=0.05)
    assert usual_rate(spec.train.target, LARGE.width) == pytest.approx(large, rel=0.05)


@pytest.mark.parametrize(("rank", "times"), [(4, 2), (64, 1 / 2)])
def test_the_usual_rate_of_an_adapter_falls_with_its_rank(rank: int, times: float) -> None:
    usual = usual_rate(Lora(rank=16, alpha=32.0), SMALL.width)
    assert usual_rate(Lora(rank=rank, alpha=2.0 * rank), SMALL.width) == pytest.approx(times * usual)


@pytest.mark.parametrize("rate", [1e-4, 5e-4])
def test_rates_that_the_field_uses_for_adapters_get_no_objection(rate: float) -> None:
    assert objections(train={"inner": {"lr": rate}}) == []


@pytest.mark.parametrize("rate", [1e-5, 5e-5])
def test_rates_that_the_field_uses_for_whole_models_get_no_objection(rate: float) -> None:
    assert objections(train=FULL | {"inner": {"lr": rate}}) == []


def test_a_rate_for_adapters_is_too_high_for_a_whole_model() -> None:
    (found,) = objections(train=FULL | {"inner": {"lr": 3e-4}})
    assert isinstance(found, RateHigh)
    assert (found.key, found.rate) == ("train.inner.lr", 3e-4)


def test_muon_may_have_twice_the_rate() -> None:
    inner = {"lr": 2e-4, "optimizer": "muon"}
    assert objections(train=FULL | {"inner": {"lr": 2e-4}}) != []
    assert objections(train=FULL | {"inner": inner}) == []
    assert [type(each) for each in objections(train=FULL | {"inner": inner | {"lr": 4e-4}})] == [RateHigh]


def test_a_tiny_rate_gets_an_objection() -> None:
    (found,) = objections(train={"inner": {"lr": 5e-6}})
    assert isinstance(found, RateLow)


def test_of_accumulated_gradients_the_outer_rate_counts() -> None:
    def rates(outer: dict[str, Any]) -> list[tuple[type, str]]:
        found = objections(train=GRADIENT | {"inner": {"lr": 9.0}}, outer=outer)
        return [(type(each), each.key) for each in found if isinstance(each, RateHigh | RateLow)]

    assert rates({"kind": "adamw", "lr": 1e-2}) == [(RateHigh, "outer.lr")]
    assert rates({"kind": "adamw", "lr": 1e-7}) == [(RateLow, "outer.lr")]
    assert rates({"kind": "sgd"}) == []


@pytest.mark.parametrize(
    ("rate", "refusal"),
    [(1.0, RateDiverges), (0.1, RateDiverges), (1e-2, None), (1e-6, None), (1e-10, RateDoesNothing)],
)
def test_only_hopeless_rates_are_refused(rate: float, refusal: type | None) -> None:
    found = find_refusal(spec_of(train={"inner": {"lr": rate}}), LARGE)
    assert (type(found) if found else None) == refusal


# Text


def test_one_record_is_one_objection_about_the_text() -> None:
    assert objections(records=1, samples=1, tokens=100, train={"batch": 1})[0] == OneRecord()


def test_text_that_is_mostly_one_document() -> None:
    assert objections(longest=25_000_000) == []
    assert objections(longest=30_300_000) == [OneDocument(0.6, 30_300_000)]


def test_little_text() -> None:
    (found,) = objections(tokens=90_000, samples=200, epochs_a_day=512.0)
    assert found == LittleText(200_000, 45_000, 50_000, peers=4, epochs_a_day=512.0)


def test_text_that_repeats_often_is_memorized() -> None:
    (found,) = objections(tokens=2_000_000, samples=4000, epochs_a_day=48.0)
    assert found == RepeatsOften(4, 48.0, 4, 2.0, 1.0)
    assert objections(epochs_a_day=48.0) == [], "there are more tokens than trained values"


@pytest.mark.parametrize(
    ("settings", "objection"),
    [
        ({"data": {"source": "x", "held_out": 0.0}, "held_out": 0}, NotEvaluated("data.held_out")),
        ({"checkpoint": {"held_out_tokens": 0}}, NotEvaluated("checkpoint.held_out_tokens")),
        ({"held_out": 0}, NotEvaluated(None)),
        ({"held_out": 3}, LittleHeldOut(750, 1000, limited=False)),
        ({"checkpoint": {"held_out_tokens": 100}}, LittleHeldOut(100, 1000, limited=True)),
    ],
)
def test_checkpoints_must_be_comparable(settings: dict[str, Any], objection: Objection) -> None:
    assert objections(**settings) == [objection]


# Who takes part


def test_an_open_run_names_somebody_whom_it_trusts() -> None:
    assert objections(trust={"mode": "open"}) == [NobodyVouched()]
    assert objections(trust={"mode": "open", "vouched": ("ab" * 32,)}) == []


# Batches and rounds


def test_a_batch_above_the_data() -> None:
    assert objections(samples=300, tokens=150_000, train={"batch": 100}) == [BatchAboveData(100, 4, 300)]


def test_a_round_above_the_data() -> None:
    by_tokens = objections(round={"target_tokens": 200_000_000})
    assert by_tokens == [RoundAboveData("round.target_tokens", 4.0, 50_000_000)]
    assert objections(round={"steps": 12_500}) == [RoundAboveData("round.steps", 2.0, 6250)]


def test_a_warm_up_beyond_the_useful_steps() -> None:
    assert objections(train={"inner": {"warmup_steps": 25_000}}) == []
    found = objections(train={"inner": {"warmup_steps": 25_001}})
    assert found == [WarmupTooLong(25_001, 25_000, 2500)]
    plain = objections(train=GRADIENT | {"inner": {"warmup_steps": 25_001}})
    assert plain == [], "there are no inner steps"


def test_samples_that_are_mostly_padding() -> None:
    data = {"source": "x", "sequence_length": 4096}
    (found,) = objections(data=data, samples=200_000, tokens=60_000_000)
    assert found == MostlyPadding(1 - 300 / 4096, 4096, 300.0, 1024)
    assert objections(data=data, samples=15_000, tokens=60_000_000) == []


# Adapters and outer steps


@pytest.mark.parametrize(("alpha", "objects"), [(1.0, True), (16.0, False), (32.0, False), (256.0, True)])
def test_the_scale_of_an_adapter(alpha: float, objects: bool) -> None:
    found = objections(train={"target": {"kind": "lora", "alpha": alpha, "rank": 16}})
    assert found == ([AdapterScale(alpha, 16)] if objects else [])


def test_a_rank_above_a_layer() -> None:
    def found(rank: int) -> list[Objection]:
        tensors = (("k.lora_A.weight", (rank, 576)), ("k.lora_B.weight", (192, rank)))
        target = {"kind": "lora", "rank": rank, "alpha": 2.0 * rank}
        return objections(train={"target": target}, tensors=tensors)

    assert found(143) == []
    assert found(144) == [RankAboveLayer(144, "k", 192, 576)]


@pytest.mark.parametrize(
    ("outer", "objects"),
    [
        ({}, False),
        ({"lr": 0.7, "momentum": 0.5, "nesterov": True}, False),
        ({"lr": 0.7, "momentum": 0.9, "nesterov": True}, True),
        ({"lr": 0.1}, True),
    ],
)
def test_the_gain_of_the_outer_optimizer(outer: dict[str, Any], objects: bool) -> None:
    found = objections(outer={"kind": "sgd"} | outer)
    assert [type(each) for each in found] == ([OuterGain] if objects else [])
