"""Samples and documents as readable text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from barnraise.contract.shards import IGNORED, Flags, Ints, Sample
from coordinator.dataset.pack import Document

TRAINED_MARKS = ("⟦", "⟧")
"""They enclose the trained parts."""
BORDER = "\n────────\n"
"""Between two documents of a sample."""


def preview_document(tokenizer: Any, document: Document) -> str:
    """A document as text, with its trained parts between `TRAINED_MARKS`."""
    return _marked(tokenizer, document.input_ids, document.trained)


def preview_sample(tokenizer: Any, sample: Sample) -> str:
    """A packed sample as the model sees it: `BORDER` between documents, trained parts marked.

    The padding at its end is a document of its own.
    """
    starts = np.flatnonzero(sample.position_ids == 0).tolist()
    ends = [*starts[1:], len(sample.input_ids)]
    return BORDER.join(
        _marked(tokenizer, sample.input_ids[begin:end], sample.labels[begin:end] != IGNORED)
        for begin, end in zip(starts, ends, strict=True)
    )


def _marked(tokenizer: Any, ids: Ints, trained: Flags) -> str:
    return "".join(_pieces(tokenizer, ids, trained))


def _pieces(tokenizer: Any, ids: Ints, trained: Flags) -> Iterator[str]:
    pairs = zip(trained.tolist(), ids.tolist(), strict=True)
    for is_trained, group in groupby(pairs, key=lambda pair: pair[0]):
        text = str(tokenizer.decode([token for _, token in group]))
        yield f"{TRAINED_MARKS[0]}{text}{TRAINED_MARKS[1]}" if is_trained else text
