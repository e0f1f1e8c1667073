"""What the closes of a run add up to: tokens by volunteer, and the contributions that each round folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.fold.log import Link


@dataclass(frozen=True)
class Share:
    """What one volunteer contributed to the run."""

    rounds: int
    tokens: int


@dataclass(frozen=True)
class History:
    """A summary of the closes, one after another. Immutable."""

    tokens: tuple[Mapping[PublicKey, int], ...] = ()
    """What each volunteer trained on for the close of each round."""
    blobs: Mapping[int, Mapping[BlobHash, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Bytes of each contribution that is kept, by round."""

    @classmethod
    def of(cls, links: Iterable[Link]) -> History:
        """The summary of `links`, which close round 0 and those after it."""
        history = cls()
        for link in links:
            history = history.with_close(link)
        return history

    def with_close(self, link: Link) -> History:
        """The summary after the close of the next round."""
        tokens = {PublicKey(commit.owner): commit.tokens for commit in link.commits}
        sizes = {blob_name(commit): commit.size for commit in link.commits}
        blobs = {**self.blobs, link.close.round: MappingProxyType(sizes)}
        return History((*self.tokens, MappingProxyType(tokens)), MappingProxyType(blobs))

    def without_before(self, round: int) -> History:
        """The summary after the contributions of the rounds below `round` are forgotten."""
        kept = {later: blobs for later, blobs in self.blobs.items() if later >= round}
        return History(self.tokens, MappingProxyType(kept))

    def only_before(self, round: int) -> set[BlobHash]:
        """Contributions of the rounds below `round` that no later round folded too."""
        earlier = {blob for at, blobs in self.blobs.items() if at < round for blob in blobs}
        return earlier - {blob for at, blobs in self.blobs.items() if at >= round for blob in blobs}

    def shares(self, before: int) -> dict[PublicKey, Share]:
        """What each volunteer contributed to state[before]."""
        shares: dict[PublicKey, Share] = {}
        for round in self.tokens[:before]:
            for owner, tokens in round.items():
                had = shares.get(owner, Share(0, 0))
                shares[owner] = Share(had.rounds + 1, had.tokens + tokens)
        return shares

    def sizes(self) -> dict[int, int]:
        """Bytes that each round's contributions take."""
        return {round: sum(blobs.values()) for round, blobs in self.blobs.items()}
