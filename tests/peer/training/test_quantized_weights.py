"""Frozen weights in fewer bits: their products, their memory, and that peers still agree."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from barnraise.contract.spec import DataSpec, Dense, InnerSpec, Lora, RunSpec, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.core.errors import UserError
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder
from barnraise.fold.error_feedback import encode_with_feedback
from barnraise.fold.fold import fold
from barnraise.models.causal_lm import load, model_shape
from barnraise.models.memory_estimate import Precision
from barnraise.models.trainable import attach, initial_state
from peer.training.device import Device
from peer.training.local_model import LocalModel
from peer.training.quantized_weights import FrozenLinear, has_four_bit, store_frozen
from peer.training.trainer import Trainer
from tests.support.devices import BF16_CPU, CPU
from tests.support.model_kinds import make_kind
from tests.support.tiny import VOCABULARY, make_tiny_model, make_tiny_tokenizer, tiny_samples

TARGET = Lora(rank=4, alpha=8.0)
SPEC = RunSpec(
    name="test",
    data=DataSpec(source="unused"),
    train=TrainSpec(target=TARGET, inner=InnerSpec(lr=1e-2)),
    codec=Dense(bits=4),
)
needs_four_bit = pytest.mark.skipif(not has_four_bit(), reason="bitsandbytes is not installed")
LOWER: list[Any] = ["bf16", "8bit", pytest.param("4bit", marks=needs_four_bit)]
ERROR = {"bf16": 0.002, "8bit": 0.01, "4bit": 0.12}
"""Largest relative error of the random weights here, by precision."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def half_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("half"), dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def headed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an untied output head."""
    folder = tmp_path_factory.mktemp("headed")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


def stored(folder: Path, precision: Precision, *, autocast: bool = False) -> nn.Module:
    model = attach(load(folder, "auto"), TARGET)
    store_frozen(model, precision, torch.device("cpu"), autocast=autocast)
    return model


def low_layers(model: nn.Module) -> dict[str, FrozenLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, FrozenLinear)}


def steps(folder: Path, device: Device, precision: Precision | None, state: TrainState) -> Trainer:
    peer = Trainer(folder, SPEC, device, 2, frozen=precision)
    peer.load(state)
    for seed in range(3):
        peer.step(tiny_samples(4, seed=seed))
    return peer


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("precision", LOWER)
def test_only_frozen_linear_weights_are_quantized(folder: Path, precision: Precision) -> None:
    plain, low = attach(load(folder, torch.float32), TARGET), stored(folder, precision)
    weights = dict(plain.named_parameters())
    layers = low_layers(low)
    assert len(layers) == 14, "seven in each of two blocks; the head is tied to the embedding"
    for name, layer in layers.items():
        weight = weights[f"{name}.weight"].detach()
        assert 0 < relative(layer.stored.dense(torch.float32), weight) < ERROR[precision]
    for name, parameter in low.named_parameters():
        assert parameter.dtype is torch.float32
        assert torch.equal(parameter, weights[name]) or "lora_A" in name
    assert {n for n, p in plain.named_parameters() if p.requires_grad} == {
        n for n, p in low.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("precision", LOWER)
def test_an_untied_output_head_is_never_below_bf16(headed_folder: Path, precision: Precision) -> None:
    head = load(headed_folder, torch.float32).get_output_embeddings().weight.detach()
    layers = low_layers(stored(headed_folder, precision))
    (layer,) = (layer for name, layer in layers.items() if "head" in name)
    assert torch.equal(layer.stored.dense(torch.float32), head.to(torch.bfloat16).float())
    shape = model_shape(headed_folder)
    assert (shape.head, shape.products) == (head.numel(), 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3))


@pytest.mark.parametrize("precision", LOWER)
def test_a_quantized_layer_equals_a_dense_one_with_its_weights(precision: Precision) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 96)
    parent = nn.ModuleDict({"layer": linear}).requires_grad_(False)
    store_frozen(parent, precision, torch.device("cpu"), autocast=False)
    layer = parent["layer"]
    assert isinstance(layer, FrozenLinear)
    dense = layer.stored.dense(torch.float32)
    x = torch.randn(2, 3, 64, requires_grad=True)
    y = x.detach().clone().requires_grad_(True)
    found, expected = layer(x), nn.functional.linear(y, dense, linear.bias)
    out = torch.randn_like(found)
    found.backward(out)
    expected.backward(out)
    assert x.grad is not None
    assert y.grad is not None
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("precision", LOWER)
def test_no_dense_copy_lives_until_the_backward_pass(folder: Path, precision: Precision) -> None:
    def saved_values(model: nn.Module) -> int:
        shapes = {(64, 64), (32, 64), (128, 64), (64, 128)}
        shapes |= {(inner, outer) for outer, inner in shapes}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tuple(tensor.shape) in shapes and not tensor.requires_grad:
                kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(input_ids=torch.arange(11)[None], use_cache=False).logits.sum().backward()
        return sum(kept.values())

    assert saved_values(attach(load(folder, torch.float32), TARGET)) > 50_000
    assert saved_values(stored(folder, precision)) == 0


