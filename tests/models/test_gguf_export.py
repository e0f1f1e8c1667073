"""An exported GGUF file gives the same logits and tokens, in transformers and in llama.cpp."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from barnraise.core.errors import DiskFull, UserError
from barnraise.models import gguf_export
from barnraise.models.causal_lm import quiet
from barnraise.models.gguf_export import GgufMetadata, GgufPrecision, export, export_adapter
from tests.models.test_merge import make_adapter
from tests.support.kinds import make_kind
from tests.support.llama_cpp import llama_cpp
from tests.support.tiny import SPECIAL, TEMPLATE, make_tiny_model

ABOUT = GgufMetadata("tiny", "a test")
PROMPTS = [
    "Hello world 1234 — it's  a\n\n test",
    "ÄÖ 日本 🙂\t x",
    "",
    " leading",
    "<|im_start|>user\n2+2?<|im_end|>\n",
]
IDS = list(range(3, 60))
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
WORDS = ["the barn is raised by neighbours", "a laptop counts too", "the table, the tools and the town"] * 5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base"))


def logits_of(model: Any, ids: Sequence[int] = IDS) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=torch.tensor([ids])).logits[0].float()
    return found


def by_transformers(folder: Path, file: str | None = None) -> Any:
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if file is not None:
        options |= {"gguf_file": file, "quantization_config": GgufConfig(dequantize=True)}
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, **options)


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize(
    ("precision", "apart"), [("f32", 1e-5), ("f16", 2e-3), ("bf16", 2e-2), ("q8_0", 2e-2), ("q4_0", 0.5)]
)
def test_transformers_reads_the_same_model(
    base: Path, tmp_path: Path, precision: GgufPrecision, apart: float
) -> None:
    export(base, tmp_path / "tiny.gguf", precision, ABOUT)
    found, wanted = logits_of(by_transformers(tmp_path, "tiny.gguf")), logits_of(by_transformers(base))
    assert (found - wanted).abs().max() < apart * wanted.abs().max()
    assert not torch.equal(found, torch.zeros_like(found))


def test_the_tokenizer_is_exported(tmp_path: Path) -> None:
    base = digits(tmp_path / "model")
    export(base, tmp_path / "tiny.gguf", "f16", ABOUT)
    with quiet():
        found = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf", local_files_only=True)
    wanted = AutoTokenizer.from_pretrained(base, local_files_only=True)
    for prompt in [*WORDS, "<|im_start|>the town<|im_end|>"]:
        assert found(prompt).input_ids == wanted(prompt).input_ids
    assert found.chat_template == wanted.chat_template
    read = fields(tmp_path / "tiny.gguf")
    assert read["tokenizer.ggml.pre"] == "smollm"
    assert [read[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos", "padding")] == [1, 2, 0]
    assert read["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert (read["general.name"], read["general.description"]) == ("tiny", "a test")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A small tokenizer as SmolLM's: byte-level BPE with merges, and each digit a separate token."""
    tokenizer = Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    pad, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, chat_template=TEMPLATE
    )


def digits(folder: Path) -> Path:
    torch.manual_seed(4)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def stretched(folder: Path) -> Path:
    """A small LLaMA 3: scaled rotary frequencies, biases, a separate output matrix."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=340, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, attention_bias=True,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def qwen(folder: Path) -> Path:
    torch.manual_seed(2)
    config = Qwen2Config(
        vocab_size=330, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def pieces(folder: Path) -> Path:
    """A small LLaMA 2: a SentencePiece tokenizer with byte fallback and a space before each text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    table = json.loads(tokenizer.to_str())
    table["added_tokens"] = table["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(table))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=AddedToken("<s>"), eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("make", [qwen], ids=["qwen2"])
def test_other_models_of_the_family_are_exported(tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / "model")
    export(folder, tmp_path / "model.gguf", "f32", ABOUT)
    found, wanted = logits_of(by_transformers(tmp_path, "model.gguf")), logits_of(by_transformers(folder))
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_tiny_model, digits, stretched, qwen, pieces])
def test_llama_cpp_computes_the_same(tmp_path: Path, make: Any) -> None:
    native = llama_cpp()
    folder, file = make(tmp_path / "model"), tmp_path / "model.gguf"
    export(folder, file, "f32", ABOUT)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), by_transformers(folder)
    texts = [*PROMPTS, *WORDS[:3]]
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    assert native.tokens(file, texts) == ids
    longest = max(ids, key=len)
    wanted = logits_of(model, longest)
    apart = np.abs(np.array(native.logits(file, longest)) - wanted.numpy()).max()
    assert apart < 2e-2 * wanted.abs().max()


