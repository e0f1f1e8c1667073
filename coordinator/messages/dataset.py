"""Renders what the dataset builder finds out."""

from __future__ import annotations

from typing_extensions import assert_never

from coordinator.reasons.dataset import (
    BuildStep,
    DatasetBuilt,
    NothingHeldOut,
    ReadingDataset,
    RecordsTokenized,
)


def build_step(step: BuildStep) -> str:
    """A line of the dataset builder's progress."""
    match step:
        case ReadingDataset(source):
            return f"reading {source}"
        case RecordsTokenized(records):
            return f"{records} records tokenized"
        case NothingHeldOut():
            return "nothing is held out: the dataset has too few different records"
        case DatasetBuilt(records, samples, trained_tokens):
            return f"{records} records in {samples} samples, {trained_tokens} trained tokens"
        case _:
            assert_never(step)
