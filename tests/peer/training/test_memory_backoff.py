"""Out of memory during training: smaller micro-batches, and the same gradients."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from barnraise.contract.spec import DataSpec, Full, Lora, RunSpec, TrainSpec
from barnraise.contract.state import Array
from barnraise.core.errors import TooLargeForMemory
from barnraise.models.trainable import initial_state
from peer.training.device import memory_limit, out_of_memory
from peer.training.local_model import LocalModel
from peer.training.trainer import Trainer
from tests.support.devices import CPU
from tests.support.tiny import make_tiny_model, tiny_samples

TARGETS = [Full(), Lora(rank=2)]
PLACES = ["forward 0", "forward 1", "backward 0", "backward 1"]


class SmallMemory:
    """Runs out when more than `most` samples reach `place`: a pass over one of the model's two blocks."""

    def __init__(self, model: LocalModel, place: str, most: int) -> None:
        self.model = model
        self.most = most
        self.failed: list[int] = []
        direction, _, number = place.partition(" ")
        block = [m for m in model._model.modules() if isinstance(m, LlamaDecoderLayer)][int(number)]
        if direction == "forward":
            block.register_forward_pre_hook(lambda _, inputs: self.use(len(inputs[0])))
        else:
            block.register_forward_hook(self.watch)

    def watch(self, _: nn.Module, __: Any, hidden: torch.Tensor) -> None:
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: self.use(len(gradient)))

    def use(self, samples: int) -> None:
        if samples > self.most:
            self.failed.append(samples)
            raise torch.OutOfMemoryError(f"no room for {samples} samples\nand more lines")


class EnoughForCheckpointing(SmallMemory):
    def use(self, samples: int) -> None:
        if not self.model._checkpointing:
            super().use(samples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def model(folder: Path, target: Lora | Full, micro_batch: int, *, checkpointing: bool = False) -> LocalModel:
    made = LocalModel(folder, target, CPU, micro_batch, checkpointing=checkpointing)
    random = np.random.default_rng(0)
    start = initial_state(folder, target, 0).params
    # An adapter's B starts at zero, which would leave A without a gradient.
    made.load({n: a + random.normal(0, 0.02, a.shape).astype(np.float32) for n, a in start.items()})
    return made


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    for name, array in expected.items():
        scale = float(np.abs(array).max())
        assert scale > 0
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("place", PLACES)
def test_backed_off_gradients_equal_those_with_enough_memory(
    folder: Path, target: Lora | Full, place: str
) -> None:
    before, samples = tiny_samples(1, seed=1), tiny_samples(7, seed=2)
    plenty = model(folder, target, 4)
    plenty.backward(before, divisor=1)
    expected = plenty.backward(samples, divisor=1)

    little = model(folder, target, 4)
    little.backward(before, divisor=1)
    memory = SmallMemory(little, place, most=1)
    found = little.backward(samples, divisor=1)

    assert memory.failed == [4, 2]
    assert found.total == pytest.approx(expected.total, rel=1e-5)
    assert found.tokens == expected.tokens
    same(little.gradients(), plenty.gradients())
    assert little.loss(samples).total == pytest.approx(expected.total, rel=1e-5)
    assert memory.failed == [4, 2], "the smaller micro-batch is not kept"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 9),
    micro_batch=st.integers(1, 9),
    most=st.integers(1, 9),
    place=st.sampled_from(PLACES),
    blank=st.sets(st.integers(0, 8)),
)
def test_each_sample_counts_once_wherever_memory_runs_out(
    folder: Path, count: int, micro_batch: int, most: int, place: str, blank: set[int]
) -> None:
    samples = tiny_samples(count, seed=count)
    for number in blank & set(range(count)):
        samples[number].labels[:] = -100
    plenty, little = model(folder, Lora(rank=2), 1), model(folder, Lora(rank=2), micro_batch)
    memory = SmallMemory(little, place, most)
    expected, found = plenty.backward(samples, divisor=3), little.backward(samples, divisor=3)
    assert found.total == pytest.approx(expected.total, rel=1e-5)
    assert found.tokens == expected.tokens
    if expected.tokens:
        same(little.gradients(), plenty.gradients())
    assert len(memory.failed) == len(set(memory.failed)), "no size fails twice"


