"""What a volunteer's own contribution counted in a round, and what kept it from more."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.standing import Standings
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.weights import Limited, weigh_commits
from barnraise.core.ids import PublicKey, Round
from barnraise.core.reason import Reason
from barnraise.fold.log import Link


@dataclass(frozen=True)
class OwnWeight(Reason):
    """Of our newest contribution that a close lists."""

    round: Round
    tokens: int
    weight: int
    total: int
    """Of all contributions."""
    limited: tuple[Limited, ...] = ()
    """What made the weight smaller than the tokens."""

    def is_news_after(self, before: Reason | None) -> bool:
        """Whether other limits hold than before."""
        known = before.limited if isinstance(before, OwnWeight) else ()
        return [type(each) for each in self.limited] != [type(each) for each in known]


def own_weight(link: Link, standings: Standings, trust: TrustSpec, own: PublicKey) -> OwnWeight | None:
    """None where the close does not list us. standings: in force in its round."""
    owners = [commit.owner for commit in link.commits]
    if own not in owners:
        return None
    place, weighed = owners.index(own), weigh_commits(link.commits, standings, trust)
    return OwnWeight(
        Round(link.close.round),
        link.commits[place].tokens,
        weighed[place].weight,
        sum(each.weight for each in weighed),
        weighed[place].limited,
    )
