"""Opening a base model: what is wrong with its files is refused by name, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from barnraise.core.errors import ModelUnusable
from barnraise.models.causal_lm import quiet
from barnraise.models.merge import Weights
from barnraise.models.model_files import INDEX
from barnraise.models.weight_files import read_header
from barnraise.rehearsal.opening import open_model
from tests.support.tiny import VOCABULARY, make_tiny_model

WEIGHTS = "model.safetensors"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4976698672\n"
)  # as a clone without Git LFS has it


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def refusal(folder: Path) -> ModelUnusable:
    with pytest.raises(ModelUnusable) as refused:
        open_model(folder)
    assert refused.value.exit_code == 2
    assert refused.value.fix
    return refused.value


def test_a_whole_model_opens(model: Path) -> None:
    opened = open_model(model)
    assert opened.kind == "llama"
    assert opened.tensors == read_header(model / WEIGHTS)


def test_tensors_in_the_files_that_the_model_does_not_use_are_no_fault(model: Path) -> None:
    edit_weights(model, lambda tensors: tensors.update(extra=torch.ones(2)))
    assert "extra" in open_model(model).tensors


def test_absent_shards_are_named(model: Path) -> None:
    with quiet():
        AutoModelForCausalLM.from_pretrained(model).save_pretrained(model, max_shard_size="50KB")
    (model / WEIGHTS).unlink()
    shards = sorted(model.glob("model-*.safetensors"))
    assert len(shards) > 2
    open_model(model)
    shards[1].unlink()
    assert f"lacks 1 of the {len(shards)} files" in refusal(model).problem
    assert shards[1].name in refusal(model).problem


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_git_lfs_pointer_is_named(model: Path, name: str) -> None:
    (model / name).write_text(POINTER)
    assert f"{name} in {model} is a Git LFS pointer" in refusal(model).problem
    assert "lfs pull" in refusal(model).fix


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_cut_file_is_named(model: Path, kept: int) -> None:
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[:kept])
    assert str(model / WEIGHTS) in refusal(model).problem
    if kept == -1:
        assert f"{len(data) - 1:,} of {len(data):,} bytes" in refusal(model).problem


def test_a_header_that_is_no_table(model: Path) -> None:
    (model / WEIGHTS).write_bytes((9).to_bytes(8, "little") + b"[1, 2, 3]")
    assert "header" in refusal(model).problem


def test_missing_tensors_are_named(model: Path) -> None:
    edit_weights(model, lambda tensors: tensors.pop("model.norm.weight"))
    assert "1 tensors of the model" in refusal(model).problem
    assert "are missing: model.norm.weight" in refusal(model).problem


def test_tensors_of_another_shape_are_named(model: Path) -> None:
    edit_weights(model, lambda tensors: tensors.update({"model.norm.weight": torch.ones(63)}))
    assert "another shape: model.norm.weight" in refusal(model).problem


def test_a_vocabulary_of_another_size_is_named(model: Path) -> None:
    edit_config(model, vocab_size=VOCABULARY + 1)
    assert f"has {VOCABULARY} rows" in refusal(model).problem
    assert f"vocab_size {VOCABULARY + 1}" in refusal(model).problem


def test_an_untied_head_that_is_missing_is_named(model: Path) -> None:
    edit_config(model, tie_word_embeddings=False)
    assert "lm_head.weight" in refusal(model).problem


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_a_dtype_that_cannot_be_trained_is_named(model: Path, dtype: torch.dtype) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(model, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    assert f"{name} in {model} is stored as" in refusal(model).problem


QUANTIZED: dict[str, tuple[dict[str, Any], str]] = {
    "bnb": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    "gptq": ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
    "awq": ({"quant_method": "awq", "bits": 4}, "AWQ"),
    "fp8": ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "FP8"),
    "mxfp4": ({"quant_method": "mxfp4"}, "MXFP4"),
    "compressed": ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    "another": ({"quant_method": "of-tomorrow"}, "of-tomorrow"),
    "modelopt": ({"quant_algo": "NVFP4"}, "NVFP4"),
}


@pytest.mark.parametrize("method", QUANTIZED)
def test_a_quantized_model_is_refused_by_its_method(model: Path, method: str) -> None:
    settings, name = QUANTIZED[method]
    edit_config(model, quantization_config=settings)
    assert f"is quantized ({name})" in refusal(model).problem
    assert "unquantized" in refusal(model).fix


def sharded(folder: Path) -> list[Path]:
    """Divide a model's weights into shards with an index."""
    with quiet():
        AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="50KB")
    (folder / WEIGHTS).unlink()
    return sorted(folder.glob("model-*.safetensors"))


def test_shards_without_an_index_are_refused_by_its_name(model: Path) -> None:
    sharded(model)
    (model / INDEX).unlink()
    assert f"neither {WEIGHTS} nor {INDEX}" in refusal(model).problem


def test_a_tensor_that_the_index_misplaces_is_named(model: Path) -> None:
    shards = sharded(model)
    table = json.loads((model / INDEX).read_text())
    name = next(name for name, file in table["weight_map"].items() if file != shards[0].name)
    table["weight_map"][name] = shards[0].name
    (model / INDEX).write_text(json.dumps(table))
    assert f"says that {name} is in {shards[0].name}, which does not hold it" in refusal(model).problem


