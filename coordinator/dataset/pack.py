"""Packs documents into samples of one length, and splits records into trained and held out. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from barnraise.contract.shards import IGNORED, Flags, Ints, Sample

WINDOW = 32
"""Samples that are open at a time and may get another document."""


@dataclass(frozen=True)
class Document:
    """One record in tokens."""

    input_ids: Ints
    """int32 [n], n ≥ 1."""
    trained: Flags
    """bool [n]: the tokens that the loss counts."""


def held_out_below(share: float, lowest: int, highest: int) -> int:
    """Records whose 256-bit digest is below the returned bound are held out.

    `lowest` and `highest` are the least and greatest digest of the dataset. A share above 0 holds
    out at least one record and leaves at least one to train on, unless all records are equal. Equal
    records have equal digests, so none is ever on both sides.
    """
    if share <= 0 or lowest == highest:
        return 0
    return min(max(int(share * 2**256), lowest + 1), highest)


def split(documents: Iterable[Document], length: int) -> Iterator[Document]:
    """Cut documents into pieces of at most `length` tokens; each piece is a document of its own.

    Pieces with nothing to train on are dropped, such as the middle of a very long question. A piece's
    first token is never trained on, because nothing in the sample predicts it.
    """
    for document in documents:
        for begin in range(0, len(document.input_ids), length):
            trained = document.trained[begin : begin + length].copy()
            trained[0] = False
            if trained.any():
                yield Document(document.input_ids[begin : begin + length], trained)


def pack(pieces: Iterable[Document], length: int, pad_id: int, window: int = WINDOW) -> Iterator[Sample]:
    """Put pieces (each at most `length` tokens) into samples of exactly `length`, greedily first fit.

    At most `window` samples are open; the fullest is closed when a piece fits in none. The rest of a
    sample is filled with `pad_id`, untrained, as a document of its own.
    """
    opened: list[tuple[int, list[Document]]] = []
    for piece in pieces:
        size = len(piece.input_ids)
        slot = next((i for i, (used, _) in enumerate(opened) if used + size <= length), None)
        if slot is None:
            if len(opened) == window:
                fullest = max(range(window), key=lambda i: opened[i][0])
                yield _sample(opened.pop(fullest)[1], length, pad_id)
            opened.append((size, [piece]))
            slot = len(opened) - 1
        else:
            used, members = opened[slot]
            opened[slot] = (used + size, [*members, piece])
        if opened[slot][0] == length:
            yield _sample(opened.pop(slot)[1], length, pad_id)
    for _, members in opened:
        yield _sample(members, length, pad_id)


def _sample(members: list[Document], length: int, pad_id: int) -> Sample:
    ids = np.full(length, pad_id, np.int32)
    labels = np.full(length, IGNORED, np.int32)
    positions = np.zeros(length, np.int32)
    begin = 0
    for member in members:
        end = begin + len(member.input_ids)
        ids[begin:end] = member.input_ids
        labels[begin:end] = np.where(member.trained, member.input_ids, IGNORED)
        positions[begin:end] = np.arange(end - begin)
        begin = end
    positions[begin:] = np.arange(length - begin)
    return Sample(ids, labels, positions)


def shuffled(samples: Iterable[Sample], seed: int, block: int) -> Iterator[Sample]:
    """The samples in a seeded order, shuffled within blocks of `block` samples.

    Datasets are often sorted by topic, and a peer reads few shards per round: in that order, each peer
    would train a round on one topic.
    """
    held: list[tuple[bytes, Sample]] = []
    for number, sample in enumerate(samples):
        held.append((hashlib.sha256(f"barnraise/shuffle/1/{seed}/{number}".encode()).digest(), sample))
        if len(held) == block:
            yield from _by_key(held)
            held = []
    yield from _by_key(held)


def _by_key(held: list[tuple[bytes, Sample]]) -> list[Sample]:
    return [sample for _, sample in sorted(held, key=lambda pair: pair[0])]
