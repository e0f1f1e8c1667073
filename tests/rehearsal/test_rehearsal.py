"""A rehearsal: its outcomes, its faults by name, and its limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from barnraise.contract.shards import Sample
from barnraise.contract.spec import DataSpec, Full, Lora, ModelSpec, RunSpec, TrainSpec
from barnraise.core.errors import ModelUnusable
from barnraise.rehearsal import runner
from barnraise.rehearsal.isolation import FP32, Isolated, Isolation, Losses, judge, measure
from barnraise.rehearsal.outcomes import (
    DocumentsMixed,
    FollowingTokensSeen,
    KernelUnsupported,
    LossNotFinite,
    MemoryExhausted,
    NoGradient,
    NotRehearsed,
    PaddingSeen,
    PositionsExceeded,
    ProgramFailed,
    Rehearsed,
    TooLittleMemory,
    TooSlow,
    WeightsNotFinite,
)
from barnraise.rehearsal.program import Faulty, rehearse
from barnraise.rehearsal.replies import FaultReply, Request
from barnraise.rehearsal.runner import Limits
from barnraise.rehearsal.samples import STEP_TOKENS, RehearsalSamples
from barnraise.runtime.child_failures import ChildDied, ChildFailure, ChildTimedOut, ChildTooLarge
from barnraise.runtime.child_process import ChildDone
from tests.rehearsal.test_kinds import LENGTH, request, samples
from tests.support.model_kinds import make_kind
from tests.support.tiny import make_tiny_model, tiny_samples


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("llama"))


def run_of(model: Path, **data: object) -> RunSpec:
    settings = {"source": "data.jsonl", "sequence_length": LENGTH} | data
    return RunSpec(
        name="barn",
        model=ModelSpec(source=str(model)),
        data=DataSpec.model_validate(settings),
        train=TrainSpec(target=Lora(rank=2)),
    )


def fault_of(folder: Path, asked: Request) -> object:
    with pytest.raises(Faulty) as faulty:
        rehearse(folder, asked, samples())
    fault = faulty.value.fault
    assert FaultReply.of(fault).read() == fault
    return fault


# In a child program


def test_a_step_in_a_child_program(llama: Path) -> None:
    found = runner.rehearse(run_of(llama), llama, samples())
    assert isinstance(found, Rehearsed)
    assert (found.attention, found.packed) == ("sdpa", True)
    assert 4 < found.loss < 8
    assert found.tokens == samples().step.trained_tokens
    assert found.peak > 10**8


def test_a_machine_that_is_too_small_tries_nothing(llama: Path) -> None:
    found = runner.rehearse(run_of(llama), llama, samples(), Limits(memory=10**8))
    assert isinstance(found, NotRehearsed)
    assert isinstance(found.obstacle, TooLittleMemory)
    assert found.obstacle.free == 10**8 < found.obstacle.needed
    assert (found.attention, found.packed) == ("sdpa", True)


@pytest.mark.parametrize(
    ("ended", "obstacle"),
    [
        (ChildTimedOut(120.0), TooSlow(120.0)),
        (ChildTooLarge(5), MemoryExhausted(5)),
        (ChildDied("m", -9, ""), MemoryExhausted(7)),
        (ChildDone('{"exhausted": true}'), MemoryExhausted(7)),
        (ChildDied("m", 1, "KeyError: 'x'"), ProgramFailed("KeyError: 'x'")),
        (ChildDone("no JSON"), ProgramFailed("no JSON")),
        (ChildDone('{"fault": "Of", "fields": {}}'), ProgramFailed('{"fault": "Of", "fields": {}}')),
        (ChildDone('{"fault": "LossNotFinite", "fields": {"loss": "nan"}}'), LossNotFinite("nan")),
    ],
)  # fmt: skip
def test_how_the_program_ends_is_an_outcome(ended: ChildDone | ChildFailure, obstacle: object) -> None:
    assert runner._outcome(ended, free=7) == obstacle


def test_a_fault_is_the_models(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(*_: object, **__: object) -> ChildDied:
        return ChildDied("m", 1, "RuntimeError: no kernel")

    monkeypatch.setattr(runner, "run_child", dies)
    with pytest.raises(ModelUnusable) as refused:
        runner.rehearse(run_of(llama), llama, samples())
    assert refused.value.exit_code == 2


# Faults


def test_documents_that_see_each_other(tmp_path: Path) -> None:
    opt = make_kind("opt", tmp_path / "opt")
    assert isinstance(fault_of(opt, request(packing="always")), DocumentsMixed)
    assert not rehearse(opt, request(packing="auto"), samples()).packed


def test_packing_that_the_spec_forbids(llama: Path) -> None:
    assert not rehearse(llama, request(packing="never"), samples()).packed


def test_a_kernel_that_the_model_does_not_have(tmp_path: Path) -> None:
    bloom = make_kind("bloom", tmp_path / "bloom")
    assert isinstance(fault_of(bloom, request(attention="sdpa")), KernelUnsupported)


def test_positions_that_the_model_does_not_have(tmp_path: Path) -> None:
    gpt2 = make_kind("gpt2", tmp_path / "gpt2", n_positions=LENGTH, max_position_embeddings=LENGTH)
    assert rehearse(gpt2, request(), samples()).attention == "sdpa"
    fault = fault_of(gpt2, request(sequence_length=LENGTH + 1))
    assert isinstance(fault, PositionsExceeded)
    assert fault.sequence_length == LENGTH + 1


def test_layers_that_get_no_gradient(tmp_path: Path) -> None:
    jamba = make_kind("jamba", tmp_path / "jamba")
    fault = fault_of(jamba, request(target=Lora(rank=2, modules=("q_proj", "dt_proj"))))
    assert isinstance(fault, NoGradient)
    assert fault.count == 2
    assert all("dt_proj" in name for name in fault.tensors)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    assert fault_of(model, request(target=Full())) == WeightsNotFinite("model.norm.weight", 1)


def test_products_that_are_not_finite(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][:] = 3e38
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    assert isinstance(fault_of(model, request(target=Full())), LossNotFinite)


# What is measured


def test_a_model_without_leaks_has_none() -> None:
    assert measure(own_losses, samples().isolation) == Isolation(0, 0, 0, 0)


def own_losses(sample: Sample) -> Losses:
    """The loss of a token depends on it and its position alone."""
    return np.where(sample.labels[1:] >= 0, sample.input_ids[1:] + sample.position_ids[1:], 0).astype(
        np.float32
    )


def test_each_dependence_is_measured() -> None:
    def following(sample: Sample) -> Losses:
        return own_losses(sample) + np.where(sample.labels[1:] >= 0, sample.input_ids[-1], 0)

    def before(sample: Sample) -> Losses:
        return own_losses(sample) + np.where(sample.labels[1:] >= 0, sample.input_ids[0], 0)

    isolation = samples().isolation
    assert measure(following, isolation).following > 0
    assert measure(before, isolation).following == 0
    assert measure(before, isolation).neighbour > 0
    assert measure(before, isolation).packing > 0


@pytest.mark.parametrize(
    ("found", "packing", "answer"),
    [
        (Isolation(0, 0, 0, 0), "auto", Isolated(packed=True)),
        (Isolation(0, 0, 0, 0), "never", Isolated(packed=False)),
        (Isolation(9e-5, 9e-5, 9e-3, 9e-3), "always", Isolated(packed=True)),
        (Isolation(2e-4, 0, 0, 0), "auto", FollowingTokensSeen(2e-4)),
        (Isolation(0, 2e-4, 0, 0), "auto", Isolated(packed=False)),
        (Isolation(0, 2e-4, 0, 0), "always", DocumentsMixed(2e-4)),
        (Isolation(0, 0, 0.02, 0), "auto", Isolated(packed=False)),
        (Isolation(0, 0, 0, 0.02), "auto", PaddingSeen(0.02)),
    ],
)
def test_what_follows_from_a_measure(found: Isolation, packing: str, answer: object) -> None:
    assert judge(found, FP32, packing) == answer  # type: ignore[arg-type]


# The samples


def test_the_step_is_the_start_of_the_first_sample_that_trains_there() -> None:
    ids = np.arange(2 * STEP_TOKENS, dtype=np.int32) % 200
    late = np.where(np.arange(len(ids)) >= STEP_TOKENS, ids, -100).astype(np.int32)
    positions = np.arange(len(ids), dtype=np.int32)
    other = tiny_samples(1, LENGTH)[0]
    assert (
        RehearsalSamples.of([Sample(ids, late, positions), other]).step.trained_tokens == other.trained_tokens
    )
    only = RehearsalSamples.of([Sample(ids, late, positions)]).step
    assert only.trained_tokens == len(only.input_ids) - 1 == STEP_TOKENS - 1


@pytest.mark.parametrize("ids", [[7] * 30, [0] * 30, [5, 6] * 4])
def test_the_isolation_sample_has_three_documents_of_different_tokens(ids: list[int]) -> None:
    array = np.array(ids, np.int32)
    found = RehearsalSamples.of([Sample(array, array, np.arange(len(ids), dtype=np.int32))]).isolation
    assert np.count_nonzero(found.position_ids == 0) == 3
    assert len(np.unique(found.input_ids)) > 1
