"""How much memory a peer needs: an estimate, so that a machine that is too small is told before it starts."""

from __future__ import annotations

import math
from typing import Literal

from barnraise.spec import Full, Lora

MICRO_BATCH_CPU = 1
"""Samples at once on a CPU, unless its owner says otherwise: more took twice the memory and were no faster
(SmolLM2-135M, 512 tokens)."""
MICRO_BATCH_GPU = 4
"""Samples at once on a GPU, unless its owner says otherwise."""

_FP32 = 4
_RUNTIME = 1_400_000_000
"""Bytes beside the model: Python, torch, transformers, and what their allocators keep. Measured on a CPU
with SmolLM2-135M and an adapter: 3.2 GB peak at 512 tokens, 6.5 GB at 2,048."""
_SAVED_PER_PARAMETER_ROOT = 130.0
"""Bytes of saved activations for each token and root of a base parameter. Layers x width of LLaMA-like
models is near 1.5 root(parameters), and some 20 fp32 values of that size are kept for the backward pass."""
_LOGITS = 600_000
"""Bytes for each token of logits and their gradient: three fp32 copies of a 50,000 word vocabulary."""


def memory_needed(
    base_params: int,
    trainable_params: int,
    target: Lora | Full,
    method: Literal["diloco", "gradient"],
    *,
    tokens: int = 2048,
) -> int:
    """Bytes for a peer that trains in fp32 with `tokens` in a micro-batch, device and host together."""
    adapter = trainable_params if isinstance(target, Lora) else 0
    model = _FP32 * (base_params + adapter)
    inner = 2 if method == "diloco" else 0  # AdamW's two moments
    training = _FP32 * trainable_params * (1 + inner)  # and the gradient
    # Round r, what it becomes, the sender's residual, and one decoded contribution.
    folding = _FP32 * trainable_params * 4
    activations = tokens * (_SAVED_PER_PARAMETER_ROOT * math.sqrt(base_params) + _LOGITS)
    return model + training + folding + int(activations) + _RUNTIME