def test_a_round_with_little_memory_trains_the_same(folder: Path) -> None:
    train = TrainSpec(target=Full(), batch=4)
    spec = RunSpec(name="test", data=DataSpec(source="unused"), train=train)
    state = initial_state(folder, Full(), 0)
    updates = []
    for most in (1, 4):
        peer = Trainer(folder, spec, CPU, 4)
        SmallMemory(peer._model, "backward 0", most)
        peer.load(state)
        for seed in range(3):
            peer.step(tiny_samples(4, seed=seed))
        updates.append(peer.take_update(state))
    little, plenty = updates
    assert (little.tokens, little.samples) == (plenty.tokens, plenty.samples)
    for name, array in plenty.tensors.items():
        np.testing.assert_allclose(little.tensors[name], array, rtol=0, atol=3e-5)


def test_each_reduction_is_logged_once_and_checkpointing_comes_last(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    little = model(folder, Full(), 4)
    memory = SmallMemory(little, "forward 1", most=0)
    with caplog.at_level(logging.WARNING, "peer"), pytest.raises(TooLargeForMemory) as caught:
        little.backward(tiny_samples(4), divisor=1)
    assert memory.failed == [4, 2, 1, 1]
    assert [record.args for record in caplog.records] == [
        (4, 2, "no room for 4 samples"),
        (2, 1, "no room for 2 samples"),
        ("no room for 1 samples",),
    ]
    assert "one sample at a time (no room for 1 samples)" in caught.value.problem


def test_checkpointing_saves_a_step_that_did_not_fit(folder: Path) -> None:
    samples = tiny_samples(2)
    plenty, little = model(folder, Full(), 1), model(folder, Full(), 1)
    memory = EnoughForCheckpointing(little, "backward 1", most=0)
    plenty.backward(samples, divisor=1)
    little.backward(samples, divisor=1)
    assert memory.failed == [1]
    same(little.gradients(), plenty.gradients())


@pytest.mark.parametrize("target", TARGETS)
def test_activation_checkpointing_changes_no_gradient(folder: Path, target: Lora | Full) -> None:
    samples = tiny_samples(3)
    plain, twice = model(folder, target, 2), model(folder, target, 2, checkpointing=True)
    runs = {id(m): 0 for m in (plain, twice)}

    def count(made: LocalModel) -> None:
        def add(*_: object) -> None:
            runs[id(made)] += 1

        attention = next(m for m in made._model.modules() if isinstance(m, LlamaDecoderLayer)).self_attn
        attention.register_forward_hook(add)

    for made in (plain, twice):
        count(made)
        made.backward(samples, divisor=5)
    assert (runs[id(plain)], runs[id(twice)]) == (2, 4), "two micro-batches, computed again"
    assert not twice._model.training
    for name, array in plain.gradients().items():
        assert array.any()
        assert np.array_equal(array, twice.gradients()[name]), name
    assert plain.loss(samples) == twice.loss(samples)


def test_only_out_of_memory_errors_are_retried(folder: Path) -> None:
    broken = model(folder, Full(), 2)

    def fail(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    broken._model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="mat1"):
        broken.backward(tiny_samples(2), divisor=1)
    with pytest.raises(RuntimeError, match="mat1"), memory_limit(torch.device("cpu"), "the model"):
        fail()


def test_out_of_memory_errors_of_torch_are_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    cpu = torch.device("cpu")
    with pytest.raises(TooLargeForMemory, match="too small for the model"), memory_limit(cpu, "the model"):
        torch.empty(2**60, dtype=torch.uint8)
