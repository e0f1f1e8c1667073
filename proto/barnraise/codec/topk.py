"""Top-k: the places of the largest magnitudes of each row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def largest(magnitudes: npt.NDArray[np.int32], kept: int) -> npt.NDArray[np.int64]:
    """Places, in the flattened array, of the `kept` largest of each row [rows, length]; rising.

    Exactly `kept` a row: of equal ones the first are taken, so that every machine takes the same.
    """
    rows, length = magnitudes.shape
    least = np.partition(magnitudes, length - kept, axis=1)[:, length - kept, None]
    chosen = magnitudes >= least
    if np.count_nonzero(chosen) > rows * kept:
        _drop_ties(chosen, magnitudes, least, kept)
    return np.flatnonzero(chosen)


def _drop_ties(
    chosen: npt.NDArray[np.bool_],
    magnitudes: npt.NDArray[np.int32],
    least: npt.NDArray[np.int32],
    kept: int,
) -> None:
    """Take the last ones that equal `least` [rows, 1] out of rows of `chosen` that have too many."""
    counts = np.count_nonzero(chosen, axis=1)
    # Most often such a row is zero throughout: parameters that nothing trained, as of words unseen.
    even = (counts == magnitudes.shape[1]) & (magnitudes.max(axis=1) == least[:, 0])
    chosen[even, kept:] = False
    tied = np.flatnonzero((counts > kept) & ~even)
    above = magnitudes[tied] > least[tied]
    equal = chosen[tied] ^ above
    room = kept - np.count_nonzero(above, axis=1)
    equal &= np.cumsum(equal, axis=1, dtype=np.int32) <= room[:, None]
    chosen[tied] = above | equal