def test_bf16_storage_of_a_bf16_checkpoint_trains_exactly_as_fp32(half_folder: Path) -> None:
    assert model_shape(half_folder).half
    state = initial_state(half_folder, TARGET, 0)
    dense, low = (steps(half_folder, CPU, precision, state) for precision in ("fp32", "bf16"))
    assert all(np.array_equal(low.params()[name], array) for name, array in dense.params().items())
    assert any(not np.array_equal(state.params[name], array) for name, array in low.params().items())


def test_bf16_weights_change_nothing_with_bf16_products(folder: Path) -> None:
    assert not model_shape(folder).half
    state = initial_state(folder, TARGET, 0)
    dense, low, chosen = (steps(folder, BF16_CPU, precision, state) for precision in ("fp32", "bf16", None))
    for name, array in dense.params().items():
        assert np.array_equal(low.params()[name], array)
        assert np.array_equal(chosen.params()[name], array)


@pytest.mark.parametrize("device", [CPU, BF16_CPU])
@pytest.mark.parametrize("precision", LOWER)
def test_an_adapter_learns_on_quantized_weights(folder: Path, device: Device, precision: Precision) -> None:
    peer = Trainer(folder, SPEC, device, 2, frozen=precision, checkpointing=True)
    peer.load(initial_state(folder, TARGET, 0))
    samples = tiny_samples(4)
    exact = Trainer(folder, SPEC, CPU, 2)
    exact.load(initial_state(folder, TARGET, 0))
    before = peer.evaluate(samples).loss
    assert before == pytest.approx(exact.evaluate(samples).loss, rel=2 * ERROR[precision])
    for _ in range(20):
        peer.step(samples)
    assert peer.evaluate(samples).loss < before - 0.3


def test_peers_of_different_precision_fold_to_one_state(folder: Path) -> None:
    state = initial_state(folder, TARGET, 0)
    hows: list[tuple[Device, Precision]] = [(CPU, "fp32"), (CPU, "bf16"), (BF16_CPU, "bf16"), (CPU, "8bit")]
    hows += [(CPU, "4bit")] if has_four_bit() else []
    blobs, tokens = [], []
    for device, precision in hows:
        update = steps(folder, device, precision, state).take_update(state)
        blobs.append(bytes(encode_with_feedback(SPEC.codec, update.tensors, {}, state.layout)))
        tokens.append(update.tokens)
    assert len(set(blobs)) == len(blobs), "each precision trains a little differently"
    layouts = [Trainer(folder, SPEC, device, 2, frozen=precision).layout for device, precision in hows]
    states = [folded(state, blobs, tokens, layout) for layout in layouts]
    assert len({after.hash() for after in states}) == 1
    assert states[0].hash() != state.hash()


def folded(state: TrainState, blobs: Sequence[bytes], tokens: Sequence[int], layout: Any) -> TrainState:
    contributions = [
        Contribution.unlimited(Decoder(blob, SPEC.codec, layout), weight)
        for blob, weight in zip(blobs, tokens, strict=True)
    ]
    return fold(state, contributions, SPEC)


@pytest.mark.parametrize("kind", ["rwkv", "axk2"])
def test_a_model_that_reads_the_weight_of_a_layer_trains(kind: str, tmp_path: Path) -> None:
    wanted = make_kind(kind, tmp_path / kind)
    names = {"rwkv": ("receptance",), "axk2": ("o_proj",)}[kind]
    model = LocalModel(wanted, Lora(rank=2, modules=names), CPU, 1, frozen="8bit", attention="eager")
    assert model.backward(tiny_samples(1, 48), 48).total > 0
    assert any(gradient.any() for gradient in model.gradients().values())


def test_missing_bitsandbytes_is_an_error_with_a_fix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert not has_four_bit()
    with pytest.raises(UserError, match="bitsandbytes") as caught:
        stored(folder, "4bit")
    assert "pip install '.[quantized]'" in caught.value.fix
