"""A checkpoint is a folder that transformers and peft load, and that a follower reads its state from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MANIFEST, MANIFEST_JSON, FileEntry, Manifest, open_manifest
from barnraise.contract.spec import AdamW, DataSpec, Full, Lora, RunSpec, Sgd, TrainSpec
from barnraise.contract.standing import NONE
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Position, Tip
from barnraise.core.errors import DiskFull, MalformedBlob, StateError
from barnraise.core.ids import BlobHash, Round, blob_hash
from barnraise.models.causal_lm import quiet
from barnraise.models.checkpoint_files import OUTER_STATE, read_state
from barnraise.models.model_files import write_model
from barnraise.models.trainable import initial_state
from barnraise.runtime.blob_store import BlobStore
from coordinator.run_folder import CHAT_TEMPLATE
from coordinator.store import checkpoints
from coordinator.store.checkpoints import lay_out, write_checkpoint
from peer.training.trainer import Trainer
from tests.support import parts
from tests.support.devices import CPU
from tests.support.tiny import TEMPLATE, make_tiny_model, tiny_samples

LORA = Lora(rank=4, alpha=8.0)
OTHER_TEMPLATE = TEMPLATE.replace("<|im_start|>'", "<|im_start|>the '")
"""The run's own template need not be the base model's."""
CHAT = [{"role": "user", "content": "2+2?"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"))


def charter_for(target: Lora | Full, state: TrainState, outer: Sgd | AdamW | None = None) -> Charter:
    outer = outer or Sgd()
    train = TrainSpec(target=target, method="gradient" if isinstance(outer, AdamW) else "diloco")
    spec = RunSpec(name=parts.RUN, data=DataSpec(source="chats.jsonl"), train=train, outer=outer)
    return parts.charter(spec, state)


def trained(base: Path, target: Lora | Full) -> tuple[Trainer, TrainState]:
    """A trainer after two steps, and its state, as if one round had been folded."""
    first = initial_state(base, target, seed=0)
    trainer = Trainer(base, charter_for(target, first).spec, CPU, micro_batch=2)
    trainer.load(first)
    for seed in (1, 2):
        trainer.step(tiny_samples(2, seed=seed))
    return trainer, TrainState(trainer.params(), step=1)


def written(
    folder: Path, base: Path, charter: Charter, state: TrainState
) -> tuple[Path, Manifest, BlobStore]:
    """The folder of state's checkpoint, its manifest, and the store that holds its files too."""
    (folder / CHAT_TEMPLATE).write_text(OTHER_TEMPLATE, encoding="utf-8")
    blobs = BlobStore(folder / "blobs")
    tip = Tip(Position(Round(state.step), BlobHash(parts.HASH_B)), state.hash())
    signed = write_checkpoint(folder, charter, base, state, tip, 1234, parts.AUTHORITY, blobs)
    laid_out = folder / "checkpoints" / str(state.step)
    lay_out(signed, blobs, laid_out)
    return laid_out, signed.value, blobs


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def own_loss(model: Any) -> float:
    """The loss of some documents as transformers computes it."""
    batch = [replace(s, position_ids=np.arange(len(s.input_ids), dtype=np.int32)) for s in tiny_samples(3)]
    ids, labels = (
        torch.from_numpy(np.stack([getattr(s, kind) for s in batch]).astype(np.int64))
        for kind in ("input_ids", "labels")
    )
    with torch.inference_mode():
        return float(model.eval()(input_ids=ids, labels=labels).loss)


def trainer_loss(trainer: Trainer) -> float:
    whole = np.arange(24, dtype=np.int32)
    return trainer.evaluate([replace(sample, position_ids=whole) for sample in tiny_samples(3)]).loss