@pytest.mark.slow
def test_llama_cpp_applies_the_adapter(tmp_path: Path) -> None:
    native = llama_cpp()
    base = digits(tmp_path / "model")
    adapter = make_adapter(base, tmp_path / "adapter")
    export(base, tmp_path / "base.gguf", "f32", ABOUT)
    export(base, tmp_path / "merged.gguf", "f32", ABOUT, adapter)
    export_adapter(adapter, base, tmp_path / "lora.gguf", ABOUT)
    with quiet():
        wanted = logits_of(PeftModel.from_pretrained(by_transformers(base), adapter)).numpy()
    separate = native.logits(tmp_path / "base.gguf", IDS, tmp_path / "lora.gguf")
    merged = native.logits(tmp_path / "merged.gguf", IDS)
    for found in (separate, merged):
        assert np.abs(np.array(found) - wanted).max() < 2e-2 * np.abs(wanted).max()
    assert np.abs(wanted - logits_of(by_transformers(base)).numpy()).max() > 0.1, "the adapter does nothing"


def test_an_adapter_is_merged_during_export(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter")
    export(base, tmp_path / "merged.gguf", "f32", ABOUT, adapter)
    with quiet():
        wanted = logits_of(PeftModel.from_pretrained(by_transformers(base), adapter))
    found = logits_of(by_transformers(tmp_path, "merged.gguf"))
    assert torch.allclose(found, wanted, atol=1e-4)
    assert not torch.allclose(found, logits_of(by_transformers(base)), atol=1e-2), "the adapter does nothing"
    assert fields(tmp_path / "merged.gguf")["tokenizer.chat_template"] == "{{ messages }}", (
        "the adapter's own"
    )


def test_an_adapter_file_names_the_tensors_that_it_changes(base: Path, tmp_path: Path) -> None:
    export_adapter(make_adapter(base, tmp_path / "adapter"), base, tmp_path / "lora.gguf", ABOUT)
    reader = gguf.GGUFReader(tmp_path / "lora.gguf")
    read = fields(tmp_path / "lora.gguf")
    assert [read[key] for key in ("general.type", "adapter.type", "adapter.lora.alpha")] == [
        "adapter", "lora", 8.0,
    ]  # fmt: skip
    names = {tensor.name for tensor in reader.tensors}
    assert {"blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_b"} <= names
    assert len(names) == 2 * 7 * 2


def spoilt(folder: Path, file: str, **changes: object) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
    return folder


def test_unsupported_models_are_refused_before_any_work(tmp_path: Path) -> None:
    strange = spoilt(make_tiny_model(tmp_path / "a"), "config.json", architectures=["OPTForCausalLM"])
    with pytest.raises(UserError, match="a OPTForCausalLM cannot be written as GGUF"):
        gguf_export.check(strange)
    metaspace = pre_tokenizers.Metaspace()
    cut = json.loads(metaspace.__getstate__())
    other = spoilt(make_tiny_model(tmp_path / "b"), "tokenizer.json", pre_tokenizer=cut)
    with pytest.raises(UserError, match=r"tokenize text differently.*Metaspace"):
        export(other, tmp_path / "b.gguf", "f16", ABOUT)
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    long = spoilt(make_tiny_model(tmp_path / "c"), "config.json", rope_parameters=yarn)
    with pytest.raises(UserError, match="'yarn'"):
        gguf_export.check(long)
    gelu = spoilt(make_tiny_model(tmp_path / "e"), "config.json", hidden_act="gelu")
    with pytest.raises(UserError, match="activation 'gelu'"):
        gguf_export.check(gelu)
    slow = make_tiny_model(tmp_path / "d")
    (slow / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        gguf_export.check(slow)
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "its normalizer is .*Lowercase"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "its end_of_word_suffix"),
        ({"model": {"dropout": 0.1}}, "its dropout"),
        ({"model": {"ignore_merges": True}}, "its ignore_merges"),
        ({"model": {"type": "Unigram"}}, "its model is Unigram"),
    ],
)
def test_a_tokenizer_that_llama_cpp_reads_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], cause: str
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    table = json.loads((folder / "tokenizer.json").read_text())
    model = table["model"] | change.get("model", {})
    spoilt(folder, "tokenizer.json", **(change | {"model": model}))
    with pytest.raises(UserError, match=f"tokenize text differently: {cause}"):
        gguf_export.check(folder)


