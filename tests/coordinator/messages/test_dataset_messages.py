"""The words of the dataset builder; no other test asserts them."""

from __future__ import annotations

import pytest

from coordinator.messages.dataset import build_step
from coordinator.reasons.dataset import (
    BeyondPositions,
    BuildStep,
    DatasetBuilt,
    NothingHeldOut,
    ReadingDataset,
    RecordsTokenized,
)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (ReadingDataset("data.jsonl"), "reading data.jsonl"),
        (RecordsTokenized(5000), "5000 records tokenized"),
        (NothingHeldOut(), "nothing is held out: the dataset has too few different records"),
        (
            BeyondPositions(5000, 4096),
            "the longest document has 5,000 tokens, and the model was trained on 4,096 positions: it may "
            "learn little from what lies beyond",
        ),
        (DatasetBuilt(9, 4, 230), "9 records in 4 samples, 230 trained tokens"),
    ],
)
def test_build_step(step: BuildStep, words: str) -> None:
    assert build_step(step) == words
