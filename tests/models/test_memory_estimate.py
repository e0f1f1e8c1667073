"""The memory that training needs, estimated from the size of a model."""

from __future__ import annotations

from barnraise.contract.spec import Full, Lora
from barnraise.models.memory_estimate import memory_needed


def test_memory_is_estimated_before_training() -> None:
    adapter = memory_needed(7_000_000_000, 40_000_000, Lora(), "diloco")
    full = memory_needed(7_000_000_000, 7_000_000_000, Full(), "diloco")
    assert 28e9 < adapter < 60e9 < 28e9 * 8 < full
    assert memory_needed(7_000_000_000, 7_000_000_000, Full(), "gradient") < full
