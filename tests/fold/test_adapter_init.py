"""The first values of an adapter, by seed and name."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from barnraise.core.errors import SpecError
from barnraise.fold.adapter_init import initial_adapter

SHAPES = (("x.q.lora_A.weight", (8, 64)), ("x.q.lora_B.weight", (32, 8)), ("x.k.lora_A.weight", (8, 64)))


def test_golden_bits() -> None:
    adapter = initial_adapter(SHAPES, 7)
    digest = hashlib.sha256(b"".join(adapter[name].tobytes() for name, _ in SHAPES)).hexdigest()
    assert digest == "54b3462464fc9c92b628e857d4fbc984543fcca64ddb929f15a4560206f7bdaf"


def test_a_is_uniform_in_the_kaiming_bound_and_b_is_zero() -> None:
    adapter = initial_adapter([("m.lora_A.weight", (64, 256)), ("m.lora_B.weight", (16, 64))], 0)
    a, bound = adapter["m.lora_A.weight"], 1 / math.sqrt(256)
    assert (str(a.dtype), a.shape) == ("float32", (64, 256))
    assert 0.999 * bound < float(np.abs(a).max()) <= bound
    assert abs(float(a.mean())) < 0.01 * bound
    assert float(a.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not adapter["m.lora_B.weight"].any()


def test_values_depend_on_seed_and_name() -> None:
    first, other_seed = initial_adapter(SHAPES, 1), initial_adapter(SHAPES, 2)
    assert not np.array_equal(first["x.q.lora_A.weight"], other_seed["x.q.lora_A.weight"])
    assert not np.array_equal(first["x.q.lora_A.weight"], first["x.k.lora_A.weight"])
    again = initial_adapter(reversed(SHAPES), 1)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_other_tensors_are_refused() -> None:
    with pytest.raises(SpecError, match="lora_embedding_A"):
        initial_adapter([("m.lora_embedding_A.weight", (4, 4))], 0)
