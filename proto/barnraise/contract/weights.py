"""The weight of each contribution to a round: integers that everybody computes from the log alone.

A contribution weighs its tokens, and less where a limit holds. The limits apply one after the other:

| limit              | of whom               | at most                                                      |
|--------------------|-----------------------|--------------------------------------------------------------|
| no weight          | suspended, banned     | 0                                                            |
| claim              | all                   | `claim_factor` times the median claim of trusted keys        |
| probation          | a key on probation    | (1 + its audited work) / (1 + `probation_work`) of its claim |
| no audited work    | a key on probation    | 0 while trusted keys take part                               |
| share of one key   | all                   | `key_share` of the weight of its level, from five keys on    |
| share of probation | all keys on probation | `probation_share` of the round, while trusted keys are in it |

Where no trusted key takes part, the median is that of all. A key without audited work cost nothing to make:
200 of them that do harm never have a weight, although each is in too few rounds to be found. The share of
one key counts within its level: a single trusted key among many on probation keeps the round, which the share
of probation requires.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median_high
from typing import Literal

from barnraise.contract.log_entries import Close
from barnraise.contract.records import Commit
from barnraise.contract.standing import Standing, Standings
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.errors import StateError
from barnraise.core.ids import PublicKey, short
from barnraise.core.reason import Reason

KEYS_TO_SHARE = 5
"""Keys of a level from which on one of them is limited to its share."""


@dataclass(frozen=True)
class Claim:
    """What a contribution's owner says, and what the log says of its owner."""

    tokens: int
    standing: Standing


@dataclass(frozen=True)
class Limits:
    """The numbers of the run spec as exact fractions."""

    probation_share: Fraction
    key_share: Fraction
    claim_factor: int
    probation_work: int

    @classmethod
    def of(cls, trust: TrustSpec) -> Limits:
        """Decimals as the spec has them: 0.2 is one fifth, which the nearest double is not."""
        shares = Fraction(repr(trust.probation_share)), Fraction(repr(trust.key_share))
        return cls(*shares, trust.claim_factor, trust.probation_work)


@dataclass(frozen=True)
class NoWeight(Reason):
    """The key is suspended or banned."""

    level: Literal["suspended", "banned"]


@dataclass(frozen=True)
class ClaimLimited(Reason):
    """More tokens than the median claim allows."""

    most: int


@dataclass(frozen=True)
class OnProbation(Reason):
    """The key is new: its weight grows with audited contributions."""

    work: int
    needed: int


@dataclass(frozen=True)
class KeyShareLimited(Reason):
    """More than one key's share."""

    share: Fraction


@dataclass(frozen=True)
class ProbationShareLimited(Reason):
    """All keys on probation together have more than their share."""

    share: Fraction


Limited = NoWeight | ClaimLimited | OnProbation | KeyShareLimited | ProbationShareLimited


@dataclass(frozen=True)
class Weighed:
    """A contribution's place in the mean."""

    weight: int
    tokens: int
    """The claim that counts, by which its norm is measured; 0 where the key has no weight."""
    trusted: bool
    limited: tuple[Limited, ...] = ()
    """What made the weight smaller, in the order of the table."""


def weigh_commits(commits: Sequence[Commit], standings: Standings, trust: TrustSpec) -> tuple[Weighed, ...]:
    """The weights of a round's commits. standings: in force in the round."""
    claims = [Claim(commit.tokens, standings.of(PublicKey(commit.owner), trust)) for commit in commits]
    return weigh(claims, Limits.of(trust))


def planned_tokens(commits: Sequence[Commit], standings: Standings, trust: TrustSpec) -> Iterator[int]:
    """The tokens of a round's commits that count in a run which is planned by tokens: what a key without a
    weight claims, or claims above the limit, does not end it.
    """
    for each in weigh_commits(commits, standings, trust):
        if each.weight:
            yield each.tokens


def check_weights(close: Close, commits: Sequence[Commit], standings: Standings, trust: TrustSpec) -> None:
    """Raises StateError unless the weights are those that follow from the log.

    Equal, not only at most: a share of a round is bounded only where nobody's weight is lowered.
    """
    found = weigh_commits(commits, standings, trust)
    for commit, said, weighed in zip(commits, close.weights, found, strict=True):
        if said != weighed.weight:
            raise StateError(
                f"the close of round {close.round} gives {short(PublicKey(commit.owner))} the weight {said},"
                f" where {weighed.weight} follows from the log",
                fix="It is not folded. Report it to the run's maintainer.",
            )


def weigh(claims: Sequence[Claim], limits: Limits) -> tuple[Weighed, ...]:
    """The contributions' weights, in the order of `claims`. All are 0 where no key may have one."""
    rows = [_Row(claim, claim.tokens) for claim in claims]
    trusted, new = (
        [row for row in rows if row.claim.standing.level == level] for level in ("trusted", "probation")
    )
    _limit_claims(trusted, new, limits)
    for row in new:
        _limit_probation(row, limits, least=0 if trusted else 1)
    for level in (trusted, new):
        _limit_keys(level, limits)
    if trusted:
        _limit_together(new, sum(row.weight for row in trusted), limits)
    return tuple(row.weighed() for row in rows)


@dataclass(eq=False)
class _Row:
    """A contribution while its limits are applied."""

    claim: Claim
    weight: int
    tokens: int = 0
    limited: tuple[Limited, ...] = ()

    def limit(self, most: int, why: Limited) -> None:
        if most < self.weight:
            self.weight, self.limited = most, (*self.limited, why)

    def accept(self, most: int) -> None:
        self.limit(most, ClaimLimited(most))
        self.tokens = self.weight

    def weighed(self) -> Weighed:
        level = self.claim.standing.level
        if level == "suspended" or level == "banned":
            return Weighed(0, 0, False, (NoWeight(level),))
        return Weighed(self.weight, self.tokens, level == "trusted", self.limited)


def _limit_claims(trusted: Sequence[_Row], new: Sequence[_Row], limits: Limits) -> None:
    counted = trusted or new
    if not counted:
        return
    most = limits.claim_factor * median_high(row.claim.tokens for row in counted)
    for row in (*trusted, *new):
        row.accept(most)


def _limit_probation(row: _Row, limits: Limits, *, least: int) -> None:
    """least: weight of a key without audited work."""
    work, needed = row.claim.standing.work, limits.probation_work
    ramp = Fraction(1 + min(work, needed), 1 + needed)
    most = max(1, int(row.weight * ramp)) if work or least else 0
    row.limit(most, OnProbation(work, needed))


def _limit_keys(level: Sequence[_Row], limits: Limits) -> None:
    """Level the largest weights down to the highest `most` that is at most `key_share` of the new sum."""
    share = limits.key_share
    weights = sorted((row.weight for row in level if row.weight), reverse=True)
    if len(weights) * min(share, Fraction(1, KEYS_TO_SHARE)) < 1:
        return  # so few that not all of them can be below the share
    most, rest = weights[0], sum(weights)
    above = 0
    while most > share * (above * most + rest):
        rest -= weights[above]
        above += 1
        most = max(int(share * rest / (1 - above * share)), weights[above])
    for row in level:
        row.limit(most, KeyShareLimited(share))


def _limit_together(new: Sequence[_Row], trusted: int, limits: Limits) -> None:
    """Scale the weights of all keys on probation alike."""
    together = sum(row.weight for row in new)
    if limits.probation_share == 1:
        return
    most = limits.probation_share / (1 - limits.probation_share) * trusted
    if together <= most:
        return
    for row in new:
        row.limit(int(row.weight * most / together), ProbationShareLimited(limits.probation_share))
