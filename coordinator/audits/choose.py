"""Which contributions of a round are audited, on which samples, and at what cost: pure.

All contributions of keys on probation, of suspended keys and of suspicious ones are audited, those that the
fold clips, and a share of those of trusted keys, which a secret of the coordinator draws.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from barnraise.contract.assign import Assignment
from barnraise.contract.records import Commit
from barnraise.contract.spec import Full, Lora
from barnraise.contract.standing import Level
from barnraise.core.ids import PublicKey, Round

TRUSTED_SHARE = 0.1
"""Of the trusted keys of a round."""
SAMPLES = 32
"""Secret samples of an audit."""
FEWEST_SAMPLES = 16
"""Where the budget is small, fewer; below these a round is left out and its budget saved."""
COMPUTE_SHARE = 0.1
"""Of what one volunteer computes in a round, which audits take at most."""
STEP_COSTS = {"lora": 2, "full": 3}
"""A trained sample costs at least as much as this many forward passes, by the kind of target (`scripts/bench
costs`): for an adapter no gradients of the weights are computed."""
SAVED_ROUNDS = 32
"""Rounds whose budget can be saved."""
SHARDS = 4
"""Of the dataset, from which a round's secret samples are drawn."""
MOST_NAMED = 10_000
"""Assigned samples of one owner that are left out of the draw."""


def secret_random(secret: bytes, purpose: str, round: int) -> random.Random:
    """Random numbers that only the holder of the secret can know."""
    digest = hashlib.sha256(secret + f"/{purpose}/{round}".encode()).digest()
    return random.Random(int.from_bytes(digest, "big"))


def audited_keys(
    levels: Mapping[PublicKey, Level], suspicious: Iterable[PublicKey], draw: random.Random, least: int
) -> frozenset[PublicKey]:
    """The owners whose contributions to a round are audited.

    levels: of all of its owners. least: trusted keys that are drawn, where there are as many.
    """
    watched = {*suspicious}
    always = {key for key, level in levels.items() if level != "trusted" or key in watched}
    trusted = sorted(levels.keys() - always)
    count = min(len(trusted), max(least, round(TRUSTED_SHARE * len(trusted))))
    return frozenset(always.union(draw.sample(trusted, count)))


@dataclass(frozen=True)
class Budget:
    """Forward passes that audits may take, or what takes as long."""

    saved: float = 0.0
    """Below 0: what later rounds have to save first."""
    fixed: float = 0.0
    """What an audit takes apart from its passes: as the newest one did."""

    def after(self, samples: Sequence[int], target: Lora | Full) -> Budget:
        """With that of another round. samples: of each of its contributions."""
        median = sorted(samples)[len(samples) // 2] if samples else 0
        one = COMPUTE_SHARE * STEP_COSTS[target.kind] * median
        most = SAVED_ROUNDS * max(one, 1.0) + FEWEST_SAMPLES + self.fixed
        return replace(self, saved=min(self.saved + one, most))

    def samples_for(self, audited: int) -> int | None:
        """Secret samples of an audit of `audited` contributions; None where the budget has to be saved."""
        each = int((self.saved - self.fixed) // (audited + 1))
        return min(SAMPLES, each) if each >= FEWEST_SAMPLES else None

    def without(self, passes: int, fixed: float | None = None) -> Budget:
        """After an audit. fixed: what it took apart from its passes; None where that is not known."""
        found = self.fixed if fixed is None else fixed
        return Budget(self.saved - passes - found, found)


def assigned(commits: Iterable[Commit], seed: int, shard_sizes: Sequence[int]) -> set[tuple[int, int]]:
    """(shard, row) of the samples that the commits name."""
    found: set[tuple[int, int]] = set()
    for commit in commits:
        left = MOST_NAMED
        for each in reversed(commit.ranges):
            count = min(each.count, left, sum(shard_sizes))
            left -= count
            assignment = Assignment(seed, Round(each.round), PublicKey(commit.owner), shard_sizes)
            found.update(assignment.take(each.start, count))
    return found


def secret_samples(
    taken: set[tuple[int, int]], shard_sizes: Sequence[int], count: int, draw: random.Random
) -> tuple[tuple[int, int], ...]:
    """(shard, row) of `count` samples that are not `taken`, or fewer where there are no more."""
    numbers = range(len(shard_sizes))
    shards = sorted(draw.sample(numbers, min(SHARDS, len(shard_sizes))))
    places = ((shard, row) for shard in shards for row in range(shard_sizes[shard]))
    free = [place for place in places if place not in taken]
    return tuple(sorted(draw.sample(free, min(count, len(free)))))
