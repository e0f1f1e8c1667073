"""What the closes of a run add up to: tokens by volunteer, and the contributions that each round folded.

A round whose contributions a rollback made void has none."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from barnraise.contract.field_types import total
from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.fold.log import Link
from coordinator.store.append_only import AppendOnly
from coordinator.store.layered import Layered


@dataclass(frozen=True)
class Logged:
    """One entry of the log, which is a blob."""

    name: BlobHash
    epoch: int


def epoch_starts(log: Sequence[Logged]) -> list[tuple[int, int]]:
    """Each epoch of the log, and the height of its first entry. Epochs never decrease."""
    found: list[tuple[int, int]] = []
    height = 0
    while height < len(log):
        epoch = log[height].epoch
        found.append((epoch, height))
        height = bisect_right(log, epoch, lo=height, key=lambda logged: logged.epoch)
    return found


@dataclass(frozen=True)
class Share:
    """What one volunteer contributed to the run."""

    rounds: int
    tokens: int


@dataclass(frozen=True)
class History:
    """A summary of the closes, one after another. Immutable.

    Of the rounds whose contributions are kept it has each contribution, of the earlier ones the sums.
    """

    earlier: Mapping[PublicKey, Share] = field(default_factory=Layered)
    """What each volunteer contributed to the rounds before `kept_from`."""
    kept_from: int = 0
    """The first round whose contributions are kept."""
    tokens: AppendOnly[Mapping[PublicKey, int]] = field(default_factory=AppendOnly)
    """What each volunteer trained on for the close of each round from `kept_from` on."""
    kept: AppendOnly[Mapping[BlobHash, int]] = field(default_factory=AppendOnly)
    """Bytes of each contribution to these rounds."""

    @property
    def closed(self) -> int:
        """Rounds that were closed."""
        return self.kept_from + len(self.kept)

    @property
    def blobs(self) -> dict[int, Mapping[BlobHash, int]]:
        """Bytes of each contribution that is kept, by round."""
        return dict(enumerate(self.kept, start=self.kept_from))

    def with_close(self, link: Link) -> History:
        """The summary after the close of the next round."""
        tokens = MappingProxyType({PublicKey(commit.owner): commit.tokens for commit in link.commits})
        sizes = MappingProxyType({blob_name(commit): commit.size for commit in link.commits})
        return History(self.earlier, self.kept_from, self.tokens.extended(tokens), self.kept.extended(sizes))

    def with_rollback(self, to: int) -> History:
        """The summary after a round that folds nothing: the contributions from round `to` on are void."""
        kept = max(0, to - self.kept_from)
        void = [MappingProxyType[Any, int]({})] * (1 + len(self.kept) - kept)
        tokens, sizes = (*self.tokens[:kept], *void), (*self.kept[:kept], *void)
        return History(self.earlier, self.kept_from, AppendOnly(tokens), AppendOnly(sizes))

    def without_before(self, round: int) -> History:
        """The summary after the contributions to the rounds below `round` are forgotten."""
        count = max(0, round - self.kept_from)
        return History(
            Layered(_added(self.earlier, self.tokens[:count])),
            self.kept_from + len(self.tokens[:count]),
            AppendOnly(self.tokens[count:]),
            AppendOnly(self.kept[count:]),
        )

    def only_before(self, round: int) -> set[BlobHash]:
        """Kept contributions to the rounds below `round` that no later round folded too."""
        earlier = {blob for at, blobs in self.blobs.items() if at < round for blob in blobs}
        return earlier - {blob for at, blobs in self.blobs.items() if at >= round for blob in blobs}

    def tokens_of(self, round: int) -> int:
        """Tokens that a round folded, whose contributions are kept."""
        return sum(self.tokens[round - self.kept_from].values())

    def shares(self, before: int) -> dict[PublicKey, Share]:
        """What each volunteer contributed to state[before], or to the state of `kept_from` where that is
        later.
        """
        return _added(self.earlier, self.tokens[: max(0, before - self.kept_from)])

    def sizes(self) -> dict[int, int]:
        """Bytes of each round's kept contributions."""
        return {round: sum(blobs.values()) for round, blobs in self.blobs.items()}


def _added(
    shares: Mapping[PublicKey, Share], rounds: Iterable[Mapping[PublicKey, int]]
) -> dict[PublicKey, Share]:
    """The shares with what was contributed to further rounds."""
    found = dict(shares)
    for round in rounds:
        for owner, tokens in round.items():
            had = found.get(owner, Share(0, 0))
            found[owner] = Share(had.rounds + 1, total((had.tokens, tokens)))
    return found
