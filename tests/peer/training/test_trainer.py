from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from barnraise.contract.shards import Sample
from barnraise.contract.spec import DataSpec, Full, InnerSpec, Lora, RunSpec, TrainSpec
from barnraise.contract.state import TrainState
from barnraise.core.errors import NotFinite, SpecError, StateError
from barnraise.models.causal_lm import quiet
from barnraise.models.trainable import adapter_config, initial_state, layout, parameter_count
from peer.training.muon import CpuMuon
from peer.training.trainer import Trainer
from tests.support.devices import BF16_CPU, CPU
from tests.support.tiny import make_tiny_model, tiny_samples

Method = Literal["diloco", "gradient"]
INNER = InnerSpec(lr=1e-3, weight_decay=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def run_spec(method: Method, target: Lora | Full, inner: InnerSpec = INNER) -> RunSpec:
    train = TrainSpec(method=method, target=target, inner=inner)
    return RunSpec(name="test", data=DataSpec(source="unused"), train=train)


def trainer(
    folder: Path, method: Method, target: Lora | Full, inner: InnerSpec = INNER, micro_batch: int = 2
) -> Trainer:
    return Trainer(folder, run_spec(method, target, inner), CPU, micro_batch)


def plain_model(folder: Path) -> torch.nn.Module:
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def plain_loss(model: torch.nn.Module, samples: Sequence[Sample]) -> torch.Tensor:
    """Token-mean loss, document by document, so that nothing can cross a boundary."""
    losses = []
    for sample in samples:
        for document in np.split(
            np.arange(len(sample.input_ids)), np.flatnonzero(sample.position_ids == 0)[1:]
        ):
            ids = torch.tensor(sample.input_ids[document], dtype=torch.int64)[None]
            labels = torch.tensor(sample.labels[document], dtype=torch.int64)
            losses.append(
                torch.nn.functional.cross_entropy(
                    model(input_ids=ids).logits[0, :-1], labels[1:], reduction="none", ignore_index=-100
                )[labels[1:] != -100]
            )
    return torch.cat(losses).mean()


def test_a_packed_document_does_not_attend_to_its_predecessor(folder: Path) -> None:
    model = plain_model(folder)
    sample = tiny_samples(1)[0]
    ids = torch.tensor(sample.input_ids[None], dtype=torch.int64)
    positions = torch.tensor(sample.position_ids[None], dtype=torch.int64)
    border = int(np.flatnonzero(sample.position_ids == 0)[1])
    with torch.no_grad():
        packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, border:]
        alone = model(input_ids=ids[:, border:]).logits
        crossing = model(input_ids=ids).logits[:, border:]
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(crossing, alone, rtol=1e-2, atol=1e-3)


def test_evaluate_is_the_mean_over_documents_tokens(folder: Path) -> None:
    peer = trainer(folder, "diloco", Full())
    samples = tiny_samples(5)
    with torch.no_grad():
        expected = float(plain_loss(plain_model(folder), samples))
    result = peer.evaluate(samples)
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert result.tokens == sum(sample.trained_tokens for sample in samples)


