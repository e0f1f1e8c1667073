"""How training fits into memory. The memory is given as numbers, and nothing is downloaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.spec import DataSpec, Full, Lora, RunSpec, TrainSpec
from barnraise.core.errors import TooLargeForMemory, UserError
from barnraise.models.causal_lm import model_shape
from barnraise.models.memory_estimate import ModelShape, Precision, footprint
from barnraise.models.trainable import layout, parameter_count
from peer.training.device import free_memory
from peer.training.memory_fit import (
    INSTALL_QUANTIZED,
    Fit,
    FreeMemory,
    FrozenPrecision,
    MemoryNeed,
    Processor,
    fit,
)
from tests.support import devices
from tests.support.tiny import make_tiny_model

LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
ADAPTER = Lora(rank=16)
GB = 10**9
GPU = Processor(gpu=True, autocast=True, four_bit=True)
CPU = Processor(gpu=False, autocast=False, four_bit=True)
SMALL = ModelShape(
    parameters=135_000_000,
    products=106_000_000,
    head=0,
    largest=885_000,
    vocabulary=49_152,
    width=576,
    blocks=30,
    half=False,
)
SMALL_ADAPTER = 5_000_000


def run_spec(target: Lora | Full = ADAPTER, *, length: int = 512, batch: int = 4) -> RunSpec:
    return RunSpec(
        name="test",
        data=DataSpec(source="unused", sequence_length=length),
        train=TrainSpec(target=target, batch=batch),
    )


def machine(memory: float) -> FreeMemory:
    return FreeMemory(int(memory), int(memory), shared=True)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelShape, int]:
    """The shape of Llama 3 8B from a config, as if its files were in bf16, and the size of its adapter."""
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(LLAMA_3_8B), encoding="utf-8")
    shape = model_shape(folder)
    return replace(shape, half=True), layout(folder, ADAPTER).parameters


def test_the_shape_of_llama_3_8b(llama: tuple[ModelShape, int]) -> None:
    shape, adapter = llama
    assert shape.parameters == 8_030_261_248
    assert (shape.head, shape.largest) == (128256 * 4096, 14336 * 4096)
    assert shape.parameters - shape.products - shape.head == 128256 * 4096 + 65 * 4096, "embedding and norms"
    assert (shape.vocabulary, shape.width, shape.blocks) == (128256, 4096, 32)
    assert adapter == 41_943_040


@pytest.mark.parametrize(
    ("gigabytes", "length", "micro_batch", "frozen", "needs"),
    [
        (24, 512, 4, "bf16", 23.8),
        (24, 1024, 2, "bf16", 23.8),
        (24, 2048, 1, "bf16", 23.8),
        (24, 4096, 1, "8bit", 21.8),
        (16, 2048, 1, "4bit", 13.8),
        (12, 1024, 1, "4bit", 11.4),
    ],
)
def test_an_adapter_of_8b_fits_consumer_gpus(
    llama: tuple[ModelShape, int],
    gigabytes: int,
    length: int,
    micro_batch: int,
    frozen: Precision,
    needs: float,
) -> None:
    spec, card = run_spec(length=length), FreeMemory(gigabytes * GB, 32 * GB, shared=False)
    found = fit(spec, *llama, card, GPU)
    assert (found.micro_batch, found.frozen, found.checkpointing) == (micro_batch, frozen, True)
    assert round(found.memory.needed / GB, 1) == needs
    assert (found.memory.free, found.memory.where) == (gigabytes * GB, "gpu")
    with pytest.raises(TooLargeForMemory):
        fit(spec, *llama, card, GPU, frozen="fp32")


def test_a_cpu_takes_one_sample_and_a_gpu_the_batch() -> None:
    found = fit(run_spec(), SMALL, SMALL_ADAPTER, machine(99 * GB), CPU)
    assert found == Fit(1, "fp32", False, MemoryNeed(found.memory.needed, 99 * GB, "machine"))
    assert found.memory.needed == pytest.approx(3.2 * GB, rel=0.02)
    card = FreeMemory(99 * GB, 99 * GB, shared=False)
    sizes = {1: 1, 3: 2, 4: 4, 6: 4, 8: 8}
    for batch, size in sizes.items():
        found = fit(run_spec(batch=batch), SMALL, SMALL_ADAPTER, card, GPU)
        assert (found.micro_batch, found.frozen) == (size, "bf16")
    assert fit(run_spec(), SMALL, SMALL_ADAPTER, card, GPU, micro_batch=3).micro_batch == 3


def test_lossless_bf16_comes_before_checkpointing() -> None:
    exact = replace(SMALL, half=True)
    assert fit(run_spec(), exact, SMALL_ADAPTER, machine(99 * GB), CPU).frozen == "bf16"
    tight = machine(3.0 * GB)
    found = fit(run_spec(), SMALL, SMALL_ADAPTER, tight, CPU)
    assert (found.frozen, found.checkpointing) == ("fp32", True)


def test_without_blocks_to_checkpoint_bits_are_reduced() -> None:
    found = fit(run_spec(), replace(SMALL, blocks=0), SMALL_ADAPTER, machine(99 * GB), CPU)
    assert not found.checkpointing
    needed = footprint(SMALL, SMALL_ADAPTER, ADAPTER, "diloco", tokens=512, frozen="8bit").shared
    lonely = replace(SMALL, blocks=1, width=30 * SMALL.width)  # checkpointing saves none
    assert fit(run_spec(), lonely, SMALL_ADAPTER, machine(needed), CPU).frozen == "8bit"


def test_the_error_of_a_small_machine_names_options_that_fit() -> None:
    spec = run_spec(length=2048)

    def fix_of(
        free_memory: FreeMemory, processor: Processor, frozen: FrozenPrecision, micro_batch: int | None = None
    ) -> str:
        with pytest.raises(TooLargeForMemory) as caught:
            fit(spec, SMALL, SMALL_ADAPTER, free_memory, processor, frozen=frozen, micro_batch=micro_batch)
        return caught.value.fix

    needed = {
        bits: footprint(
            SMALL, SMALL_ADAPTER, ADAPTER, "diloco", tokens=2048, frozen=bits, checkpointing=True
        ).shared
        for bits in ("bf16", "8bit", "4bit")
    }
    assert fix_of(machine(needed["bf16"]), CPU, "fp32").startswith("`--frozen bf16` would fit.")
    assert fix_of(machine(needed["8bit"]), CPU, "bf16", 8).startswith("`--frozen 8bit --micro-batch 1` would")
    poor = replace(CPU, four_bit=False)
    assert INSTALL_QUANTIZED in fix_of(machine(needed["4bit"]), poor, "auto")
    assert fix_of(machine(GB), CPU, "auto").startswith("Close other programs, use a machine with more memory")
    with pytest.raises(TooLargeForMemory, match="outside the GPU"):
        fit(spec, SMALL, SMALL_ADAPTER, FreeMemory(99 * GB, GB // 2, shared=False), GPU)


@pytest.mark.parametrize("frozen", ["bf16", "8bit", "4bit"])
def test_a_run_without_frozen_weights_refuses_frozen(frozen: FrozenPrecision) -> None:
    with pytest.raises(UserError, match="trains all parameters"):
        fit(run_spec(Full()), SMALL, SMALL.parameters, machine(99 * GB), CPU, frozen=frozen)
    assert fit(run_spec(Full()), SMALL, SMALL.parameters, machine(99 * GB), CPU).frozen is None


def test_four_bits_need_bitsandbytes() -> None:
    with pytest.raises(UserError, match="bitsandbytes"):
        fit(run_spec(), SMALL, SMALL_ADAPTER, machine(99 * GB), replace(CPU, four_bit=False), frozen="4bit")
    assert fit(run_spec(), SMALL, SMALL_ADAPTER, machine(99 * GB), CPU, frozen="4bit").frozen == "4bit"


@given(
    device=st.integers(0, 60 * GB),
    host=st.integers(0, 60 * GB),
    shared=st.booleans(),
    processor=st.builds(Processor, st.booleans(), st.booleans(), st.booleans()),
    target=st.sampled_from([ADAPTER, Full()]),
    batch=st.integers(1, 64),
    length=st.sampled_from([64, 512, 2048]),
)
def test_the_choice_fits_and_more_memory_is_never_worse(
    device: int, host: int, shared: bool, processor: Processor, target: Lora | Full, batch: int, length: int
) -> None:
    spec = run_spec(target, batch=batch, length=length)
    params = SMALL_ADAPTER if isinstance(target, Lora) else SMALL.parameters
    small = FreeMemory(host if shared else device, host, shared=shared)
    large = FreeMemory(small.device + GB, small.host + GB, shared=shared)
    try:
        found = fit(spec, SMALL, params, small, processor)
    except TooLargeForMemory:
        return
    needed = footprint(
        SMALL,
        params,
        target,
        "diloco",
        tokens=found.micro_batch * length,
        frozen=found.frozen or "fp32",
        checkpointing=found.checkpointing,
        autocast=processor.autocast,
    )
    assert small.holds(needed)
    assert found.micro_batch <= max(1, batch)
    better = fit(spec, SMALL, params, large, processor)
    order: list[Precision] = ["4bit", "8bit", "bf16", "fp32"]

    def worth(fit: Fit) -> tuple[int, bool, int]:
        return order.index(fit.frozen or "fp32"), not fit.checkpointing, fit.micro_batch

    assert worth(better) >= worth(found)


def test_the_shape_of_a_model_on_disk(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, dtype=torch.bfloat16)
    shape = model_shape(tmp_path)
    assert shape.parameters == parameter_count(tmp_path)
    assert shape.products == 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3)
    assert (shape.head, shape.largest, shape.width, shape.blocks) == (0, 64 * 128, 64, 2)
    assert shape.half
    make_tiny_model(tmp_path)
    assert not model_shape(tmp_path).half


def test_the_cpu_s_memory_is_the_machine_s() -> None:
    here = free_memory(devices.CPU)
    assert here.shared
    assert here.device == here.host > 0