def parameters(model: Any) -> Mapping[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def test_a_full_checkpoint_is_a_model_folder(base: Path, tmp_path: Path) -> None:
    trainer, state = trained(base, Full())
    folder, _, _ = written(tmp_path, base, charter_for(Full(), state), state)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    found = parameters(model)
    assert found.keys() == state.params.keys()
    assert all(np.array_equal(found[name], state.params[name]) for name in found)
    assert own_loss(model) == pytest.approx(trainer_loss(trainer), rel=1e-6)
    assert model.generation_config.eos_token_id == 2


@pytest.mark.parametrize("target", [Full(), LORA], ids=["full", "lora"])
def test_a_checkpoint_carries_the_tokenizer_and_the_run_s_template(
    base: Path, tmp_path: Path, target: Lora | Full
) -> None:
    state = initial_state(base, target, seed=0)
    folder, _, _ = written(tmp_path, base, charter_for(target, state), state)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer.decode(tokenizer("barn").input_ids) == "barn"
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>the user\n2+2?<|im_end|>\n<|im_start|>assistant\n"


def test_an_adapter_checkpoint_is_a_peft_folder(base: Path, tmp_path: Path) -> None:
    trainer, state = trained(base, LORA)
    folder, _, _ = written(tmp_path, base, charter_for(LORA, state), state)
    assert not {"config.json", "model.safetensors"} & names(folder), "an adapter is no model of its own"
    with quiet():
        plain = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
        before = own_loss(plain)
        model = PeftModel.from_pretrained(plain, folder)
    assert own_loss(model) == pytest.approx(trainer_loss(trainer), rel=1e-6)
    assert own_loss(model) != before
    merged = model.merge_and_unload()
    assert own_loss(merged) == pytest.approx(trainer_loss(trainer), rel=1e-5)


def test_a_large_model_is_written_in_parts(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_model, "__defaults__", (100_000,))
    trainer, state = trained(base, Full())
    charter = charter_for(Full(), state)
    folder, manifest, blobs = written(tmp_path, base, charter, state)
    shards = sorted(name for name in names(folder) if name.endswith(".safetensors"))
    assert len(shards) > 2
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert "model.safetensors" not in shards
    assert all((folder / name).stat().st_size < 110_000 for name in shards)
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["weight_map"].keys() == state.params.keys()
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    assert own_loss(model) == pytest.approx(trainer_loss(trainer), rel=1e-6)
    assert read_state(manifest, charter.layout, blobs.path).hash() == state.hash()


@pytest.mark.parametrize(
    ("outer", "buffers"),
    [(Sgd(), ()), (Sgd(momentum=0.9), ("momentum",)), (AdamW(), ("m", "v"))],
    ids=["plain", "momentum", "adamw"],
)
@pytest.mark.parametrize("target", [Full(), LORA], ids=["full", "lora"])
def test_the_state_is_read_back_with_its_buffers(
    tmp_path: Path, base: Path, target: Lora | Full, outer: Sgd | AdamW, buffers: tuple[str, ...]
) -> None:
    state = TrainState(parts.tensors(1), {kind: parts.tensors(n) for n, kind in enumerate(buffers)}, step=7)
    charter = charter_for(target, state, outer)
    folder, manifest, blobs = written(tmp_path, base, charter, state)
    assert manifest.tip(NONE) == Tip(Position(Round(7), BlobHash(parts.HASH_B)), state.hash())
    found = read_state(manifest, charter.layout, blobs.path)
    assert found.hash() == state.hash()
    assert tuple(found.buffers) == buffers
    assert (OUTER_STATE in names(folder)) == bool(buffers)


def test_the_manifest_lists_every_file_and_is_signed(tmp_path: Path, base: Path) -> None:
    state = parts.state(step=3)
    folder, manifest, blobs = written(tmp_path, base, charter_for(LORA, state), state)
    wire = (folder / MANIFEST).read_bytes()
    assert open_manifest(wire, run=parts.RUN, signers=parts.SIGNERS).value == manifest
    assert {entry.name for entry in manifest.files} == names(folder) - {MANIFEST, MANIFEST_JSON}
    for entry in manifest.files:
        data = (folder / entry.name).read_bytes()
        assert (entry.hash, entry.size) == (blob_hash(data), len(data))
        assert blobs.get(BlobHash(entry.hash)) == data
    assert blobs.get(blob_hash(wire)) == wire
    assert manifest.tokens == 1234


def test_writing_it_again_leaves_one_whole_checkpoint(tmp_path: Path, base: Path) -> None:
    state = parts.state(step=3)
    charter = charter_for(LORA, state)
    _, first, _ = written(tmp_path, base, charter, state)
    folder, second, _ = written(tmp_path, base, charter, state)
    assert first == second
    assert names(tmp_path / "checkpoints") == {folder.name}


def test_a_full_disk_leaves_the_older_checkpoint_alone(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = parts.state(step=3), parts.state(seed=1, step=4)
    folder, manifest, blobs = written(tmp_path, base, charter_for(LORA, first), first)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(DiskFull, match="no space left"):
        written(tmp_path, base, charter_for(LORA, second), second)
    assert names(tmp_path / "checkpoints") == {folder.name}, "a partial checkpoint was left"
    assert read_state(manifest, charter_for(LORA, first).layout, blobs.path).hash() == first.hash()


def test_another_state_under_the_manifest_s_name_is_refused(tmp_path: Path, base: Path) -> None:
    state = parts.state(step=3)
    charter = charter_for(LORA, state)
    folder, manifest, _ = written(tmp_path, base, charter, state)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: array + np.float32(1) for name, array in tensors.items()}, file)
    by_hash = {entry.hash: folder / entry.name for entry in manifest.files}
    with pytest.raises(StateError, match="does not contain its state"):
        read_state(manifest, charter.layout, by_hash.__getitem__)


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\xff" * 100)
    entry = FileEntry(name="model.safetensors", hash=parts.HASH_A, size=100)
    manifest = Manifest(
        form="trained", run="barn", round=0, state=parts.HASH_A, previous=parts.HASH_A,
        epoch=0, height=0, closers=(), charter=parts.HASH_A,
        tokens=0, held_out=None, files=(entry,),
    )  # fmt: skip
    with pytest.raises(MalformedBlob, match=r"model\.safetensors is not"):
        read_state(manifest, parts.HASH_B, lambda _: tmp_path / "junk")
