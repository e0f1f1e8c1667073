"""Packing documents into samples."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.shards import IGNORED, Sample
from coordinator.dataset.pack import WINDOW, Document, PackedSample, Packer, Piece, shuffled, split


def document(tokens: list[int]) -> Document:
    return Document(np.array(tokens, np.int32), np.ones(len(tokens), np.bool_))


def packed(pieces: Iterable[Piece], window: int = WINDOW) -> list[PackedSample]:
    packer = Packer(8, pad_id=0, window=window)
    found = [sample for piece in pieces for sample in packer.add(piece)]
    return [*found, *packer.finish()]


def pieces_in(sample: Sample) -> list[list[int]]:
    """The documents of a sample, its padding included."""
    bounds = [*np.flatnonzero(sample.position_ids == 0).tolist(), len(sample.input_ids)]
    return [sample.input_ids[a:b].tolist() for a, b in pairwise(bounds)]


@given(
    st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=30), max_size=40),
    st.integers(0, 4),
    st.integers(0, 9),
)
def test_packing_neither_loses_nor_adds_tokens(texts: list[list[int]], window: int, seed: int) -> None:
    pieces = [piece for text in texts for piece in split(document(text), 8)]
    assert [t for p in pieces for t in p.input_ids] == [
        t
        for text in texts
        for i in range(0, len(text), 8)
        if len(text[i : i + 8]) > 1
        for t in text[i : i + 8]
    ]
    samples = [sample.as_sample() for sample in shuffled(packed(pieces, window), seed, 0)]
    assert all(sample.input_ids.shape == (8,) for sample in samples)
    found = [piece for sample in samples for piece in pieces_in(sample) if any(piece)]
    assert sorted(found) == sorted(piece.input_ids.tolist() for piece in pieces)
    for sample in samples:
        trained = (sample.position_ids > 0) & (sample.input_ids > 0)
        assert np.array_equal(sample.labels, np.where(trained, sample.input_ids, IGNORED))


@pytest.mark.parametrize(
    ("window", "samples"),
    [
        (WINDOW, [[[1] * 6, [3] * 2], [[2] * 5, [0] * 3]]),
        (0, [[[1] * 6, [0] * 2], [[2] * 5, [0] * 3], [[3] * 2, [0] * 6]]),
    ],
)
def test_a_short_document_fills_the_first_gap_if_documents_share_samples(
    window: int, samples: list[list[list[int]]]
) -> None:
    pieces = [piece for text in ([1] * 6, [2] * 5, [3] * 2) for piece in split(document(text), 8)]
    assert [pieces_in(sample.as_sample()) for sample in packed(pieces, window)] == samples


def test_a_piece_with_nothing_to_train_on_is_dropped() -> None:
    trained = np.array([False] * 8 + [True, True])
    (piece,) = split(Document(np.arange(10, dtype=np.int32), trained), 8)
    assert piece.input_ids.tolist() == [8, 9]
    assert piece.trained.tolist() == [False, True]
    assert piece.trained_tokens == 1


def test_the_order_of_samples_depends_on_their_numbers_alone() -> None:
    samples = packed(piece for i in range(1, 20) for piece in split(document([i] * 8), 8))
    at_once = [s.input_ids[0] for s in shuffled(samples, 1, 0)]
    assert sorted(at_once) == list(range(1, 20)) != at_once
    blocks = [*shuffled(samples[:10], 1, 0), *shuffled(samples[10:], 1, 10)]
    assert {s.input_ids[0] for s in blocks[:10]} == set(range(1, 11))
