"""Small tokenizers and datasets, and what the builder makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from barnraise.contract.shards import DataIndex, Sample, parse_shard
from barnraise.contract.spec import DataSpec, ModelSpec, RunSpec
from barnraise.core.ids import BlobHash, blob_hash
from coordinator.dataset.build import build
from coordinator.reasons.dataset import BuildStep, BuiltDataset

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tokenizer(folder: Path, template: str | None = CHATML, eos: str | None = "<|im_end|>") -> Path:
    """A byte-level tokenizer without merges, in the Hugging Face layout."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(count: int) -> list[object]:
    return [{"prompt": f"What is {i}?", "completion": f"It is the number {i}."} for i in range(count)]


def run_spec(source: Path, *, held_out: float = 0.2, sequence_length: int = 64, seed: int = 0) -> RunSpec:
    data = DataSpec(source=str(source), held_out=held_out, sequence_length=sequence_length)
    return RunSpec(name="test", seed=seed, model=ModelSpec(source="unused"), data=data)


def built(
    spec: RunSpec, folder: Path, progress: Callable[[BuildStep], None] = lambda step: None
) -> tuple[BuiltDataset, dict[BlobHash, bytes]]:
    store: dict[BlobHash, bytes] = {}

    def put(data: bytes) -> BlobHash:
        store[blob_hash(data)] = data
        return blob_hash(data)

    return build(spec, folder, put, progress), store


def samples_of(index: DataIndex, store: dict[BlobHash, bytes]) -> list[Sample]:
    return [
        sample
        for ref in index.shards
        for sample in parse_shard(store[ref.blob], index.sequence_length, index.vocab_size)
    ]
