"""The words of estimates; no other test asserts them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.messages.estimates import memory_rows, pace_rows, rounded
from coordinator.reasons.estimates import MemoryAt, Pace

GB = 10**9
FP32 = MemoryAt("fp32", 10 * GB, 6 * GB, 8 * GB, 5 * GB, 2 * GB)


def test_memory_rows() -> None:
    half = replace(FP32, precision="bf16", laptop=7 * GB)
    assert memory_rows([FP32, half]) == [
        ("", "fp32      bf16"),
        ("laptop", "10 GB     7 GB"),
        ("  with activation checkpointing", "6 GB      6 GB"),
        ("GPU's own memory", "8 GB      8 GB"),
        ("  with activation checkpointing", "5 GB      5 GB"),
        ("  memory next to that GPU", "2 GB      2 GB"),
    ]


def test_checkpointing_has_no_row_where_it_saves_little() -> None:
    assert len(memory_rows([replace(FP32, laptop_checkpointing=9_500_000_000)])) == 4


def test_pace_rows() -> None:
    laptop = Pace("laptop", 4.0, 250.0, 12, 3600.0, 1 / 12, 2_400_000.0)
    assert pace_rows(4, [laptop]) == [
        ("4 laptops", "1 epoch in about 12 rounds, 60 minutes; 2.4 million tokens a day = 24 epochs")
    ]
    assert pace_rows(1, [replace(laptop, machine="GPU", round_epochs=3.21)]) == [
        ("1 GPU", "a round trains on the data 3.2 times; 2.4 million tokens a day = 24 epochs")
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(90.0, "90 s"), (36_000.0, "10 hours"), (1_000_000.0, "12 days")]
)
def test_durations(seconds: float, words: str) -> None:
    ((_, text),) = pace_rows(1, [Pace("laptop", 4.0, 250.0, 12, seconds, 0.1, 1.0)])
    assert f"12 rounds, {words};" in text


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.123, "0.12"), (9.96, "10"), (168_708, "170,000"), (1.28e8, "130 million"), (4.8e9, "4.8 billion")],
)
def test_estimates_have_two_digits(number: float, words: str) -> None:
    assert rounded(number) == words
