"""Writes a LLaMA of a published shape with random weights in bf16: memory and speed do not depend on values.

    scripts/random_model SHAPE FOLDER [--seed N]

The weights are drawn from N(0, 0.02²), as an untrained LLaMA's are, and written shard by shard, so that the
8B takes 2 GB of memory and not 16. The tokenizer is a byte-level BPE with a chat template, trained on the
documentation strings of Python's standard library; its vocabulary may be smaller than the model's.
"""

from __future__ import annotations

import ast
import math
import sysconfig
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from barnraise.models.causal_lm import skeleton
from barnraise.models.model_files import write_model

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
    },
    "tinyllama-1.1b": {
        "vocab_size": 32_000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
    },
    "llama-3-8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rope_theta": 500_000.0,
    },
}
"""As the config.json of TinyLlama/TinyLlama-1.1B-Chat-v1.0 and of meta-llama/Meta-Llama-3-8B have them; the
first is for tests."""

DEVIATION = 0.02
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LARGEST_VOCABULARY = 32_000
"""Entries of the tokenizer: training more takes minutes and changes nothing."""


def write_random_model(shape: str, folder: Path, seed: int = 0) -> Path:
    """Write config, tokenizer and weights of `shape` (a key of SHAPES) to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(
        **SHAPES[shape], tie_word_embeddings=False, rms_norm_eps=1e-5, dtype="bfloat16",
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    train_tokenizer(min(LARGEST_VOCABULARY, config.vocab_size)).save_pretrained(folder)
    shapes = {name: tuple(p.shape) for name, p in skeleton(folder).named_parameters()}

    def save(names: Sequence[str], path: Path) -> None:
        save_file({name: _weight(name, shapes[name], seed) for name in names}, path, {"format": "pt"})
        click.echo(f"wrote {path}")

    write_model(folder, {name: 2 * math.prod(shape) for name, shape in shapes.items()}, save)
    return folder


def train_tokenizer(entries: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `entries` tokens, whose chats are in the form of ChatML."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documentation(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )


def documentation() -> Iterator[str]:
    """The documentation strings of the modules at the top of Python's standard library."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def _weight(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    if len(shape) == 1:  # a norm's gains
        return torch.ones(shape, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, DEVIATION, generator=generator)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("shape", type=click.Choice(list(SHAPES)))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", default=0, help="Of the weights.")
def main(shape: str, folder: Path, seed: int) -> None:
    """The program."""
    write_random_model(shape, folder, seed)


if __name__ == "__main__":
    main()
