"""An adapter merged into its base equals the model that peft merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from barnraise.contract.spec import Lora
from barnraise.core.errors import DiskFull, MalformedBlob, ModelUnavailable, UserError
from barnraise.models import merge as module
from barnraise.models.causal_lm import quiet
from barnraise.models.lora_files import ADAPTER, ADAPTER_CONFIG
from barnraise.models.merge import merge
from barnraise.models.model_files import write_model
from barnraise.models.trainable import adapter_config_for, initial_state
from tests.support.kinds import make_kind, modules_of
from tests.support.tiny import make_tiny_model

LORA = Lora(rank=4, alpha=8.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"))


def make_adapter(base: Path, folder: Path, seed: int = 0, lora: Lora = LORA) -> Path:
    """An adapter with an effect: B is not zero, as it is before the first round."""
    random = np.random.default_rng(seed)
    shapes = initial_state(base, lora, seed).params
    tensors = {name: random.normal(0, 0.1, array.shape).astype(np.float32) for name, array in shapes.items()}
    folder.mkdir(parents=True)
    save_file(tensors, folder / ADAPTER)
    config = json.dumps(adapter_config_for(base, lora, "barnraise/tiny-base"))
    (folder / "adapter_config.json").write_text(config, encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    return folder


def loaded(folder: Path) -> Any:
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


def test_a_merge_equals_that_of_peft(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged", "fp32")
    with quiet():
        wanted = PeftModel.from_pretrained(loaded(base), adapter).merge_and_unload().state_dict()
    found = loaded(tmp_path / "merged").state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in found)
    before = loaded(base).state_dict()
    assert any(not torch.equal(found[name], before[name]) for name in found)


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=torch.tensor([list(range(3, 83))])).logits[0]
    return found


def test_files_without_the_prefix_of_the_model_are_merged(tmp_path: Path) -> None:
    """GPT-2's own files on the Hub were saved from the model without its head."""
    base = make_kind(tmp_path / "base", "gpt2, square")
    lora = Lora(rank=4, alpha=8.0, modules=modules_of("gpt2, square"))
    adapter = make_adapter(base, tmp_path / "adapter", lora=lora)
    merge(base, adapter, tmp_path / "whole", "fp32")
    tensors = load_file(base / "model.safetensors")
    headless = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    save_file(headless, base / "model.safetensors", {"format": "pt"})
    merge(base, adapter, tmp_path / "headless", "fp32")
    whole, found = logits_of(loaded(tmp_path / "whole")), logits_of(loaded(tmp_path / "headless"))
    assert torch.equal(whole, found)


def test_an_adapter_of_a_tied_head_is_refused_with_the_cause(tmp_path: Path) -> None:
    untied, tied = make_kind(tmp_path / "untied", "llama"), make_kind(tmp_path / "tied", "llama, tied")
    lora = Lora(rank=4, alpha=8.0, modules=("lm_head", "q_proj"))
    adapter = make_adapter(untied, tmp_path / "adapter", lora=lora)
    with pytest.raises(UserError, match=r"shares with another layer \(tie_word_embeddings\)"):
        merge(tied, adapter, tmp_path / "merged")
    merge(untied, adapter, tmp_path / "merged")


@pytest.mark.parametrize(("dtype", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision_is_in_the_config(
    base: Path, tmp_path: Path, dtype: module.Dtype, kind: torch.dtype
) -> None:
    merge(base, make_adapter(base, tmp_path / "adapter"), tmp_path / "merged", dtype)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert model.dtype == kind
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged", local_files_only=True)
    assert tokenizer.chat_template == "{{ messages }}", "the adapter's template is the run's"


def test_a_large_model_is_merged_in_shards(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, adapter, whole, "fp32")
    monkeypatch.setattr(write_model, "__defaults__", (100_000,))
    merge(base, adapter, parts, "fp32")
    assert len(list(parts.glob("model-*.safetensors"))) > 2
    a, b = loaded(whole).state_dict(), loaded(parts).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", width=32)
    with pytest.raises(UserError, match=r"is 32 x|is 16 x|is 64 x"):
        merge(base, make_adapter(other, tmp_path / "adapter"), tmp_path / "merged")
    deeper = make_tiny_model(tmp_path / "deeper", layers=3)
    with pytest.raises(UserError, match=r"layers\.2\.\S+, which the model"):
        merge(base, make_adapter(deeper, tmp_path / "deep"), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_half_an_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    tensors = load_file(adapter / ADAPTER)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, adapter / ADAPTER)
    with pytest.raises(MalformedBlob, match="where A and B were expected"):
        merge(base, adapter, tmp_path / "merged")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"use_dora": True}, "use_dora"), ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"), ({"r": 0}, "r: ")],
)
def test_an_adapter_that_is_not_plain_lora_is_refused(
    base: Path, tmp_path: Path, setting: dict[str, object], message: str
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(config | setting), encoding="utf-8")
    with pytest.raises(UserError, match=f"not of a plain LoRA adapter: {message}"):
        merge(base, adapter, tmp_path / "merged")


def test_another_rank_than_in_the_config_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(config | {"r": 8}), encoding="utf-8")
    with pytest.raises(MalformedBlob, match="its rank is 8"):
        merge(base, adapter, tmp_path / "merged")


def test_folders_without_a_model_are_reported(base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no LoRA adapter"):
        merge(base, tmp_path / "empty", tmp_path / "merged")
    with pytest.raises(ModelUnavailable, match="empty"):
        merge(tmp_path / "empty", make_adapter(base, tmp_path / "adapter"), tmp_path / "merged")


def test_a_full_disk_leaves_no_output(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(DiskFull):
        merge(base, adapter, tmp_path / "out" / "merged")
    assert not list((tmp_path / "out").iterdir())
