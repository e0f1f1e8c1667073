"""Top-k: the positions of the largest magnitudes of each row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Magnitudes = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]

_NOTHING = np.int32(-1)
"""Below every magnitude."""


def largest(magnitudes: Magnitudes, kept: int) -> Places:
    """Positions in the flattened array of the `kept` largest values of each row [rows, length], ascending.

    Exactly `kept` a row: of equal values the first are taken, so that every machine takes the same.
    """
    rows, length = magnitudes.shape
    places = _candidates(magnitudes, kept)
    counts = np.diff(np.searchsorted(places, np.arange(rows + 1) * length))
    if counts.max() > length // 2:
        return np.flatnonzero(_chosen(magnitudes, kept))
    filled = np.arange(counts.max()) < counts[:, None]
    table = np.full(filled.shape, _NOTHING)
    table[filled] = magnitudes.take(places)
    found: Places = places[_chosen(table, kept)[filled]]
    return found


def _candidates(magnitudes: Magnitudes, kept: int) -> Places:
    """Positions of all values that can be among the `kept` largest of their row, and few others; ascending.

    A row is split into at least twice as many groups as it keeps. The `kept` largest of the groups' maxima
    are `kept` values of the row, so no value below the smallest of them is among the largest. Finding that
    bound takes a fraction of the time of a partition of the whole row.
    """
    rows, length = magnitudes.shape
    groups = 1 << (2 * kept - 1).bit_length()
    if length % groups or length == groups:
        return np.arange(magnitudes.size)
    maxima = magnitudes.reshape(rows, length // groups, groups).max(axis=1)
    first = groups - kept
    return np.flatnonzero(magnitudes >= np.partition(maxima, first, axis=1)[:, first, None])


def _chosen(magnitudes: Magnitudes, kept: int) -> npt.NDArray[np.bool_]:
    """[rows, length]: whether a value is among the `kept` largest of its row."""
    first = magnitudes.shape[1] - kept
    least = np.partition(magnitudes, first, axis=1)[:, first, None]
    chosen: npt.NDArray[np.bool_] = magnitudes >= least
    if np.count_nonzero(chosen) > len(magnitudes) * kept:
        _drop_ties(chosen, magnitudes, least, kept)
    return chosen


def _drop_ties(chosen: npt.NDArray[np.bool_], magnitudes: Magnitudes, least: Magnitudes, kept: int) -> None:
    """In rows of `chosen` with too many values, remove the last ones that equal `least` [rows, 1]."""
    counts = np.count_nonzero(chosen, axis=1)
    # Most of these rows are zero: parameters without a gradient, such as the embeddings of unseen words.
    even = (counts == magnitudes.shape[1]) & (magnitudes.max(axis=1) == least[:, 0])
    chosen[even, kept:] = False
    tied = np.flatnonzero((counts > kept) & ~even)
    above = magnitudes[tied] > least[tied]
    equal = chosen[tied] ^ above
    room = kept - np.count_nonzero(above, axis=1)
    equal &= np.cumsum(equal, axis=1, dtype=np.int32) <= room[:, None]
    chosen[tied] = above | equal
