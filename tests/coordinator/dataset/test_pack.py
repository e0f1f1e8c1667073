"""Packing documents into samples, and the split into trained and held out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.shards import IGNORED, Sample
from coordinator.dataset.pack import Document, held_out_below, pack, shuffled, split


def document(tokens: list[int]) -> Document:
    return Document(np.array(tokens, np.int32), np.ones(len(tokens), np.bool_))


def pieces_in(sample: Sample) -> list[list[int]]:
    """The documents of a sample, its padding included."""
    bounds = [*np.flatnonzero(sample.position_ids == 0).tolist(), len(sample.input_ids)]
    return [sample.input_ids[a:b].tolist() for a, b in pairwise(bounds)]


@given(
    st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=30), max_size=40),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_packing_neither_loses_nor_adds_tokens(texts: list[list[int]], window: int, seed: int) -> None:
    pieces = list(split((document(text) for text in texts), 8))
    assert [t for p in pieces for t in p.input_ids] == [
        t
        for text in texts
        for i in range(0, len(text), 8)
        if len(text[i : i + 8]) > 1
        for t in text[i : i + 8]
    ]
    samples = list(shuffled(pack(pieces, 8, pad_id=0, window=window), seed, block=3))
    assert all(sample.input_ids.shape == (8,) for sample in samples)
    packed = [piece for sample in samples for piece in pieces_in(sample) if any(piece)]
    assert sorted(packed) == sorted(piece.input_ids.tolist() for piece in pieces)
    for sample in samples:
        trained = (sample.position_ids > 0) & (sample.input_ids > 0)
        assert np.array_equal(sample.labels, np.where(trained, sample.input_ids, IGNORED))


def test_a_short_document_fills_the_first_gap() -> None:
    samples = list(pack([document([1] * 6), document([2] * 5), document([3] * 2)], 8, pad_id=0))
    assert [pieces_in(sample) for sample in samples] == [
        [[1] * 6, [3] * 2],
        [[2] * 5, [0] * 3],
    ]


def test_a_piece_with_nothing_to_train_on_is_dropped() -> None:
    trained = np.array([False] * 8 + [True, True])
    (piece,) = split([Document(np.arange(10, dtype=np.int32), trained)], 8)
    assert piece.input_ids.tolist() == [8, 9]
    assert piece.trained.tolist() == [False, True]


@given(st.floats(0, 0.5), st.sets(st.integers(0, 2**256 - 1), min_size=1, max_size=9))
def test_some_records_are_held_out_and_some_are_left(share: float, digests: set[int]) -> None:
    bound = held_out_below(share, min(digests), max(digests))
    held = sum(digest < bound for digest in digests)
    if share == 0 or len(digests) == 1:
        assert held == 0
    else:
        assert 1 <= held < len(digests)
