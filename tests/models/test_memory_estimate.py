"""The memory that training needs, estimated from the shape of a model."""

from __future__ import annotations

from typing import Literal

from barnraise.contract.spec import Full, Lora
from barnraise.models.memory_estimate import footprint
from tests.support.shapes import shape_of

SEVEN_BILLION = shape_of(7_000_000_000)


def test_memory_is_estimated_before_training() -> None:
    def of(trainable: int, target: Lora | Full, method: Literal["diloco", "gradient"]) -> int:
        return footprint(SEVEN_BILLION, trainable, target, method, tokens=2048).shared

    adapter = of(40_000_000, Lora(), "diloco")
    full = of(7_000_000_000, Full(), "diloco")
    assert 28e9 < adapter < 60e9 < 28e9 * 8 < full
    assert of(7_000_000_000, Full(), "gradient") < full
