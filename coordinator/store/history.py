"""What the closes of a run add up to: tokens by volunteer, and the contributions that each round folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.fold.log import Link
from coordinator.store.append_only import AppendOnly


@dataclass(frozen=True)
class Logged:
    """One entry of the log, which is a blob."""

    name: BlobHash
    epoch: int


@dataclass(frozen=True)
class Share:
    """What one volunteer contributed to the run."""

    rounds: int
    tokens: int


@dataclass(frozen=True)
class History:
    """A summary of the closes, one after another. Immutable."""

    tokens: AppendOnly[Mapping[PublicKey, int]] = field(default_factory=AppendOnly)
    """What each volunteer trained on for the close of each round."""
    kept: AppendOnly[Mapping[BlobHash, int]] = field(default_factory=AppendOnly)
    """Bytes of each contribution to the newest rounds: those whose contributions are kept."""

    @property
    def kept_from(self) -> int:
        """The first round whose contributions are kept."""
        return len(self.tokens) - len(self.kept)

    @property
    def blobs(self) -> dict[int, Mapping[BlobHash, int]]:
        """Bytes of each contribution that is kept, by round."""
        return dict(enumerate(self.kept, start=self.kept_from))

    def with_close(self, link: Link) -> History:
        """The summary after the close of the next round."""
        tokens = MappingProxyType({PublicKey(commit.owner): commit.tokens for commit in link.commits})
        sizes = MappingProxyType({blob_name(commit): commit.size for commit in link.commits})
        return History(self.tokens.extended(tokens), self.kept.extended(sizes))

    def without_before(self, round: int) -> History:
        """The summary after the contributions to the rounds below `round` are forgotten."""
        kept = self.kept[max(0, round - self.kept_from) :]
        return History(self.tokens, AppendOnly(kept))

    def only_before(self, round: int) -> set[BlobHash]:
        """Kept contributions to the rounds below `round` that no later round folded too."""
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
        """Bytes of each round's kept contributions."""
        return {round: sum(blobs.values()) for round, blobs in self.blobs.items()}