@pytest.mark.parametrize("setting", ["lstrip", "rstrip", "single_word"])
def test_a_token_that_takes_spaces_around_it_is_refused(tmp_path: Path, setting: str) -> None:
    folder = make_tiny_model(tmp_path / "model")
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    spoilt(folder, "tokenizer.json", added_tokens=[*tokens[:-1], tokens[-1] | {setting: True}])
    with pytest.raises(UserError, match=f"its token .* has {setting}"):
        gguf_export.check(folder)


@pytest.mark.parametrize(
    ("kind", "changes", "cause"),
    [
        ("qwen2", {"head_dim": 32}, "a Qwen 2 with heads of 32"),
        ("qwen2", {"rope_parameters": LLAMA3_ROPE}, "a qwen2 with rotary embeddings of the kind 'llama3'"),
        ("qwen3", {"rope_parameters": LLAMA3_ROPE}, "a qwen3 with rotary embeddings of the kind 'llama3'"),
        ("qwen3", {"attention_bias": True}, "a Qwen 3 with attention_bias"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "another scale of its attention"),
    ],
)
def test_what_llama_cpp_lacks_for_a_kind_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], cause: str
) -> None:
    folder = spoilt(make_kind(tmp_path / "model", kind), "config.json", **changes)
    with pytest.raises(UserError, match=cause):
        gguf_export.check(folder)


def test_a_byte_level_tokenizer_without_merges_is_exported(base: Path, tmp_path: Path) -> None:
    export(base, tmp_path / "tiny.gguf", "f16", ABOUT)
    reader = gguf.GGUFReader(tmp_path / "tiny.gguf")
    assert "tokenizer.ggml.merges" in reader.fields, "llama.cpp requires the key"
    with quiet():
        found = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf", local_files_only=True)
    wanted = AutoTokenizer.from_pretrained(base, local_files_only=True)
    assert [found(text).input_ids for text in PROMPTS] == [wanted(text).input_ids for text in PROMPTS]


@pytest.mark.parametrize(
    ("kind", "context"), [("mistral", 512), ("mistral, window", 32), ("qwen2", 512), ("qwen2, window", 32)]
)
def test_the_context_ends_at_a_sliding_window(tmp_path: Path, kind: str, context: int) -> None:
    architecture, _ = gguf_export.check(make_kind(tmp_path / "model", kind))
    assert architecture.context == context


def test_buffers_of_old_files_are_left_out(tmp_path: Path) -> None:
    """Old files have GPT-2's attention masks and LLaMA's rotary frequencies as tensors."""
    folder = make_kind(tmp_path / "model", "gpt2, square")
    export(folder, tmp_path / "new.gguf", "f32", ABOUT)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.attn.bias"] = np.ones((1, 1, 8, 8), np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    export(folder, tmp_path / "old.gguf", "f32", ABOUT)
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def test_a_model_without_all_weights_is_refused(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its weights, such as model\.norm\.weight"):
        export(folder, tmp_path / "tiny.gguf", "f16", ABOUT)
    assert not list(tmp_path.glob("*.gguf"))


def test_a_full_disk_leaves_no_output(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(DiskFull):
        export(base, tmp_path / "out" / "tiny.gguf", "f16", ABOUT)
    assert not list((tmp_path / "out").iterdir())
