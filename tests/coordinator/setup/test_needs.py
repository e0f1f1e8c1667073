"""What a run needs: the arithmetic behind `coordinator check`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from barnraise.contract.spec import AdamW, DataSpec, Full, Raw, RunSpec, TrainSpec
from barnraise.contract.state import Layout
from barnraise.fold.codec import typical_blob
from barnraise.models.memory_estimate import footprint
from coordinator.reasons.estimates import Needs
from coordinator.setup.needs import needs
from tests.support.shapes import shape_of

SHAPE = shape_of(5_000_000)
MILLION = Layout((("a", (1000, 900)), ("b", (100_000,))))


def spec_of(**settings: object) -> RunSpec:
    fields: dict[str, object] = {"name": "barn", "data": DataSpec(source="data.jsonl"), "codec": Raw()}
    return RunSpec.model_validate(fields | settings)


def test_traffic_follows_from_the_blob_and_the_peers() -> None:
    found = needs(spec_of(), SHAPE, MILLION, peers=4)
    assert found.trainable_params == 1_000_000
    assert found.blob == typical_blob(Raw(), MILLION)
    assert (found.up, found.down) == (4 * found.blob, 3 * found.blob)


def test_no_more_contributions_count_than_a_round_folds() -> None:
    few = needs(spec_of(round={"max_contributions": 8}), SHAPE, MILLION, peers=8)
    many = needs(spec_of(round={"max_contributions": 8}), SHAPE, MILLION, peers=800)
    assert (many.up, many.log_per_round) == (few.up, few.log_per_round)
    assert (
        many.down == few.down + many.blob
    )  # most volunteers have no turn, and fetch all eight contributions


def test_one_volunteer_alone_receives_nothing_but_sends_to_the_coordinator() -> None:
    found = needs(spec_of(), SHAPE, MILLION, peers=1)
    assert (found.up, found.down) == (found.blob, 0)


@pytest.mark.parametrize(
    ("settings", "arrays"),
    [
        ({}, 1),
        ({"outer": {"kind": "sgd", "momentum": 0.9}}, 2),
        ({"train": {"method": "gradient"}, "outer": {"kind": "adamw"}}, 3),
    ],
)
def test_a_checkpoint_holds_the_parameters_and_the_outer_buffers(
    settings: dict[str, object], arrays: int
) -> None:
    found = needs(spec_of(**settings), SHAPE, MILLION, peers=2)
    assert found.checkpoint == arrays * 4_000_000
    assert found.coordinator_memory > 2 * found.checkpoint + 2 * found.blob


def test_the_disk_holds_the_kept_checkpoints_and_the_log() -> None:
    def of(**checkpoint: object) -> Needs:
        return needs(spec_of(checkpoint={"keep": 1, **checkpoint}), SHAPE, MILLION, peers=3)

    found = of(log_gigabytes=0.5)
    assert found.log_per_round > 3 * found.blob
    assert (found.forms, found.log) == (0, 500_000_000)
    assert found.disk == 4 * found.checkpoint + found.log, "the promoted one, the best and the oldest as well"
    assert of(keep=10, log_gigabytes=0.5, average=0).disk == found.disk + 9 * found.checkpoint
    assert (of(average=0).checkpoints, of(keep=10, held_out_tokens=0).checkpoints) == (4, 13)
    with_means = of(keep=10, log_gigabytes=0.5)
    assert with_means.checkpoints == 13 + 3 * 3 + 1, "three means, two more states of each, one that is made"
    assert with_means.disk == with_means.checkpoints * found.checkpoint + found.log
    assert of(every=5, log_gigabytes=0).log == 5 * found.log_per_round, "a restart folds the rounds after it"


def test_other_forms_take_the_bytes_of_their_precision() -> None:
    def of(target: object = "lora", **checkpoint: object) -> Needs:
        spec = spec_of(checkpoint=checkpoint, train={"target": {"kind": target}})
        return needs(spec, shape_of(32_000_000), MILLION, peers=3)

    assert of(merged=True).forms == of(gguf="f16").forms == 64_000_000
    assert of(gguf="q8_0").forms == 34_000_000
    assert of("full", merged=True).forms == 0, "there is no adapter to merge"
    both = of(merged=True, gguf="f16", keep=1)
    assert both.disk - of(keep=1).disk == 4 * 128_000_000


def test_a_peers_memory_is_the_estimate_that_a_peer_checks_before_it_joins() -> None:
    spec = spec_of(train=TrainSpec(method="gradient", target=Full()), outer=AdamW())
    (found,) = needs(spec, SHAPE, MILLION, peers=2).memory
    plain, less = (
        footprint(SHAPE, 1_000_000, Full(), "gradient", tokens=512, checkpointing=checkpointing)
        for checkpointing in (False, True)
    )
    assert (found.precision, found.laptop, found.laptop_checkpointing) == ("fp32", plain.shared, less.shared)
    on_a_gpu = footprint(SHAPE, 1_000_000, Full(), "gradient", tokens=512, autocast=True)
    assert (found.gpu, found.gpu_host) == (on_a_gpu.device, on_a_gpu.host)


def test_frozen_weights_take_less_memory_with_fewer_bits() -> None:
    shape = replace(shape_of(10**9), blocks=0)
    found = needs(spec_of(), shape, MILLION, peers=2).memory
    assert [at.precision for at in found] == ["fp32", "bf16", "8bit", "4bit"]
    assert [at.laptop for at in found] == sorted((at.laptop for at in found), reverse=True)
    assert [at.laptop_checkpointing for at in found] == [at.laptop for at in found], "no block to recompute"
