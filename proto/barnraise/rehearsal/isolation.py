"""Measures whether the documents of a packed sample, and the padding after them, affect each other.

Each measure changes what a token must not depend on and compares the losses: so it needs no second
implementation of the model, and holds for any kernel and dtype. Differences are in nats, the largest of all
tokens that are trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from barnraise.contract.shards import IGNORED, Ints, Sample
from barnraise.rehearsal.outcomes import DocumentsMixed, Fault, FollowingTokensSeen, PaddingSeen

Losses = npt.NDArray[np.float32]
"""float32 [n - 1]: cross entropy of each token of a sample but the first, 0 where it is not trained on."""
TokenLosses = Callable[[Sample], Losses]


@dataclass(frozen=True)
class Isolation:
    """How far the losses of a sample depend on what they must not depend on."""

    following: float
    """Effect of the second half of a document on its first half."""
    neighbour: float
    """Effect of a sample's first document on those after it."""
    packing: float
    """Difference between documents in one sample and each alone."""
    padding: float
    """Difference between a document with padding behind it, as a document of its own, and without."""


@dataclass(frozen=True)
class Tolerance:
    """Largest differences of a token's loss, in nats, between passes that must agree."""

    same_shape: float
    """Between passes of the same shape."""
    other_shape: float
    """Between passes of different shapes or kernels, whose sums have another order."""


# Measured on a CPU for 130 kinds with an adapter: sdpa and eager; products in fp32 and bf16; frozen weights
# in fp32, bf16, 8 and 4 bits. Where nothing leaks, passes of the same shape differ by at most 4e-6 (fp32) and
# 1.2e-5, of another shape by 4e-6 and 0.067. Where documents see each other, a neighbour changes a loss by
# 1.3e-4 to 1.0 with untrained weights (standard deviation 0.02), by at least 0.47 with a deviation of 0.3.
# GPUs were not measured: there, the kernel of an expert depends on how many tokens choose it.
FP32 = Tolerance(same_shape=1e-4, other_shape=1e-2)
REDUCED = Tolerance(same_shape=1e-2, other_shape=0.5)
"""Where products run in bf16, or frozen weights have fewer bits than fp32."""


@dataclass(frozen=True)
class Isolated:
    """No token depends on what it must not depend on."""

    packed: bool
    """Whether this holds for documents in one sample."""


def judge(
    found: Isolation, tolerance: Tolerance, packing: Literal["auto", "always", "never"]
) -> Isolated | Fault:
    """packing: as in the spec; `auto` packs where documents do not see each other."""
    if found.following > tolerance.same_shape:
        return FollowingTokensSeen(found.following)
    if found.padding > tolerance.other_shape:
        return PaddingSeen(found.padding)
    mixed = found.neighbour > tolerance.same_shape or found.packing > tolerance.other_shape
    if mixed and packing == "always":
        return DocumentsMixed(max(found.neighbour, found.packing))
    return Isolated(packed=not mixed and packing != "never")


def measure(losses: TokenLosses, sample: Sample) -> Isolation:
    """sample: at least two documents of four tokens or more, with at least two different tokens."""
    parts = list(documents(sample))
    first = alone(sample, *parts[0])
    packed = losses(sample)
    single = losses(first)
    return Isolation(
        following=_following(losses, first, single),
        neighbour=_neighbour(losses, sample, parts[0][1], packed),
        packing=max(_largest(losses(alone(sample, *part)) - _within(packed, part)) for part in parts),
        padding=_largest(_within(losses(padded(first, len(sample.input_ids))), parts[0]) - single),
    )


def documents(sample: Sample) -> Iterator[tuple[int, int]]:
    """Begin and end of each document: its positions restart at 0."""
    begins = [int(begin) for begin in np.flatnonzero(sample.position_ids == 0)]
    yield from zip(begins, [*begins[1:], len(sample.input_ids)], strict=True)


def alone(sample: Sample, begin: int, end: int) -> Sample:
    """One document as a sample of its own length."""
    labels = sample.labels[begin:end].copy()
    labels[:1] = IGNORED
    return Sample(sample.input_ids[begin:end], labels, sample.position_ids[begin:end])


def padded(document: Sample, length: int) -> Sample:
    """A document in a sample of `length`; the rest repeats its last token and is not trained on."""
    size = len(document.input_ids)
    rest = length - size
    return Sample(
        np.concatenate([document.input_ids, np.full(rest, document.input_ids[-1], np.int32)]),
        np.concatenate([document.labels, np.full(rest, IGNORED, np.int32)]),
        np.concatenate([document.position_ids, np.arange(rest, dtype=np.int32)]),
    )


def _following(losses: TokenLosses, document: Sample, before: Losses) -> float:
    half = len(document.input_ids) // 2
    after = losses(_replaced(document, half, len(document.input_ids)))
    return _largest((after - before)[: half - 1])


def _neighbour(losses: TokenLosses, sample: Sample, end: int, before: Losses) -> float:
    return _largest((losses(_replaced(sample, 0, end)) - before)[end:])


def _replaced(sample: Sample, begin: int, end: int) -> Sample:
    """`sample` with each token from `begin` to `end` replaced by another one of the sample's tokens."""
    ids = sample.input_ids.copy()
    known = np.unique(sample.input_ids)
    ids[begin:end] = known[(np.searchsorted(known, ids[begin:end]) + 1) % len(known)]
    return Sample(ids, sample.labels, sample.position_ids)


def _within(losses: Losses, part: tuple[int, int]) -> Losses:
    """The losses of one document's tokens, without its first."""
    begin, end = part
    return losses[begin : end - 1]


def _largest(differences: Losses | Ints) -> float:
    return float(np.abs(differences).max(initial=0.0))
