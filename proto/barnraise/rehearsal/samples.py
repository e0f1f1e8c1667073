"""What a rehearsal passes through a model: parts of the run's own samples. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from barnraise.contract.shards import IGNORED, Ints, Sample

STEP_TOKENS = 512
"""Tokens of the forward and backward pass, at most: a model of 1.1 billion parameters takes a minute for them
on two cores."""
_DOCUMENT_TOKENS = 40
"""Tokens of each part of the short sample: enough for any state or convolution to pass something on."""


@dataclass(frozen=True)
class RehearsalSamples:
    """The two samples of a rehearsal."""

    isolation: Sample
    """Two documents and padding, each of the same length, and trained on as a whole."""
    step: Sample
    """The start of a sample of the run."""

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> RehearsalSamples:
        """samples: of the run, at least one; the first that trains something in its start is taken."""
        starts = [_start(sample) for sample in samples]
        step = next((start for start in starts if start.trained_tokens), _all_trained(starts[0]))
        return cls(_isolation(step.input_ids), step)


def _start(sample: Sample) -> Sample:
    return Sample(
        sample.input_ids[:STEP_TOKENS], sample.labels[:STEP_TOKENS], sample.position_ids[:STEP_TOKENS]
    )


def _all_trained(sample: Sample) -> Sample:
    labels = np.where(sample.position_ids > 0, sample.input_ids, IGNORED).astype(np.int32)
    return Sample(sample.input_ids, labels, sample.position_ids)


def _isolation(ids: Ints) -> Sample:
    size = min(_DOCUMENT_TOKENS, max(4, len(ids) // 3))
    parts = np.resize(ids, 3 * size)
    if len(np.unique(parts)) == 1:  # nothing to replace a token by
        parts[::2] = 1 if parts[0] == 0 else 0
    positions = np.tile(np.arange(size, dtype=np.int32), 3)
    return _all_trained(Sample(parts.astype(np.int32), parts.astype(np.int32), positions))
