"""Who may have a place in the open round: pure.

While trusted keys take part, the keys that are on probation or suspended share `trust.probation_share` of
`round.max_contributions`. Half of that is for keys without audited work, which cost nothing to make; the more
a key has, the earlier it is considered. The trusted keys' places have one limit, the round's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from barnraise.contract.close_rules import fold_order
from barnraise.contract.records import Commit
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed
from coordinator.store.run_state import RunState


@dataclass(frozen=True)
class Places:
    """Of one round at one time."""

    run: RunState
    bounded: bool
    """Whether trusted keys take part."""
    pending: frozenset[PublicKey] = frozenset()
    """Owners of contributions that are being fetched."""

    def has(self, key: PublicKey) -> bool:
        """Whether the round has a place for another contribution, which is the key's."""
        run = self.run
        return len(run.accepted) < run.spec.round.max_contributions and self.counts(key)

    def counts(self, key: PublicKey) -> bool:
        """Whether the key would have a place if the round had enough: no round waits for other keys, and no
        rotation makes room for them.
        """
        if not self.bounded or self._is_trusted(key) or key in self.run.accepted:
            return True
        others, new = self._taken
        own = key in self.pending
        if others + new - own >= self.limit:
            return False
        return bool(self._work(key)) or new - own < -(-self.limit // 2) or not self._workers

    def order(self, commits: Iterable[Signed[Commit]]) -> list[Signed[Commit]]:
        """The order in which announced contributions are considered: no key is always first."""
        run = self.run

        def rank(commit: Signed[Commit]) -> tuple[bool, int, bytes]:
            key = commit.signer
            seeded = fold_order(run.spec.seed, run.round, key)
            return not self._is_trusted(key), -self._work(key), seeded

        return sorted(commits, key=rank)

    @property
    def limit(self) -> int:
        """Places for keys that are not trusted, while trusted ones take part."""
        return places_on_probation(self.run.spec.trust, self.run.spec.round.max_contributions)

    @cached_property
    def _taken(self) -> tuple[int, int]:
        """Places of keys that are not trusted: with audited work, and without."""
        keys = [key for key in {*self.run.accepted, *self.pending} if not self._is_trusted(key)]
        new = sum(not self._work(key) for key in keys)
        return len(keys) - new, new

    @cached_property
    def _workers(self) -> bool:
        """Whether the log credits audited work to any key that is not trusted."""
        standings = self.run.position.standings.by_key
        return any(each.work and each.level in ("probation", "suspended") for each in standings.values())

    def _is_trusted(self, key: PublicKey) -> bool:
        return is_trusted(key, self.run)

    def _work(self, key: PublicKey) -> int:
        return self.run.standing(key).work


def places(run: RunState, present: Iterable[PublicKey], pending: Collection[PublicKey] = ()) -> Places:
    """present: live volunteers."""
    bounded = any(is_trusted(key, run) for key in (*run.accepted, *present))
    return Places(run, bounded, frozenset(pending))


def is_trusted(key: PublicKey, run: RunState) -> bool:
    """Whether the log, or the spec, trusts a key."""
    return run.standing(key).level == "trusted"


def places_on_probation(trust: TrustSpec, contributions: int) -> int:
    """Of a round that has this number at most: one at least, so that somebody can leave probation."""
    return max(1, int(trust.probation_share * contributions))
