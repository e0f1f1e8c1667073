"""The samples of a text, and the batches of machines that each have documents of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from barnraise.contract.shards import IGNORED, Sample
from scripts.benchmarks.arms.arms import Batches


def in_samples(tokens: npt.NDArray[Any], length: int, first: int | None = None) -> list[Sample]:
    """`tokens` [n] in samples of `length`; all tokens but the first of each are trained on.

    first: a token that every sample begins with; None: a sample begins where the one before it ended.
    """
    positions = np.arange(length, dtype=np.int32)
    own = length if first is None else length - 1
    rows = tokens[: len(tokens) // own * own].reshape(-1, own).astype(np.int32)
    if first is not None:
        rows = np.insert(rows, 0, first, axis=1)
    return [Sample(row, np.where(positions > 0, row, IGNORED).astype(np.int32), positions) for row in rows]


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` of the samples, at equal distances."""
    return list(samples[:: len(samples) // count][:count])


def deal(
    documents: int,
    samples_of: Callable[[Sequence[int]], Sequence[Sample]],
    *,
    peers: int,
    steps: int,
    batch: int,
    seed: int,
) -> Batches:
    """The batches of each machine. Whole documents are dealt to the machines, so that each has its own.

    samples_of: of the documents with these numbers.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(documents)
    batches = []
    for peer in range(peers):
        own = samples_of(order[peer::peers].tolist())
        chosen = random.choice(len(own), steps * batch, replace=False)
        batches.append([[own[i] for i in chosen[at : at + batch]] for at in range(0, len(chosen), batch)])
    return batches