def test_a_tensor_of_the_index_that_no_shard_holds_is_missing_only_where_the_model_needs_it(
    model: Path,
) -> None:
    sharded(model)
    table = json.loads((model / INDEX).read_text())
    table["weight_map"]["model.layers.0.rotary_emb.inv_freq"] = next(iter(table["weight_map"].values()))
    (model / INDEX).write_text(json.dumps(table))
    open_model(model)


def test_tensors_of_other_names_are_named_beside_those_that_are_missing(model: Path) -> None:
    edit_weights(
        model, lambda tensors: tensors.update({"decoder.norm.weight": tensors.pop("model.norm.weight")})
    )
    assert "are missing, and decoder.norm.weight is of no use to its config" in refusal(model).problem


def test_a_shard_of_an_earlier_save_is_no_part_of_the_model(model: Path) -> None:
    right = {name: tensor.clone() for name, tensor in load_file(model / WEIGHTS).items()}
    sharded(model)
    wrong = {name: tensor + 1 for name, tensor in right.items()}
    save_file(wrong, model / "model-00099-of-00099.safetensors", metadata={"format": "pt"})
    open_model(model)
    weights = Weights.of(model)
    assert all(torch.equal(weights.tensor(name), right[name]) for name in right)


def test_an_index_of_an_earlier_save_next_to_a_whole_file_is_ignored(model: Path) -> None:
    (model / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    assert open_model(model).tensors == read_header(model / WEIGHTS)
    assert set(Weights.of(model).names) == set(read_header(model / WEIGHTS))


@pytest.mark.parametrize("packed", ["qweight", "weight_packed", "weight.absmax", "SCB"])
def test_quantized_weights_are_named_without_a_quantization_config(model: Path, packed: str) -> None:
    layer = "model.layers.0.mlp.down_proj"
    edit_weights(model, lambda tensors: tensors.update({f"{layer}.{packed}": torch.ones(2)}))
    assert f"is quantized ({layer}.{packed} in" in refusal(model).problem


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "remote code": (
        {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}},
        "needs code of its own (modeling_mine.py)",
    ),
    "unknown": ({"model_type": "llama9"}, "knows no model kind 'llama9'"),
    "encoder-decoder": (
        {"model_type": "t5", "is_encoder_decoder": True},
        "is an encoder-decoder (t5)",
    ),
    "vision": (
        {"model_type": "gemma3", "vision_config": {"hidden_size": 8}},
        "(vision_config in config.json)",
    ),
    "classifier": (
        {"architectures": ["LlamaForSequenceClassification"]},
        "is a LlamaForSequenceClassification",
    ),
    "no causal model": ({"model_type": "vit", "architectures": ["ViTModel"]}, "is no causal language model"),
    "without a head": ({"architectures": ["LlamaModel"]}, "is a LlamaModel"),
    "without a head, as text": ({"architectures": "LlamaModel"}, "is a LlamaModel"),
    "no kind": ({"model_type": None}, "names no model kind"),
    "no layers": ({"num_hidden_layers": 0}, "says num_hidden_layers 0"),
    "too many layers": ({"num_hidden_layers": 10**9}, "says num_hidden_layers 1,000,000,000"),
    "padding beyond the embedding": ({"pad_token_id": VOCABULARY}, f"says pad_token_id {VOCABULARY}"),
    "unknown activation": ({"hidden_act": "swigluu"}, "nothing is called 'swigluu'"),
    "unknown dtype": ({"dtype": "float7"}, "float7"),
    "a setting of another type": ({"hidden_size": "64"}, "'hidden_size' expected int, got str"),
    "rotary embedding without its factor": (
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}},
        "cannot be read: Missing required keys",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_no_run_trains_is_refused_by_name(model: Path, kind: str) -> None:
    changes, words = KINDS[kind]
    edit_config(model, **changes)
    assert words in refusal(model).problem


def test_the_kernel_that_a_config_names_need_not_be_installed(model: Path) -> None:
    edit_config(model, attn_implementation="flash_attention_2")
    assert open_model(model).kind == "llama"


def test_an_architecture_may_be_text(model: Path) -> None:
    edit_config(model, architectures="LlamaForCausalLM")
    assert open_model(model).kind == "llama"


def test_tensors_of_layers_beyond_the_config_are_named(model: Path) -> None:
    assert open_model(model).unused == ()
    edit_config(model, num_hidden_layers=1)
    unused = open_model(model).unused
    assert unused
    assert all(name.startswith("model.layers.1.") for name in unused)


@pytest.mark.parametrize("text", ['{"eos_token_id": ', "[]", '{"max_new_tokens": "many"}'])
def test_broken_generation_settings_are_named(model: Path, text: str) -> None:
    (model / "generation_config.json").write_text(text)
    assert "generation_config.json cannot be used" in refusal(model).problem
    (model / "generation_config.json").unlink()
    open_model(model)


def test_an_adapter_next_to_a_model_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    assert "a model and an adapter" in refusal(model).problem


def test_tensors_that_overlap_are_refused(model: Path) -> None:
    data = (model / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    first, second = (name for name in table if name.endswith("q_proj.weight"))
    table[first]["data_offsets"] = table[second]["data_offsets"]
    header = json.dumps(table).encode()
    (model / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert "not of a safetensors file" in refusal(model).problem


def test_an_embedding_model_is_refused(model: Path) -> None:
    (model / "modules.json").write_text("[]")
    assert "embeddings of sentences" in refusal(model).problem


def test_code_that_transformers_has_itself_is_not_needed(model: Path) -> None:
    edit_config(model, auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    assert open_model(model).kind == "llama"
