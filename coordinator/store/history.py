"""What the closes of a run add up to: who contributed how much, and which blobs each round folded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.fold.log import Link


@dataclass(frozen=True)
class Share:
    """What one volunteer gave to the run."""

    rounds: int
    tokens: int


@dataclass
class History:
    tokens: list[dict[PublicKey, int]] = field(default_factory=list)
    """What each volunteer trained on for the close of each round."""
    blobs: dict[int, dict[BlobHash, int]] = field(default_factory=dict)
    """Bytes of each contribution that is kept, by round."""

    @classmethod
    def of(cls, links: Iterable[Link]) -> History:
        history = cls()
        for link in links:
            history.add(link)
        return history

    def add(self, link: Link) -> None:
        """The close of the next round."""
        self.tokens.append({PublicKey(commit.owner): commit.tokens for commit in link.commits})
        self.blobs[link.close.round] = {blob_name(commit): commit.size for commit in link.commits}

    def shares(self, before: int) -> dict[PublicKey, Share]:
        """What everybody gave to state[before]."""
        shares: dict[PublicKey, Share] = {}
        for round in self.tokens[:before]:
            for owner, tokens in round.items():
                had = shares.get(owner, Share(0, 0))
                shares[owner] = Share(had.rounds + 1, had.tokens + tokens)
        return shares

    def sizes(self) -> dict[int, int]:
        """Bytes that each round's contributions take."""
        return {round: sum(blobs.values()) for round, blobs in self.blobs.items()}

    def drop_before(self, round: int) -> set[BlobHash]:
        """Forget the contributions of earlier rounds; those that no later round has too are returned."""
        gone = {blob for earlier in list(self.blobs) if earlier < round for blob in self.blobs.pop(earlier)}
        return gone - {blob for blobs in self.blobs.values() for blob in blobs}
