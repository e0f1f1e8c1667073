"""Which samples a peer trains on: a function of (run seed, round, owner key, i) and nothing else.

Each owner starts a round at a shard drawn in proportion to its size, goes through that shard's rows in a
seeded order, then through the next shard in a seeded order of shards, until the end of the dataset. So a
peer fetches few shards per round, sees no sample twice before it has seen all, and its assignment can be
recomputed by others. Orders come from SHA-256, because the streams of random number generators may change
between library versions.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import PublicKey, Round


@dataclass(frozen=True)
class Assignment:
    """An owner's endless sequence of samples in one round.

    `shard_sizes[s]` is the number of samples in shard s. Raises MalformedBlob when there are none.
    """

    seed: int
    round: Round
    owner: PublicKey
    shard_sizes: Sequence[int]

    def __post_init__(self) -> None:
        if not self.shard_sizes or min(self.shard_sizes) < 1:
            raise MalformedBlob(
                "the dataset's index lists no shards, or an empty one",
                fix="Ask the run's maintainer to build the dataset again.",
            )

    def at(self, i: int) -> tuple[int, int]:
        """(shard, row) of the owner's i-th sample, i ≥ 0. After the last sample the sequence repeats."""
        if i < 0:
            raise ValueError(f"samples are numbered from 0, not {i}")
        i %= self._ends[-1]
        stop = bisect_right(self._ends, i)
        shard = self._shards[stop]
        offset = i - (self._ends[stop - 1] if stop else 0)
        return shard, _order(f"{self._key}/rows/{shard}", self.shard_sizes[shard])[offset]

    def take(self, start: int, count: int) -> tuple[tuple[int, int], ...]:
        """(shard, row) of the samples start … start + count - 1."""
        return tuple(self.at(i) for i in range(start, start + count))

    @cached_property
    def _key(self) -> str:
        return f"barnraise/assign/1/{self.seed}/{self.round}/{self.owner}"

    @cached_property
    def _shards(self) -> tuple[int, ...]:
        """All shards in the owner's order."""
        ends = list(accumulate(self.shard_sizes))
        # 256 bits against at most 2^40 samples: the remainder's bias is below 2^-200.
        drawn = int.from_bytes(_digest(f"{self._key}/begin"), "big") % ends[-1]
        first = bisect_right(ends, drawn)
        return (first, *(s for s in _order(f"{self._key}/shards", len(ends)) if s != first))

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Number of samples up to the end of each shard, in the owner's order."""
        return tuple(accumulate(self.shard_sizes[shard] for shard in self._shards))


@lru_cache(maxsize=64)
def _order(key: str, count: int) -> tuple[int, ...]:
    """A permutation of 0 … count - 1 drawn by `key`."""
    return tuple(sorted(range(count), key=lambda item: _digest(f"{key}/{item}")))


def _digest(message: str) -> bytes:
    return hashlib.sha256(message.encode()).digest()