def test_two_peers_gradients_combine_to_the_gradient_of_their_union(folder: Path) -> None:
    parts = tiny_samples(3, seed=1), tiny_samples(5, seed=2)
    state = initial_state(folder, Full(), 0)
    updates = []
    for samples in parts:
        peer = trainer(folder, "gradient", Full())
        peer.load(state)
        for sample in samples:
            peer.step([sample])
        updates.append(peer.take_update(state))
    tokens = sum(update.tokens for update in updates)
    model = plain_model(folder)
    plain_loss(model, [*parts[0], *parts[1]]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        combined = sum(update.tensors[name] * np.float32(update.tokens / tokens) for update in updates)
        np.testing.assert_allclose(combined, parameter.grad.numpy(), rtol=1e-3, atol=2e-6)
    assert [update.samples for update in updates] == [3, 5]


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_diloco_steps_equal_a_plain_adamw_loop(folder: Path, micro_batch: int) -> None:
    batches = [tiny_samples(4, seed=seed) for seed in range(5)]
    state = initial_state(folder, Full(), 0)
    peer = trainer(folder, "diloco", Full(), INNER.model_copy(update={"warmup_steps": 2}), micro_batch)
    peer.load(state)

    model = plain_model(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for i, batch in enumerate(batches):
        loss = plain_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (i + 1) / 2)
        optimizer.step()
        assert peer.step(batch).loss == pytest.approx(float(loss.detach()), rel=1e-4)

    update = peer.take_update(state)
    for name, parameter in model.named_parameters():
        local = state.params[name] - update.tensors[name]
        np.testing.assert_allclose(local, parameter.detach().numpy(), rtol=0, atol=3e-5)
        assert np.abs(update.tensors[name]).max() > 1e-3
    assert (update.samples, update.tokens) == (20, sum(s.trained_tokens for batch in batches for s in batch))
    assert peer.tokens == 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("factor", [0.5, 1 / 3])
def test_steps_with_a_factor_equal_those_at_that_rate(folder: Path, optimizer: str, factor: float) -> None:
    inner = INNER.model_copy(update={"optimizer": optimizer, "warmup_steps": 2})
    slower = inner.model_copy(update={"lr": inner.lr * factor})
    state = initial_state(folder, Full(), 0)
    found, expected, plain = (trainer(folder, "diloco", Full(), each) for each in (inner, slower, inner))
    for peer in (found, expected, plain):
        peer.load(state)
    for seed in range(3):
        batch = tiny_samples(2, seed=seed)
        found.step(batch, factor)
        expected.step(batch)
        plain.step(batch)
    for name, array in expected.params().items():
        np.testing.assert_array_equal(found.params()[name], array)
    assert any((plain.params()[name] != array).any() for name, array in found.params().items())


def test_a_gradient_has_no_factor(folder: Path) -> None:
    state, batch = initial_state(folder, Lora(rank=2, alpha=4.0), 0), tiny_samples(2)
    updates = []
    for factor in (1.0, 0.25):
        peer = trainer(folder, "gradient", Lora(rank=2, alpha=4.0))
        peer.load(state)
        peer.step(batch, factor)
        updates.append(peer.take_update(state).tensors)
    for name, array in updates[0].items():
        np.testing.assert_array_equal(array, updates[1][name])


def test_muon_steps_the_blocks_matrices_and_adamw_the_rest(folder: Path) -> None:
    batches = [tiny_samples(4, seed=seed) for seed in range(3)]
    state = initial_state(folder, Full(), 0)
    peer = trainer(folder, "diloco", Full(), INNER.model_copy(update={"optimizer": "muon", "clip_norm": 0.0}))
    peer.load(state)

    model = plain_model(folder)
    split: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        split[name.endswith("_proj.weight")].append(parameter)
    assert all(split.values()), "both kinds are in the model"
    optimizers = (
        CpuMuon(split[True], lr=1e-3, momentum=0.95, weight_decay=0.1),
        torch.optim.AdamW(split[False], lr=1e-3, weight_decay=0.1),
    )
    for batch in batches:
        model.zero_grad()
        plain_loss(model, batch).backward()
        for optimizer in optimizers:
            optimizer.step()
        peer.step(batch)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(peer.params()[name], parameter.detach().numpy(), rtol=0, atol=3e-5)
        assert np.abs(peer.params()[name] - state.params[name]).max() > 1e-3


def test_the_turns_of_muon_survive_a_restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peer.training.muon.turns", lambda shapes: 3)
    state, inner = initial_state(folder, Full(), 0), INNER.model_copy(update={"optimizer": "muon"})
    first = trainer(folder, "diloco", Full(), inner)
    first.load(state)
    first.step(tiny_samples(2, seed=1))
    middle = first.params()
    still = [name for name, array in middle.items() if np.array_equal(array, state.params[name])]
    assert len(still) == 2 * 14 // 3 + 1, "of fourteen matrices five moved, and all that AdamW steps"

    second = trainer(folder, "diloco", Full(), inner)
    second.load(TrainState(middle))
    second.import_inner(first.export_inner())
    first.load(TrainState(middle))
    for peer in (first, second):
        peer.step(tiny_samples(2, seed=2))
    assert all(np.array_equal(array, second.params()[name]) for name, array in first.params().items())
    assert any(not np.array_equal(middle[name], first.params()[name]) for name in still)


def test_training_lowers_the_loss_of_a_fresh_adapter_that_starts_as_no_change(folder: Path) -> None:
    samples = tiny_samples(4)
    peer = trainer(folder, "diloco", Lora(rank=4, alpha=8.0), InnerSpec(lr=1e-2))
    base = trainer(folder, "diloco", Full()).evaluate(samples).loss
    peer.load(initial_state(folder, Lora(rank=4, alpha=8.0), 3))
    assert peer.evaluate(samples).loss == pytest.approx(base, rel=1e-6)
    for _ in range(20):
        peer.step(samples)
    assert peer.evaluate(samples).loss < base - 0.3


@pytest.mark.parametrize(
    "target", [Lora(rank=2, alpha=4.0, modules=("q_proj",)), Full()], ids=lambda t: t.kind
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_inner_optimizer_survives_a_restart(
    folder: Path, tmp_path: Path, target: Lora | Full, optimizer: Literal["adamw", "muon"]
) -> None:
    inner = INNER.model_copy(update={"optimizer": optimizer})
    state = initial_state(folder, target, 0)
    first = trainer(folder, "diloco", target, inner)
    first.load(state)
    first.step(tiny_samples(2, seed=1))
    middle = TrainState(first.params())
    save_file(first.export_inner(), tmp_path / "inner.safetensors")

    second = trainer(folder, "diloco", target, inner)
    second.import_inner(load_file(tmp_path / "inner.safetensors"))
    first.load(middle)
    second.load(middle)
    first.step(tiny_samples(2, seed=2))
    second.step(tiny_samples(2, seed=2))
    assert all(np.array_equal(array, second.params()[name]) for name, array in first.params().items())

    fresh = trainer(folder, "diloco", target, inner)
    fresh.load(middle)
    fresh.step(tiny_samples(2, seed=2))
    assert any(not np.array_equal(array, fresh.params()[name]) for name, array in first.params().items())


def test_a_foreign_inner_optimizer_is_refused(folder: Path) -> None:
    small = trainer(folder, "diloco", Lora(rank=2, modules=("q_proj",)))
    small.step(tiny_samples(1))
    saved = small.export_inner()
    with pytest.raises(StateError, match="does not belong"):
        trainer(folder, "diloco", Lora(rank=4, modules=("q_proj",))).import_inner(saved)
    muon = InnerSpec(optimizer="muon")
    with pytest.raises(StateError, match="does not belong"):
        trainer(folder, "diloco", Lora(rank=2, modules=("q_proj",)), muon).import_inner(saved)
    with pytest.raises(StateError, match="plain gradients"):
        trainer(folder, "gradient", Lora(rank=2, modules=("q_proj",))).import_inner(saved)


def test_a_batch_without_trained_tokens_changes_nothing(folder: Path) -> None:
    sample = tiny_samples(1)[0]
    blank = Sample(sample.input_ids, np.full_like(sample.labels, -100), sample.position_ids)
    methods: tuple[Method, ...] = ("diloco", "gradient")
    for method in methods:
        peer = trainer(folder, method, Full())
        state = initial_state(folder, Full(), 0)
        peer.load(state)
        assert peer.step([blank, blank]).tokens == 0
        assert not any(array.any() for array in peer.take_update(state).tensors.values())


@pytest.mark.parametrize("method", ["diloco", "gradient"])
def test_a_loss_that_is_not_finite_is_an_error(folder: Path, method: Method) -> None:
    peer = trainer(folder, method, Full())
    state = initial_state(folder, Full(), 0)
    broken = {name: np.full_like(array, np.nan) for name, array in state.params.items()}
    peer.load(TrainState(broken))
    with pytest.raises(NotFinite):
        peer.step(tiny_samples(1))


@pytest.mark.parametrize("method", ["diloco", "gradient"])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_one_nan_gradient_changes_nothing(folder: Path, method: Method, clip_norm: float) -> None:
    """A step of NaN between two good ones: as if it were not there, but for its samples, which are used."""
    state, batches = initial_state(folder, Full(), 0), [tiny_samples(1), tiny_samples(2)]
    inner, updates = INNER.model_copy(update={"clip_norm": clip_norm}), []
    for broken in (False, True):
        peer = trainer(folder, method, Full(), inner)
        peer.load(state)
        peer.step(batches[0])
        if broken:
            parameter = next(iter(peer._model.params.values()))
            hook = parameter.register_hook(lambda gradient: gradient * float("nan"))
            moments = {name: array.copy() for name, array in peer.export_inner().items()}
            with pytest.raises(NotFinite):
                peer.step(batches[0])
            hook.remove()
            after = peer.export_inner()
            assert all(np.array_equal(array, after[name]) for name, array in moments.items())
            assert peer.samples == 2 * len(batches[0])
        peer.step(batches[1])
        updates.append(peer.take_update(state).tensors)
    assert all(np.array_equal(array, updates[1][name]) for name, array in updates[0].items())


def test_a_state_of_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(StateError, match="the state to train from"):
        trainer(folder, "diloco", Full()).load(TrainState({"x": np.zeros(3, np.float32)}))


@pytest.mark.parametrize("target", [Lora(rank=4), Full()])
def test_layout_without_weights_equals_what_is_trained(folder: Path, target: Lora | Full) -> None:
    planned = layout(folder, target)
    assert planned == trainer(folder, "diloco", target).layout
    assert planned == initial_state(folder, target, 0).layout
    if isinstance(target, Full):
        assert planned.parameters == parameter_count(folder)
        assert "lm_head.weight" not in dict(planned)  # tied to the embedding


def test_full_state_of_a_bf16_model_is_exact(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, seed=1, dtype=torch.bfloat16)
    state = initial_state(tmp_path, Full(), 0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        assert np.array_equal(state.params[name], parameter.detach().float().numpy())


def test_bf16_products_keep_an_adapter_in_fp32_and_the_loss_near(folder: Path) -> None:
    target = Lora(rank=4)
    half = Trainer(folder, run_spec("diloco", target), BF16_CPU, 2)
    state = initial_state(folder, target, 0)
    half.load(state)
    samples = tiny_samples(4)
    expected = trainer(folder, "diloco", Full()).evaluate(samples).loss
    assert half.evaluate(samples).loss == pytest.approx(expected, rel=1e-2)
    assert half.step(samples).loss == pytest.approx(expected, rel=1e-2)
    assert any(array.any() for array in half.take_update(state).tensors.values())


def test_unknown_modules_are_an_error_that_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(SpecError, match="`c_attn`") as caught:
        layout(folder, Lora(modules=("q_proj", "c_attn")))
    assert "down_proj, gate_proj, k_proj" in caught.value.fix
    with pytest.raises(SpecError, match="`mlp`"):
        layout(folder, Lora(modules=("mlp",)))


def test_peft_loads_the_adapter_with_equal_logits(folder: Path, tmp_path: Path) -> None:
    target = Lora(rank=4, alpha=8.0)
    peer = trainer(folder, "diloco", target, InnerSpec(lr=1e-2))
    peer.load(initial_state(folder, target, 0))
    samples = tiny_samples(3)
    for _ in range(3):
        peer.step(samples)
    save_file(peer.params(), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter_config(target, str(folder), False)))
    with quiet():
        adapted = PeftModel.from_pretrained(plain_model(folder), tmp_path).eval()
    with torch.no_grad():
        loss = float(plain_loss(adapted, samples))
    assert peer.evaluate(samples).loss == pytest.approx(loss, rel=1e-5)
