"""Cuts documents into pieces and packs the pieces into samples of one length. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from barnraise.contract.shards import Flags, Ints, Sample, Shard

WINDOW = 32
"""Samples that are open at a time and may get another piece."""


@dataclass(frozen=True)
class Document:
    """One record in tokens."""

    input_ids: Ints
    """int32 [n], n ≥ 1."""
    trained: Flags
    """bool [n]: the tokens that the loss counts."""


class Piece(NamedTuple):
    """A document, or a part of a long one, that fits into a sample."""

    input_ids: Ints
    trained: Flags
    trained_tokens: int
    """At least 1."""


class PackedSample(NamedTuple):
    """Pieces and padding that fill one sample of L tokens, in the form of a shard's row."""

    input_ids: Ints
    trained: Flags
    starts: Flags
    """bool [L]: the first token of each piece, and of the padding."""

    def as_sample(self) -> Sample:
        """The sample as volunteers read it."""
        return as_shard([self]).sample(0)


def as_shard(samples: Sequence[PackedSample]) -> Shard:
    """The shard of these samples."""
    return Shard(
        np.stack([sample.input_ids for sample in samples]),
        np.stack([sample.trained for sample in samples]),
        np.stack([sample.starts for sample in samples]),
    )


def split(document: Document, length: int) -> Iterator[Piece]:
    """Cut a document into pieces of at most `length` tokens; each is a document of its own.

    Pieces with nothing to train on are dropped, such as the middle of a very long question. A piece's
    first token is never trained on, because nothing in the sample predicts it.
    """
    for begin in range(0, len(document.input_ids), length):
        trained = document.trained[begin : begin + length].copy()
        trained[0] = False
        if count := int(np.count_nonzero(trained)):
            yield Piece(document.input_ids[begin : begin + length], trained, count)


class Packer:
    """Puts pieces (each at most `length` tokens) into samples of exactly `length`, greedily first fit.

    At most `window` samples are open; the fullest is closed when a piece fits in none. The rest of a
    sample is filled with `pad_id`, untrained, as a document of its own. With `window` 0, each piece gets
    a sample of its own.
    """

    def __init__(self, length: int, pad_id: int, window: int = WINDOW) -> None:
        self._length, self._window = length, window
        self._used: list[int] = []
        self._open: list[PackedSample] = []
        self._padding = np.full(length, pad_id, np.int32)

    def add(self, piece: Piece) -> Iterator[PackedSample]:
        """Samples that this piece completes."""
        size = len(piece.input_ids)
        room = self._length - size if self._window else -1
        slot = next((slot for slot, used in enumerate(self._used) if used <= room), None)
        if slot is None:
            if self._used and len(self._used) >= self._window:
                yield self._close(self._used.index(max(self._used)))
            slot = len(self._used)
            self._used.append(0)
            self._open.append(self._empty())
        begin, sample = self._used[slot], self._open[slot]
        end = begin + size
        sample.input_ids[begin:end] = piece.input_ids
        sample.trained[begin:end] = piece.trained
        sample.starts[begin] = True
        self._used[slot] = end
        if end == self._length:
            yield self._close(slot)

    def finish(self) -> Iterator[PackedSample]:
        """The samples that are still open."""
        while self._used:
            yield self._close(0)

    def _empty(self) -> PackedSample:
        length = self._length
        return PackedSample(self._padding.copy(), np.zeros(length, np.bool_), np.zeros(length, np.bool_))

    def _close(self, slot: int) -> PackedSample:
        sample, used = self._open.pop(slot), self._used.pop(slot)
        if used < self._length:
            sample.starts[used] = True
        return sample


def shuffled(samples: Iterable[PackedSample], seed: int, first: int) -> list[PackedSample]:
    """Samples number `first` and following in a seeded order.

    Datasets are often sorted by topic, and a peer reads few shards per round: in that order, each peer
    would train a round on one topic.
    """
    keyed = [
        (hashlib.sha256(f"barnraise/shuffle/1/{seed}/{number}".encode()).digest(), sample)
        for number, sample in enumerate(samples, start=first)
    ]
    return [sample for _, sample in sorted(keyed, key=lambda pair: pair[0])]
