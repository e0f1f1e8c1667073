"""Who a model card names: only volunteers who consent, by the name in their newest claim. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from barnraise.contract.records import JoinClaim
from barnraise.core.ids import PublicKey
from coordinator.store.history import Share


@dataclass(frozen=True)
class Credits:
    """The contributors of a checkpoint."""

    named: tuple[tuple[str, Share], ...]
    """Most tokens first."""
    unnamed: int
    """Volunteers who contributed and are not named."""


def credits(shares: Mapping[PublicKey, Share], claims: Mapping[PublicKey, JoinClaim]) -> Credits:
    """claims: the newest of each owner. A volunteer who joins again without consent is no longer named."""
    agreed = {owner: claim.name for owner, claim in claims.items() if claim.credit and claim.name}
    named = [(agreed[owner], share) for owner, share in shares.items() if owner in agreed]
    named.sort(key=lambda entry: (-entry[1].tokens, entry[0]))
    return Credits(tuple(named), len(shares) - len(named))
