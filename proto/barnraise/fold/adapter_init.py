"""The initial LoRA adapter, drawn from the run's seed: the same bits on every machine.

A is drawn as peft draws it (`kaiming_uniform_` with a = √5, which is uniform in ±1/√fan_in) and
B is zero, so the adapter starts as no change (Hu et al. 2021, "LoRA", section 4.1). The numbers
come from Philox's raw integers (Salmon et al. 2011) by exact arithmetic, because the float
streams of numpy's Generator and of torch may change between versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np

from barnraise.contract.state import Array
from barnraise.core.errors import SpecError

_MANTISSA_BITS = 24


def initial_adapter(layout_shapes: Iterable[tuple[str, tuple[int, ...]]], seed: int) -> dict[str, Array]:
    """fp32 tensors for each (name, shape): `….lora_A.weight` [rank, in] drawn, `….lora_B.weight` zero.

    Raises SpecError for another name.
    """
    return {name: _tensor(name, shape, seed) for name, shape in layout_shapes}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> Array:
    if name.endswith(".lora_B.weight"):
        return np.zeros(shape, np.float32)
    if not name.endswith(".lora_A.weight"):
        raise SpecError(
            f"the adapter has a tensor `{name}`, which is neither lora_A nor lora_B",
            fix="Choose linear layers only in train.target.modules.",
        )
    bound = np.float32(1.0 / math.sqrt(math.prod(shape[1:])))
    return (_symmetric_uniform(math.prod(shape), f"{seed}:{name}") * bound).reshape(shape)


def _symmetric_uniform(count: int, label: str) -> Array:
    """`count` values in [-1, 1), multiples of 2^-23, so that each step before the bound is exact."""
    key = int.from_bytes(hashlib.sha256(label.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(count)
    top = (raw >> np.uint64(64 - _MANTISSA_BITS)).astype(np.float32)
    return top * np.float32(2.0 ** (1 - _MANTISSA_BITS)) - np.float32(1.0)
