"""Estimates the memory that a peer needs, so that a machine that is too small is refused before it starts.

The estimate for a GPU can be too low; then the volunteer trains with a smaller micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from barnraise.contract.spec import Full, Lora

Precision = Literal["fp32", "bf16", "8bit", "4bit"]
"""How the frozen weights below an adapter are stored: `8bit` as integers with a scale for each row, `4bit`
as NF4 (Dettmers et al. 2023, QLoRA) with a scale for each 64 values."""

MICRO_BATCH_CPU = 1
"""Default micro-batch on a CPU, in samples: larger ones took twice the memory and were not faster
(SmolLM2-135M, 512 tokens)."""
MICRO_BATCH_GPU = 4
"""Default micro-batch on a GPU, in samples."""

_FP32 = 4
_BYTES: dict[Precision, float] = {"fp32": 4, "bf16": 2, "8bit": 1.01, "4bit": 0.5 + 4 / 64}
"""Bytes of one frozen value, with its share of the scales."""
_RUNTIME = 1_200_000_000
"""Bytes in addition to the model: Python, torch, transformers and their allocators. Measured on a CPU
with SmolLM2-135M and an adapter, the whole program: 3.2 GB peak at 512 tokens, 6.5 GB at 2,048."""
_GPU_RUNTIME = 1_000_000_000
"""Allowance for the libraries' working memory on a GPU and for fragmentation. Not measured."""
_SAVED = 70
"""Bytes that a block keeps for the backward pass, per token and value of the model's width: about 17
fp32 values of that size. From the peaks of SmolLM2-135M with an adapter on a CPU, training alone: 2.6 and
6.4 GB at 512 and 2,048 tokens, 2.1 and 4.2 GB with checkpointing."""
_LOGITS = 26
"""Bytes per token and entry of the vocabulary on a CPU, from the same peaks."""
_LOGITS_GPU = 12
"""The same on a GPU: three fp32 copies, the log-probabilities and two gradients. Not measured."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a base model that determine its memory."""

    parameters: int
    """Values in the model, tied ones once."""
    products: int
    """Of these, values in linear layers, without the output head and weights tied to an embedding."""
    head: int
    """Of these, values in the output head; 0 where it is tied to the embedding."""
    largest: int
    """Of `products`, values in the largest layer."""
    vocabulary: int
    width: int
    blocks: int
    """Transformer blocks that can be computed again in the backward pass; 0 where the model has none."""
    half: bool
    """The files are in bf16, so that storing the weights as bf16 is exact."""


@dataclass(frozen=True)
class Footprint:
    """Peak memory in bytes."""

    device: int
    """Of a GPU's own memory."""
    host: int
    """Of the host's memory, next to that GPU."""
    shared: int
    """Of the machine's memory where it is the device's as well (CPU, Apple GPU)."""


def footprint(
    shape: ModelShape,
    trainable_params: int,
    target: Lora | Full,
    method: Literal["diloco", "gradient"],
    *,
    tokens: int,
    frozen: Precision = "fp32",
    checkpointing: bool = False,
    autocast: bool = False,
) -> Footprint:
    """The memory of a peer with `tokens` in a micro-batch.

    frozen: how the weights below an adapter are stored; no effect where all are trained.
    checkpointing: activation checkpointing (Chen et al. 2016): only the inputs of blocks are kept.
    autocast: products are computed in bf16.
    """
    adapter = trainable_params if isinstance(target, Lora) else 0
    kept = frozen if adapter else "fp32"
    model = _frozen_bytes(shape, kept) + _FP32 * adapter
    inner = 3 if method == "diloco" else 0  # AdamW's two moments, and its work on them
    training = _FP32 * trainable_params * (1 + inner)  # and the gradient
    dense = _dense_bytes(shape, kept, autocast=autocast)
    block = _SAVED * shape.width
    saved = _FP32 * shape.width * shape.blocks + block if checkpointing else block * max(1, shape.blocks)
    step = model + training + dense + tokens * saved
    words = tokens * shape.vocabulary
    # state[r], state[r + 1], the residual, and the local parameters at the time of sending.
    folding = _FP32 * trainable_params * 4
    # Weights are read through the page cache, and copied only where their dtype changes.
    loading = _FP32 * shape.parameters if kept == "fp32" and shape.half else 0
    return Footprint(
        device=step + _LOGITS_GPU * words + _GPU_RUNTIME,
        host=max(folding, loading) + _RUNTIME,
        shared=step + _LOGITS * words + folding + _RUNTIME,
    )


def rehearsal_memory(shape: ModelShape, trainable_params: int, target: Lora | Full, *, tokens: int) -> int:
    """Bytes for one forward and backward pass in fp32 on a CPU, without optimizer and fold."""
    whole = footprint(shape, trainable_params, target, "gradient", tokens=tokens).shared
    return whole - 4 * _FP32 * trainable_params


def _frozen_bytes(shape: ModelShape, kept: Precision) -> int:
    others = shape.parameters - shape.products - shape.head
    products = _BYTES[kept] * shape.products + _BYTES[_of_head(kept)] * shape.head
    return int(products) + _FP32 * others


def _dense_bytes(shape: ModelShape, kept: Precision, *, autocast: bool) -> int:
    """Bytes of weights that are dequantized or converted for a product."""
    if kept == "fp32":  # with autocast, each product keeps them in bf16 until the backward pass
        return 2 * (shape.products + shape.head) if autocast else 0
    computed: Precision = "bf16" if autocast else "fp32"
    made = [shape.largest] * (kept != computed) + [shape.head] * (_of_head(kept) != computed)
    return int(_BYTES[computed] * max(made, default=0))


def _of_head(kept: Precision) -> Precision:
    """The output head affects every token: it stays in bf16 where other products have fewer bits."""
    return "bf16" if kept in ("8bit", "4bit") else kept
