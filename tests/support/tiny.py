"""A complete but tiny model folder, and data for it, created quickly and without downloads."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from barnraise.contract.shards import DataIndex, Sample, ShardRef, pack_shard
from barnraise.runtime.blob_store import BlobStore

STEADY_RUN = """\
name = "tiny"
seed = 3
[model]
source = "model"
[data]
source = "data.jsonl"
sequence_length = 64
[train]
batch = 2
target = { kind = "full" }
[train.inner]
lr = 1e-3
[round]
seconds = 6
steps = 2
grace = 20
min_contributions = 2
"""
"""The beginning of a run file: rounds of two steps, each with all volunteers."""

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = len(SPECIAL) + 256


def make_tiny_model(
    folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, *, width: int = 64, layers: int = 2
) -> Path:
    """Write a LLaMA of two layers and width 64 with tied embeddings, a byte tokenizer and a chat template."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},  # not the default
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and three special ones; `<|im_end|>` ends a turn and a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )


def write_sums(file: Path) -> None:
    """Write 200 chats of a sum and its result, one in each line."""
    draws = Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(200):
            a, b = draws.randrange(100), draws.randrange(100)
            chat = [{"role": "user", "content": f"{a}+{b}="}, {"role": "assistant", "content": str(a + b)}]
            lines.write(json.dumps({"messages": chat}) + "\n")


def tiny_samples(count: int, length: int = 24, seed: int = 0) -> list[Sample]:
    """Random samples of two packed documents each; about two thirds of the tokens are trained on."""
    random = np.random.default_rng(seed)
    return [_sample(random, length) for _ in range(count)]


def packed(blobs: BlobStore, *shards: list[Sample]) -> DataIndex:
    """The index of samples that were put into a store, shard by shard."""
    refs = []
    for samples in shards:
        wire = pack_shard(samples)
        blobs.put(wire)
        refs.append(ShardRef.of(wire, len(samples)))
    every = [sample for samples in shards for sample in samples]
    return DataIndex(
        sequence_length=len(every[0].input_ids) if every else 24,
        vocab_size=VOCABULARY,
        shards=tuple(refs),
        tokens=sum(len(sample.input_ids) for sample in every),
        trained_tokens=sum(sample.trained_tokens for sample in every),
    )


def _sample(random: np.random.Generator, length: int) -> Sample:
    border = int(random.integers(4, length - 4))
    ids = random.integers(len(SPECIAL), VOCABULARY, length).astype(np.int32)
    positions = np.concatenate([np.arange(border), np.arange(length - border)]).astype(np.int32)
    trained = (random.random(length) < 0.67) & (positions > 0)
    return Sample(ids, np.where(trained, ids, -100).astype(np.int32), positions)
