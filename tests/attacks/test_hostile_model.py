"""A maintainer whose base model or checkpoint attacks the machines that open it.

config.json, adapter_config.json and the files of a tokenizer come from a stranger. Each is refused, or
reduced to what a model needs, before a library makes anything from it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import barnraise.models
from barnraise.core.errors import BarnraiseError, ModelUnavailable, ModelUnusable, UserError
from barnraise.models import causal_lm
from barnraise.models.build_limits import MAX_MODULES, bounded_build
from barnraise.models.lora_files import ADAPTER_CONFIG, LoraFiles
from barnraise.models.model_config import MAX_JSON_BYTES, limit_of, load_config, reduced
from barnraise.models.model_files import write_descriptions
from barnraise.models.tokenizer_files import MAX_ADDED_TOKENS, load_tokenizer
from barnraise.models.weight_files import weight_map
from barnraise.rehearsal.kinds import check_kind
from tests.support.tiny import make_tiny_model

ROOT = Path(__file__).parents[2]
KERNEL = "evil-owner/flash-attention"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def hostile(model: Path, tmp_path: Path) -> Callable[..., Path]:
    def made(**changes: Any) -> Path:
        folder = tmp_path / f"hostile-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(model, folder)
        table = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(table | changes))
        return folder

    return made


# Code and kernels that a config names


@pytest.mark.parametrize(
    "key",
    [
        "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation_internal", "quantization_config", "compression_config", "kernel_config",
        "auto_map", "trust_remote_code", "configuration_files", "_name_or_path", "base_model_tp_plan",
        "use_timm_backbone", "backbone", "custom_generate", "distributed_config",
    ],
)  # fmt: skip
def test_a_config_s_choice_of_code_is_dropped_at_any_depth(key: str, hostile: Callable[..., Path]) -> None:
    assert reduced({key: KERNEL, "a": {key: KERNEL, "b": [{key: KERNEL}]}}) == {"a": {"b": [{}]}}
    folder = hostile(**{key: KERNEL})
    assert KERNEL not in json.dumps(load_config(folder).to_dict(), default=str)
    model = causal_lm.load(folder, "auto")
    assert model.config._attn_implementation == "sdpa"
    assert model.config._experts_implementation in (None, "eager", "grouped_mm", "batched_mm")


def test_every_size_of_a_model_is_kept() -> None:
    kept = {"hidden_size": 64, "use_mamba_kernels": True, "backbone_hidden_size": 8, "rope_theta": 1e4}
    assert reduced(kept) == kept


def test_kernels_of_the_hub_are_off() -> None:
    assert barnraise.models.__doc__
    from transformers.integrations import hub_kernels

    assert hub_kernels._kernels_enabled is False


# Sizes


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 200_000},
        {"num_hidden_layers": 4096},
        {"num_hidden_layers": 10**15},
        {"vocab_size": 2**31},
        {"vocab_size": 10**18},
        {"hidden_size": 2**30},
        {"intermediate_size": 2**31 - 1},
        {"num_attention_heads": 0},
        {"num_attention_heads": 10**9},
        {"max_position_embeddings": 10**12},
        {"layer_types": ["full_attention"] * 200_000},
        {"model_type": "mixtral", "num_local_experts": 30_000, "num_hidden_layers": 4000},
        {"model_type": "x/../../y"},
        {"model_type": ["llama"]},
        {"model_type": "gpt2", "num_hidden_layers": 4096},
    ],
    ids=str,
)
def test_a_config_that_claims_more_than_its_files_is_refused_before_it_is_built(
    changes: dict[str, Any], hostile: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = 0
    make = torch.nn.Module.__init__

    def counted(self: torch.nn.Module, *given: Any, **named: Any) -> None:
        nonlocal built
        built += 1
        make(self, *given, **named)

    monkeypatch.setattr(torch.nn.Module, "__init__", counted)
    folder = hostile(**changes)
    for opened in (causal_lm.skeleton, lambda path: causal_lm.load(path, "auto")):
        with pytest.raises(ModelUnavailable):
            opened(folder)
    assert built < 5_000


def test_a_config_that_is_long_or_deep_is_refused(hostile: Callable[..., Path]) -> None:
    for text in (" " * MAX_JSON_BYTES + "{}", '{"a":' * 100_000, "[]", "\xff", "{"):
        folder = hostile()
        (folder / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(ModelUnavailable):
            causal_lm.skeleton(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "text", ['{"a":' * 100_000, "[]", "{", " " * (4 * MAX_JSON_BYTES + 1) + "{}"], ids=len
)
def test_any_json_of_a_model_is_bounded(
    text: str, name: str, hostile: Callable[..., Path], tmp_path: Path
) -> None:
    folder = hostile()
    (folder / name).write_text(text)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelUnavailable):
        write_descriptions([folder], tmp_path / "out")
    if name == "config.json":
        with pytest.raises(ModelUnusable):
            check_kind(folder)


def test_what_is_published_names_no_code(hostile: Callable[..., Path], tmp_path: Path) -> None:
    folder = hostile(attn_implementation=KERNEL, auto_map={"AutoModel": f"{KERNEL}--x.Y"})
    (tmp_path / "out").mkdir()
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": f"{KERNEL}--x.Y"}})
    )
    write_descriptions([folder], tmp_path / "out")
    for name in ("config.json", "tokenizer_config.json"):
        assert KERNEL not in (tmp_path / "out" / name).read_text()


def test_modules_and_buffers_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    with torch.device("meta"), bounded_build(tmp_path):
        torch.nn.Linear(20, 20)
    parent = torch.nn.Module()
    with bounded_build(tmp_path):
        for _ in range(MAX_MODULES):
            parent.add_module("child", torch.nn.Identity())
        with pytest.raises(ValueError, match="modules"):
            parent.add_module("child", torch.nn.Identity())
    with pytest.raises(ValueError, match="parameters"), torch.device("meta"), bounded_build(tmp_path):
        torch.nn.Linear(10_000, 10_000)
    with pytest.raises(ValueError, match="buffers"), torch.device("meta"), bounded_build(tmp_path):
        torch.nn.Module().register_buffer("mask", torch.empty(2**20, 2**20))
    torch.nn.Linear(100, 100)  # the limits end with the block


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("num_hidden_layers", 4096), ("n_layer", 4096), ("num_attention_heads", 4096), ("block_count", 4096),
        ("num_local_experts", 2**15), ("vocab_size", 2**31), ("vocab_size_per_layer_input", 2**31),
        ("hidden_size", 2**31),
    ],
)  # fmt: skip
def test_limits_go_by_what_a_number_counts(key: str, most: int) -> None:
    assert limit_of(key) == most


def test_an_index_names_files_of_its_own_folder_alone(tmp_path: Path) -> None:
    table = {"weight_map": {"a": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(table))
    with pytest.raises(ModelUnusable):
        weight_map(tmp_path)


def test_an_adapter_next_to_a_model_is_not_loaded(hostile: Callable[..., Path]) -> None:
    folder = hostile()
    (folder / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelUnavailable):
        causal_lm.load(folder, "auto")


# Adapters


def adapter(model: Path, folder: Path, **changes: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    made = get_peft_model(
        causal_lm.load(model, "auto"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    made.save_pretrained(folder)
    table = json.loads((folder / ADAPTER_CONFIG).read_text())
    (folder / ADAPTER_CONFIG).write_text(json.dumps(table | changes))
    return folder


def test_an_adapter_s_settings_import_no_module(model: Path, tmp_path: Path) -> None:
    (tmp_path / "payload_of_an_adapter.py").write_text("raise SystemExit('it was run')")
    folder = adapter(
        model,
        tmp_path / "adapter",
        megatron_config={"tensor_model_parallel_size": 1},
        megatron_core="payload_of_an_adapter",
        auto_mapping={"base_model_class": "X", "parent_library": "payload_of_an_adapter"},
        base_model_name_or_path="evil-owner/other",
        target_modules="(.*)*(.*)*(.*)*q_proj$",  # a pattern that takes for ever
        layers_pattern="(a+)+$",
    )
    sys.path.insert(0, str(tmp_path))
    try:
        made = LoraFiles.attach(causal_lm.load(model, "auto"), folder)
    finally:
        sys.path.remove(str(tmp_path))
    assert "payload_of_an_adapter" not in sys.modules
    assert sum(".lora_A." in name for name, _ in made.named_parameters()) == 2


def test_an_attached_adapter_computes_what_peft_s_own_loader_does(model: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    folder = adapter(model, tmp_path / "adapter")
    ids = torch.arange(3, 20)[None]
    with torch.inference_mode():
        ours = LoraFiles.attach(causal_lm.load(model, "auto"), folder).eval()(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(causal_lm.load(model, "auto"), folder).eval()(input_ids=ids).logits
        base = causal_lm.load(model, "auto").eval()(input_ids=ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, base)


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "PROMPT_TUNING"}, {"r": 10**12}, {"r": 0}, {"use_dora": True}, {"bias": "all"},
        {"target_modules": ["x"] * 10_001}, {"target_modules": ["k_proj"]}, {"target_modules": ["nothing"]},
        {"rank_pattern": {"(a+)+$": 2}},
    ],
    ids=str,
)  # fmt: skip
def test_another_adapter_is_refused(changes: dict[str, Any], model: Path, tmp_path: Path) -> None:
    folder = adapter(model, tmp_path / "adapter", **changes)
    with pytest.raises(BarnraiseError) as refused:
        LoraFiles.attach(causal_lm.load(model, "auto"), folder)
    assert isinstance(refused.value, UserError) or refused.value.exit_code == 5


# Tokenizers


def test_a_tokenizer_that_is_larger_than_any_is_refused(hostile: Callable[..., Path]) -> None:
    folder = hostile()
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(2**27 + 1)  # sparse
    with pytest.raises(ValueError, match=r"tokenizer.json"):
        load_tokenizer(folder)
    folder = hostile()
    added = {f"<{number}>": number for number in range(MAX_ADDED_TOKENS + 1)}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(ValueError, match="adds"):
        load_tokenizer(folder)


def test_a_tokenizer_without_a_class_makes_nothing_from_the_config(hostile: Callable[..., Path]) -> None:
    folder = hostile(num_hidden_layers=10**9, model_type="qwen2")
    table = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({key: value for key, value in table.items() if key != "tokenizer_class"})
    )
    with pytest.raises(ValueError, match="num_hidden_layers"):
        load_tokenizer(folder)


# All of both programs


def test_libraries_read_a_model_s_files_in_these_modules_alone() -> None:
    allowed = {
        "causal_lm.py": {"AutoModelForCausalLM.from_pretrained"},
        "gguf_import.py": {"AutoModelForCausalLM.from_pretrained", "AutoTokenizer.from_pretrained"},
        "opening.py": {"GenerationConfig.from_pretrained", "kind.from_pretrained"},
        "tokenizer_files.py": {"AutoTokenizer.from_pretrained"},
    }
    sources = [path for top in ("coordinator", "peer", "proto") for path in (ROOT / top).rglob("*.py")]
    assert len(sources) > 300
    texts = {"card.py", "landing_page.py", "model_ids.py"}  # commands for people
    found = {
        path.name: calls
        for path in sources
        if path.name not in texts and (calls := set(re.findall(r"\w+\.from_pretrained", path.read_text())))
    }
    assert found == allowed
